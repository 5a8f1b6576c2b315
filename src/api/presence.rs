//! One connection of a tunnel, and what the audit is told of it: each opening that it was told of is closed once.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Api;
use super::error::Refusal;
use super::openings::{Closed, Due, Entered};
use super::rate::seconds;
use crate::policy::ResourceId;
use crate::proxy::Ending;
use crate::proxy::error::{Kind, Problem};
use crate::proxy::route::Route;
use crate::store::{Actor, Mutation, TunnelNote};

/// A connection, from its handshake on.
pub(super) struct Presence {
    api: Arc<Api>,
    service: ResourceId,
    label: Arc<str>,
    by: Actor,
    /// Whether the audit was told of an opening for it.
    told: bool,
    /// The opening that it is one of, once it is there.
    number: OnceLock<u64>,
}

impl Presence {
    /// Tells the audit that the tunnel opens, where it does not know, before anybody's tunnel is touched.
    ///
    /// # Errors
    /// 429 where it was told too often, 503 where it cannot be told.
    pub(super) async fn begin(api: &Arc<Api>, route: &Route, by: Actor) -> Result<Self, Refusal> {
        let (service, label) = (route.id(), route.shared_label().clone());
        let told = api.openings.must_tell(service, &by, Instant::now()).map_err(too_often)?;
        let presence = Self { api: api.clone(), service, label, by, told, number: OnceLock::new() };
        if told {
            presence.announce().await.inspect_err(|_| {
                api.openings.withdraw(service, &presence.by);
            })?;
        }
        Ok(presence)
    }

    async fn announce(&self) -> Result<(), Refusal> {
        let open = self.opened();
        self.api.admit(&self.by, &open)?;
        self.api.store.commit(self.by.clone(), open).await?;
        Ok(())
    }

    /// The connection is there. False where the audit cannot be told: then no call may go by it.
    pub(super) async fn connect(self: &Arc<Self>) -> bool {
        let now = (Instant::now(), Timestamp::now());
        let entered = self.api.openings.enter(self.service, self.by.clone(), now);
        let _first = self.number.set(entered.number);
        // A tunnel that loses its place meanwhile does not stop half-way.
        let this = Arc::clone(self);
        tokio::spawn(async move { this.tell_of(entered).await }).await.unwrap_or(false)
    }

    async fn tell_of(&self, Entered { number: _, untold, displaced }: Entered) -> bool {
        if untold && !self.commit(self.by.clone(), self.opened()).await {
            return false;
        }
        if let Some(displaced) = displaced {
            self.tell_closed(displaced).await;
        }
        true
    }

    /// The connection ended, or did not come to be. The audit is told once it is clear that the client does not come back; at
    /// the end of the process that is clear at once.
    pub(super) async fn leave(self: Arc<Self>, ending: Ending) {
        let Some(&number) = self.number.get() else {
            if self.told && self.api.openings.withdraw(self.service, &self.by) {
                self.tell_closed(self.unused(ending.label())).await;
            }
            return;
        };
        let now = (Instant::now(), Timestamp::now());
        let watches = self.api.openings.left(self.service, number, ending.label(), now);
        if self.api.readiness.draining.is_cancelled() {
            self.close(number).await;
        } else if watches {
            // What is waited for when the process ends.
            self.api.gateway.tunnels().running().spawn(Arc::clone(&self).watch(number));
        }
    }

    async fn watch(self: Arc<Self>, number: u64) {
        loop {
            match self.api.openings.due(self.service, number, Instant::now()) {
                Due::Later(then) => tokio::select! {
                    () = tokio::time::sleep_until(then.into()) => {}
                    () = self.api.readiness.draining.cancelled() => return self.close(number).await,
                },
                Due::Closed(closed) => return self.tell_closed(closed).await,
                Due::Nothing => return,
            }
        }
    }

    /// Nobody comes back to a process that ends.
    async fn close(&self, number: u64) {
        if let Some(closed) = self.api.openings.close(self.service, number) {
            self.tell_closed(closed).await;
        }
    }

    async fn tell_closed(&self, Closed { by, before, after }: Closed) {
        self.commit(by, self.note(false, Some(before), Some(after))).await;
    }

    async fn commit(&self, by: Actor, note: Mutation) -> bool {
        let told = self.api.store.commit(by, note).await;
        told.inspect_err(|error| tracing::warn!(service = &*self.label, %error, "the audit was not told of a tunnel"))
            .is_ok()
    }

    fn opened(&self) -> Mutation {
        self.note(true, None, None)
    }

    /// The end of an opening that the audit was told of and that no connection is one of.
    fn unused(&self, ending: &'static str) -> Closed {
        Closed {
            by: Actor { via: "tunnel", request_id: None, ..self.by.clone() },
            before: json!({ "user": self.by.user, "since": null, "connections": 0 }),
            after: json!({ "ending": ending, "at": Timestamp::now() }),
        }
    }

    fn note(&self, open: bool, before: Option<Value>, after: Option<Value>) -> Mutation {
        let name = self.label.to_string();
        Mutation::NoteTunnel(Box::new(TunnelNote { service: self.service, name, open, before, after }))
    }
}

fn too_often(wait: Duration) -> Refusal {
    let detail = "the service's tunnel was opened too often, by one and then by another\nlet one client serve it";
    Problem::new(&Kind::TOO_MANY_CHANGES, detail).retry_after(seconds(wait)).into()
}
