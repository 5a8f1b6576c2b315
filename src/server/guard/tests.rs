//! What is refused before a handler sees it, how answers are counted and cut, and where handlers' futures stand.

use std::time::Duration;

use http_body_util::{Empty, Full};

use super::*;

const LIMITS: Limits = Limits {
    header_bytes: 16384,
    headers: 3,
    uri_bytes: 10,
    body_bytes: None,
    api_body_bytes: 1024,
    changes: 1,
    change_each: None,
    connections: 10,
    h2_streams: 10,
    handshake_timeout: Duration::from_secs(1),
    header_timeout: Duration::from_secs(1),
    api_body_timeout: Duration::from_secs(1),
    keep_alive: Duration::from_secs(1),
};

fn request() -> http::request::Builder {
    Request::builder().uri("/a").header("host", "a")
}

#[test]
fn a_plain_request_passes() {
    assert!(check(&request().body(Empty::<Bytes>::new()).unwrap(), &LIMITS).is_ok());
    let h2 = Request::builder().version(Version::HTTP_2).uri("https://a/").body(Empty::<Bytes>::new()).unwrap();
    assert!(check(&h2, &LIMITS).is_ok());
}

#[test]
fn what_no_handler_should_see_is_refused() {
    let cases = [
        (request().uri("/23456789ab"), &Kind::URI_TOO_LONG),
        (request().header("a", "1").header("a", "2").header("b", "3"), &Kind::HEADERS_TOO_LARGE),
        (request().method("CONNECT").uri("a:443"), &Kind::METHOD_NOT_ALLOWED),
        (request().method("TRACE"), &Kind::METHOD_NOT_ALLOWED),
        (request().method("TRACK"), &Kind::METHOD_NOT_ALLOWED),
        (request().header("host", "b"), &Kind::MALFORMED_REQUEST),
        (Request::builder().uri("/a"), &Kind::MALFORMED_REQUEST),
        (request().header("transfer-encoding", "gzip, chunked"), &Kind::NOT_IMPLEMENTED),
        (
            request().header("transfer-encoding", "chunked").header("transfer-encoding", "chunked"),
            &Kind::NOT_IMPLEMENTED,
        ),
    ];
    for (builder, kind) in cases {
        let request = builder.body(Full::new(Bytes::from_static(b"x"))).unwrap();
        assert_eq!(check(&request, &LIMITS).unwrap_err().kind(), kind, "{request:?}");
    }
}

#[test]
fn a_call_is_open_until_its_answer_is_dropped() {
    let activity = Rc::new(Activity::default());
    let answer = Answer::handler(Response::new(Empty::<Bytes>::new()), 1, activity.begin(false));
    assert_eq!((activity.open(), activity.calls()), (1, 1));
    drop(answer);
    assert_eq!((activity.open(), activity.calls()), (0, 1));
}

#[test]
fn an_answer_comes_in_pieces_and_tells_whose_turn_it_is() {
    let activity = Rc::new(Activity::default());
    let response = Response::new(Full::new(Bytes::from_static(b"abcdefgh")));
    let mut body = Answer::handler(response, 3, activity.begin(false)).into_body();
    assert_eq!(activity.take_turn(), None);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for (piece, left) in [("abc", 5), ("def", 2), ("gh", 0)] {
        assert!(!body.is_end_stream());
        let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) else { panic!("no piece") };
        assert_eq!(frame.into_data().unwrap(), piece);
        assert_eq!(body.size_hint().exact(), Some(left));
        assert_eq!((activity.take_turn(), activity.take_turn()), (Some(Turn::Callers), None));
    }
    assert!(body.is_end_stream());
    assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(None)));
}

/// A handler's future, as far as desks know it.
type Handler = Pin<Box<dyn Future<Output = u32>>>;

fn poll(desk: &mut Desk<Handler>) -> Poll<u32> {
    desk.poll(&mut Context::from_waker(std::task::Waker::noop()))
}

#[test]
fn a_future_that_is_dropped_half_done_gives_its_desk_back_and_drops_what_it_held() {
    let desks: Desks<Handler> = Desks::default();
    for ends in [false, true] {
        let held = Rc::new(());
        let holds = held.clone();
        let mut desk = desks.take(Box::pin(async move {
            if !ends {
                std::future::pending::<()>().await;
            }
            Rc::strong_count(&holds) as u32
        }));
        assert!(desks.0.borrow().is_empty(), "the one desk is in use");
        assert_eq!(poll(&mut desk), if ends { Poll::Ready(2) } else { Poll::Pending });
        drop(desk);
        assert_eq!(Rc::strong_count(&held), 1, "ends: {ends}");
        assert!(matches!(desks.0.borrow().as_slice(), [free] if free.is_none()), "ends: {ends}");
    }
    let mut again = desks.take(Box::pin(async { 7 }));
    assert_eq!((desks.0.borrow().len(), poll(&mut again)), (0, Poll::Ready(7)));
}

#[test]
fn no_more_desks_are_kept_than_a_thread_may_need_soon() {
    let desks: Desks<Handler> = Desks::default();
    let taken: Vec<_> = (0..FREE_DESKS + 6).map(|_| desks.take(Box::pin(async { 1 }))).collect();
    assert!(desks.0.borrow().is_empty());
    drop(taken);
    assert_eq!(desks.0.borrow().len(), FREE_DESKS);
}

/// Has another future done when it is dropped.
struct Lasts(Desks<Handler>, Rc<Cell<u32>>);

impl Drop for Lasts {
    fn drop(&mut self) {
        let mut desk = self.0.take(Box::pin(async { 5 }));
        if let Poll::Ready(done) = poll(&mut desk) {
            self.1.set(self.1.get() + done);
        }
    }
}

#[test]
fn a_future_may_take_a_desk_while_it_is_dropped() {
    let (desks, done) = (Desks::<Handler>::default(), Rc::default());
    // Where a desk is free, and where none is.
    for free in [0, 1] {
        assert_eq!(desks.0.borrow().len().min(1), free);
        let lasts = Lasts(desks.clone(), Rc::clone(&done));
        let mut desk = desks.take(Box::pin(async move {
            let _lasts = lasts;
            std::future::pending().await
        }));
        assert!(poll(&mut desk).is_pending());
        drop(desk);
    }
    assert_eq!(done.get(), 10);
    assert_eq!(desks.0.borrow().len(), 2, "its own, and the one that it took");
    assert!(desks.0.borrow().iter().all(|free| free.is_none()));
}
