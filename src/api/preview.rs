//! `POST /permissions/preview`: what changes of permissions would do, before anybody makes them (`docs/API.md` §15).

mod asked;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::asked::{Lines, read};
use super::Api;
use super::error::Refusal;
use super::extract::{Caller, Sent};
use super::openapi::shapes;
use super::turn::Turns;
use super::view::View;
use super::warn;
use crate::policy::effects::{Compared, covers};
use crate::policy::{Change, Pattern, PatternKey, Snapshot, Subject, UserId};
use crate::proxy::error::{Kind, Problem};
use crate::proxy::why::{Names, levels};
use crate::store::{Count, DAYS_KEPT, day};

/// How long one preview may work, whatever part of it takes that long; what is not looked at by then makes it incomplete.
const LONGEST: Duration = Duration::from_secs(5);

/// The most answers that are computed for one preview: a second or two of one processor.
const MOST_EVALUATIONS: usize = 1_000_000;

/// The most comparisons of a name on which a user has something with a pattern that the changes reach.
const MOST_LOOKS: usize = 20_000_000;

/// The most counts of the access record that are judged.
const MOST_COUNTS: usize = 100_000;

/// The most rows of each list of the answer, and names of the subjects' own grants that are looked at.
const LISTED: usize = 1000;

/// Previews take a processor each, so that one is made at a time.
static TURNS: Turns = Turns::new();

/// What changes of permissions would do
///
/// Tells who would gain and lose what, and which calls of the last days would have gone the other way, and makes no
/// change; for who may administer every resource named.
#[utoipa::path(post, path = "/permissions/preview", tag = "permissions", request_body = Lines,
    responses(
        (status = 200, description = "what they would do", body = shapes::Preview),
        (status = 404, description = "there is no such user, group or resource"),
    ))]
pub(super) async fn preview(State(api): State<Arc<Api>>, caller: Caller, sent: Sent) -> Result<Json<Value>, Refusal> {
    let body = sent.object(&api, &caller).await?;
    // What takes memory is read when it is this one's turn, and so is what the caller may do.
    let turn = TURNS.take(caller.id()).await?;
    api.still_decides_for(&caller.identity)?;
    let view = api.view();
    let now = Timestamp::now();
    let changes = read(&view, &caller, &body, now)?;
    let counts = api.store.counts(day(now) - DAYS_KEPT, MOST_COUNTS).await?;
    let asker = caller.id();
    let told = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let end = Instant::now() + LONGEST;
        let bound = Bound::new(move || Instant::now() < end);
        Preview::of(&view, &changes, now, &bound).told(&view, &changes, counts, asker, now, &bound)
    });
    let told = told.await.map_err(|error| {
        tracing::error!(%error, "a preview failed");
        Problem::new(&Kind::INTERNAL, "the gateway failed")
    })?;
    Ok(Json(told))
}

/// The policy after the changes, and whom and what they may concern.
struct Preview {
    after: Snapshot,
    reached: Vec<Pattern>,
    users: Vec<UserId>,
    names: Vec<Pattern>,
    /// Whether these are all names that should be asked about.
    whole: bool,
}

/// Whether a preview goes on: it stops once it is told so, and then knows that it is not whole.
struct Bound<F> {
    goes_on: F,
    reached: Cell<bool>,
}

impl<F: Fn() -> bool> Bound<F> {
    const fn new(goes_on: F) -> Self {
        Self { goes_on, reached: Cell::new(false) }
    }

    fn goes_on(&self) -> bool {
        if !self.reached.get() && !(self.goes_on)() {
            self.reached.set(true);
        }
        !self.reached.get()
    }
}

