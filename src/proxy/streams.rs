//! Streams that outlive the moment in which they were permitted: they end when the permit no longer holds.
//!
//! At each new revision, and when a grant or the proof of the identity runs out, the same question is asked again of the
//! state as it is then.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;

use super::authorize::{self, Call, Judge};
use super::gateway::Gateway;
use super::route::Route;
use super::target::Target;
use crate::identity::Identity;
use crate::policy::Permit;
use crate::upstream::Upload;

/// A timer further away than this is set anew when it fires: tokio's have a horizon.
const HORIZON: Duration = Duration::from_secs(24 * 60 * 60);

/// What may pass before a permit is looked at again that no change concerned.
const MOMENT: Duration = Duration::from_secs(1);

/// How often the key of a token is asked for again: issuers withdraw keys without a revision.
const KEY_CHECK: Duration = Duration::from_secs(30);

/// What was permitted: all that is needed to ask again.
#[derive(Debug)]
pub struct Standing {
    /// Whom to ask.
    pub gateway: Arc<Gateway>,
    /// Whose call it is; none for a public endpoint.
    pub who: Option<Arc<Identity>>,
    /// The service.
    pub route: Arc<Route>,
    /// The path.
    pub target: Target,
    /// The method.
    pub method: Method,
    /// The proof, used up by the stream.
    pub permit: Permit,
    /// The revision at which it was permitted.
    pub revision: u64,
}

/// Ready when the permit no longer holds.
pub struct Watch(Stage);

enum Stage {
    /// Most answers are over before anything needs to be watched.
    Asleep(Arc<Standing>),
    Awake(Pin<Box<dyn Future<Output = ()>>>),
    Over,
}

impl Watch {
    /// Watches over what was permitted, from the first [`Watch::poll`] on.
    #[must_use]
    pub fn new(standing: Arc<Standing>) -> Self {
        Self(Stage::Asleep(standing))
    }

    /// Whether it watches already.
    #[must_use]
    pub fn is_awake(&self) -> bool {
        !matches!(self.0, Stage::Asleep(_))
    }

    /// Ready when the stream must end.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Stage::Asleep(_) = self.0
            && let Stage::Asleep(standing) = std::mem::replace(&mut self.0, Stage::Over)
        {
            self.0 = Stage::Awake(Box::pin(async move { standing.ends().await }));
        }
        match &mut self.0 {
            Stage::Awake(future) => {
                let polled = future.as_mut().poll(cx);
                if polled.is_ready() {
                    self.0 = Stage::Over;
                }
                polled
            }
            Stage::Over | Stage::Asleep(_) => Poll::Ready(()),
        }
    }
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll(&mut self, cx)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

/// Ends an upload, which may outlive its response, when its permit does.
pub(super) fn watch_over(upload: Upload, standing: Arc<Standing>) {
    tokio::task::spawn_local(async move {
        tokio::select! {
            biased;
            () = upload.ended() => {}
            () = standing.ends() => upload.cancel(),
        }
    });
}

impl Standing {
    /// Whether the permit still holds: for what had to wait between the decision and the call.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.ask_again().is_some()
    }

    /// As [`Standing::holds`], asked only where the time that passed, or a change, could have made a difference.
    #[must_use]
    pub fn outlasted(&self, passed: Duration) -> bool {
        let unchanged = self.gateway.shared().state.load().revision == self.revision;
        unchanged && passed < MOMENT || self.holds()
    }

    /// Returns when the permit no longer holds.
    pub async fn ends(&self) {
        until_lost(&self.gateway, self.who.as_deref(), self.permit.ends(), || self.ask_again()).await;
    }

    fn ask_again(&self) -> Option<Permit> {
        let state = self.gateway.state(Instant::now()).ok()?;
        let now = Timestamp::now();
        let route = state.routes.by_id(self.route.id())?;
        let call = Call { route, target: &self.target, method: &self.method };
        let Some(who) = &self.who else { return authorize::public(&call) };
        if !self.gateway.shared().authenticator.still_holds(who, &state.directory, now) {
            return None;
        }
        let judge = Judge { policy: &state.policy, directory: &state.directory, decisions: None };
        authorize::check(&judge, who, &call, now).ok().map(|permitted| permitted.permit)
    }
}

/// Who opened a service's tunnel, and by what permit: write on the service.
#[derive(Debug)]
pub struct Opening {
    /// Whom to ask.
    pub gateway: Arc<Gateway>,
    /// Who opened it.
    pub who: Arc<Identity>,
    /// The service, under the name that it was opened for.
    pub route: Arc<Route>,
    /// The proof.
    pub permit: Permit,
}

impl Opening {
    /// Returns when the permit no longer holds, or the service is gone, has another name or takes no tunnel any more.
    pub async fn ends(&self) {
        until_lost(&self.gateway, Some(&self.who), self.permit.ends(), || self.ask_again()).await;
    }

    fn ask_again(&self) -> Option<Permit> {
        let state = self.gateway.state(Instant::now()).ok()?;
        let now = Timestamp::now();
        let same = |route: &&Arc<Route>| route.label() == self.route.label() && route.takes_tunnel();
        let route = state.routes.by_id(self.route.id()).filter(same)?;
        if !self.gateway.shared().authenticator.still_holds(&self.who, &state.directory, now) {
            return None;
        }
        let keys = [route.namespace(), route.name()];
        state.policy.permit(self.who.account.id, &keys, self.permit.need(), now).ok()
    }
}

/// Returns when `ask_again` gives no permit any more; the one that was given last `ends` by itself then.
async fn until_lost(
    gateway: &Gateway,
    who: Option<&Identity>,
    mut ends: Option<Timestamp>,
    ask_again: impl Fn() -> Option<Permit>,
) {
    // This receiver has seen nothing yet, so that no change since the permit was made is missed.
    let mut revisions = gateway.shared().revisions.clone();
    loop {
        let changed = tokio::time::timeout(pause(gateway, who, ends), revisions.changed()).await;
        if matches!(changed, Ok(Err(_))) {
            // Nobody will tell of changes any more: the process is ending.
            return;
        }
        match ask_again() {
            Some(permit) => ends = permit.ends(),
            None => return,
        }
    }
}

/// How long the last answer is good for, if no revision comes.
fn pause(gateway: &Gateway, who: Option<&Identity>, ends: Option<Timestamp>) -> Duration {
    let now = Timestamp::now();
    let identity = who.and_then(|who| who.expires);
    let key = who.and_then(|who| who.signed.as_ref()).map_or(HORIZON, |_| KEY_CHECK);
    let until = |end: Timestamp| Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO);
    let loaded = gateway.shared().state.load().loaded;
    // A moment longer, so that the state is too old when it is looked at.
    let stale =
        gateway.settings().max_staleness.saturating_sub(loaded.elapsed()).saturating_add(Duration::from_millis(10));
    [ends, identity].into_iter().flatten().map(until).chain([stale, key]).min().unwrap_or(HORIZON)
}
