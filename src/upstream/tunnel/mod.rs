//! Services behind a tunnel (`docs/API.md` §13): a service that nothing can connect to has connected to the gateway, and
//! calls go to it as messages over that one WebSocket.
//!
//! The connection lives on one runtime; calls come from every thread. A call waits in the tunnel's bounded line, and the
//! next one goes out when the one before was answered or nobody waits for it any more: the client works on one at a time.

mod connection;
mod line;
mod message;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use connection::Ending;
pub use line::{CallError, Tunnel, Unsent, Waiting, Write};
pub use message::{ANSWER_BYTES, Answer, MESSAGE_BYTES, Reply, Request, headers, params};

use crate::policy::{ResourceId, UserId};
use crate::telemetry::metrics::TunnelMetrics;
use line::{Call, WAITING_BYTES};

/// How many tunnels are open at once, and how many of one user's.
const MOST: (usize, usize) = (1024, 64);

/// The tunnels of this process: another replica's services are not reached from here.
#[derive(Debug)]
pub struct Tunnels {
    open: ArcSwap<Open>,
    /// For one writer at a time; readers take `open`.
    change: Mutex<()>,
    room: Arc<Semaphore>,
    running: TaskTracker,
    metrics: TunnelMetrics,
}

type Open = HashMap<ResourceId, Held, ahash::RandomState>;

/// A service's tunnel.
#[derive(Clone, Debug)]
struct Held {
    /// The one that calls wait for.
    newest: Arc<Tunnel>,
    /// The one that is connected while the newest is not yet: it serves the calls that it has, and takes the place again
    /// where nothing comes of the newest.
    older: Option<Arc<Tunnel>>,
}

/// A tunnel that was announced: to be run over its connection.
#[derive(Debug)]
pub struct Opened {
    tunnels: Arc<Tunnels>,
    tunnel: Arc<Tunnel>,
    line: mpsc::Receiver<Call>,
}

/// No tunnel more is taken: of all, or of this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// How many there may be.
    pub most: usize,
    /// Whether they are this user's own.
    pub own: bool,
}

impl Tunnels {
    /// None open.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            open: ArcSwap::default(),
            change: Mutex::default(),
            room: Arc::new(Semaphore::new(WAITING_BYTES)),
            running: TaskTracker::new(),
            metrics: TunnelMetrics::new(),
        })
    }

    /// The tunnel that is open for the service, if there is one. Takes no lock.
    #[must_use]
    pub fn find(&self, service: ResourceId) -> Option<Arc<Tunnel>> {
        let open = self.open.load();
        if open.is_empty() { None } else { open.get(&service).map(|held| held.newest.clone()) }
    }

    /// Announces a tunnel: calls wait for it from now on. The one that is open for the service ends when this one is
    /// connected, and not before.
    ///
    /// # Errors
    /// [`TooMany`], unless it takes the place of another.
    pub fn open(self: &Arc<Self>, service: ResourceId, opener: UserId) -> Result<Opened, TooMany> {
        let _one = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.open.load();
        let (of_all, of_one) = MOST;
        let all = || open.values().map(|held| &held.newest);
        let others = || all().filter(|tunnel| tunnel.service != service);
        if others().filter(|tunnel| tunnel.opener == opener).count() >= of_one {
            return Err(TooMany { most: of_one, own: true });
        }
        if others().count() >= of_all {
            return Err(TooMany { most: of_all, own: false });
        }
        let sibling = all().find(|tunnel| tunnel.opener == opener).map(|tunnel| &**tunnel);
        let (newest, line) = Tunnel::new(service, opener, (&self.room, sibling), self.metrics.clone());
        let older = open.get(&service).and_then(|held| {
            if held.newest.is_connected() {
                return Some(held.newest.clone());
            }
            held.newest.replaced.cancel();
            held.older.clone()
        });
        let mut next = Open::clone(&open);
        next.insert(service, Held { newest: newest.clone(), older });
        self.open.store(Arc::new(next));
        self.metrics.open.increment(1.0);
        Ok(Opened { tunnels: self.clone(), tunnel: newest, line })
    }

    /// The tunnel has its connection: the one before ends.
    fn connected(&self, tunnel: &Arc<Tunnel>) {
        let _one = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        tunnel.connect();
        let open = self.open.load();
        if let Some(Held { newest, older: Some(older) }) = open.get(&tunnel.service)
            && Arc::ptr_eq(newest, tunnel)
        {
            older.replaced.cancel();
            let mut next = Open::clone(&open);
            next.insert(tunnel.service, Held { newest: newest.clone(), older: None });
            self.open.store(Arc::new(next));
        }
    }

    /// The connections that are open, to be waited for, bounded, when the process ends.
    #[must_use]
    pub fn running(&self) -> &TaskTracker {
        &self.running
    }

    /// Forgets the tunnel. Where it was not connected yet, the one whose place it took has it again.
    fn forget(&self, tunnel: &Arc<Tunnel>) {
        let _one = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.open.load();
        let Some(held) = open.get(&tunnel.service) else { return };
        let is = |known: &Arc<Tunnel>| Arc::ptr_eq(known, tunnel);
        let left = if is(&held.newest) {
            held.older.clone().map(|newest| Held { newest, older: None })
        } else if held.older.as_ref().is_some_and(is) {
            Some(Held { newest: held.newest.clone(), older: None })
        } else {
            return;
        };
        let mut next = Open::clone(&open);
        match left {
            Some(left) => next.insert(tunnel.service, left),
            None => next.remove(&tunnel.service),
        };
        self.open.store(Arc::new(next));
    }
}

