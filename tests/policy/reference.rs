//! The rules of permission written once more, slowly, straight from their text: a tree of rows for each subject and each
//! question, no sharing, nothing compiled.

use std::collections::{BTreeMap, BTreeSet};

use carta_gateway::policy::{
    Change, Grant, Levels, Member, Pattern, PatternKey, Resource, ResourceId, Subject, UserId,
};
use jiff::Timestamp;

#[derive(Clone, Default)]
pub(crate) struct World {
    grants: BTreeMap<(Subject, Pattern), Grant>,
    members: BTreeMap<UserId, Member>,
    resources: BTreeMap<ResourceId, Resource>,
}

/// A node of one subject's tree: granted if it has a row, a filler otherwise.
#[derive(Default)]
struct Node {
    row: Option<Levels>,
    children: BTreeMap<PatternKey, Node>,
}

/// Value or none, depth, granted.
#[derive(Clone, Copy)]
struct Resolved {
    value: Option<Levels>,
    depth: usize,
    granted: bool,
}

const MISSING: Resolved = Resolved { value: None, depth: 0, granted: false };

impl World {
    pub(crate) fn of(changes: &[Change]) -> Self {
        let mut world = Self::default();
        changes.iter().for_each(|change| world.apply(change));
        world
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change.clone() {
            // Holders take no deny rows.
            Change::Grant(grant) if grant.levels.is_empty() && is_share(&grant.subject) => {
                self.grants.remove(&(grant.subject, grant.pattern));
            }
            Change::Grant(grant) => {
                self.grants.insert((grant.subject.clone(), grant.pattern.clone()), grant);
            }
            Change::Ungrant(subject, pattern) => {
                self.grants.remove(&(subject, pattern));
            }
            Change::Member(member) => {
                self.members.insert(member.id, member);
            }
            Change::MemberGone(id) => {
                self.members.remove(&id);
            }
            Change::Resource(resource) => {
                self.resources.insert(resource.id, resource);
            }
            Change::ResourceGone(id) => {
                self.resources.remove(&id);
            }
        }
    }

    /// What makes this world from nothing.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let grants = self.grants.values().cloned().map(Change::Grant);
        let members = self.members.values().cloned().map(Change::Member);
        let resources = self.resources.values().cloned().map(Change::Resource);
        resources.chain(grants).chain(members).collect()
    }

    pub(crate) fn levels(&self, user: UserId, keys: &[&str], explicit: bool, now: i64) -> Levels {
        self.evaluate(user, keys, explicit, now, &[]).without(Levels::BLANK)
    }

    /// The nearest ancestor-or-self that has an owner; where two resources of one name disagree there is none.
    pub(crate) fn owner(&self, keys: &[&str]) -> Option<UserId> {
        for length in (0..=keys.len()).rev() {
            let name = Pattern::literal(keys[..length].iter().copied()).unwrap();
            let owners: BTreeSet<_> =
                self.resources.values().filter(|resource| resource.name == name).filter_map(|it| it.owner).collect();
            match owners.len() {
                0 => {}
                1 => return owners.first().copied(),
                _ => return None,
            }
        }
        None
    }

    pub(crate) fn navigable(&self, user: UserId, keys: &[&str], now: i64) -> bool {
        if !self.levels(user, keys, false, now).is_empty() {
            return true;
        }
        let subjects = self.subjects(user);
        self.grants.values().any(|grant| {
            live(grant, now)
                && !grant.levels.without(Levels::BLANK).is_empty()
                && grant.pattern.keys().len() > keys.len()
                && grant.pattern.keys().iter().zip(keys).enumerate().all(|(depth, (of, key))| meets(of, key, depth))
                && match &grant.subject {
                    Subject::Holders(levels, resource) => self.holds(user, *levels, *resource, now, &[keys.to_vec()]),
                    Subject::Same(resource) => {
                        Levels::ALL.singles().any(|one| self.holds(user, one, *resource, now, &[keys.to_vec()]))
                    }
                    subject => *subject == Subject::User(user) || subjects.contains(subject),
                }
        })
    }

    fn evaluate(&self, user: UserId, keys: &[&str], explicit: bool, now: i64, asking: &[Vec<&str>]) -> Levels {
        // 1.
        if self.owner(keys) == Some(user) {
            return Levels::ALL;
        }
        // 2.
        let own = self.resolve(&Subject::User(user), keys, explicit, now);
        if own.value == Some(Levels::NONE) {
            return Levels::NONE;
        }
        // 3.
        let asking = [asking, &[keys.to_vec()]].concat();
        let mut others: Vec<Resolved> =
            self.subjects(user).iter().map(|subject| self.resolve(subject, keys, explicit, now)).collect();
        let holders: BTreeSet<_> = self.grants.keys().map(|(subject, _)| subject).filter(|it| is_share(it)).collect();
        for subject in holders {
            match subject {
                Subject::Holders(levels, resource) if self.holds(user, *levels, *resource, now, &asking) => {
                    others.push(self.resolve(subject, keys, explicit, now));
                }
                Subject::Same(resource) => {
                    let mut found = self.resolve(subject, keys, explicit, now);
                    let held = |one: &Levels| self.holds(user, *one, *resource, now, &asking);
                    let given = found.value.unwrap_or_default().singles().filter(held).reduce(|all, one| all | one);
                    if given.is_some() {
                        found.value = given;
                        others.push(found);
                    }
                }
                _ => {}
            }
        }
        let deny = others.iter().filter(|it| it.value == Some(Levels::NONE)).map(|it| it.depth).max();
        let mut mask = Levels::NONE;
        for result in others {
            if deny.is_none_or(|deny| result.depth > deny) {
                mask |= result.value.unwrap_or_default();
            }
        }
        if deny.is_none_or(|deny| own.depth >= deny) {
            mask |= own.value.unwrap_or_default();
        }
        mask
    }

    fn subjects(&self, user: UserId) -> Vec<Subject> {
        let mut all = vec![Subject::Everyone];
        if let Some(member) = self.members.get(&user) {
            all.extend(member.groups.iter().copied().map(Subject::Group));
            if !member.role.is_empty() {
                all.push(Subject::Role(member.role.clone()));
            }
        }
        all
    }

    /// A question already being asked counts as no.
    fn holds(&self, user: UserId, levels: Levels, on: ResourceId, now: i64, asking: &[Vec<&str>]) -> bool {
        let id = format!("@{on}");
        let keys: Vec<&str> = match self.resources.get(&on) {
            Some(resource) => resource.name.keys().iter().map(|key| key.literal().unwrap()).collect(),
            None if self.is_named(&id) => vec![&id],
            None => return false,
        };
        !asking.contains(&keys) && self.evaluate(user, &keys, false, now, asking).has_all(levels)
    }

    /// Whether anything is granted on the name that is this key, or below it, or is called so.
    fn is_named(&self, key: &str) -> bool {
        let patterns = self.grants.keys().map(|(_, pattern)| pattern);
        let names = self.resources.values().map(|resource| &resource.name);
        patterns.chain(names).any(|name| name.keys().first().and_then(PatternKey::literal) == Some(key))
    }

    fn resolve(&self, subject: &Subject, keys: &[&str], explicit: bool, now: i64) -> Resolved {
        let mut root = Node::default();
        for grant in self.grants.values().filter(|grant| grant.subject == *subject && live(grant, now)) {
            let mut node = &mut root;
            for key in grant.pattern.keys() {
                node = node.children.entry(key.clone()).or_default();
            }
            node.row = Some(grant.levels);
        }
        if explicit { exact(&root, keys, 0) } else { resolve(&root, keys, 0, None) }
    }
}

