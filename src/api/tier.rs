//! The tiers of a direct permission (`docs/API.md` §7), and the grants that they are kept as.
//!
//! | tier | a user's | a group's | another node's |
//! |---|---|---|---|
//! | `user` | the user | the node itself | the node itself |
//! | `shared` | who holds the same on what stands for the user | the members | who holds the same on the node |
//! | `private` | who has admin on what stands for the user | who has admin on what stands for the group | who has admin on the node |
//!
//! What the node itself was given decides nothing. It is kept only where it is not what is shared: a role of version 1,
//! or a grant by command, gives both.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::error::Refusal;
use super::node::{Node, Thing};
use crate::policy::{Grant, GroupId, Levels, Pattern, ResourceId, Snapshot, Subject, UserId};
use crate::store::Mutation;

/// The flags of version 2, and the levels that they stand for. `owner` is none: it is no grant.
const FLAGS: [(&str, Levels); 4] =
    [("execute", Levels::EXECUTE), ("write", Levels::WRITE), ("read", Levels::READ), ("admin", Levels::ADMIN)];

/// A direct permission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tiers {
    pub(super) user: Levels,
    pub(super) private: Levels,
    pub(super) shared: Levels,
    /// Whether it makes its user the owner.
    pub(super) owner: bool,
    /// Whether it is a refusal, which gives nothing and beats what comes from elsewhere.
    pub(super) refused: bool,
}

impl Tiers {
    /// What a role of version 1 gives.
    pub(super) fn of_role(from: &Node, levels: Levels) -> Self {
        let refused = levels.is_empty() && matches!(from.thing, Thing::User(_) | Thing::Group(_));
        match from.thing {
            Thing::User(_) => Self { user: levels, refused, ..Self::default() },
            _ => Self { user: levels, shared: levels, refused, ..Self::default() },
        }
    }

    /// What was given to it on exactly that name and holds now; none where nothing was.
    pub(super) fn direct(policy: &Snapshot, from: &Node, on: &Pattern, now: Timestamp) -> Option<Self> {
        let direct = [main_subject(from), Subject::Itself(from.id())];
        let direct = direct.into_iter().filter(|subject| subject.through().is_none());
        let own = direct.filter_map(|subject| policy.grant_of(&subject, on));
        let through = policy.shares_on(on).filter(|grant| of(&grant.subject) == Some(from.id()));
        let rows: Vec<Grant> = own.chain(through).collect();
        Self::read(from, rows.iter(), now)
    }