impl Opened {
    /// Runs the tunnel over the connection that `connecting` comes to, in a task of its own, until it ends: as `lost`
    /// says, by `draining`, or by either side. `told` hears how, and is waited for at the end of the process.
    pub fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static, T: Future<Output = ()> + Send>(
        self,
        connecting: impl Future<Output = Option<S>> + Send + 'static,
        lost: impl Future<Output = ()> + Send + 'static,
        draining: CancellationToken,
        told: impl FnOnce(Ending) -> T + Send + 'static,
    ) {
        let running = self.tunnels.running.clone();
        running.spawn(async move {
            let mut ends = std::pin::pin!(ends(self.tunnel.clone(), lost, draining));
            let mut connecting = std::pin::pin!(connecting);
            let connected = tokio::select! {
                biased;
                ending = &mut ends => Err((ending, true)),
                socket = tokio::time::timeout(connection::HANDOVER, &mut connecting) => match socket {
                    Ok(Some(socket)) => Ok(socket),
                    Ok(None) | Err(_) => Err((Ending::Broken, false)),
                }
            };
            let ending = match connected {
                Ok(socket) => {
                    self.tunnels.connected(&self.tunnel);
                    connection::run(socket, self, ends).await
                }
                Err((ending, may_come)) => {
                    drop(self);
                    if may_come {
                        connection::tell(connecting, ending).await;
                    }
                    ending
                }
            };
            told(ending).await;
        });
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.tunnels.forget(&self.tunnel);
        self.tunnels.metrics.open.decrement(1.0);
    }
}

/// Ready when the tunnel must end for a reason that is not its connection's.
async fn ends(tunnel: Arc<Tunnel>, lost: impl Future<Output = ()>, draining: CancellationToken) -> Ending {
    let drained = async {
        draining.cancelled().await;
        tunnel.waiting.close();
        tunnel.waiting.wait().await;
    };
    tokio::select! {
        () = lost => Ending::Lost,
        () = tunnel.replaced.cancelled() => Ending::Replaced,
        () = drained => Ending::Draining,
    }
}