fn is_share(subject: &Subject) -> bool {
    matches!(subject, Subject::Holders(..) | Subject::Same(_))
}

fn live(grant: &Grant, now: i64) -> bool {
    grant.expires.is_none_or(|end| end > Timestamp::from_second(now).unwrap())
}

/// `*` matches any one key, but for the one key of a resource that has only an id.
fn meets(of: &PatternKey, key: &str, depth: usize) -> bool {
    match of {
        PatternKey::Key(of) => **of == *key,
        PatternKey::Any => depth > 0 || !(key.starts_with('@') && key.len() == 37),
    }
}

fn child<'a>(node: &'a Node, of: PatternKey, key: &str, depth: usize) -> Option<&'a Node> {
    node.children.get(&of).filter(|_| meets(&of, key, depth))
}

fn resolve(node: &Node, keys: &[&str], depth: usize, parent: Option<Levels>) -> Resolved {
    let granted = node.row.is_some();
    let itself = Resolved { value: node.row.or(parent), depth, granted };
    // S0
    let Some(key) = keys.get(depth) else { return itself };
    let below = |of: PatternKey| {
        child(node, of, key, depth).map_or(MISSING, |child| resolve(child, keys, depth + 1, itself.value))
    };
    let e = below(PatternKey::Key((*key).into()));
    let w = below(PatternKey::Any);
    if depth == 0 && !granted {
        // S1
        return if e.value.is_some() { e } else { w };
    }
    if granted {
        // S2
        return if e.granted {
            e
        } else if w.granted {
            w
        } else {
            itself
        };
    }
    // S3, D3 first
    if w.granted && !e.granted {
        return w;
    }
    if w.value.is_some() && (e.value.is_none() || (w.depth > e.depth && (w.granted || !e.granted))) {
        return w;
    }
    if e.value.is_some() { e } else { itself }
}

fn exact(node: &Node, keys: &[&str], depth: usize) -> Resolved {
    let Some(key) = keys.get(depth) else {
        return node.row.map_or(MISSING, |levels| Resolved { value: Some(levels), depth, granted: true });
    };
    let below = |of: PatternKey| child(node, of, key, depth).map_or(MISSING, |child| exact(child, keys, depth + 1));
    let literal = below(PatternKey::Key((*key).into()));
    if literal.value.is_some() { literal } else { below(PatternKey::Any) }
}
