//! Whether a user holds levels on other resources, for what is shared with the holders of those.
//!
//! Shares make a web: a resource may be shared with the holders of another, that one with the holders of a third, and
//! round in circles. The rule is that of the text: a question which is being asked already counts as no. Following it word
//! by word takes every way through the web, of which there are more than anybody can walk. So all resources that can
//! matter are looked at once, and levels spread from where they are held, along with the way that they came: what came by
//! a way that meets no resource twice is held by the rule. Only a level that comes to a resource by way of that resource
//! (where it has another level) leaves a doubt, which the word-by-word search settles within a bound.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use smallvec::SmallVec;

use super::evaluate::{Direct, Question, Reading, Silent, Verdict, Walk, passed_on};
use super::names::NodeId;
use super::rows::NEVER;
use super::snapshot::Snapshot;
use super::subjects::SubjectId;
use super::tree::{Clock, Path};
use super::{Levels, PatternKey, ResourceId, UserId};

/// How many resources one decision looks at, evenly for each of those that it asks about, and how many for one of them.
/// Real webs have a handful; what lies beyond counts as not held, which gives less, never more.
const MAX_SITES: usize = 4096;
const MAX_BEHIND: usize = 1024;

/// How many shares between them one decision follows, in the same way.
const MAX_SHARES: usize = 16 * 1024;

/// How many holders it finds on their names, in the same way: most may give nothing, and each takes a look.
const MAX_HOLDERS: usize = 256 * 1024;

/// How many questions the search for what is in doubt may ask in one decision, evenly for each resource that it asks about,
/// and how many for each of these at least: with as many of them as there can be, 32,768.
const MAX_ASKED: usize = 2048;
const MIN_ASKED: usize = 8;

/// How long a chain of questions the search follows: it recurses.
const MAX_CHAIN: usize = 64;

/// What one decision knows of other resources: nothing, until it has to.
pub(super) struct Others<'a, R> {
    snapshot: &'a Snapshot,
    question: Question<'a>,
    now: i64,
    /// The resources that the decision may ask about, all of them, so that its answer depends on nothing else.
    roots: R,
    web: Option<Web>,
    /// What the search found on those of them that it was about: one tells of every level.
    searched: BTreeMap<usize, Levels>,
}

impl<'a, R: Fn() -> Vec<ResourceId>> Others<'a, R> {
    pub(super) const fn new(snapshot: &'a Snapshot, question: Question<'a>, now: i64, roots: R) -> Self {
        Self { snapshot, question, now, roots, web: None, searched: BTreeMap::new() }
    }

    /// Whether the user holds all of `need` on the resource.
    pub(super) fn hold(&mut self, need: Levels, resource: ResourceId, clock: &mut Clock) -> bool {
        let web = self.web.get_or_insert_with(|| Web::new(self.snapshot, self.question, (self.roots)(), self.now));
        clock.rests_until(web.ends);
        let Some(place) = web.place(self.snapshot, resource) else { return false };
        let Some(site) = web.sites.get(place) else { return false };
        if site.held.has_all(need) || !site.possible.has_all(need) {
            return site.held.has_all(need);
        }
        let searched = self.searched.entry(place).or_insert_with(|| {
            let (asking, known) = (vec![0; web.words()], BTreeMap::new());
            let (snapshot, user, now, left) = (self.snapshot, self.question.user, self.now, web.budget);
            Search { web, snapshot, user, now, asking, chain: 0, left, known }.levels(place, resource)
        });
        searched.has_all(need)
    }
}

/// The resources that matter to a decision, with what the user holds on them.
struct Web {
    /// The name that the decision is about, which counts as no.
    asked: Option<NodeId>,
    places: BTreeMap<NodeId, usize>,
    sites: Vec<Site>,
    shares: Vec<Share>,
    /// The first second at which any of it may be another.
    ends: i64,
    /// How many questions the search about one root may ask.
    budget: usize,
}

struct Site {
    resource: ResourceId,
    /// What the user holds by the rule, beyond doubt.
    held: Levels,
    /// What the user holds if no question counted as no: never less.
    possible: Levels,
    /// For each level that came by shares: the sites that it came by.
    ways: [Option<Rc<[u64]>>; 7],
    /// The shares with the holders of this.
    shared: Vec<usize>,
    /// What is shared on this, once it was looked at, and which of it is among the shares.
    sources: Option<Rc<[Source]>>,
    linked: Vec<bool>,
}

