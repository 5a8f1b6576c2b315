//! What becomes of bytes that wait for the end of a turn.

use std::future::poll_fn;
use std::io::ErrorKind;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Semaphore;
use tokio::task::coop;

use super::*;

type Far = DuplexStream;

/// A wire whose other end takes so many bytes before it is read.
fn wire(room: usize) -> (Wire<DuplexStream>, Far, Arc<Meter>) {
    let (near, far) = duplex(room);
    let meter = Arc::new(Meter::default());
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    (Wire::new(near, Bytes::new(), Arc::clone(&meter), place), far, meter)
}

fn runtime() -> batch::Runtime {
    batch::Runtime::with_batches().unwrap()
}

/// What has come by now.
fn come(far: &mut Far) -> Vec<u8> {
    let mut room = [0; 64 * 1024];
    far.read(&mut room).now_or_never().map_or_else(Vec::new, |read| room[..read.unwrap()].to_vec())
}

/// Flushes once the task is woken, as hyper does; not before.
async fn flushed_when_woken(wire: &mut Wire<DuplexStream>) -> io::Result<()> {
    let mut woken = false;
    poll_fn(|cx| if std::mem::replace(&mut woken, true) { Pin::new(&mut *wire).poll_flush(cx) } else { Poll::Pending })
        .await
}

#[test]
fn short_writes_count_as_gone_and_go_together_at_the_end_of_the_turn() {
    runtime().block_on(async {
        let (mut wire, mut far, meter) = wire(64 * 1024);
        wire.write_all(b"one ").await.unwrap();
        wire.flush().await.unwrap();
        let both = [IoSlice::new(b"two "), IoSlice::new(b"three")];
        assert_eq!(wire.write_vectored(&both).await.unwrap(), 9);
        assert_eq!((come(&mut far), meter.written(), meter.blocked()), (Vec::new(), 0, false));
        let mut came = [0; 64];
        assert_eq!(far.read(&mut came).await.unwrap(), 13, "in one piece");
        assert_eq!(&came[..13], b"one two three");
        assert_eq!(meter.written(), 13);
    });
}

#[test]
fn nothing_overtakes_what_waits() {
    let long: Vec<u8> = (0..3 * LATE).map(|at| (at % 251) as u8).collect();
    for first in [1, 10, LATE - 1, LATE] {
        for second in [1, 2, 1024, LATE, LATE + 1, 2 * LATE] {
            runtime().block_on(async {
                let (mut wire, mut far, _) = wire(64 * 1024);
                let mut expected = Vec::new();
                for piece in [first, second, 5, LATE + 1, 3] {
                    wire.write_all(&long[..piece]).await.unwrap();
                    expected.extend_from_slice(&long[..piece]);
                }
                let mut came = vec![0; expected.len()];
                far.read_exact(&mut came).await.unwrap();
                assert!(came == expected, "{first} {second}");
            });
        }
    }
}

#[test]
fn a_peer_that_takes_nothing_is_noticed_and_gets_the_rest_when_it_does() {
    runtime().block_on(async {
        let (mut wire, mut far, meter) = wire(16);
        let words: Vec<u8> = (0..100).collect();
        let (all, told) = (words.clone(), Arc::clone(&meter));
        let task = tokio::task::spawn_local(async move {
            wire.write_all(&all).await.unwrap();
            wire.flush().await.unwrap();
            assert!(!told.blocked(), "nothing was tried");
            flushed_when_woken(&mut wire).await.unwrap();
            assert!(!told.blocked());
            wire
        });
        let mut first = [0; 16];
        far.read_exact(&mut first).await.unwrap();
        assert!(meter.blocked());
        let mut rest = [0; 84];
        far.read_exact(&mut rest).await.unwrap();
        assert_eq!([&first[..], &rest].concat(), words);
        drop(task.await.unwrap());
    });
}

#[test]
fn whoever_only_reads_moves_on_what_the_peer_did_not_take() {
    runtime().block_on(async {
        let (mut wire, mut far, _) = wire(16);
        let task = tokio::task::spawn_local(async move {
            wire.write_all(&[7; 100]).await.unwrap();
            wire.read_u8().await.unwrap()
        });
        let mut came = [0; 100];
        far.read_exact(&mut came).await.unwrap();
        assert_eq!(came, [7; 100]);
        far.write_all(b"x").await.unwrap();
        assert_eq!(task.await.unwrap(), b'x');
    });
}

