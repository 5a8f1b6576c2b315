//! Every name that a grant or a resource has, once: a tree of keys with dense ids.
//!
//! The tree is shared by all subjects. A question walks it once (see [`super::tree`]); what a single subject says at
//! each node met is then a search for a number, not for text.

use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::Arc;

use ahash::RandomState;
use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;

use super::paged::Paged;
use super::sorted::{Keyed, Sorted};
use super::subjects::SubjectId;
use super::{Pattern, PatternKey, ResourceId, UserId};

/// The place of a name in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// The empty name, above all others.
    pub(super) const ROOT: Self = Self(0);
    const NONE: Self = Self(u32::MAX);

    pub(super) const fn number(self) -> u32 {
        self.0
    }

    /// The place of this number.
    pub(super) fn of(number: usize) -> Self {
        Self(u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

/// One key of the tree and what is known at the name that ends with it.
#[derive(Clone)]
pub(super) struct Node {
    parent: NodeId,
    key: PatternKey,
    /// The child `*`.
    any: NodeId,
    /// The next node whose key and parent have the same hash; for a free node the next free one.
    twin: NodeId,
    /// Children, rows and resources here; the node goes with the last of them.
    uses: u32,
    /// The users who have a row on exactly this name.
    pub(super) to_users: Sorted<SubjectId>,
    /// The other subjects that have one. A decision looks for what its user belongs to, and a hundred times as many rows
    /// of users would lie between.
    pub(super) to_others: Sorted<Scattered>,
    /// Those of the others that are holders of another resource.
    pub(super) holders: Option<Arc<[SubjectId]>>,
    /// The resources of exactly this name: one, unless the store let two have it.
    resources: Option<Arc<[Owned]>>,
}

/// Who has a row on a name, in no order.
#[derive(Clone, Default)]
pub(super) struct GrantedTo {
    pub(super) users: Vec<SubjectId>,
    pub(super) others: Vec<SubjectId>,
}

/// A resource and its owner.
type Owned = (ResourceId, Option<UserId>);

/// Whose a name is, as far as its own node tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    /// Nobody's: ask above.
    Inherited,
    /// This user's.
    Of(UserId),
    /// Two resources of one name have different owners: nobody's, and nobody's from above either.
    Disputed,
}

impl Ownership {
    /// Who owns here, if this user does above.
    pub(super) const fn below(self, above: Option<UserId>) -> Option<UserId> {
        match self {
            Self::Inherited => above,
            Self::Of(user) => Some(user),
            Self::Disputed => None,
        }
    }
}

#[derive(Clone)]
pub(super) struct Names {
    nodes: Paged<Node>,
    /// The newest node with each hash of parent and key; others follow as twins.
    children: GenericHashMap<u64, NodeId, BuildHasherDefault<Hashed>, DefaultSharedPtr>,
    free: NodeId,
    live: usize,
    seed: RandomState,
}

/// A subject in a list of names' own: in an order in which any few of them lie evenly spread.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Scattered(pub(super) SubjectId);

impl Keyed for Scattered {
    /// No two numbers have the same, as the factor is odd.
    fn key(&self) -> u32 {
        self.0.number().wrapping_mul(0x9E37_79B1)
    }
}

impl Keyed for SubjectId {
    fn key(&self) -> u32 {
        self.number()
    }
}

/// A free node.
impl Default for Node {
    fn default() -> Self {
        Self::new(NodeId::NONE, PatternKey::Any)
    }
}

impl Node {
    fn new(parent: NodeId, key: PatternKey) -> Self {
        Self {
            parent,
            key,
            any: NodeId::NONE,
            twin: NodeId::NONE,
            uses: 0,
            to_users: Sorted::default(),
            to_others: Sorted::default(),
            holders: None,
            resources: None,
        }
    }

    pub(super) fn any(&self) -> Option<NodeId> {
        self.any.some()
    }

    /// Notes that the subject, which is a user or is not, has a row on exactly this name, or has none any more.
    pub(super) fn keep(&mut self, subject: SubjectId, user: bool, here: bool) {
        let (users, others, scattered) = (&mut self.to_users, &mut self.to_others, Scattered(subject));
        match (user, here) {
            (true, true) => users.put(subject).is_some(),
            (true, false) => users.take(subject.number()).is_some(),
            (false, true) => others.put(scattered).is_some(),
            (false, false) => others.take(scattered.key()).is_some(),
        };
    }

    /// The subjects that have a row on exactly this name.
    pub(super) fn granted_to(&self) -> impl Iterator<Item = SubjectId> {
        self.to_others.iter().map(|Scattered(subject)| *subject).chain(self.to_users.iter().copied())
    }

    pub(super) fn ownership(&self) -> Ownership {
        let mut owners = self.resources.iter().flat_map(|all| all.iter()).filter_map(|(_, owner)| *owner);
        match owners.next() {
            None => Ownership::Inherited,
            Some(owner) if owners.all(|other| other == owner) => Ownership::Of(owner),
            Some(_) => Ownership::Disputed,
        }
    }
}

impl Names {
    pub(super) fn new() -> Self {
        let root = Node { uses: 1, ..Node::default() };
        Self {
            nodes: Paged::unit(root),
            children: GenericHashMap::with_hasher(BuildHasherDefault::default()),
            free: NodeId::NONE,
            live: 1,
            seed: RandomState::new(),
        }
    }

    /// How many names there are, those that others only pass through included.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.0 as usize)
    }

    pub(super) fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.node(id)?.parent.some()
    }

    /// The last key of the name, unless it is `*`.
    pub(super) fn key(&self, id: NodeId) -> Option<&str> {
        self.node(id)?.key.literal()
    }

    /// The child with exactly this key, which is never the child `*`.
    pub(super) fn child(&self, parent: NodeId, key: &str) -> Option<NodeId> {
        let mut next = *self.children.get(&self.hash(parent, key))?;
        loop {
            let node = self.node(next)?;
            if node.parent == parent && matches!(&node.key, PatternKey::Key(known) if **known == *key) {
                return Some(next);
            }
            next = node.twin.some()?;
        }
    }

    pub(super) fn find(&self, pattern: &Pattern) -> Option<NodeId> {
        pattern.keys().iter().try_fold(NodeId::ROOT, |node, key| match key {
            PatternKey::Any => self.node(node)?.any(),
            PatternKey::Key(key) => self.child(node, key),
        })
    }

    /// The name's pattern, written again from its keys.
    pub(super) fn pattern(&self, id: NodeId) -> Pattern {
        let mut keys = Vec::new();
        let mut next = id;
        while next != NodeId::ROOT
            && let Some(node) = self.node(next)
        {
            keys.push(node.key.clone());
            next = node.parent;
        }
        keys.reverse();
        Pattern::of(keys)
    }

    /// The name's node, made where there is none, with one use more.
    pub(super) fn retain(&mut self, pattern: &Pattern) -> NodeId {
        let at = self.reserve(pattern);
        self.use_again(at);
        at
    }

    /// The name's node, made where there is none, whose uses are counted later: until then nothing may be released.
    pub(super) fn reserve(&mut self, pattern: &Pattern) -> NodeId {
        let mut at = NodeId::ROOT;
        for key in pattern.keys() {
            let known = match key {
                PatternKey::Any => self.node(at).and_then(Node::any),
                PatternKey::Key(text) => self.child(at, text),
            };
            at = known.unwrap_or_else(|| self.grow(at, key));
        }
        at
    }

    /// How many nodes there are, free ones included.
    pub(super) fn reach(&self) -> usize {
        self.nodes.len()
    }

    /// Gives a reserved name its rows: each is a use.
    pub(super) fn keep_granted(&mut self, id: NodeId, to: GrantedTo, is_holders: impl Fn(SubjectId) -> bool) {
        let Some(node) = self.node_mut(id) else { return };
        let GrantedTo { mut users, others } = to;
        node.uses = node.uses.saturating_add(u32::try_from(users.len() + others.len()).unwrap_or(u32::MAX));
        users.sort_unstable();
        let holders: Arc<[SubjectId]> = others.iter().copied().filter(|subject| is_holders(*subject)).collect();
        node.holders = (!holders.is_empty()).then_some(holders);
        let mut others: Vec<Scattered> = others.into_iter().map(Scattered).collect();
        others.sort_unstable_by_key(Keyed::key);
        (node.to_users, node.to_others) = (Sorted::of(&users), Sorted::of(&others));
    }

    /// Lets a name go that was reserved and is not used, unless it went already with the last name below it.
    pub(super) fn settle(&mut self, id: NodeId) {
        if self.node(id).is_some_and(|node| node.uses == 0 && node.parent != NodeId::NONE) {
            self.use_again(id);
            self.release(id);
        }
    }

    /// One use less; names that nothing uses any more go.
    pub(super) fn release(&mut self, id: NodeId) {
        let mut next = id;
        while let Some(node) = self.node_mut(next) {
            node.uses = node.uses.saturating_sub(1);
            if node.uses > 0 || next == NodeId::ROOT {
                return;
            }
            let parent = node.parent;
            self.cut(next);
            next = parent;
        }
    }

    pub(super) fn add_resource(&mut self, at: NodeId, id: ResourceId, owner: Option<UserId>) {
        self.change_resources(at, |all| all.push((id, owner)));
    }

    pub(super) fn remove_resource(&mut self, at: NodeId, id: ResourceId) {
        self.change_resources(at, |all| all.retain(|(known, _)| *known != id));
    }

    fn change_resources(&mut self, at: NodeId, change: impl FnOnce(&mut Vec<Owned>)) {
        if let Some(node) = self.node_mut(at) {
            let mut all = node.resources.as_deref().unwrap_or_default().to_vec();
            change(&mut all);
            node.resources = (!all.is_empty()).then(|| all.into());
        }
    }

    fn use_again(&mut self, id: NodeId) {
        if let Some(node) = self.node_mut(id) {
            node.uses = node.uses.saturating_add(1);
        }
    }

    fn grow(&mut self, parent: NodeId, key: &PatternKey) -> NodeId {
        let mut node = Node::new(parent, key.clone());
        let id = self.free.some().unwrap_or_else(|| NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)));
        match key {
            PatternKey::Any => {
                if let Some(parent) = self.node_mut(parent) {
                    parent.any = id;
                }
            }
            PatternKey::Key(text) => {
                node.twin = self.children.insert(self.hash(parent, text), id).unwrap_or(NodeId::NONE);
            }
        }
        if self.free == id
            && let Some(slot) = self.nodes.get_mut(id.0 as usize)
        {
            self.free = std::mem::replace(slot, node).twin;
        } else {
            self.nodes.push(node);
        }
        self.live += 1;
        self.use_again(parent);
        id
    }

    /// Unhooks a node from its parent and gives its id away.
    fn cut(&mut self, id: NodeId) {
        let free = std::mem::replace(&mut self.free, id);
        let Some(slot) = self.node_mut(id) else { return };
        let node = std::mem::replace(slot, Node { twin: free, ..Node::default() });
        self.live -= 1;
        match &node.key {
            PatternKey::Any => {
                if let Some(parent) = self.node_mut(node.parent) {
                    parent.any = NodeId::NONE;
                }
            }
            PatternKey::Key(text) => self.unchain(self.hash(node.parent, text), id, node.twin),
        }
    }

    fn unchain(&mut self, hash: u64, id: NodeId, after: NodeId) {
        let Some(first) = self.children.get(&hash).copied() else { return };
        if first == id {
            match after.some() {
                Some(after) => self.children.insert(hash, after),
                None => self.children.remove(&hash),
            };
            return;
        }
        let mut next = first;
        while let Some(node) = self.node_mut(next) {
            if node.twin == id {
                node.twin = after;
                return;
            }
            next = node.twin;
        }
    }

    fn hash(&self, parent: NodeId, key: &str) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u32(parent.0);
        hasher.write(key.as_bytes());
        hasher.finish()
    }
}

/// Takes a number that is a hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Ok(number) = bytes.try_into() {
            self.0 = u64::from_ne_bytes(number);
        }
    }
}

#[cfg(test)]
mod tests;