/// What the holders of another resource have on a site: of `need` there, or where that is none, of each level itself.
struct Source {
    from: ResourceId,
    need: Option<Levels>,
    gives: Levels,
}

/// What one root may still take of a decision's work. The roots' rooms together are what a decision may cost, and one
/// root's is no other's: those who share their resources onto one root, and so choose what lies behind it, leave what lies
/// behind the others as it is.
#[derive(Clone, Copy)]
struct Room {
    sites: usize,
    shares: usize,
    holders: usize,
}

/// Holders of `need` on the site `from` have `gives` on the site `to`.
struct Share {
    from: usize,
    need: Levels,
    to: usize,
    gives: Levels,
}

impl Web {
    fn new(snapshot: &Snapshot, question: Question<'_>, roots: Vec<ResourceId>, now: i64) -> Self {
        let asked = question.keys.iter().try_fold(NodeId::ROOT, |node, key| snapshot.names.child(node, key));
        let (places, sites, shares) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut web = Self { asked, places, sites, shares, ends: NEVER, budget: 0 };
        for root in roots {
            if web.sites.len() == MAX_SITES {
                break;
            }
            web.reach(snapshot, root);
        }
        let roots = web.sites.len();
        let each = |most: usize| most / roots.max(1);
        web.budget = each(MAX_ASKED).max(MIN_ASKED);
        let room =
            Room { sites: each(MAX_SITES).min(MAX_BEHIND), shares: each(MAX_SHARES), holders: each(MAX_HOLDERS) };
        for root in 0..roots {
            web.explore(snapshot, question.user, root, now, room);
        }
        if web.spread() {
            web.spread_possible();
        }
        web
    }

    /// Links what lies behind a root, as far as its room goes.
    fn explore(&mut self, snapshot: &Snapshot, user: UserId, root: usize, now: i64, mut room: Room) {
        let (mut seen, mut queue) = (BTreeSet::from([root]), VecDeque::from([root]));
        while let Some(to) = queue.pop_front() {
            for (number, source) in self.sources(snapshot, user, to, now, &mut room).iter().enumerate() {
                if room.shares == 0 {
                    break;
                }
                room.shares -= 1;
                // What is held on the sites that are there counts all the same.
                let full = seen.len() >= room.sites;
                let from = if full { self.place(snapshot, source.from) } else { self.reach(snapshot, source.from) };
                let Some(from) = from else { continue };
                if !full && seen.insert(from) {
                    queue.push_back(from);
                }
                self.link(from, to, number, source);
            }
        }
    }

    fn place(&self, snapshot: &Snapshot, resource: ResourceId) -> Option<usize> {
        self.places.get(&node_of(snapshot, resource)?).copied()
    }

    /// How many words hold a bit for each site.
    fn words(&self) -> usize {
        self.sites.len().div_ceil(64)
    }

    /// The place of the resource, given one where it has none yet.
    fn reach(&mut self, snapshot: &Snapshot, resource: ResourceId) -> Option<usize> {
        let node = node_of(snapshot, resource).filter(|node| Some(*node) != self.asked)?;
        if let Some(place) = self.places.get(&node) {
            return Some(*place);
        }
        self.sites.push(Site {
            resource,
            held: Levels::NONE,
            possible: Levels::NONE,
            ways: Default::default(),
            shared: Vec::new(),
            sources: None,
            linked: Vec::new(),
        });
        self.places.insert(node, self.sites.len() - 1);
        Some(self.sites.len() - 1)
    }

