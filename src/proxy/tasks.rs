//! Calls whose callers ask again instead of waiting (`docs/API.md` §13): pending ones, and the answers of others.
//!
//! All is in memory and bounded: how many of a user's are pending, and how many answers of how many bytes are kept. What
//! is too much pushes out the oldest answers, the user's own first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;

use super::error::{Kind, Problem};
use crate::policy::{ResourceId, UserId};

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// How much is kept.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Pending tasks of a user.
    pending: usize,
    /// Answers of a user.
    answers: usize,
    /// Bytes of a user's answers.
    bytes: usize,
    /// Bytes of all answers.
    all_bytes: usize,
}

const BOUNDS: Bounds = Bounds { pending: 32, answers: 1024, bytes: 32 * 1024 * 1024, all_bytes: 256 * 1024 * 1024 };

/// What a task costs beside its answer and the call's path, in bytes, at most: what the caller's token says, places in the
/// tables.
const EACH: usize = 12 * 1024;

/// What is remembered of a call.
pub(super) trait Remembered {
    /// Bytes of it that the caller chose.
    fn size(&self) -> usize;
}

/// The tasks of this process; `C` is what is remembered of the call that one was.
#[derive(Debug)]
pub struct Tasks<C> {
    bounds: Bounds,
    kept: Mutex<Kept<C>>,
}

#[derive(Debug)]
struct Kept<C> {
    tasks: HashMap<Arc<str>, Task<C>, ahash::RandomState>,
    users: HashMap<UserId, Own, ahash::RandomState>,
    /// By the order in which they were answered, which is that of their age.
    answered: BTreeMap<u64, (Arc<str>, Instant)>,
    bytes: usize,
    next: u64,
    /// Whether somebody waits for the oldest answer's time to be over.
    swept: bool,
}

/// What one user has.
#[derive(Debug, Default)]
struct Own {
    pending: usize,
    answered: BTreeSet<u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Task<C> {
    user: UserId,
    service: ResourceId,
    call: Arc<C>,
    answer: Option<(u64, Arc<Response<Bytes>>)>,
    /// What it counts as, once it is answered.
    bytes: usize,
}

/// A task that somebody asks for: the call that it was, and its answer where there is one.
#[derive(Debug)]
pub(super) struct Found<C> {
    /// The call.
    pub(super) call: Arc<C>,
    /// The answer.
    pub(super) answer: Option<Arc<Response<Bytes>>>,
}

/// A pending task: forgotten when this is dropped before [`Slot::finish`].
#[derive(Debug)]
pub(super) struct Slot<C> {
    tasks: Arc<Tasks<C>>,
    id: Arc<str>,
    user: UserId,
    finished: bool,
}

impl<C> Tasks<C> {
    /// None yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::bounded(BOUNDS)
    }

    fn bounded(bounds: Bounds) -> Arc<Self> {
        let kept = Kept {
            tasks: HashMap::default(),
            users: HashMap::default(),
            answered: BTreeMap::new(),
            bytes: 0,
            next: 0,
            swept: false,
        };
        Arc::new(Self { bounds, kept: Mutex::new(kept) })
    }

    /// Notes a call of this user that is under way.
    ///
    /// # Errors
    /// 429 where too many of theirs are pending.
    pub(super) fn begin(
        self: &Arc<Self>,
        id: Arc<str>,
        (user, service): (UserId, ResourceId),
        call: Arc<C>,
    ) -> Result<Slot<C>, Problem> {
        let mut kept = self.kept();
        let own = kept.users.entry(user).or_default();
        if own.pending >= self.bounds.pending {
            let detail = format!("{} calls of yours are not answered yet\nwait for one of them", self.bounds.pending);
            return Err(Problem::new(&Kind::TOO_MANY_TASKS, detail).retry_after(5));
        }
        own.pending += 1;
        kept.tasks.insert(id.clone(), Task { user, service, call, answer: None, bytes: 0 });
        Ok(Slot { tasks: self.clone(), id, user, finished: false })
    }

    /// The task with this id, where it is this user's call of this service.
    pub(super) fn find(&self, id: &str, user: UserId, service: ResourceId, now: Instant) -> Option<Found<C>> {
        let mut kept = self.kept();
        kept.expire(now);
        let task = kept.tasks.get(id).filter(|task| task.user == user && task.service == service)?;
        Some(Found { call: task.call.clone(), answer: task.answer.as_ref().map(|(_, answer)| answer.clone()) })
    }

