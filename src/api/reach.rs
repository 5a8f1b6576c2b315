//! Which nodes somebody holds anything on, in a population of which most is out of reach.
//!
//! Namespaces and services are looked at one by one. Of users, groups and records there may be millions, whose names are
//! ids that no wildcard matches: only those are looked at that are owned, or that a grant to one of the subjects names.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::access::held;
use super::error::Refusal;
use super::node::{Node, Thing};
use super::turn::Turns;
use super::view::View;
use crate::policy::{Grant, Levels, PatternKey, ResourceId, Subject};
use crate::proxy::error::{Kind, Problem};

/// How long one list may take.
const LONGEST: Duration = Duration::from_secs(5);

/// Lists are made apart from the listener's thread, a few at a time.
static TURNS: Turns = Turns::of(2, 64);

/// How many are looked at between two looks at the clock.
const PACE: usize = 256;

/// Does what may take long, when it is its turn; the deadline is its own to keep.
///
/// # Errors
/// 503 `busy` where too many wait, or where it takes too long.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce(Deadline) -> Result<T, TooLong> + Send + 'static,
) -> Result<T, Refusal> {
    let turn = TURNS.take().await?;
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work(Deadline { end: Instant::now() + LONGEST, left: PACE })
    });
    match done.await {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(TooLong)) => {
            let detail = "the list takes too long to make\nask about one resource at a time";
            Err(Problem::new(&Kind::BUSY, detail).retry_after(60).into())
        }
        Err(error) => {
            tracing::error!(%error, "a list failed");
            Err(Problem::new(&Kind::INTERNAL, "the gateway failed").into())
        }
    }
}

/// Until when a list must be made.
pub(super) struct Deadline {
    end: Instant,
    left: usize,
}

/// It was not.
#[derive(Debug)]
pub(super) struct TooLong;

impl Deadline {
    /// Asked for each that is looked at.
    pub(super) fn goes_on(&mut self) -> Result<(), TooLong> {
        self.left -= 1;
        if self.left > 0 {
            return Ok(());
        }
        self.left = PACE;
        if Instant::now() < self.end { Ok(()) } else { Err(TooLong) }
    }
}

/// A node that is reached, and by what.
pub(super) struct Reached {
    pub(super) node: Node,
    pub(super) levels: Levels,
    pub(super) owner: bool,
}

/// The nodes with this label on which `from` holds what `counts`, by name; `from` itself is left out.
pub(super) fn reached(
    view: &View,
    from: &Node,
    label: &str,
    now: Timestamp,
    counts: impl Fn(Levels, bool) -> bool,
    deadline: &mut Deadline,
) -> Result<Vec<Reached>, TooLong> {
    let mut found = Vec::new();
    each(view, from, Some(label), deadline, |node| {
        if node.id() != from.id() && node.is(label) {
            let (levels, owner) = held(view, from, &node, now);
            if counts(levels, owner) {
                found.push(Reached { node, levels, owner });
            }
        }
    })?;
    found.sort_by(|one, other| (one.node.name(), one.node.id()).cmp(&(other.node.name(), other.node.id())));
    Ok(found)
}

/// The labels of those nodes, each once.
pub(super) fn labels(
    view: &View,
    from: &Node,
    now: Timestamp,
    counts: impl Fn(Levels, bool) -> bool,
    deadline: &mut Deadline,
) -> Result<BTreeSet<String>, TooLong> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    each(view, from, None, deadline, |node| {
        if node.id() == from.id() || node.labels().all(|label| found.contains(label)) {
            return;
        }
        let (levels, owner) = held(view, from, &node, now);
        if counts(levels, owner) {
            found.extend(node.labels().map(str::to_owned));
        }
    })?;
    Ok(found)
}