impl Preview {
    fn of<F: Fn() -> bool>(view: &View, changes: &[Change], now: Timestamp, bound: &Bound<F>) -> Self {
        let goes_on = || bound.goes_on();
        let policy = &view.state.policy;
        let after = policy.patched(changes.iter().cloned());
        let changed = || changes.iter().filter_map(row);
        let reached = policy.reached(&after, changed().map(|(_, pattern)| pattern.clone()), &goes_on);
        let users = users(view, changed().map(|(subject, _)| subject), &goes_on);
        let mut names = known(view, &goes_on);
        // What is shared may stand on a name that nothing else tells of.
        names.extend(reached.iter().take_while(|_| goes_on()).cloned());
        for (subject, pattern) in changed().take_while(|_| goes_on()) {
            names.insert(pattern.clone());
            names.extend(policy.grants_of(subject).take(LISTED).take_while(|_| goes_on()).map(|grant| grant.pattern));
            let distant = policy.distant(&after, subject, pattern, now, LISTED, &goes_on);
            names.extend(distant.into_iter().map(|one| one.name));
        }
        names.retain(|name| goes_on() && reached.iter().any(|pattern| covers(pattern, name.keys())));
        // Other subjects' rows come last, so that all else is compared where there are too many of them.
        // With one more than can be compared the comparison knows that it is not whole.
        let room = names.len() + MOST_EVALUATIONS / 2 / users.len().max(1) + 1;
        let (looked_at, most) = (Cell::new(0), MOST_LOOKS / reached.len().max(1));
        let below = policy.given_below(&reached, &users, room, &|| {
            looked_at.set(looked_at.get() + 1);
            looked_at.get() <= most && goes_on()
        });
        let more: Vec<Pattern> = below.difference(&names).cloned().collect();
        let names = names.into_iter().chain(more).collect();
        Self { after, reached, users, names, whole: looked_at.get() <= most }
    }

    fn told<F: Fn() -> bool>(
        &self,
        view: &View,
        changes: &[Change],
        counts: Vec<Count>,
        asker: UserId,
        now: Timestamp,
        bound: &Bound<F>,
    ) -> Value {
        let policy = &view.state.policy;
        let names = Names { policy, directory: &view.state.directory };
        let administers = |name: &Pattern| {
            let prefix: Vec<&str> = name.literal_prefix().collect();
            policy.may_administer(asker, &prefix, now).is_ok()
        };
        // An evaluation may follow many shares, so that their number alone bounds no time.
        let goes_on = |count: usize| count <= MOST_EVALUATIONS && bound.goes_on();
        let compared = policy.compared(&self.after, &self.users, &self.names, now, goes_on);
        let (mut gains, mut losses) = (List::default(), List::default());
        let mut elsewhere = 0;
        // Differences come in the order of their names.
        let mut shown = None;
        for one in &compared.differences {
            if !bound.goes_on() {
                break;
            }
            let Some(name) = self.names.get(one.name) else { continue };
            let known = shown.filter(|(known, _)| *known == one.name).map(|(_, administers)| administers);
            let administers = known.unwrap_or_else(|| administers(name));
            shown = Some((one.name, administers));
            if !administers {
                elsewhere += 1;
                continue;
            }
            for (list, more) in
                [(&mut gains, one.after.without(one.before)), (&mut losses, one.before.without(one.after))]
            {
                if !more.is_empty() {
                    list.add(|| {
                        json!({
                            "user": names.user(one.user),
                            "resource": name.to_string(),
                            "levels": levels(more),
                            "before": levels(one.before),
                            "after": levels(one.after),
                        })
                    });
                }
            }
        }
        let calls = self.calls(view, &compared, counts, &administers, now, &|| bound.goes_on());
        let warned = |change| warn::of(names, &self.after, change, now, &|| bound.goes_on());
        let warnings: Vec<String> = changes.iter().flat_map(warned).take(LISTED).collect();
        json!({
            "revision": view.state.revision,
            "complete": compared.complete && self.whole && !bound.reached.get(),
            "users": self.users.len(),
            "resources": self.names.len(),
            "evaluations": compared.evaluations,
            "gains": gains.rows,
            "losses": losses.rows,
            "counts": {"gains": gains.count, "losses": losses.count, "elsewhere": elsewhere},
            "calls": calls,
            "warnings": warnings,
        })
    }