    /// Forgets the answers whose time is over; when the next one's is. None: there is none left, and whoever asked need
    /// not come back.
    pub(super) fn sweep(&self, now: Instant) -> Option<Instant> {
        let mut kept = self.kept();
        kept.expire(now);
        let next = kept.answered.first_key_value().map(|(_, (_, end))| *end);
        kept.swept = next.is_some();
        next
    }

    fn kept(&self) -> MutexGuard<'_, Kept<C>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Remembered> Slot<C> {
    /// Keeps the answer for [`KEPT`]. Whether the caller is the one who is to [`Tasks::sweep`] from then on: one does it for
    /// all answers, however many there are.
    pub(super) fn finish(mut self, answer: Response<Bytes>, now: Instant) -> bool {
        self.finished = true;
        let mut kept = self.tasks.kept();
        let kept = &mut *kept;
        kept.expire(now);
        let number = kept.next;
        let Some(task) = kept.tasks.get_mut(&self.id) else { return false };
        let bytes = weight(&answer) + task.call.size();
        task.bytes = bytes;
        kept.next += 1;
        task.answer = Some((number, Arc::new(answer)));
        kept.answered.insert(number, (self.id.clone(), now + KEPT));
        kept.bytes += bytes;
        let own = kept.users.entry(self.user).or_default();
        own.pending = own.pending.saturating_sub(1);
        own.answered.insert(number);
        own.bytes += bytes;
        kept.make_room(self.user, number, &self.tasks.bounds);
        !std::mem::replace(&mut kept.swept, true)
    }
}

impl<C> Drop for Slot<C> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut kept = self.tasks.kept();
        kept.tasks.remove(&self.id);
        if let Some(own) = kept.users.get_mut(&self.user) {
            own.pending = own.pending.saturating_sub(1);
        }
        kept.tidy(self.user);
    }
}

impl<C> Kept<C> {
    fn expire(&mut self, now: Instant) {
        while let Some((number, (_, end))) = self.answered.first_key_value() {
            if now < *end {
                return;
            }
            self.forget(*number);
        }
    }

    /// Pushes out what is too much, but never the newest, of `user`.
    fn make_room(&mut self, user: UserId, newest: u64, bounds: &Bounds) {
        while let Some(own) = self.users.get(&user)
            && (own.answered.len() > bounds.answers || own.bytes > bounds.bytes)
            && let Some(oldest) = own.answered.first().copied().filter(|oldest| *oldest != newest)
        {
            self.forget(oldest);
        }
        while self.bytes > bounds.all_bytes
            && let Some((oldest, _)) = self.answered.first_key_value()
            && *oldest != newest
        {
            self.forget(*oldest);
        }
    }

    fn forget(&mut self, number: u64) {
        let Some((id, _)) = self.answered.remove(&number) else { return };
        let Some(task) = self.tasks.remove(&id) else { return };
        let bytes = task.bytes;
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(own) = self.users.get_mut(&task.user) {
            own.answered.remove(&number);
            own.bytes = own.bytes.saturating_sub(bytes);
        }
        self.tidy(task.user);
    }

    fn tidy(&mut self, user: UserId) {
        if self.users.get(&user).is_some_and(|own| own.pending == 0 && own.answered.is_empty()) {
            self.users.remove(&user);
        }
    }
}

