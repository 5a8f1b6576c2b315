//! The services as calls need them: compiled once when a table changes, found by two look-ups.

use std::fmt;
use std::sync::Arc;

use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use url::Url;

use super::authorize::Judged;
use super::cors::CrossOrigin;
use super::inject::Program;
use crate::config::{Service, Timeouts, TokenForwarding, Unmatched};
use crate::policy::{Levels, ResourceId};
use crate::telemetry::metrics::ServiceMetrics;
use crate::upstream::{Upstream, UpstreamError};

/// Names come from callers, so the hash is keyed.
type Map<K, V> = GenericHashMap<K, V, ahash::RandomState, DefaultSharedPtr>;

/// Every service; a clone shares everything.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    by_name: Map<Arc<str>, Map<Arc<str>, Arc<Route>>>,
    by_id: Map<ResourceId, Arc<Route>>,
}

/// One service, compiled.
pub struct Route {
    id: ResourceId,
    namespace: Arc<str>,
    name: Arc<str>,
    label: Arc<str>,
    service: Arc<Service>,
    operations: Vec<Judged>,
    injection: Program,
    cors: Option<CrossOrigin>,
    bases: Vec<Url>,
    upstream: Result<Arc<Upstream>, Fault>,
    metrics: ServiceMetrics,
}

/// Why a service cannot be called as its table stands.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Whether the table is fine, and what it names may not be connected to.
    pub refused: bool,
    /// For the operator and the owner.
    pub text: Arc<str>,
}

impl Routes {
    /// No service.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The service of this name.
    #[must_use]
    pub fn find(&self, namespace: &str, service: &str) -> Option<&Arc<Route>> {
        self.by_name.get(namespace)?.get(service)
    }

    /// The service with this id.
    #[must_use]
    pub fn by_id(&self, id: ResourceId) -> Option<&Arc<Route>> {
        self.by_id.get(&id)
    }

    /// Every service, in no order that matters.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_id.values()
    }

    /// Adds the service, or puts it in the place of what had its id or its name.
    pub fn put(&mut self, route: Arc<Route>) {
        self.remove(route.id);
        if let Some(other) = self.find(&route.namespace, &route.name).map(|other| other.id) {
            self.remove(other);
        }
        self.by_name.entry(route.namespace.clone()).or_default().insert(route.name.clone(), route.clone());
        self.by_id.insert(route.id, route);
    }

    /// Forgets the service with this id, under whatever name it was.
    pub fn remove(&mut self, id: ResourceId) {
        let Some(route) = self.by_id.remove(&id) else { return };
        if let Some(services) = self.by_name.get_mut(&*route.namespace) {
            services.remove(&*route.name);
            if services.is_empty() {
                self.by_name.remove(&*route.namespace);
            }
        }
    }
}

impl Route {
    /// Compiles the service with this id. The upstream of `previous` is kept, with its connections, where nothing that
    /// concerns it changed; else `connect` makes one.
    ///
    /// A service that cannot be called as its table stands is a route all the same: calls get 503, never another
    /// service's answer, and [`Route::fault`] says why.
    #[must_use]
    pub fn compile(
        id: ResourceId,
        service: Arc<Service>,
        previous: Option<&Self>,
        connect: impl FnOnce(&Service) -> Result<Arc<Upstream>, UpstreamError>,
    ) -> Arc<Self> {
        let injection = Program::compile(id, &service);
        let kept = previous.filter(|previous| same_upstream(&previous.service, &service));
        let upstream = match kept {
            Some(Self { upstream: Ok(upstream), .. }) => Ok(upstream.clone()),
            _ => connect(&service).map_err(|fault| Fault {
                refused: matches!(fault, UpstreamError::Refused { .. }),
                text: fault.to_string().into(),
            }),
        };
        let (injection, upstream) = match injection {
            Ok(injection) => (injection, upstream),
            Err(fault) => (Program::default(), Err(Fault { refused: false, text: fault.into() })),
        };
        let named = previous.filter(|previous| *previous.label == label(&service));
        Arc::new(Self {
            id,
            namespace: service.namespace.as_str().into(),
            name: service.name.as_str().into(),
            label: named.map_or_else(|| label(&service).into(), |previous| previous.label.clone()),
            operations: service.operations.iter().cloned().map(Judged::new).collect(),
            injection,
            cors: service.cors.as_ref().map(CrossOrigin::new),
            bases: service.endpoints.iter().map(|endpoint| endpoint.url.clone()).collect(),
            upstream,
            metrics: named.map_or_else(
                || {
                    let of = if service.trusted { ServiceMetrics::new } else { ServiceMetrics::of_registered };
                    of(&service.namespace, &service.name)
                },
                |previous| previous.metrics.clone(),
            ),
            service,
        })
    }

    /// The id that grants and consents name.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        self.id
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name within the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `<namespace>/<service>`.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The label, shared.
    #[must_use]
    pub fn shared_label(&self) -> &Arc<str> {
        &self.label
    }

    /// The table that it was compiled from.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// What a call needs where no operation says otherwise.
    #[must_use]
    pub fn level(&self) -> Levels {
        self.service.level
    }

    /// What happens to a call that is none of the operations.
    #[must_use]
    pub fn unmatched(&self) -> Unmatched {
        self.service.unmatched
    }

    /// The operations, in order.
    #[must_use]
    pub fn operations(&self) -> &[Judged] {
        &self.operations
    }

    /// The public endpoints.
    #[must_use]
    pub fn public(&self) -> &[String] {
        &self.service.public
    }

    /// What is added to upstream requests, and what consents to it are for.
    #[must_use]
    pub fn injection(&self) -> &Program {
        &self.injection
    }

    /// Which token travels on.
    #[must_use]
    pub fn forward_token(&self) -> TokenForwarding {
        self.service.forward_token
    }

    /// Whether a tunnel may take the place of its base URLs.
    #[must_use]
    pub fn takes_tunnel(&self) -> bool {
        self.service.tunnel
    }

    /// Cross-origin rules, where there are any.
    #[must_use]
    pub fn cors(&self) -> Option<&CrossOrigin> {
        self.cors.as_ref()
    }

    /// The base URLs.
    #[must_use]
    pub fn bases(&self) -> &[Url] {
        &self.bases
    }

    /// How long each phase of a call may take.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.service.timeouts
    }

    /// Whether the configuration file declares it.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.service.trusted
    }

    /// Where calls go; the error is [`Route::fault`].
    ///
    /// # Errors
    /// Why it cannot be called as its table stands.
    pub fn upstream(&self) -> Result<&Arc<Upstream>, &Fault> {
        self.upstream.as_ref()
    }

    /// Why it cannot be called, if so.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        self.upstream.as_ref().err().map(|fault| &*fault.text)
    }

    /// The handles of its metrics.
    #[must_use]
    pub fn metrics(&self) -> &ServiceMetrics {
        &self.metrics
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("id", &self.id).field("label", &self.label).finish_non_exhaustive()
    }
}

fn label(service: &Service) -> String {
    format!("{}/{}", service.namespace, service.name)
}

/// Whether connections made for one table serve the other.
fn same_upstream(one: &Service, other: &Service) -> bool {
    one.endpoints == other.endpoints
        && one.tls == other.tls
        && one.timeouts == other.timeouts
        && one.trusted == other.trusted
}
