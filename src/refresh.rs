//! From the store's feed to the state that requests read: a full load at the start and wherever the feed cannot prove
//! continuity, patches after that, in time that depends on the change and not on the population.

mod load;

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::api::{Catalog, View};
use crate::config::{self, Config};
use crate::identity::{Issuer, is_everybodys_group};
use crate::policy::{Change, GroupId, Member, Pattern, Resource, ResourceId, Snapshot};
use crate::proxy::State;
use crate::proxy::route::{Route, Routes};
use crate::store::{
    Actor, Changes, DeclaredService, Item, Key, Mutation, Origin, Revision, Service, Store, StoreError, User,
};
use crate::telemetry::metrics;
use crate::upstream::{Roots, TargetGuard, Upstream};
use crate::vault::{ProcessKey, Secrets, Vault, VaultError};
use load::Gathered;

pub(crate) use load::policy;

/// Why the state could not be made or brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The store did not answer, or what it has cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process's own key failed.
    #[error("the secrets cannot be held: {0}")]
    Vault(#[from] VaultError),
    /// The compiling thread is gone: a fault of ours.
    #[error("the state could not be compiled: {0}")]
    Compile(String),
}

/// What the refresher publishes, shared with all who read it.
#[derive(Clone)]
pub struct Published {
    /// What each request is decided on.
    pub state: Arc<ArcSwap<State>>,
    /// The same with what only the API reads.
    pub view: Arc<ArcSwap<View>>,
    /// The revision that both show.
    pub shown: watch::Receiver<Revision>,
    /// The same, as the proxy counts it.
    pub number: watch::Receiver<u64>,
}

/// Keeps the published state up to date.
pub struct Refresher {
    parts: Parts,
    /// Taken before the load, so that nothing between the two is missed.
    revisions: watch::Receiver<Revision>,
    published: Published,
    shows: (watch::Sender<Revision>, watch::Sender<u64>),
}

/// What the state is made with.
#[derive(Clone)]
pub struct Parts {
    /// Where changes come from.
    pub store: Arc<dyn Store>,
    /// Opens the secrets.
    pub vault: Arc<Vault>,
    /// Takes its signing keys from the same feed.
    pub issuer: Option<Arc<Issuer>>,
    /// The services of the file.
    pub config: Arc<Config>,
    /// Judges the addresses of services.
    pub guard: Arc<TargetGuard>,
    /// Whom services are trusted by, where they say nothing else.
    pub roots: Arc<Roots>,
}

impl Refresher {
    /// Loads everything.
    ///
    /// # Errors
    /// [`RefreshError`] where the store cannot be read whole.
    pub async fn load(parts: Parts) -> Result<Self, RefreshError> {
        let revisions = parts.store.revisions();
        let view = load(&parts).await?;
        let (shows, shown) = watch::channel(Revision(view.state.revision));
        let (counts, number) = watch::channel(view.state.revision);
        let published = Published {
            state: Arc::new(ArcSwap::new(view.state.clone())),
            view: Arc::new(ArcSwap::from_pointee(view)),
            shown,
            number,
        };
        Ok(Self { parts, revisions, published, shows: (shows, counts) })
    }

    /// What is published, to be shared.
    #[must_use]
    pub fn published(&self) -> Published {
        self.published.clone()
    }

    /// Follows the store until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut revisions = self.revisions.clone();
        // Without the store's watcher the heartbeat alone looks for changes.
        let mut watching = true;
        let mut beat = tokio::time::interval(heartbeat(self.parts.config.store.max_staleness));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut away = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = revisions.changed(), if watching && !away => watching = changed.is_ok(),
                _ = beat.tick() => {}
            }
            match self.refresh().await {
                Ok(()) if away => {
                    away = false;
                    tracing::info!("the store is back");
                }
                Ok(()) => {}
                Err(error) if away => tracing::debug!(%error, "the store is still away"),
                Err(error) => {
                    away = true;
                    tracing::error!(%error, "cannot follow the store; the last state serves on");
                }
            }
            let state = self.published.state.load();
            metrics::snapshot(state.revision, state.loaded.elapsed());
        }
    }

    /// Brings the published state to the store's newest revision, and notes that it is as fresh as now.
    async fn refresh(&self) -> Result<(), RefreshError> {
        let current = self.published.view.load_full();
        // Noted before the store is asked: what it answers is at least that fresh.
        let asked = Instant::now();
        let next = match self.parts.store.changes(Revision(current.state.revision)).await? {
            Changes::Patch { revision, items } if items.is_empty() => View {
                state: Arc::new(State { revision: revision.0, loaded: asked, ..State::clone(&current.state) }),
                catalog: current.catalog.clone(),
            },
            Changes::Patch { revision, items } => patch(&self.parts, current, revision, asked, items).await?,
            Changes::Gap => {
                tracing::warn!(since = current.state.revision, "the feed does not reach back: loading everything");
                load(&self.parts).await?
            }
        };
        self.publish(next);
        Ok(())
    }

    /// The API's view first: whoever waits for the revision finds both.
    fn publish(&self, next: View) {
        let (state, revision) = (next.state.clone(), Revision(next.state.revision));
        self.published.view.store(Arc::new(next));
        self.published.state.store(state);
        let moved = |shown: &mut u64| std::mem::replace(shown, revision.0) != revision.0;
        self.shows.1.send_if_modified(moved);
        self.shows.0.send_if_modified(|shown| moved(&mut shown.0));
    }
}

