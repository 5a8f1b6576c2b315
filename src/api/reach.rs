//! Which nodes somebody holds anything on, in a population of which most is out of reach.
//!
//! Namespaces and services are looked at one by one. Of users, groups and records there may be millions, whose names are
//! ids that no wildcard matches: only those are looked at that are owned, or that a grant to one of the subjects names,
//! and from there what is shared with the holders of what is held.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Api;
use super::access::held;
use super::error::Refusal;
use super::extract::Caller;
use super::node::{Node, Thing};
use super::turn::Turns;
use super::view::View;
use crate::policy::{Levels, PatternKey, ResourceId, Subject, UserId};
use crate::proxy::error::{Kind, Problem};

/// How long one list may take.
const LONGEST: Duration = Duration::from_secs(5);

/// Lists are made apart from the listener's thread, a few at a time.
static TURNS: Turns = Turns::of(2, 64);

/// How many are few: looked at in a millisecond or two.
pub(super) const FEW: usize = 5000;

/// How many are looked at between two looks at the clock.
const PACE: usize = 256;

/// Does what may take long, when it is the caller's turn; the deadline is its own to keep. What it works with is what
/// `may` finds: before the wait, because nobody waits for a turn who may not, and after it, because it may outlast the
/// right.
///
/// # Errors
/// What `may` refuses; 503 `busy` where too many wait, or where it takes too long.
pub(super) async fn apart<J: Send + 'static, T: Send + 'static>(
    api: &Api,
    caller: &Caller,
    may: impl Fn(Arc<View>) -> Result<J, Refusal>,
    work: impl FnOnce(J, Deadline) -> Result<T, TooLong> + Send + 'static,
) -> Result<T, Refusal> {
    drop(may(api.view())?);
    let turn = TURNS.take(caller.id()).await?;
    api.still_decides_for(&caller.identity)?;
    let found = may(api.view())?;
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work(found, Deadline::begin())
    });
    match done.await {
        Ok(made) => made.map_err(Refusal::from),
        Err(error) => {
            tracing::error!(%error, "a list failed");
            Err(Problem::new(&Kind::INTERNAL, "the gateway failed").into())
        }
    }
}

/// The same, at once where there are few to look at.
///
/// # Errors
/// As for [`apart`].
pub(super) async fn looking_at<J: Send + 'static, T: Send + 'static>(
    count: usize,
    api: &Api,
    caller: &Caller,
    may: impl Fn(Arc<View>) -> Result<J, Refusal>,
    work: impl FnOnce(J, Deadline) -> Result<T, TooLong> + Send + 'static,
) -> Result<T, Refusal> {
    if count > FEW {
        return apart(api, caller, may, work).await;
    }
    work(may(api.view())?, Deadline::begin()).map_err(Refusal::from)
}

/// Until when a list must be made.
pub(super) struct Deadline {
    end: Instant,
    /// How much was looked at.
    looked: usize,
}

/// It was not.
#[derive(Debug)]
pub(super) struct TooLong;

impl From<TooLong> for Refusal {
    fn from(_: TooLong) -> Self {
        let detail = "the list takes too long to make\nask for less at a time";
        Problem::new(&Kind::BUSY, detail).retry_after(60).into()
    }
}

impl Deadline {
    fn begin() -> Self {
        Self { end: Instant::now() + LONGEST, looked: 0 }
    }