    /// What is shared on the site, in an order that does not depend on history; nothing where the room does not do for it,
    /// which another root's may. Notes also what the user holds there but for that.
    fn sources(&mut self, snapshot: &Snapshot, user: UserId, to: usize, now: i64, room: &mut Room) -> Rc<[Source]> {
        let Some(site) = self.sites.get(to) else { return Rc::default() };
        if let Some(known) = &site.sources {
            return Rc::clone(known);
        }
        let Some(keys) = keys_of(snapshot, site.resource) else { return Rc::default() };
        let path = Path::new(&snapshot.names, &keys);
        let question = Question { user, keys: &keys, reading: Reading::Covering };
        let mut walk = Walk { snapshot, question, path: &path, clock: Clock::at(now), trace: &mut Silent };
        let direct = walk.direct();
        let base = direct.levels();
        let left = room.holders.checked_sub(snapshot.holders_met(&path));
        let mut sources = Vec::new();
        if let Direct::Open { deny, .. } = direct
            && let Some(left) = left
        {
            room.holders = left;
            for subject in snapshot.holders_on(&path) {
                #[cfg(test)]
                tests::LOOKS.set(tests::LOOKS.get() + 1);
                let Some((answer, from, need)) = walk.share(subject) else { continue };
                let gives = answer.found.levels.given().without(base);
                if answer.counts(deny) && !gives.is_empty() {
                    sources.push(Source { from, need, gives });
                }
            }
        }
        self.ends = self.ends.min(walk.clock.ends);
        let sources: Rc<[Source]> = sources.into();
        if let Some(site) = self.sites.get_mut(to) {
            (site.held, site.possible) = (base, base);
            site.linked = vec![false; sources.len()];
            site.sources = left.map(|_| Rc::clone(&sources));
        }
        sources
    }

    /// Lets the source of this number give, where no other root did.
    fn link(&mut self, from: usize, to: usize, number: usize, source: &Source) {
        let linked = self.sites.get_mut(to).and_then(|site| site.linked.get_mut(number));
        if linked.is_none_or(|linked| std::mem::replace(linked, true)) {
            return;
        }
        for (need, gives) in passed_on(source.gives, source.need) {
            self.shares.push(Share { from, need, to, gives });
            if let Some(site) = self.sites.get_mut(from) {
                site.shared.push(self.shares.len() - 1);
            }
        }
    }

    /// Lets levels spread along shares, the shortest ways first, as long as no way meets a site twice. Whether a share
    /// was left out for that.
    fn spread(&mut self) -> bool {
        let words = self.words();
        let mut queue: VecDeque<usize> = (0..self.shares.len()).collect();
        let mut left_out = Vec::new();
        while let Some(next) = queue.pop_front() {
            let Some(Share { from, need, to, gives }) = self.shares.get(next) else { continue };
            let (Some(source), Some(target)) = (self.sites.get(*from), self.sites.get(*to)) else { continue };
            let new = gives.without(target.held);
            if new.is_empty() || !source.held.has_all(*need) {
                continue;
            }
            let way = source.way(*need, *from, words);
            if has(&way, *to) {
                left_out.push(next);
                continue;
            }
            let Some(target) = self.sites.get_mut(*to) else { continue };
            target.held |= new;
            let way: Rc<[u64]> = way.into();
            for bit in (0..7).filter(|bit| new.bits() & (1 << bit) != 0) {
                if let Some(known) = target.ways.get_mut(bit) {
                    *known = Some(Rc::clone(&way));
                }
            }
            queue.extend(&target.shared);
        }
        self.sites.iter_mut().for_each(|site| site.possible = site.held);
        let given = |share: &Share| self.sites.get(share.to).is_some_and(|site| site.held.has_all(share.gives));
        left_out.into_iter().filter_map(|share| self.shares.get(share)).any(|share| !given(share))
    }

    /// Lets levels spread without that bound.
    fn spread_possible(&mut self) {
        let mut queue: VecDeque<usize> = (0..self.shares.len()).collect();
        while let Some(Share { from, need, to, gives }) = queue.pop_front().and_then(|next| self.shares.get(next)) {
            let held = self.sites.get(*from).is_some_and(|source| source.possible.has_all(*need));
            if let Some(target) = self.sites.get_mut(*to).filter(|target| held && !target.possible.has_all(*gives)) {
                target.possible |= *gives;
                queue.extend(&target.shared);
            }
        }
    }
}

impl Site {
    /// The sites by which these levels came here, this one, which is `here`, among them.
    fn way(&self, levels: Levels, here: usize, words: usize) -> Vec<u64> {
        let mut way = vec![0; words];
        add(&mut way, here);
        for bit in (0..7).filter(|bit| levels.bits() & (1 << bit) != 0) {
            let Some(Some(known)) = self.ways.get(bit) else { continue };
            way.iter_mut().zip(known.iter()).for_each(|(word, known)| *word |= known);
        }
        way
    }
}

fn add(sites: &mut [u64], site: usize) {
    if let Some(word) = sites.get_mut(site / 64) {
        *word |= 1 << (site % 64);
    }
}

fn has(sites: &[u64], site: usize) -> bool {
    sites.get(site / 64).is_some_and(|word| word & (1 << (site % 64)) != 0)
}