fn weight(answer: &Response<Bytes>) -> usize {
    let headers = answer.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    EACH + answer.body().len() + headers.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// A call with so long a path.
    impl Remembered for usize {
        fn size(&self) -> usize {
            *self
        }
    }

    const SERVICE: ResourceId = ResourceId(Uuid::from_u128(9));

    fn user(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    fn tasks(bounds: Bounds) -> Arc<Tasks<usize>> {
        Tasks::bounded(bounds)
    }

    fn begin(tasks: &Arc<Tasks<usize>>, id: &str, of: u128) -> Result<Slot<usize>, Problem> {
        tasks.begin(id.into(), (user(of), SERVICE), Arc::default())
    }

    fn answered(tasks: &Arc<Tasks<usize>>, id: &str, of: u128, bytes: usize, now: Instant) {
        begin(tasks, id, of).unwrap().finish(Response::new(vec![b'a'; bytes].into()), now);
    }

    fn is_there(tasks: &Tasks<usize>, id: &str, of: u128, now: Instant) -> bool {
        tasks.find(id, user(of), SERVICE, now).is_some()
    }

    fn is_empty(tasks: &Tasks<usize>) -> bool {
        let kept = tasks.kept();
        kept.tasks.is_empty() && kept.users.is_empty() && kept.answered.is_empty() && kept.bytes == 0
    }

    #[test]
    fn a_task_is_pending_then_answered_and_gone_after_its_time() {
        let (tasks, now) = (tasks(BOUNDS), Instant::now());
        let slot = begin(&tasks, "a", 1).unwrap();
        assert!(tasks.find("a", user(1), SERVICE, now).unwrap().answer.is_none());
        slot.finish(Response::new("x".into()), now);
        let last = now + KEPT - Duration::from_secs(1);
        for _ in 0..2 {
            assert_eq!(tasks.find("a", user(1), SERVICE, last).unwrap().answer.unwrap().body(), "x");
        }
        assert!(!is_there(&tasks, "a", 1, now + KEPT));
        assert!(is_empty(&tasks));
    }

    #[test]
    fn one_sweeps_for_all_answers_until_none_is_left() {
        let (tasks, now) = (tasks(BOUNDS), Instant::now());
        let finish = |at| begin(&tasks, &format!("{at:?}"), 1).unwrap().finish(Response::default(), at);
        let sweepers = (0..100).filter(|second| finish(now + Duration::from_secs(*second))).count();
        assert_eq!(sweepers, 1);
        let (mut at, mut turns) = (now, 0);
        while let Some(next) = tasks.sweep(at) {
            assert!(next > at, "the sweeper would not sleep");
            (at, turns) = (next, turns + 1);
        }
        assert!(is_empty(&tasks) && turns <= 101, "{turns}");
        assert!(finish(at), "the next answer has nobody who sweeps");
    }

    #[test]
    fn a_task_is_its_users_and_its_services_only() {
        let (tasks, now) = (tasks(BOUNDS), Instant::now());
        answered(&tasks, "a", 1, 1, now);
        assert!(is_there(&tasks, "a", 1, now));
        assert!(!is_there(&tasks, "a", 2, now) && !is_there(&tasks, "b", 1, now));
        assert!(tasks.find("a", user(1), ResourceId(Uuid::nil()), now).is_none());
    }

    #[test]
    fn a_call_that_is_answered_at_once_leaves_nothing() {
        let tasks = tasks(BOUNDS);
        drop(begin(&tasks, "a", 1).unwrap());
        assert!(is_empty(&tasks));
    }

    #[test]
    fn pending_tasks_are_bounded_for_each_user() {
        let tasks = tasks(Bounds { pending: 2, ..BOUNDS });
        let first = begin(&tasks, "a", 1).unwrap();
        let _second = begin(&tasks, "b", 1).unwrap();
        let refused = begin(&tasks, "c", 1).unwrap_err();
        assert_eq!(refused.kind(), &Kind::TOO_MANY_TASKS);
        let _others = begin(&tasks, "d", 2).unwrap();
        first.finish(Response::default(), Instant::now());
        assert!(begin(&tasks, "e", 1).is_ok());
    }

    #[test]
    fn what_is_too_much_pushes_out_the_oldest_of_the_same_user() {
        let now = Instant::now();
        for bounds in [Bounds { answers: 2, ..BOUNDS }, Bounds { bytes: 2 * (EACH + 10), ..BOUNDS }] {
            let tasks = tasks(bounds);
            answered(&tasks, "other", 2, 10, now);
            for id in ["a", "b", "c"] {
                answered(&tasks, id, 1, 10, now);
            }
            assert!(!is_there(&tasks, "a", 1, now), "{bounds:?}");
            assert!(
                is_there(&tasks, "b", 1, now) && is_there(&tasks, "c", 1, now) && is_there(&tasks, "other", 2, now)
            );
        }
    }

    #[test]
    fn a_long_path_counts_as_what_it_takes() {
        let (tasks, now) = (tasks(Bounds { bytes: 2 * EACH + 20_000, ..BOUNDS }), Instant::now());
        for id in ["a", "b"] {
            tasks.begin(id.into(), (user(1), SERVICE), Arc::new(16_000)).unwrap().finish(Response::default(), now);
        }
        assert!(!is_there(&tasks, "a", 1, now) && is_there(&tasks, "b", 1, now));
        tasks.sweep(now + KEPT);
        assert!(is_empty(&tasks));
    }

    #[test]
    fn what_is_too_much_of_all_pushes_out_the_oldest_of_all_and_never_the_newest() {
        let now = Instant::now();
        let tasks = tasks(Bounds { all_bytes: 2 * (EACH + 10), ..BOUNDS });
        for (id, of) in [("a", 1), ("b", 2), ("c", 3)] {
            answered(&tasks, id, of, 10, now);
        }
        assert!(!is_there(&tasks, "a", 1, now) && is_there(&tasks, "b", 2, now) && is_there(&tasks, "c", 3, now));
        answered(&tasks, "large", 1, 5 * EACH, now);
        assert!(is_there(&tasks, "large", 1, now) && !is_there(&tasks, "c", 3, now));
    }
}