#[test]
fn the_end_comes_after_all_that_was_written() {
    runtime().block_on(async {
        let (mut wire, mut far, _) = wire(16);
        let task = tokio::task::spawn_local(async move {
            wire.write_all(&[7; 100]).await.unwrap();
            wire.shutdown().await.unwrap();
        });
        let mut came = Vec::new();
        far.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, [7; 100]);
        task.await.unwrap();
    });
}

#[test]
fn what_was_taken_goes_though_the_wire_is_dropped_in_the_same_turn() {
    runtime().block_on(async {
        let (mut wire, mut far, _) = wire(1024);
        wire.write_all(b"the last word").await.unwrap();
        drop(wire);
        assert_eq!(come(&mut far), b"the last word");
    });
}

#[test]
fn a_write_that_failed_late_is_told_with_the_next_flush() {
    runtime().block_on(async {
        let (mut wire, far, _) = wire(1024);
        drop(far);
        wire.write_all(b"to nobody").await.unwrap();
        assert_eq!(flushed_when_woken(&mut wire).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn what_takes_little_at_a_time_is_seen_to_take_it() {
    runtime().block_on(async {
        let (mut wire, mut far, meter) = wire(16);
        let task = tokio::task::spawn_local(async move {
            wire.write_all(&[7; 100]).await.unwrap();
            wire.read_u8().await.unwrap()
        });
        for taken in [16, 32, 48] {
            far.read_exact(&mut [0; 16]).await.unwrap();
            assert_eq!(meter.written(), taken);
        }
        far.read_exact(&mut [0; 52]).await.unwrap();
        far.write_all(b"x").await.unwrap();
        task.await.unwrap();
    });
}

#[test]
fn who_writes_a_batch_in_a_turn_that_is_over_and_who_is_dropped_in_one_leave_nothing_back() {
    runtime().block_on(async {
        let ((mut one, mut first, meter), (mut two, mut second, _)) = (wire(1024), wire(1024));
        one.write_all(b"one").await.unwrap();
        while coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        batch::look(1 << 20);
        assert!(!meter.blocked());
        assert_eq!(unbounded_read(&mut first), b"one");
        two.write_all(b"two").await.unwrap();
        drop(two);
        assert_eq!(unbounded_read(&mut second), b"two");
    });
}

fn unbounded_read(far: &mut Far) -> Vec<u8> {
    let mut room = [0; 64];
    let mut room = ReadBuf::new(&mut room);
    let read = batch::unbounded(|cx| Pin::new(&mut *far).poll_read(cx, &mut room));
    assert!(matches!(read, Poll::Ready(Ok(()))));
    room.filled().to_vec()
}

#[test]
fn once_an_upgrade_was_asked_for_nothing_waits() {
    runtime().block_on(async {
        let (mut wire, mut far, meter) = wire(1024);
        wire.write_all(b"the answer before, ").await.unwrap();
        meter.be_prompt();
        wire.flush().await.unwrap();
        assert_eq!(come(&mut far), b"the answer before, ");
        wire.write_all(b"101").await.unwrap();
        assert_eq!(come(&mut far), b"101");
    });
}

#[test]
fn a_wire_that_dozes_keeps_no_room_for_what_is_written() {
    runtime().block_on(async {
        let (mut wire, mut far, _) = wire(1024);
        wire.write_all(b"an answer").await.unwrap();
        wire.put_back(b"");
        far.read_exact(&mut [0; 9]).await.unwrap();
        assert!(wire.line().late.capacity() > 0);
        wire.put_back(b"");
        assert_eq!(wire.line().late.capacity(), 0);
    });
}

#[test]
fn a_large_answer_leaves_no_room_behind() {
    runtime().block_on(async {
        let (mut wire, mut far, _) = wire(LATE);
        for length in [KEPT / 2, LATE] {
            wire.write_all(&vec![7; length]).await.unwrap();
            far.read_exact(&mut vec![0; length]).await.unwrap();
            assert!(wire.line().late.capacity() <= KEPT);
        }
    });
}
