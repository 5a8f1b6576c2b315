//! One thread's connections to all upstreams: no lock, nothing shared with another thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Weak as SharedWeak};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http2;
use tokio::time::Instant;

use super::alarm::Alarms;
use super::outgoing::{Outgoing, Piping};
use super::stream::Stream;
use super::{Endpoint, Upstream, balance, h1};
use crate::telemetry::metrics::PoolMetrics;

/// How long a connection may wait for its next request: less than the minute after which common servers and balancers
/// close theirs.
const IDLE: Duration = Duration::from_secs(50);

/// How many connections to one endpoint may wait.
const MAX_IDLE: usize = 256;

/// How often connections that waited too long are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// How long a connection that is not ready at the end of a response may take over the rest of its request.
const SETTLE: Duration = Duration::from_secs(60);

/// A connection that speaks HTTP/1.1.
pub(super) type One<B> = h1::Connection<Stream, Outgoing<B>>;

/// One thread's connections. Cheap to clone; `B` is the body of the requests.
pub struct Pools<B: 'static>(Rc<Inner<B>>);

impl<B> Clone for Pools<B> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<B> std::fmt::Debug for Pools<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pools")
    }
}

struct Inner<B: 'static> {
    shelves: RefCell<HashMap<u64, Rc<Shelf<B>>, BuildHasherDefault<KeyHasher>>>,
    chance: Cell<u64>,
    metrics: PoolMetrics,
    alarms: Rc<Alarms>,
    piping: Rc<Piping>,
    sweeping: Cell<bool>,
    reused: Cell<u32>,
    idle_shown: Cell<usize>,
}

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// No connection is open yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Rc::new(Inner {
            shelves: RefCell::default(),
            // xorshift wants anything but 0.
            chance: Cell::new(rand::random::<u64>() | 1),
            metrics: PoolMetrics::new(),
            alarms: Rc::default(),
            piping: Rc::default(),
            sweeping: Cell::new(false),
            reused: Cell::new(0),
            idle_shown: Cell::new(0),
        }))
    }

    /// The endpoint for a call: by weight, past those that could not be reached a moment ago.
    #[must_use]
    pub fn pick<'a>(&self, upstream: &'a Upstream) -> Option<&'a Endpoint> {
        balance::pick(upstream, || self.chance())
    }

    /// Connections that wait for a request, over all upstreams.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.0.shelves.borrow().values().map(|shelf| shelf.open_idle()).sum()
    }

    pub(super) fn metrics(&self) -> &PoolMetrics {
        &self.0.metrics
    }

    pub(super) fn alarms(&self) -> &Rc<Alarms> {
        &self.0.alarms
    }

    pub(super) fn piping(&self) -> &Rc<Piping> {
        &self.0.piping
    }

    pub(super) fn count_reuse(&self) {
        self.0.reused.set(self.0.reused.get().saturating_add(1));
    }

    pub(super) fn shelf(&self, upstream: &Arc<Upstream>, endpoint: &Endpoint) -> Rc<Shelf<B>> {
        // Ids count up from 0 and are never given twice; an upstream has far fewer than 2^16 endpoints.
        let key = (upstream.id << 16) | (endpoint.index as u64 & 0xffff);
        if let Some(shelf) = self.0.shelves.borrow().get(&key) {
            return Rc::clone(shelf);
        }
        let shelf = Rc::new(Shelf {
            one: RefCell::default(),
            two: RefCell::new(None),
            is_two: Cell::new(false),
            dialing: tokio::sync::Mutex::new(()),
            upstream: Arc::downgrade(upstream),
        });
        self.0.shelves.borrow_mut().insert(key, Rc::clone(&shelf));
        self.sweep();
        shelf
    }

    /// Xorshift (Marsaglia 2003): shares need no better.
    fn chance(&self) -> u64 {
        let mut chance = self.0.chance.get();
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        self.0.chance.set(chance);
        chance
    }

    /// Sees to it that idle connections are closed in time, as long as there is a shelf.
    fn sweep(&self) {
        if self.0.sweeping.replace(true) {
            return;
        }
        let weak = Rc::downgrade(&self.0);
        tokio::task::spawn_local(async move {
            let mut ticks = tokio::time::interval(SWEEP);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if !sweep(&weak) {
                    return;
                }
            }
        });
    }
}

impl<B> Default for Pools<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn default() -> Self {
        Self::new()
    }
}

