//! The compiled policy: who holds what, immutable, patched by sharing what did not change.

use std::sync::Arc;

use ahash::RandomState;
use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use jiff::Timestamp;

use super::decide::moment;
use super::names::{Names, NodeId};
use super::rows::{NEVER, Row};
use super::subjects::{Entry, SubjectId, Subjects};
use super::{GroupId, Levels, Pattern, PatternKey, ResourceId, Subject, UserId};

/// The compiled policy. Immutable; a clone costs a few reference counts, and a patched one shares what did not change.
///
/// A decision costs the same whatever the number of grants: it reads the names on the way to the resource and, for the
/// user and each of the user's groups, the rows at those names.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) names: Names,
    pub(super) subjects: Subjects,
    resources: GenericHashMap<ResourceId, Resource, RandomState, DefaultSharedPtr>,
    pub(super) grants: usize,
    /// Tells this snapshot from every other for as long as anybody keeps a copy of it.
    pub(super) identity: Arc<()>,
}

/// One row: what a subject may do with everything that the pattern covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who holds it.
    pub subject: Subject,
    /// What it is on.
    pub pattern: Pattern,
    /// What may be done; the empty set is an explicit deny.
    pub levels: Levels,
    /// The second at which it ends, if it does; a part of a second is dropped.
    pub expires: Option<Timestamp>,
}

/// A user as far as decisions need one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub id: UserId,
    /// The user's one role.
    pub role: Arc<str>,
    /// The local groups that the user is in.
    pub groups: Vec<GroupId>,
}

/// A resource as far as decisions need one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its id.
    pub id: ResourceId,
    /// Its name, each key literal (no wildcard).
    pub name: Pattern,
    /// Its owner, who holds every level on it and below it, down to the next owner.
    pub owner: Option<UserId>,
}

/// One step from a snapshot to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds the grant, or replaces the one of the same subject and pattern.
    ///
    /// Holders of another resource take no deny: an empty grant to them only takes away what they had.
    Grant(Grant),
    /// Takes the grant of this subject and pattern away.
    Ungrant(Subject, Pattern),
    /// Adds the user, or replaces role and groups.
    Member(Member),
    /// Forgets the user (grants go by [`Change::Ungrant`]).
    MemberGone(UserId),
    /// Adds the resource, or replaces its name and owner.
    Resource(Resource),
    /// Forgets the resource.
    ResourceGone(ResourceId),
}

/// How much a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Grants, expired ones included.
    pub grants: usize,
    /// Subjects that have a grant, a member or a membership, and everyone.
    pub subjects: usize,
    /// Names of grants and resources, and those that they only pass through.
    pub names: usize,
    /// Resources.
    pub resources: usize,
}