    /// Which calls that were made would be decided otherwise: those that grants decide one way now and another way after.
    fn calls(
        &self,
        view: &View,
        compared: &Compared,
        counts: Vec<Count>,
        administers: &dyn Fn(&Pattern) -> bool,
        now: Timestamp,
        goes_on: &dyn Fn() -> bool,
    ) -> Value {
        let names = Names { policy: &view.state.policy, directory: &view.state.directory };
        let users: BTreeSet<UserId> = self.users.iter().copied().collect();
        let mut complete = counts.len() < MOST_COUNTS;
        let mut left = MOST_EVALUATIONS.saturating_sub(compared.evaluations);
        let mut unjudged = 0;
        let mut other: [Calls; 2] = Default::default();
        let mut services = BTreeMap::new();
        for count in counts.into_iter().filter(|count| users.contains(&count.user)) {
            if left < 2 || !goes_on() {
                complete = false;
                break;
            }
            let Some(route) = view.state.routes.by_id(count.service) else { continue };
            let service = super::view::pattern(&[route.namespace(), route.name()]);
            if !*services.entry(count.service).or_insert_with(|| administers(&service)) {
                continue;
            }
            let Some(name) = count.resource else {
                let near = |pattern: &Pattern| crate::policy::effects::meet(pattern, &service).is_some();
                if self.reached.iter().any(near) {
                    unjudged += count.allowed + count.refused;
                }
                continue;
            };
            if !self.reached.iter().any(|pattern| covers(pattern, name.keys())) {
                continue;
            }
            left -= 2;
            let keys: Vec<&str> = name.keys().iter().filter_map(PatternKey::literal).collect();
            let may = |policy: &Snapshot| policy.permit(count.user, &keys, count.need, now).is_ok();
            let (list, number) = match (may(&view.state.policy), may(&self.after)) {
                (true, false) => (&mut other[0], count.allowed),
                (false, true) => (&mut other[1], count.refused),
                _ => continue,
            };
            if number > 0 {
                let row = (names.user(count.user), route.label().to_owned(), count.operation.clone(), name.to_string());
                *list.entry(row).or_default() += number;
            }
        }
        let shown = |list: &Calls| -> Vec<Value> {
            let rows = list.iter().take(LISTED).map(|((user, service, operation, resource), count)| {
                json!({"user": user, "service": service, "operation": operation, "resource": resource, "count": count})
            });
            rows.collect()
        };
        let [refused, allowed] = &other;
        json!({
            "days": DAYS_KEPT,
            "complete": complete && refused.len() <= LISTED && allowed.len() <= LISTED,
            "would_be_refused": shown(refused),
            "would_be_allowed": shown(allowed),
            "unjudged": unjudged,
        })
    }
}

/// User, service, operation, resource, and how often that was called.
type Calls = BTreeMap<(String, String, Option<String>, String), u64>;

/// A list of the answer that ends somewhere, and how long it would be.
#[derive(Default)]
struct List {
    rows: Vec<Value>,
    count: usize,
}

impl List {
    fn add(&mut self, row: impl FnOnce() -> Value) {
        self.count += 1;
        if self.rows.len() < LISTED {
            self.rows.push(row());
        }
    }
}

fn row(change: &Change) -> Option<(&Subject, &Pattern)> {
    match change {
        Change::Grant(grant) => Some((&grant.subject, &grant.pattern)),
        Change::Ungrant(subject, pattern) => Some((subject, pattern)),
        _ => None,
    }
}

/// Everybody to whom one of the subjects may apply.
fn users<'a>(view: &View, subjects: impl Iterator<Item = &'a Subject>, goes_on: &dyn Fn() -> bool) -> Vec<UserId> {
    let directory = &view.state.directory;
    let mut found = BTreeSet::new();
    let (mut roles, mut everyone) = (BTreeSet::new(), false);
    for subject in subjects.collect::<BTreeSet<_>>() {
        match subject {
            Subject::User(user) => found.extend([*user]),
            Subject::Group(group) => {
                found.extend(directory.members(*group).take_while(|_| goes_on()).map(|account| account.id));
            }
            Subject::Role(role) => {
                roles.insert(role.clone());
            }
            // Nobody is a resource; who holds levels on it may be anybody.
            Subject::Itself(_) => {}
            Subject::Everyone | Subject::Holders(..) | Subject::Same(_) => everyone = true,
        }
    }
    if everyone || !roles.is_empty() {
        let all = directory.users().take_while(|_| goes_on());
        found.extend(all.filter(|account| everyone || roles.contains(&account.role)).map(|account| account.id));
    }
    found.into_iter().collect()
}

/// The names of everything that is there: namespaces, services, and operations, in whose names a part that the caller
/// chooses is written as `*` and asked about as one that no grant names.
fn known(view: &View, goes_on: &dyn Fn() -> bool) -> BTreeSet<Pattern> {
    let mut names = BTreeSet::new();
    for route in view.state.routes.iter().take_while(|_| goes_on()) {
        names.insert(super::view::pattern(&[route.namespace()]));
        names.insert(super::view::pattern(&[route.namespace(), route.name()]));
        names.extend(route.operations().iter().map(|judged| judged.operation().resource_pattern()));
    }
    names.extend(view.catalog.namespaces().map(|namespace| super::view::pattern(&[&namespace.name])));
    names
}