fn sweep<B>(pools: &Weak<Inner<B>>) -> bool
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Some(pools) = pools.upgrade() else { return false };
    let now = Instant::now();
    let mut idle = 0;
    pools.shelves.borrow_mut().retain(|_, shelf| {
        shelf.close_old(now);
        idle += shelf.one.borrow().len();
        // Nobody can ask for it any more; a call in flight has the shelf in hand.
        shelf.upstream.strong_count() > 0
    });
    #[expect(clippy::cast_precision_loss, reason = "a count of connections")]
    pools.metrics.idle.increment(idle as f64 - pools.idle_shown.replace(idle) as f64);
    pools.metrics.reused.increment(pools.reused.take().into());
    true
}

impl<B> Drop for Inner<B> {
    fn drop(&mut self) {
        #[expect(clippy::cast_precision_loss, reason = "a count of connections")]
        self.metrics.idle.decrement(self.idle_shown.get() as f64);
        self.metrics.reused.increment(self.reused.get().into());
    }
}

/// The connections to one endpoint of one upstream: everything that a connection depends on (host, port, trust,
/// identity, which addresses were allowed) is the upstream's and never changes.
pub(super) struct Shelf<B: 'static> {
    one: RefCell<Vec<Waiting<B>>>,
    two: RefCell<Option<Shared<B>>>,
    /// Whether the endpoint is known to speak HTTP/2.
    is_two: Cell<bool>,
    /// Held by the call that makes the one HTTP/2 connection.
    pub(super) dialing: tokio::sync::Mutex<()>,
    upstream: SharedWeak<Upstream>,
}

struct Waiting<B> {
    connection: One<B>,
    since: Instant,
}

struct Shared<B> {
    sender: http2::SendRequest<Outgoing<B>>,
    used: Instant,
}

impl<B> Shelf<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// The HTTP/1 connection that was used last, and for how long it has waited: it is the least likely to be stale, and
    /// the others may grow old.
    pub(super) fn take_one(&self, now: Instant) -> Option<(One<B>, Duration)> {
        let mut waiting = self.one.borrow_mut();
        while let Some(Waiting { connection, since }) = waiting.pop() {
            let age = now.saturating_duration_since(since);
            if age < IDLE && connection.is_ready_unless(Stream::may_have_news) {
                return Some((connection, age));
            }
        }
        None
    }

    /// A handle on the HTTP/2 connection.
    pub(super) fn share_two(&self, now: Instant) -> Option<http2::SendRequest<Outgoing<B>>> {
        let mut shared = self.two.borrow_mut();
        match shared.as_mut() {
            Some(live) if !live.sender.is_closed() => {
                live.used = now;
                Some(live.sender.clone())
            }
            _ => {
                *shared = None;
                None
            }
        }
    }

    pub(super) fn keep_two(&self, sender: &http2::SendRequest<Outgoing<B>>, now: Instant) {
        self.is_two.set(true);
        *self.two.borrow_mut() = Some(Shared { sender: sender.clone(), used: now });
    }

    /// The endpoint speaks HTTP/1 now: its connections need not be made one after the other.
    pub(super) fn forget_two(&self) {
        self.is_two.set(false);
    }

    pub(super) fn is_two(&self) -> bool {
        self.is_two.get()
    }

    fn put_one(&self, connection: One<B>) {
        let mut waiting = self.one.borrow_mut();
        if waiting.len() < MAX_IDLE && connection.is_free() {
            connection.rest();
            waiting.push(Waiting { connection, since: Instant::now() });
        }
    }

    fn open_idle(&self) -> usize {
        self.one.borrow().iter().filter(|waiting| waiting.connection.is_ready()).count()
    }

    fn close_old(&self, now: Instant) {
        self.one
            .borrow_mut()
            .retain(|waiting| waiting.connection.is_ready() && now.saturating_duration_since(waiting.since) < IDLE);
        // Calls in flight keep the connection open without this handle.
        self.two
            .borrow_mut()
            .take_if(|shared| shared.sender.is_closed() || now.saturating_duration_since(shared.used) >= IDLE);
    }
}

/// Where an HTTP/1 connection goes when its call is over.
pub(super) struct Lease<B: 'static>(pub(super) Rc<Shelf<B>>);

impl<B> Lease<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Puts the connection back, for the response was read to its end. It is free only once the request was written to
    /// its end too; a body that takes too long over that is broken off, and the connection with it.
    pub(super) fn give_back(self, connection: One<B>) {
        let Self(shelf) = self;
        if connection.is_sent() {
            shelf.put_one(connection);
            return;
        }
        tokio::task::spawn_local(async move {
            if tokio::time::timeout(SETTLE, connection.sent()).await.is_ok() {
                shelf.put_one(connection);
            } else {
                connection.break_off();
            }
        });
    }
}

/// Keys are numbers that we count ourselves: one multiplication spreads them (Fibonacci hashing).
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