/// Shows every node that `from` may hold something on, each once; with a label, at least those that have it.
fn each(
    view: &View,
    from: &Node,
    label: Option<&str>,
    deadline: &mut Deadline,
    mut show: impl FnMut(Node),
) -> Result<(), TooLong> {
    let wanted = |kind: &str| label.is_none_or(|label| label == kind);
    let mut show = |node: Node, deadline: &mut Deadline| {
        show(node);
        deadline.goes_on()
    };
    if wanted("Namespace") {
        for namespace in view.catalog.namespaces() {
            show(namespace.clone().into(), deadline)?;
        }
    }
    if wanted("Service") {
        for service in view.catalog.services().filter(|service| service.present) {
            show(service.clone().into(), deadline)?;
        }
    }
    if matches!(label, Some("Namespace" | "Service")) {
        return Ok(());
    }
    let named = Named::by(view, from, deadline)?;
    let (catalog, directory) = (&view.catalog, &view.state.directory);
    if !named.everything {
        for node in named.ids.iter().filter_map(|id| view.node_of(*id)) {
            show(node, deadline)?;
        }
        return Ok(());
    }
    match label {
        Some(label) => {
            for record in catalog.shelf().labelled(label) {
                show(record.clone().into(), deadline)?;
            }
        }
        None => {
            for record in catalog.shelf().all() {
                show(record.clone().into(), deadline)?;
            }
        }
    }
    if wanted("UserGroup") {
        for group in directory.groups() {
            show(group.clone().into(), deadline)?;
        }
    }
    if wanted("User") {
        for account in directory.users() {
            show(account.clone().into(), deadline)?;
        }
    }
    Ok(())
}

/// What is named by id.
#[derive(Default)]
struct Named {
    ids: BTreeSet<ResourceId>,
    /// A grant on everything names all.
    everything: bool,
}

impl Named {
    /// What is owned, and what grants to any of the subjects name that may be `from`.
    fn by(view: &View, from: &Node, deadline: &mut Deadline) -> Result<Self, TooLong> {
        let policy = &view.state.policy;
        let mut named = Self::default();
        for subject in subjects(view, from) {
            for grant in policy.grants_of(&subject) {
                named.add(view, &grant);
                deadline.goes_on()?;
            }
        }
        if let Thing::User(account) = &from.thing {
            let (records, groups) = (view.catalog.shelf(), view.state.directory.groups());
            let owned: Vec<ResourceId> = records.owned(account.id).map(|record| record.id).collect();
            owned.into_iter().for_each(|id| named.take(view, id));
            for group in groups {
                if group.owner == Some(account.id) {
                    named.ids.insert(ResourceId(group.id.0));
                }
                deadline.goes_on()?;
            }
        }
        Ok(named)
    }

    fn add(&mut self, view: &View, grant: &Grant) {
        let mut keys = grant.pattern.keys().iter();
        match (keys.next(), keys.next()) {
            (None, _) => self.everything = true,
            (Some(first), second) => {
                let Some(id) = id_of(first) else { return };
                match second {
                    None => self.take(view, id),
                    Some(PatternKey::Any) => self.ids.extend(view.catalog.shelf().within(id).map(|record| record.id)),
                    Some(second) => self.ids.extend(id_of(second)),
                }
            }
        }
    }

    /// The node with what is in it.
    fn take(&mut self, view: &View, id: ResourceId) {
        self.ids.insert(id);
        self.ids.extend(view.catalog.shelf().within(id).map(|record| record.id));
    }
}

/// Whom grants may be to that reach `from`.
fn subjects(view: &View, from: &Node) -> Vec<Subject> {
    let policy = &view.state.policy;
    match &from.thing {
        Thing::User(account) => {
            let groups = account.groups.iter().filter_map(|name| view.group_named(name));
            let groups = groups.map(|group| Subject::Group(group.id));
            let mut all = vec![Subject::User(account.id), Subject::Role(account.role.clone()), Subject::Everyone];
            all.extend(groups);
            all.extend(policy.sharing().map(|(_, subject)| subject.clone()));
            all
        }
        Thing::Group(group) => vec![Subject::Group(group.id), Subject::Itself(from.id())],
        _ => {
            let through = policy.sharing_of(from.id()).cloned();
            through.chain([Subject::Itself(from.id())]).collect()
        }
    }
}

fn id_of(key: &PatternKey) -> Option<ResourceId> {
    ResourceId::of_key(key.literal()?)
}