/// Often enough that an idle store never looks stale, seldom enough to cost nothing.
fn heartbeat(max_staleness: Duration) -> Duration {
    (max_staleness / 10).clamp(Duration::from_millis(100), Duration::from_secs(2))
}

async fn load(parts: &Parts) -> Result<View, RefreshError> {
    let started = Instant::now();
    let (sender, portions) = mpsc::sync_channel(load::WAITING);
    let gathering = tokio::task::spawn_blocking(move || Gathered::of(portions, load::PACE));
    let revision = parts.store.load_into(sender).await;
    // Ends with the portions, whether or not they were all. What it refuses, the store reads in vain.
    let gathered = gathering.await.map_err(|error| RefreshError::Compile(error.to_string()))??;
    let revision = revision?;
    if let Some(issuer) = &parts.issuer {
        issuer.load(&parts.vault, &gathered.rest);
    }
    let parts = parts.clone();
    let compiled = tokio::task::spawn_blocking(move || {
        let Gathered { policy, directory, rest, .. } = gathered;
        let state = State {
            revision: revision.0,
            loaded: started,
            policy: policy.finish(),
            directory: Arc::new(directory.finish()),
            routes: Arc::new(patch_routes(&parts, &Routes::empty(), &rest)),
            secrets: Secrets::empty(Arc::new(ProcessKey::random()?)).patched(&parts.vault, &rest)?,
        };
        Ok::<_, RefreshError>(View { state: Arc::new(state), catalog: Catalog::default().patched(&rest) })
    });
    let view = compiled.await.map_err(|error| RefreshError::Compile(error.to_string()))??;
    let (size, users) = (view.state.policy.size(), view.state.directory.len());
    let seconds = started.elapsed().as_secs_f32();
    tracing::info!(users, grants = size.grants, resources = size.resources, seconds, "loaded");
    Ok(view)
}

async fn patch(
    parts: &Parts,
    current: Arc<View>,
    revision: Revision,
    loaded: Instant,
    items: Vec<Item>,
) -> Result<View, RefreshError> {
    if let Some(issuer) = &parts.issuer {
        issuer.apply(&parts.vault, &items);
    }
    compile(parts.clone(), current, revision, loaded, items).await
}

/// Makes the next view on a thread for what takes long, so that nothing on the control runtime waits for it.
async fn compile(
    parts: Parts,
    current: Arc<View>,
    revision: Revision,
    loaded: Instant,
    items: Vec<Item>,
) -> Result<View, RefreshError> {
    let compiled = tokio::task::spawn_blocking(move || {
        let before = &current.state;
        let state = State {
            revision: revision.0,
            loaded,
            policy: patch_policy(&before.policy, &items),
            directory: Arc::new(before.directory.patched(&items)),
            routes: Arc::new(patch_routes(&parts, &before.routes, &items)),
            secrets: before.secrets.patched(&parts.vault, &items)?,
        };
        Ok(View { state: Arc::new(state), catalog: current.catalog.patched(&items) })
    });
    compiled.await.map_err(|error| RefreshError::Compile(error.to_string()))?
}

/// The policy with these records as they stand now. The same one where no record concerns it, such as one that has other
/// props than before: what workers remember of it stays true.
fn patch_policy(policy: &Snapshot, items: &[Item]) -> Snapshot {
    let is_new = |change: &Change| match change {
        Change::Resource(resource) => policy.resource(resource.id) != Some(resource),
        Change::ResourceGone(id) => policy.resource(*id).is_some(),
        _ => true,
    };
    let mut changes = items.iter().filter_map(change).filter(is_new).peekable();
    if changes.peek().is_some() { policy.patched(changes) } else { policy.clone() }
}