/// An id that no other call has, and that nobody can guess.
#[must_use]
pub fn new_task() -> Arc<str> {
    uuid::Uuid::new_v4().simple().to_string().into()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use uuid::Uuid;

    use super::line::{OPENER_BYTES, OWN_BYTES};
    use super::*;

    /// The tunnel of this service, opened by this user.
    fn open(tunnels: &Arc<Tunnels>, service: u128, opener: u128) -> Opened {
        tunnels.open(ResourceId(Uuid::from_u128(service)), UserId(Uuid::from_u128(opener))).unwrap()
    }

    fn call(opened: &Opened, size: usize) -> Result<Waiting, CallError> {
        opened.tunnel.call(new_task(), size, None, Box::new(|| Ok(String::new())))
    }

    /// Fills what this tunnel may fill with the largest calls there are.
    fn fill(opened: &Opened) -> Vec<Waiting> {
        std::iter::from_fn(|| call(opened, MESSAGE_BYTES).ok()).collect()
    }

    #[test]
    fn a_tunnel_that_is_full_of_large_calls_leaves_the_room_of_other_users_tunnels() {
        let tunnels = Tunnels::new();
        let (full, other) = (open(&tunnels, 1, 1), open(&tunnels, 2, 2));
        let waiting = fill(&full);
        assert_eq!(waiting.len(), OPENER_BYTES / MESSAGE_BYTES);
        assert!(call(&other, 1000).is_ok() && call(&other, MESSAGE_BYTES).is_ok());
    }

    #[test]
    fn a_handshake_that_breaks_off_costs_no_tunnel() {
        let tunnels = Tunnels::new();
        let is = |opened: &Opened| Arc::ptr_eq(&tunnels.find(opened.tunnel.service).unwrap(), &opened.tunnel);
        let first = open(&tunnels, 1, 1);
        tunnels.connected(&first.tunnel);
        let (second, third) = (open(&tunnels, 1, 2), open(&tunnels, 1, 3));
        // Of two that are not connected the older has lost its place, and the connected one nothing yet.
        assert!(is(&third) && second.tunnel.replaced.is_cancelled() && !first.tunnel.replaced.is_cancelled());
        drop(second);
        assert!(is(&third));
        drop(third);
        assert!(is(&first) && !first.tunnel.replaced.is_cancelled());
        let fourth = open(&tunnels, 1, 4);
        tunnels.connected(&fourth.tunnel);
        assert!(is(&fourth) && first.tunnel.replaced.is_cancelled());
        drop(first);
        assert!(is(&fourth));
        // One that ends while the next connects does not come back.
        let fifth = open(&tunnels, 1, 5);
        drop(fourth);
        assert!(is(&fifth));
        let service = fifth.tunnel.service;
        drop(fifth);
        assert!(tunnels.find(service).is_none() && tunnels.open.load().is_empty());
    }

    #[tokio::test]
    async fn a_client_whose_connection_comes_after_the_end_is_told_why() {
        let tunnels = Tunnels::new();
        let (ours, mut theirs) = tokio::io::duplex(256);
        let draining = CancellationToken::new();
        draining.cancel();
        open(&tunnels, 1, 1).run(async { Some(ours) }, std::future::pending(), draining, async |_| {});
        let mut frame = [0; 4];
        theirs.read_exact(&mut frame).await.unwrap();
        // A close frame with its code (RFC 6455 §5.5.1), which nothing masks.
        assert_eq!((frame[0], u16::from_be_bytes([frame[2], frame[3]])), (0x88, 1001));
        drop(theirs);
        tunnels.running().close();
        tunnels.running().wait().await;
    }

    #[test]
    fn tunnels_are_counted_by_user_and_in_all_and_one_in_the_place_of_another_is_no_more() {
        let tunnels = Tunnels::new();
        let (of_all, of_one) = MOST;
        let numbers = |number: usize| u128::try_from(number).unwrap();
        let refused = |service: usize, opener: usize| {
            let (service, opener) = (Uuid::from_u128(numbers(service)), Uuid::from_u128(numbers(opener)));
            tunnels.open(ResourceId(service), UserId(opener)).err()
        };
        let mut opened: Vec<_> =
            (0..of_all).map(|number| open(&tunnels, numbers(number), numbers(number / of_one))).collect();
        assert_eq!(refused(of_all, 0), Some(TooMany { most: of_one, own: true }));
        assert_eq!(refused(of_all, of_all), Some(TooMany { most: of_all, own: false }));
        assert_eq!(refused(0, 0), None);
        opened.pop();
        assert_eq!(refused(of_all, of_all), None);
    }

    #[test]
    fn several_tunnels_of_one_user_have_no_more_of_the_room_of_all_than_one_has() {
        let tunnels = Tunnels::new();
        let (first, second) = (open(&tunnels, 1, 1), open(&tunnels, 2, 1));
        let _waiting = fill(&first);
        assert_eq!(call(&second, MESSAGE_BYTES).unwrap_err(), CallError::Busy);
        // Nor does opening one anew make more of it.
        let again = open(&tunnels, 1, 1);
        assert_eq!(call(&again, MESSAGE_BYTES).unwrap_err(), CallError::Busy);
        assert!(call(&second, OWN_BYTES).is_ok());
    }

    #[test]
    fn a_small_call_finds_room_when_the_room_of_all_is_full_and_what_left_makes_room_again() {
        let tunnels = Tunnels::new();
        let others: Vec<_> = (1..=4).map(|number| open(&tunnels, number, number)).collect();
        for opened in &others {
            let _waiting = fill(opened);
        }
        let late = open(&tunnels, 9, 9);
        assert_eq!(call(&late, MESSAGE_BYTES).unwrap_err(), CallError::Busy);
        assert!(call(&late, 1000).is_ok());
        drop(others);
        assert!(call(&late, MESSAGE_BYTES).is_ok());
    }
}