    /// Asked for each that is looked at.
    pub(super) fn goes_on(&mut self) -> Result<(), TooLong> {
        self.looked += 1;
        if !self.looked.is_multiple_of(PACE) || Instant::now() < self.end { Ok(()) } else { Err(TooLong) }
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
    each(view, from, Some(label), now, deadline, |node| {
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
    each(view, from, None, now, deadline, |node| {
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
    now: Timestamp,
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
    let named = Named::by(view, from, now, deadline)?;
    let (catalog, directory) = (&view.catalog, &view.state.directory);
    if !named.everything {
        for node in named.ids.iter().filter_map(|id| view.node_of(*id)) {
            // The others were shown, or are not asked for.
            if matches!(node.thing, Thing::User(_) | Thing::Group(_) | Thing::Record(_)) {
                show(node, deadline)?;
            }
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

/// What somebody may hold something on: all of that, and little else.
struct Named<'a> {
    view: &'a View,
    ids: BTreeSet<ResourceId>,
    /// Those of which nobody looked yet for what is shared with their holders.
    new: Vec<ResourceId>,
    /// A grant on everything names all.
    everything: bool,
}

impl<'a> Named<'a> {
    /// What is owned, what grants to any of the subjects name that `from` is, and what is shared with the holders of
    /// anything that a user holds by then. What others share with each other is not looked at: of that there may be
    /// far more than of all nodes.
    fn by(view: &'a View, from: &Node, now: Timestamp, deadline: &mut Deadline) -> Result<Self, TooLong> {
        let mut named = Self { view, ids: BTreeSet::new(), new: Vec::new(), everything: false };
        for subject in subjects(view, from) {
            named.given_to(&subject, deadline)?;
        }
        if let Thing::User(account) = &from.thing {
            named.owned_by(account.id, deadline)?;
            while let Some(id) = named.new.pop().filter(|_| !named.everything) {
                named.follow(account.id, id, now, deadline)?;
            }
        }
        Ok(named)
    }

    fn given_to(&mut self, subject: &Subject, deadline: &mut Deadline) -> Result<(), TooLong> {
        let view = self.view;
        let policy = &view.state.policy;
        for grant in policy.grants_of(subject) {
            deadline.goes_on()?;
            self.covered(grant.pattern.keys(), deadline)?;
        }
        Ok(())
    }

    fn owned_by(&mut self, user: UserId, deadline: &mut Deadline) -> Result<(), TooLong> {
        let view = self.view;
        let (catalog, directory) = (&view.catalog, &view.state.directory);
        for record in catalog.shelf().owned(user) {
            deadline.goes_on()?;
            self.take(record.id);
        }
        for group in directory.groups() {
            deadline.goes_on()?;
            if group.owner == Some(user) {
                self.put(ResourceId(group.id.0));
            }
        }
        for namespace in catalog.namespaces() {
            deadline.goes_on()?;
            if namespace.owner == Some(user) {
                self.place(&namespace.name, None, deadline)?;
            }
        }
        for service in catalog.services() {
            deadline.goes_on()?;
            if service.owner == Some(user) {
                self.put(service.id);
            }
        }
        Ok(())
    }

    /// Adds what is shared with the holders of that, where the user is one of them.
    fn follow(&mut self, user: UserId, id: ResourceId, now: Timestamp, deadline: &mut Deadline) -> Result<(), TooLong> {
        let view = self.view;
        let policy = &view.state.policy;
        let mut shares = policy.sharing_of(id).peekable();
        if shares.peek().is_none() {
            return Ok(());
        }
        deadline.goes_on()?;
        let keys = policy.name_of(id);
        let held = policy.levels(user, &keys.literal_prefix().collect::<Vec<_>>(), now);
        for subject in shares {
            let holds = match subject.through() {
                Some((_, Some(need))) => held.has_all(need),
                _ => !held.is_empty(),
            };
            if holds {
                self.given_to(subject, deadline)?;
            }
        }
        Ok(())
    }

    /// Adds the nodes that a pattern of these keys covers.
    fn covered(&mut self, keys: &[PatternKey], deadline: &mut Deadline) -> Result<(), TooLong> {
        let (first, second) = match keys {
            [] => {
                self.everything = true;
                return Ok(());
            }
            [first] => (first, None),
            [first, second] => (first, Some(second)),
            // No node has a name of more than two keys.
            _ => return Ok(()),
        };
        let Some(literal) = first.literal() else {
            // No id is matched by `*`.
            let view = self.view;
            for namespace in view.catalog.namespaces() {
                deadline.goes_on()?;
                self.place(&namespace.name, second, deadline)?;
            }
            return Ok(());
        };
        match (ResourceId::of_key(literal), second) {
            (None, _) => self.place(literal, second, deadline)?,
            (Some(id), None) => self.take(id),
            (Some(id), Some(PatternKey::Any)) => self.within(id),
            (Some(_), Some(second)) => id_of(second).into_iter().for_each(|id| self.put(id)),
        }
        Ok(())
    }

    /// The namespace with its services; or those services of it that are meant.
    fn place(&mut self, namespace: &str, service: Option<&PatternKey>, deadline: &mut Deadline) -> Result<(), TooLong> {
        let view = self.view;
        let catalog = &view.catalog;
        match service {
            Some(PatternKey::Key(name)) => {
                catalog.service_kept(namespace, name).into_iter().for_each(|service| self.put(service.id));
                return Ok(());
            }
            Some(PatternKey::Any) => {}
            None => catalog.namespace(namespace).into_iter().for_each(|namespace| self.put(namespace.id)),
        }
        for service in catalog.services_in(namespace) {
            deadline.goes_on()?;
            self.put(service.id);
        }
        Ok(())
    }

    /// The record with what is in it.
    fn take(&mut self, id: ResourceId) {
        self.put(id);
        self.within(id);
    }

    fn within(&mut self, id: ResourceId) {
        let view = self.view;
        view.catalog.shelf().within(id).for_each(|record| self.put(record.id));
    }

    fn put(&mut self, id: ResourceId) {
        if self.ids.insert(id) {
            self.new.push(id);
        }
    }
}

/// Whom grants may be to that `from` is: what is shared with a user by way of others is found by what the user holds.
fn subjects(view: &View, from: &Node) -> Vec<Subject> {
    match &from.thing {
        Thing::User(account) => {
            let groups = account.groups.iter().filter_map(|name| view.group_named(name));
            let groups = groups.map(|group| Subject::Group(group.id));
            let own = [Subject::User(account.id), Subject::Role(account.role.clone()), Subject::Everyone];
            own.into_iter().chain(groups).collect()
        }
        other => {
            let members = match other {
                Thing::Group(group) => Some(Subject::Group(group.id)),
                _ => None,
            };
            let through = view.state.policy.sharing_of(from.id()).cloned();
            through.chain(members).chain([Subject::Itself(from.id())]).collect()
        }
    }
}

fn id_of(key: &PatternKey) -> Option<ResourceId> {
    ResourceId::of_key(key.literal()?)
}

#[cfg(test)]
mod tests;