/// The routes with the services as they stand now; the connections of what did not move are kept.
fn patch_routes(parts: &Parts, routes: &Routes, items: &[Item]) -> Routes {
    let mut next = routes.clone();
    for item in items {
        match item {
            Item::Gone(Key::Service(id)) => next.remove(*id),
            Item::Service(service) => match table(&parts.config, service) {
                Some(table) => {
                    let previous = routes.by_id(service.id).map(AsRef::as_ref);
                    let connect = |table: &config::Service| Upstream::new(table, parts.guard.clone(), &parts.roots);
                    let route = Route::compile(service.id, Arc::new(table), previous, connect);
                    if let Some(fault) = route.fault() {
                        tracing::warn!(service = route.label(), fault, "the service cannot be called");
                    }
                    next.put(route);
                }
                None => next.remove(service.id),
            },
            _ => {}
        }
    }
    next
}

/// The table that a service has: the file's, or the one that was registered. None where there is none now.
pub(crate) fn table(config: &Config, service: &Service) -> Option<config::Service> {
    match service.origin {
        Origin::File if !service.present => None,
        Origin::File => {
            let named = |table: &&config::Service| table.namespace == service.namespace && table.name == service.name;
            config.services.iter().find(named).cloned()
        }
        Origin::Api => match config::parse_service(&service.namespace, &service.name, &service.table) {
            Ok(table) => Some(table),
            Err(faults) => {
                // It was right when it was stored: another version of the gateway reads it now.
                tracing::error!(namespace = service.namespace, service = service.name, %faults, "a stored table is refused");
                None
            }
        },
    }
}

/// What a record means for decisions, where it means anything.
fn change(item: &Item) -> Option<Change> {
    Some(match item {
        Item::User(user, groups) => Change::Member(member(user, groups)),
        Item::Gone(Key::User(id)) => Change::MemberGone(*id),
        Item::Namespace(_) | Item::Service(_) | Item::Node(_) => Change::Resource(resource(item)?),
        // Whoever ran it before runs it no longer.
        Item::Group(group) => match resource(item) {
            Some(resource) => Change::Resource(resource),
            None => Change::ResourceGone(ResourceId(group.id.0)),
        },
        Item::Gone(Key::Namespace(id) | Key::Service(id) | Key::Node(id)) => Change::ResourceGone(*id),
        Item::Gone(Key::Group(id)) => Change::ResourceGone(ResourceId(id.0)),
        Item::Grant(grant) => Change::Grant(grant.row.clone()),
        Item::Gone(Key::Grant(subject, pattern)) => Change::Ungrant(subject.clone(), pattern.clone()),
        _ => return None,
    })
}

/// The user as decisions know one.
fn member(user: &User, groups: &[GroupId]) -> Member {
    Member { id: user.id, role: user.role.as_str().into(), groups: groups.to_vec() }
}

/// The resource that a record is, where it is one.
fn resource(item: &Item) -> Option<Resource> {
    let (id, keys, owner) = match item {
        Item::Namespace(namespace) => (namespace.id, vec![namespace.name.as_str()], namespace.owner),
        Item::Service(service) => (service.id, vec![service.namespace.as_str(), service.name.as_str()], service.owner),
        Item::Node(node) => return Some(Resource { id: node.id, name: node.pattern(), owner: node.owner }),
        // Who runs a group owns what stands for it; without an owner it needs no record, as what stands for a user.
        Item::Group(group) => {
            let owner = group.owner.filter(|_| !is_everybodys_group(&group.name))?;
            let id = ResourceId(group.id.0);
            return Some(Resource { id, name: Pattern::literal([id.key()]).ok()?, owner: Some(owner) });
        }
        _ => return None,
    };
    Some(Resource { id, name: Pattern::literal(keys).ok()?, owner })
}

/// Makes the services of the file known to the store, under the ids that they keep.
///
/// # Errors
/// [`StoreError::Missing`] for an owner who is not there, [`StoreError::Refused`] for a clash with a registered
/// service.
pub async fn declare(store: &dyn Store, config: &Config) -> Result<Revision, StoreError> {
    let declared = config
        .services
        .iter()
        .map(|service| DeclaredService {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            owner: service.owner.clone().unwrap_or_default(),
        })
        .collect();
    let actor = Actor { user: None, via: "config", from: "gateway.toml".into(), request_id: None };
    Ok(store.commit(actor, Mutation::DeclareServices(declared)).await?.revision)
}

#[cfg(test)]
mod tests;