    /// What these rows, all of this node, come to.
    fn read<'a>(from: &Node, rows: impl Iterator<Item = &'a Grant>, now: Timestamp) -> Option<Self> {
        let mut tiers = Self::default();
        let (mut itself, mut any) = (None, false);
        for grant in rows.filter(|grant| grant.expires.is_none_or(|end| end > now)) {
            any = true;
            let levels = grant.levels.without(Levels::BLANK);
            match &grant.subject {
                Subject::User(_) => tiers.user |= levels,
                Subject::Itself(_) => itself = Some(levels),
                Subject::Holders(need, _) if *need == Levels::ADMIN => tiers.private |= levels,
                _ => tiers.shared |= levels,
            }
            tiers.refused |= grant.levels.is_empty() && !matches!(grant.subject, Subject::Itself(_));
        }
        if from.user().is_none() {
            tiers.user = itself.unwrap_or(tiers.shared);
        }
        any.then_some(tiers)
    }

    /// Everything that was given on exactly the name, by what it was given to.
    pub(super) fn all_on(policy: &Snapshot, on: &Pattern) -> BTreeMap<ResourceId, Vec<Grant>> {
        let mut found: BTreeMap<ResourceId, Vec<Grant>> = BTreeMap::new();
        for grant in policy.grants_on(on) {
            if let Some(id) = of(&grant.subject) {
                found.entry(id).or_default().push(grant);
            }
        }
        found
    }

    /// What the rows that [`Tiers::all_on`] found for the node come to.
    pub(super) fn of_rows(from: &Node, rows: &[Grant], now: Timestamp) -> Option<Self> {
        Self::read(from, rows.iter(), now)
    }

    /// Whether it gives nothing, and refuses nothing; the ownership itself is no grant.
    fn is_empty(self) -> bool {
        Self { owner: false, ..self } == Self::default()
    }

    /// The changes that replace what was given to the node on the name. A set that gives nothing leaves a refusal that is
    /// there; the owner's own levels need no grant.
    pub(super) fn replace(
        self,
        policy: &Snapshot,
        from: &Node,
        on: &Pattern,
        by: Option<UserId>,
        at: Timestamp,
    ) -> Vec<Mutation> {
        let rows = Rows { policy, from, on, by, at };
        let main = main_subject(from);
        let mut changes = Vec::new();
        if self.is_empty() {
            changes.extend(rows.unless_refused(main).filter(|_| !self.owner));
            changes.extend(side_subjects(from).into_iter().map(|subject| rows.remove(subject)));
        } else {
            let given = if from.user().is_some() { self.user } else { self.shared };
            match (self.owner, self.refused) {
                (true, _) => {}
                (_, true) => changes.push(rows.put(main, Levels::NONE)),
                _ => changes.push(rows.give(main, given, on.keys().len() > 1)),
            }
            if from.user().is_some() {
                changes.push(rows.give_side(Subject::Same(from.id()), self.shared, false));
            } else {
                // What it holds in its own name decides nothing: an empty set there denies nobody.
                let itself = Subject::Itself(from.id());
                let same = self.user == self.shared;
                changes.push(if same { rows.remove(itself) } else { rows.put(itself, self.user) });
            }
            changes.push(rows.give_side(Subject::Holders(Levels::ADMIN, from.id()), self.private, false));
        }
        changes.extend(others(policy, from.id(), on).map(|subject| rows.remove(subject)));
        changes
    }

    /// The changes by which the entry of a former owner, who keeps every level, replaces what its node has above it.
    pub(super) fn keep(
        policy: &Snapshot,
        former: &Node,
        on: &Pattern,
        by: Option<UserId>,
        at: Timestamp,
    ) -> Vec<Mutation> {
        let rows = Rows { policy, from: former, on, by, at };
        side_subjects(former).into_iter().map(|subject| rows.give_side(subject, Levels::NONE, true)).collect()
    }

    /// The changes that take away all that was given to the node on the name, refusals included.
    pub(super) fn take(policy: &Snapshot, from: &Node, on: &Pattern) -> Vec<Mutation> {
        let all = [main_subject(from)].into_iter().chain(side_subjects(from)).chain(others(policy, from.id(), on));
        all.map(|subject| Mutation::RemoveGrant(subject, on.clone())).collect()
    }

    /// The set that was sent. `owner` counts in `user` only, because it is never passed on.
    pub(super) fn parse(body: &Value) -> Result<Self, Refusal> {
        let (user, owner) = flags(body, "user")?;
        let (private, _) = flags(body, "private")?;
        let (shared, _) = flags(body, "shared")?;
        Ok(Self { user, private, shared, owner, refused: false })
    }

    /// What it says.
    pub(super) fn set(self) -> PermissionSet {
        PermissionSet {
            user: Flags::of(if self.owner { Levels::ALL } else { self.user }, self.owner),
            private: Flags::of(self.private, false),
            shared: Flags::of(self.shared, false),
        }
    }
}

/// What is held: Carta's Flags.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) struct Flags {
    /// Call it.
    #[schema(required = false)]
    execute: bool,
    /// Create, update and delete.
    #[schema(required = false)]
    write: bool,
    /// See it.
    #[schema(required = false)]
    read: bool,
    /// Give and take permissions, but for the owner's.
    #[schema(required = false)]
    admin: bool,
    /// Own it; never passed on.
    #[schema(required = false)]
    owner: bool,
}

/// A direct permission: Carta's PermissionSet.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) struct PermissionSet {
    /// What the node itself may do.
    #[schema(required = false)]
    user: Flags,
    /// What is passed on to who administers the node.
    #[schema(required = false)]
    private: Flags,
    /// What is passed on to who uses the node.
    #[schema(required = false)]
    shared: Flags,
}

impl Flags {
    pub(super) fn of(levels: Levels, owner: bool) -> Self {
        let [execute, write, read, admin] = FLAGS.map(|(_, level)| levels.has_all(level));
        Self { execute, write, read, admin, owner }
    }

    /// Whether any is set.
    pub(super) fn any(levels: Levels, owner: bool) -> bool {
        owner || FLAGS.iter().any(|(_, level)| levels.has_all(*level))
    }
}

