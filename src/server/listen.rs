//! Sockets: bind, accept, drain.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::guard::Desks;
use super::refusal::Refusals;
use super::roster::{Member, Roster, Stage};
use super::tls::TlsReload;
use super::{Http, Peer, connection};
use crate::batch;
use crate::config::Limits;
use crate::problem::{Kind, Problem};

/// How long a connection may be quiet before its peer is probed.
const QUIET: Duration = Duration::from_secs(60);

/// How many connections the kernel holds for us while we are busy.
const BACKLOG: i32 = 4096;

/// How long to wait after an accept that failed for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How many callers over the limit are told so at a time; further ones are just closed.
const TURNED_AWAY: usize = 32;

/// Binds `addr` so that each worker may have a socket of its own there, between which the kernel spreads connections.
///
/// # Errors
/// When the address is taken by another user or program, is not ours, or descriptors are out.
pub fn bind(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = reserve(addr)?;
    open(&socket)?;
    Ok(socket)
}

/// Binds as [`bind`] does, without taking connections yet: callers are turned away until [`open`], and no other program
/// gets the address meanwhile.
///
/// # Errors
/// As [`bind`].
pub fn reserve(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Accepted connections inherit it: a peer that vanished is noticed though its connection is quiet by intent.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(QUIET).with_interval(QUIET / 4))?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Lets a reserved socket take connections.
///
/// # Errors
/// When another program listens at the address without sharing it.
pub fn open(socket: &std::net::TcpListener) -> io::Result<()> {
    SockRef::from(socket).listen(BACKLOG)
}

/// The places for connections on a listener, shared by all its workers.
#[derive(Clone, Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
}

impl Admission {
    /// So many connections at once.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
        }
    }
}

/// What [`serve`] needs besides the socket and the handler.
#[derive(Clone, Debug)]
pub struct Serving {
    /// TLS, where the listener has it.
    pub tls: Option<Arc<TlsReload>>,
    /// What callers may send.
    pub limits: Limits,
    /// The listener's places.
    pub admission: Admission,
    /// Whether each refusal of the listener's own leaves an access line.
    pub access: bool,
    /// How long requests in flight may take once `stop` is cancelled.
    pub drain: Duration,
    /// Ends the serving.
    pub stop: CancellationToken,
}

/// Accepts and serves connections on the current thread until `stop` is cancelled, then drains them, and returns when
/// none is left or the drain time is over.
///
/// The handler's future is dropped when its caller disconnects or resets the stream.
///
/// # Errors
/// When the socket cannot be handed to the runtime; nothing after that ends the serving.
pub async fn serve<H, F, B>(listener: std::net::TcpListener, serving: Serving, handler: H) -> io::Result<()>
where
    H: Fn(Request<Incoming>, Peer) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let listener = TcpListener::from_std(listener)?;
    let Serving { tls, limits, admission, access, drain, stop } = serving;
    let house = Rc::new(House {
        tls,
        limits: Rc::new(limits),
        handler: Rc::new(handler),
        refusals: Rc::new(Refusals::new(access)),
        desks: Desks::default(),
    });
    let roster = Roster::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, addr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if is_about_one_connection(&error) {
                    continue;
                }
                if std::mem::replace(&mut failing, true) {
                    tracing::debug!(%error, "still cannot accept connections");
                } else {
                    tracing::warn!(%error, "cannot accept connections");
                }
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        batch::look(batch::GREETING);
        if std::mem::take(&mut failing) {
            tracing::info!("connections are accepted again");
        }
        let peer = Peer { addr: SocketAddr::new(unmapped(addr.ip()), addr.port()), tls: house.tls.is_some() };
        let Ok(place) = Arc::clone(&admission.places).try_acquire_owned() else {
            turn_away(stream, peer, &admission, &house.refusals);
            continue;
        };
        let (house, roster) = (Rc::clone(&house), Rc::clone(&roster));
        tokio::task::spawn_local(async move {
            let member = roster.enter().await;
            converse(stream, place, peer, &house, &member).await;
            drop(member);
        });
    }
    drop(listener);
    roster.advance(Stage::Drain);
    if tokio::time::timeout(drain, roster.empty()).await.is_err() {
        tracing::info!(?drain, "connections are closed with requests in flight");
        roster.advance(Stage::Close);
        roster.empty().await;
    }
    Ok(())
}

/// What all connections of a listener's thread share.
pub(super) struct House<H, F> {
    pub(super) tls: Option<Arc<TlsReload>>,
    pub(super) limits: Rc<Limits>,
    pub(super) handler: Rc<H>,
    pub(super) refusals: Rc<Refusals>,
    pub(super) desks: Desks<F>,
}

async fn converse<H, F, B>(
    mut stream: TcpStream,
    place: OwnedSemaphorePermit,
    peer: Peer,
    house: &Rc<House<H, F>>,
    member: &Member,
) where
    H: Fn(Request<Incoming>, Peer) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(peer = %peer.addr, %error, "connection lost before its first request");
        return;
    }
    let Some(tls) = &house.tls else {
        return connection::serve(stream, place, None, peer, house, member).await;
    };
    let handshake = async {
        // A handshake begins with 22 (RFC 8446 §5.1); a letter is a caller who took us for plain HTTP.
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first.iter().all(u8::is_ascii_uppercase) {
            let problem = Problem::new(&Kind::MALFORMED_REQUEST, "this port speaks TLS\nuse https://");
            connection::farewell(&mut stream, &house.refusals.last_words(problem, peer)).await;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP on a TLS port"));
        }
        tls.accept(stream).await
    };
    // Boxed, as what follows: a connection without TLS should have no room for one with it, nor an idle one for its
    // handshake.
    let shaken = Box::pin(tokio::time::timeout(house.limits.handshake_timeout, handshake)).await;
    batch::look(batch::GREETING);
    match shaken {
        Ok(Ok(stream)) => {
            let http = if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Http::Two } else { Http::One };
            // A large thing, too large to be moved on and on.
            Box::pin(connection::serve(Box::new(stream), place, Some(http), peer, house, member)).await;
        }
        Ok(Err(error)) => tracing::debug!(peer = %peer.addr, %error, "TLS handshake failed"),
        Err(_elapsed) => tracing::debug!(peer = %peer.addr, "TLS handshake took too long"),
    }
}

/// Tells a caller that all places are taken, as long as not too many are being told already.
fn turn_away(mut stream: TcpStream, peer: Peer, admission: &Admission, refusals: &Refusals) {
    tracing::debug!(peer = %peer.addr, "connection refused: all places are taken");
    let Ok(telling) = Arc::clone(&admission.turned_away).try_acquire_owned() else { return };
    if peer.tls {
        refusals.wordless(&Kind::TOO_MANY_CONNECTIONS, peer);
        return;
    }
    let detail = "as many connections are open as the gateway takes\ntry again later, over a connection that is kept";
    let words = refusals.last_words(Problem::new(&Kind::TOO_MANY_CONNECTIONS, detail).retry_after(1), peer);
    tokio::task::spawn_local(async move {
        connection::farewell(&mut stream, &words).await;
        drop::<OwnedSemaphorePermit>(telling);
    });
}

/// Errors of accept(2) that speak of the connection, not of us.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// An IPv4 caller of an IPv6 socket is an IPv4 caller.
fn unmapped(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}