/// The rule word by word, for what the web leaves in doubt.
struct Search<'a> {
    web: &'a Web,
    snapshot: &'a Snapshot,
    user: UserId,
    now: i64,
    /// The sites that are being asked about.
    asking: Vec<u64>,
    chain: usize,
    /// How many questions more it may ask; beyond them all counts as no.
    left: usize,
    /// What is held on a site while those are being asked about: all that it depends on.
    known: BTreeMap<(usize, Vec<u64>), Levels>,
}

impl Search<'_> {
    fn holds(&mut self, need: Levels, resource: ResourceId) -> bool {
        let Some(place) = self.web.place(self.snapshot, resource) else { return false };
        let possible = self.web.sites.get(place).is_some_and(|site| site.possible.has_all(need));
        possible && !has(&self.asking, place) && self.levels(place, resource).has_all(need)
    }

    fn levels(&mut self, place: usize, resource: ResourceId) -> Levels {
        let known = (place, self.asking.clone());
        if let Some(levels) = self.known.get(&known) {
            return *levels;
        }
        let Some(keys) = keys_of(self.snapshot, resource) else { return Levels::NONE };
        if self.left == 0 || self.chain >= MAX_CHAIN {
            return Levels::NONE;
        }
        #[cfg(test)]
        tests::QUESTIONS.set(tests::QUESTIONS.get() + 1);
        (self.left, self.chain) = (self.left - 1, self.chain + 1);
        add(&mut self.asking, place);
        let path = Path::new(&self.snapshot.names, &keys);
        let question = Question { user: self.user, keys: &keys, reading: Reading::Covering };
        let (snapshot, clock) = (self.snapshot, Clock::at(self.now));
        let walk = Walk { snapshot, question, path: &path, clock, trace: &mut Silent };
        // The web rests on every row that this reads.
        let Verdict { levels, .. } = walk.evaluate(&mut |need, resource, _| self.holds(need, resource));
        (self.chain, self.asking) = (self.chain - 1, known.1.clone());
        self.known.insert(known, levels);
        levels
    }
}

/// Of holders: on which resource, and of which levels.
type Through = Option<(ResourceId, Option<Levels>)>;

fn node_of(snapshot: &Snapshot, resource: ResourceId) -> Option<NodeId> {
    match snapshot.resource(resource) {
        Some(known) => snapshot.names.find(&known.name),
        None => snapshot.names.child(NodeId::ROOT, &resource.key()),
    }
}

/// The keys of the resource's name, none of which is `*`.
fn keys_of(snapshot: &Snapshot, resource: ResourceId) -> Option<SmallVec<[&str; 8]>> {
    match snapshot.resource(resource) {
        Some(known) => known.name.keys().iter().map(PatternKey::literal).collect(),
        None => Some(SmallVec::from_iter([snapshot.names.key(node_of(snapshot, resource)?)?])),
    }
}

impl Snapshot {
    /// How many holders of other resources have a row on one of the names met, those twice that have two.
    fn holders_met(&self, path: &Path) -> usize {
        let nodes = path.steps().iter().filter_map(|step| self.names.node(step.node));
        nodes.filter_map(|node| node.holders.as_deref()).map(|holders| holders.len()).sum()
    }

    /// The holders of other resources that have a row on one of the names met, in an order that does not depend on history.
    pub(super) fn holders_on(&self, path: &Path) -> SmallVec<[SubjectId; 8]> {
        let nodes = path.steps().iter().filter_map(|step| self.names.node(step.node));
        let subjects = nodes.filter_map(|node| node.holders.as_deref()).flatten().copied();
        let mut all: SmallVec<[(Through, SubjectId); 8]> = SmallVec::new();
        all.extend(subjects.map(|id| (self.subjects.entry(id).and_then(|entry| entry.subject.through()), id)));
        all.sort_unstable();
        all.dedup();
        all.into_iter().map(|(_, id)| id).collect()
    }

    /// The resources whose holders have a row on one of the names met.
    pub(super) fn shared_from(&self, path: &Path) -> Vec<ResourceId> {
        let subjects = self.holders_on(path);
        let through = |subject: &SubjectId| self.subjects.entry(*subject)?.subject.through();
        subjects.iter().filter_map(through).map(|(resource, _)| resource).collect()
    }
}

#[cfg(test)]
mod tests;