impl Snapshot {
    /// The policy in which nobody holds anything.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            names: Names::new(),
            subjects: Subjects::new(),
            resources: GenericHashMap::with_hasher(RandomState::new()),
            grants: 0,
            identity: Arc::new(()),
        }
    }

    /// This policy with the changes applied in order. What makes one from nothing faster is a [`super::Builder`].
    #[must_use]
    pub fn patched(&self, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut next = self.clone();
        next.identity = Arc::new(());
        for change in changes {
            next.apply(change);
        }
        next
    }

    /// The resource of this id.
    #[must_use]
    pub fn resource(&self, id: ResourceId) -> Option<&Resource> {
        self.resources.get(&id)
    }

    /// The name of the resource. One of which nothing is known but its id, such as what stands for a user, has the id for
    /// its name: nobody owns it, and what is granted on that name holds there. While nothing is, nobody holds it.
    #[must_use]
    pub fn name_of(&self, id: ResourceId) -> Pattern {
        match self.resource(id) {
            Some(known) => known.name.clone(),
            None => Pattern::of(vec![PatternKey::Key(id.key().into())]),
        }
    }

    /// What is shared on exactly this name with those who hold levels elsewhere, expired grants included.
    pub fn shares_on(&self, pattern: &Pattern) -> impl Iterator<Item = Grant> {
        let found = self.names.find(pattern).and_then(|at| Some((at, self.names.node(at)?.holders.clone()?)));
        let (at, holders) = found.unzip();
        let rows = holders.into_iter().flat_map(|all| all.to_vec());
        rows.filter_map(move |subject| self.grant(subject, &self.subjects.entry(subject)?.rows.at(at?)?))
    }

    /// What is shared with those who hold levels elsewhere: on which resource, and the subject that has the grants.
    pub fn sharing(&self) -> impl Iterator<Item = (ResourceId, &Subject)> {
        let subject = |id: &SubjectId| self.subjects.entry(*id).map(|entry| &entry.subject);
        self.subjects.holders.iter().filter_map(move |((resource, _), id)| Some((*resource, subject(id)?)))
    }

    /// Those of them that are about this resource.
    pub fn sharing_of(&self, resource: ResourceId) -> impl Iterator<Item = &Subject> {
        let (first, last) = ((resource, None), (resource, Some(Levels::ALL)));
        let ids = self.subjects.holders.range(first..=last).map(|(_, id)| id);
        ids.filter_map(|id| self.subjects.entry(*id)).map(|entry| &entry.subject)
    }

    /// The grants on exactly this name, expired ones included.
    pub fn grants_on(&self, pattern: &Pattern) -> impl Iterator<Item = Grant> {
        let found = self.names.find(pattern).and_then(|at| Some((at, self.names.node(at)?)));
        let pattern = pattern.clone();
        found.into_iter().flat_map(move |(at, node)| {
            let pattern = pattern.clone();
            node.granted_to().filter_map(move |subject| {
                let entry = self.subjects.entry(subject)?;
                Some(written(&entry.subject, &pattern, &entry.rows.at(at)?))
            })
        })
    }

    /// The grants of this subject, expired ones included.
    pub fn grants_of(&self, subject: &Subject) -> impl Iterator<Item = Grant> {
        self.subjects
            .id(subject)
            .and_then(|id| self.subjects.entry(id))
            .into_iter()
            .flat_map(|entry| self.listed(entry))
    }

    /// Every grant, expired ones included, in no order.
    pub fn grants(&self) -> impl Iterator<Item = Grant> {
        self.subjects.iter().flat_map(|entry| self.listed(entry))
    }

    /// The grant of this subject on exactly this name, expired or not.
    #[must_use]
    pub fn grant_of(&self, subject: &Subject, pattern: &Pattern) -> Option<Grant> {
        let entry = self.subjects.entry(self.subjects.id(subject)?)?;
        Some(written(&entry.subject, pattern, &entry.rows.at(self.names.find(pattern)?)?))
    }

    /// How much there is.
    #[must_use]
    pub fn size(&self) -> Size {
        Size {
            grants: self.grants,
            subjects: self.subjects.len(),
            names: self.names.len(),
            resources: self.resources.len(),
        }
    }

    /// The grant that a row stands for.
    pub(super) fn grant(&self, subject: SubjectId, row: &Row) -> Option<Grant> {
        Some(written(&self.subjects.entry(subject)?.subject, &self.names.pattern(row.node), row))
    }

    fn listed<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = Grant> + 'a {
        entry.rows.iter().map(|row| written(&entry.subject, &self.names.pattern(row.node), &row))
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Grant(grant) if grant.levels.is_empty() && grant.subject.through().is_some() => {
                self.ungrant(&grant.subject, &grant.pattern);
            }
            Change::Grant(grant) => self.give(&grant),
            Change::Ungrant(subject, pattern) => self.ungrant(&subject, &pattern),
            Change::Member(member) => self.enlist(member),
            Change::MemberGone(user) => self.subjects.enlist(user, None::<std::iter::Empty<Subject>>),
            Change::Resource(resource) => {
                self.forget(resource.id);
                let at = self.names.retain(&resource.name);
                self.names.add_resource(at, resource.id, resource.owner);
                self.resources.insert(resource.id, resource);
            }
            Change::ResourceGone(id) => self.forget(id),
        }
    }

    pub(super) fn enlist(&mut self, member: Member) {
        let role = (!member.role.is_empty()).then_some(Subject::Role(member.role));
        let groups = member.groups.into_iter().map(Subject::Group);
        self.subjects.enlist(member.id, Some(role.into_iter().chain(groups)));
    }

    fn give(&mut self, grant: &Grant) {
        let subject = self.subjects.retain(&grant.subject);
        let node = self.names.retain(&grant.pattern);
        let ends = grant.expires.map_or(NEVER, Timestamp::as_second);
        let Some(entry) = self.subjects.entry_mut(subject) else { return };
        if entry.rows.put(&self.names, Row { node, levels: grant.levels, ends }).is_some() {
            // The row that was there holds one use of each already.
            self.names.release(node);
            self.subjects.release(subject);
            return;
        }
        self.grants += 1;
        self.change_granted(node, subject, true);
    }

    fn ungrant(&mut self, subject: &Subject, pattern: &Pattern) {
        let (Some(subject), Some(node)) = (self.subjects.id(subject), self.names.find(pattern)) else { return };
        let Some(entry) = self.subjects.entry_mut(subject) else { return };
        if entry.rows.take(&self.names, node).is_some() {
            self.grants -= 1;
            self.change_granted(node, subject, false);
            self.names.release(node);
            self.subjects.release(subject);
        }
    }

    /// Keeps the name's own list of its rows.
    fn change_granted(&mut self, node: NodeId, subject: SubjectId, here: bool) {
        let Some(entry) = self.subjects.entry(subject) else { return };
        let (user, holders) = (matches!(entry.subject, Subject::User(_)), entry.subject.through().is_some());
        let Some(node) = self.names.node_mut(node) else { return };
        node.keep(subject, user, here);
        if holders {
            let others = node.holders.as_deref().unwrap_or_default().iter().copied().filter(|other| *other != subject);
            let all: Arc<[SubjectId]> = others.chain(here.then_some(subject)).collect();
            node.holders = (!all.is_empty()).then_some(all);
        }
    }

    fn forget(&mut self, id: ResourceId) {
        let Some(resource) = self.resources.remove(&id) else { return };
        if let Some(at) = self.names.find(&resource.name) {
            self.names.remove_resource(at, id);
            self.names.release(at);
        }
    }
}

fn written(subject: &Subject, pattern: &Pattern, row: &Row) -> Grant {
    Grant { subject: subject.clone(), pattern: pattern.clone(), levels: row.levels, expires: moment(row.ends) }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Snapshot").field(&self.size()).finish()
    }
}
