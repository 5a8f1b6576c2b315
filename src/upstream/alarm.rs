//! Timeouts that almost never come. Each call has one or two, so setting and dropping them has to cost next to nothing:
//! no lock, no heap, where tokio's timers take a lock each time. The price is that they come up to a [`TICK`] late.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

/// How often deadlines are looked at, as long as there are any.
const TICK: Duration = Duration::from_millis(20);

/// How many ticks without any deadline end the ticking: about a second.
const REST: u32 = 50;

/// The deadlines of one thread.
#[derive(Default)]
pub(super) struct Alarms {
    slots: RefCell<Slots>,
    ticking: Cell<bool>,
}

#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<usize>,
}

enum Slot {
    Free,
    Set { deadline: Instant, waker: Waker },
    Rung,
}

impl Alarms {
    /// Sets an alarm for the task of `cx`.
    pub(super) fn set(self: &Rc<Self>, deadline: Instant, cx: &Context<'_>) -> Alarm {
        let slot = Slot::Set { deadline, waker: cx.waker().clone() };
        let mut slots = self.slots.borrow_mut();
        let place = match slots.free.pop() {
            Some(place) => {
                if let Some(free) = slots.all.get_mut(place) {
                    *free = slot;
                }
                place
            }
            None => {
                slots.all.push(slot);
                slots.all.len() - 1
            }
        };
        drop(slots);
        self.tick();
        Alarm { alarms: Rc::clone(self), place }
    }

    fn tick(self: &Rc<Self>) {
        if self.ticking.replace(true) {
            return;
        }
        let weak = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let mut resting = 0;
            while resting < REST {
                tokio::time::sleep(TICK).await;
                let Some(alarms) = weak.upgrade() else { return };
                resting = if alarms.ring(Instant::now()) { 0 } else { resting + 1 };
            }
            if let Some(alarms) = weak.upgrade() {
                alarms.ticking.set(false);
                // One may have been set since the last look.
                if alarms.slots.borrow().is_any() {
                    alarms.tick();
                }
            }
        });
    }

    /// Wakes whose time has come. Whether there is any alarm at all.
    fn ring(&self, now: Instant) -> bool {
        let mut slots = self.slots.borrow_mut();
        let mut due = Vec::new();
        for slot in &mut slots.all {
            if let Slot::Set { deadline, .. } = slot
                && *deadline <= now
                && let Slot::Set { waker, .. } = std::mem::replace(slot, Slot::Rung)
            {
                due.push(waker);
            }
        }
        let any = slots.is_any();
        // Not under the borrow: a waker may do anything.
        drop(slots);
        due.into_iter().for_each(Waker::wake);
        any
    }
}

impl Slots {
    fn is_any(&self) -> bool {
        self.free.len() < self.all.len()
    }
}

/// A deadline that is looked after until it is dropped.
pub(super) struct Alarm {
    alarms: Rc<Alarms>,
    place: usize,
}

impl Alarm {
    /// Whether `deadline` has passed. If it has not, the task of `cx` is woken when it has; for a deadline later than
    /// the last one told it may be woken once in between.
    pub(super) fn is_over(&mut self, deadline: Instant, cx: &Context<'_>) -> bool {
        let mut slots = self.alarms.slots.borrow_mut();
        let Some(slot) = slots.all.get_mut(self.place) else { return true };
        match slot {
            Slot::Set { deadline: set, waker } => {
                *set = deadline.min(*set);
                if !waker.will_wake(cx.waker()) {
                    *waker = cx.waker().clone();
                }
                false
            }
            Slot::Rung | Slot::Free if Instant::now() >= deadline => true,
            Slot::Rung | Slot::Free => {
                *slot = Slot::Set { deadline, waker: cx.waker().clone() };
                false
            }
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut slots = self.alarms.slots.borrow_mut();
        if let Some(slot) = slots.all.get_mut(self.place) {
            *slot = Slot::Free;
            slots.free.push(self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    async fn until(alarms: &Rc<Alarms>, deadline: Instant) {
        let mut alarm: Option<Alarm> = None;
        poll_fn(|cx| {
            let alarm = alarm.get_or_insert_with(|| alarms.set(deadline, cx));
            if alarm.is_over(deadline, cx) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[test]
    fn alarms_ring_in_their_order_and_never_early() {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let alarms = Rc::new(Alarms::default());
            let start = Instant::now();
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = [150, 50, 100]
                .into_iter()
                .map(|millis| {
                    let (alarms, order) = (Rc::clone(&alarms), Rc::clone(&order));
                    tokio::task::spawn_local(async move {
                        until(&alarms, start + Duration::from_millis(millis)).await;
                        assert!(start.elapsed() >= Duration::from_millis(millis));
                        order.borrow_mut().push(millis);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*order.borrow(), [50, 100, 150]);
            assert!(!alarms.slots.borrow().is_any(), "places are given back");
            assert_eq!(alarms.slots.borrow().all.len(), 3);
        });
    }

    #[test]
    fn a_deadline_may_be_moved_either_way() {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let alarms = Rc::new(Alarms::default());
            let start = Instant::now();
            let (far, near, later) =
                (start + Duration::from_secs(60), start + Duration::from_millis(40), start + Duration::from_millis(90));
            let mut alarm = None;
            let mut polls = 0;
            poll_fn(|cx| {
                let alarm = alarm.get_or_insert_with(|| alarms.set(far, cx));
                polls += 1;
                // Nearer at first, then put off when it rings.
                let deadline = if polls == 1 { near } else { later };
                if alarm.is_over(deadline, cx) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            assert!(start.elapsed() >= Duration::from_millis(90) && start.elapsed() < Duration::from_secs(30));
            assert!(polls >= 3);
        });
    }
}