/// Grants of one node on one name, in the making.
struct Rows<'a> {
    policy: &'a Snapshot,
    from: &'a Node,
    on: &'a Pattern,
    by: Option<UserId>,
    at: Timestamp,
}

impl Rows<'_> {
    fn put(&self, subject: Subject, levels: Levels) -> Mutation {
        let grant = Grant { subject, pattern: self.on.clone(), levels, expires: None };
        Mutation::PutGrant { grant, by: self.by, at: self.at }
    }

    fn remove(&self, subject: Subject) -> Mutation {
        Mutation::RemoveGrant(subject, self.on.clone())
    }

    /// An entry replaces what its node has above it, also where a tier is empty.
    fn give(&self, subject: Subject, levels: Levels, replaces: bool) -> Mutation {
        match (levels.is_empty(), replaces) {
            (false, _) => self.put(subject, levels),
            (true, true) => self.put(subject, Levels::BLANK),
            (true, false) => self.remove(subject),
        }
    }

    /// The same for a tier that few use, so that an entry is one row for most: what replaces nothing is not written, but
    /// when something is given above, the entries below it that have nothing for the tier replace that from then on.
    /// Decided where it is made, because somebody else may change either meanwhile.
    fn give_side(&self, subject: Subject, levels: Levels, keeps: bool) -> Mutation {
        let all = [main_subject(self.from)].into_iter().chain(side_subjects(self.from));
        let others = all.filter(|other| *other != subject).collect();
        let grant = Grant { subject, pattern: self.on.clone(), levels, expires: None };
        Mutation::PutPart { grant, others, keeps, by: self.by, at: self.at }
    }

    /// Takes away what the subject has, but for a refusal. Decided where it is made: one that somebody gives meanwhile
    /// stays, too.
    fn unless_refused(&self, subject: Subject) -> Option<Mutation> {
        let row = self.policy.grant_of(&subject, self.on)?;
        if !matches!(subject, Subject::User(_) | Subject::Group(_)) || row.levels == Levels::BLANK {
            return Some(self.remove(subject));
        }
        let (pattern, levels) = (self.on.clone(), Levels::ALL);
        (!row.levels.is_empty()).then_some(Mutation::TakeLevels { subject, pattern, levels })
    }
}

fn flags(body: &Value, tier: &str) -> Result<(Levels, bool), Refusal> {
    let Some(written) = body.get(tier) else { return Ok((Levels::NONE, false)) };
    let written = written.as_object().ok_or_else(|| Refusal::input(format!("`{tier}` is no object of flags")))?;
    let flag = |name: &str| match written.get(name) {
        None => Ok(false),
        Some(Value::Bool(set)) => Ok(*set),
        Some(_) => Err(Refusal::input(format!("`{tier}.{name}` is neither true nor false"))),
    };
    let mut levels = Levels::NONE;
    for (name, level) in FLAGS {
        if flag(name)? {
            levels |= level;
        }
    }
    Ok((levels, flag("owner")?))
}

/// Who a subject of a direct permission is about.
fn of(subject: &Subject) -> Option<ResourceId> {
    match subject {
        Subject::User(id) => Some(ResourceId(id.0)),
        Subject::Group(id) => Some(ResourceId(id.0)),
        Subject::Holders(_, id) | Subject::Same(id) | Subject::Itself(id) => Some(*id),
        Subject::Role(_) | Subject::Everyone => None,
    }
}

/// Whom the tier that decides by itself is given to.
fn main_subject(from: &Node) -> Subject {
    match &from.thing {
        Thing::User(account) => Subject::User(account.id),
        Thing::Group(group) => Subject::Group(GroupId(group.id.0)),
        _ => Subject::Same(from.id()),
    }
}

/// Whom the other tiers are given to.
fn side_subjects(from: &Node) -> Vec<Subject> {
    let own = if from.user().is_some() { Subject::Same(from.id()) } else { Subject::Itself(from.id()) };
    vec![own, Subject::Holders(Levels::ADMIN, from.id())]
}

/// What commands gave to the holders of some levels on the node, which no tier is kept as.
fn others<'a>(policy: &'a Snapshot, id: ResourceId, on: &'a Pattern) -> impl Iterator<Item = Subject> + 'a {
    let through = policy.shares_on(on).map(|grant| grant.subject);
    through.filter(move |subject| matches!(subject, Subject::Holders(need, of) if *of == id && *need != Levels::ADMIN))
}
