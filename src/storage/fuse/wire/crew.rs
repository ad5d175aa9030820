//! Who listens to the kernel, and who rests.
//!
//! A thread that waits on /dev/fuse is woken by each request, even if another
//! takes it. So mostly one thread listens, and answers what it hears. It calls
//! another when more than one request is there at once; and when it is kept by
//! one (a disk, a network file system), the watch calls another in its place.

use super::companion::{Companion, processor_of};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long one request may keep the only listener.
const PATIENCE: Duration = Duration::from_micros(500);
/// The same for the companion, whom it disturbs to be looked after.
const PATIENCE_IN_COMPANY: Duration = Duration::from_millis(5);

pub(super) struct Crew {
    /// The last one is the companion.
    members: Vec<Member>,
    pub(super) companion: Companion,
    /// Members that listen or are busy with what they heard, those apart who are
    /// kept by it.
    listeners: AtomicUsize,
    /// Whether the watch looks after them.
    watched: AtomicBool,
    rest: Mutex<Rest>,
    /// For those who rest.
    called: Condvar,
    /// For the watch.
    alarm: Condvar,
}

#[derive(Default)]
struct Rest {
    /// Calls that nobody has followed yet.
    calls: usize,
    resting: usize,
    over: bool,
}

#[derive(Default)]
struct Member {
    /// Odd while it is busy: a number for each request and one for each pause.
    step: AtomicU64,
    /// Another listens in its place.
    kept: AtomicBool,
}

impl Crew {
    /// Of this many and the companion, all resting; one is called.
    pub(super) fn new(count: usize) -> Self {
        Self {
            members: (0..=count).map(|_| Member::default()).collect(),
            companion: Companion::new(),
            listeners: AtomicUsize::new(1),
            watched: AtomicBool::new(false),
            rest: Mutex::new(Rest { calls: 1, ..Rest::default() }),
            called: Condvar::new(),
            alarm: Condvar::new(),
        }
    }

    /// Rests until called; false when it is over.
    pub(super) fn rest(&self) -> bool {
        let mut rest = self.lock();
        rest.resting += 1;
        while rest.calls == 0 && !rest.over {
            rest = self.called.wait(rest).unwrap_or_else(PoisonError::into_inner);
        }
        rest.resting -= 1;
        rest.calls = rest.calls.saturating_sub(1);
        !rest.over
    }

    /// A listener that hears nothing may rest if there are others, and not only the
    /// companion without a processor.
    pub(super) fn may_rest(&self) -> bool {
        if self.companion.is_relieved() {
            return false;
        }
        let fewer = |count: usize| if count > 1 { Some(count - 1) } else { None };
        self.listeners.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer).is_ok()
    }

    /// The member has heard something.
    pub(super) fn busy(&self, member: usize) {
        self.members[member].step.fetch_add(1, Ordering::AcqRel);
        if !self.watched.load(Ordering::Relaxed) && !self.watched.swap(true, Ordering::AcqRel) {
            let _rest = self.lock();
            self.alarm.notify_one();
        }
    }

    /// The member has answered; true if it listens on, false if another does in
    /// its place.
    pub(super) fn done(&self, member: usize) -> bool {
        let member = &self.members[member];
        member.step.fetch_add(1, Ordering::AcqRel);
        !member.kept.swap(false, Ordering::AcqRel)
    }

    /// There is more to hear than the listeners can.
    pub(super) fn call(&self) {
        let mut rest = self.lock();
        if rest.resting > rest.calls && !rest.over {
            rest.calls += 1;
            self.listeners.fetch_add(1, Ordering::AcqRel);
            self.called.notify_one();
        }
    }

    /// Has the member do something between two requests that may keep it; true if it
    /// listens on, as for [`Self::done`].
    pub(super) fn meanwhile(&self, member: usize, work: impl FnOnce()) -> bool {
        self.busy(member);
        work();
        self.done(member)
    }

    /// Has the companion listen to a client in the place of this member, the only
    /// listener; false where it does not, or there are more.
    pub(super) fn hands_over(&self, member: usize, client: u32) -> bool {
        if self.listeners.load(Ordering::Acquire) != 1 || !self.companion.has_room() {
            return false;
        }
        let mut processor = None;
        if !self.meanwhile(member, || processor = processor_of(client)) {
            // Somebody else listens in its place already.
            return true;
        }
        self.companion.summon(client, processor)
    }

    /// Has another listen in the place of the companion; false where all are busy.
    pub(super) fn is_left_by_companion(&self) -> bool {
        let mut rest = self.lock();
        let possible = rest.resting > rest.calls;
        if possible {
            rest.calls += 1;
            self.called.notify_one();
        }
        possible
    }

    /// Has the next one who rests listen in the place of a listener.
    pub(super) fn call_in_place(&self) {
        self.lock().calls += 1;
        self.called.notify_one();
    }

    /// Everybody ends.
    pub(super) fn end(&self) {
        self.companion.end();
        self.lock().over = true;
        self.called.notify_all();
        self.alarm.notify_all();
    }

    /// Looks after the listeners until it is over. `pending`: whether a request
    /// waits.
    pub(super) fn watch(&self, pending: impl Fn() -> bool) {
        let mut seen = vec![0; self.members.len()];
        let mut passed_over = false;
        self.companion.is_watched_by_me();
        let mut rest = self.lock();
        while !rest.over {
            if self.watched.load(Ordering::Acquire) {
                let patience = if self.companion.is_present() { PATIENCE_IN_COMPANY } else { PATIENCE };
                rest = self.alarm.wait_timeout(rest, patience).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                rest = self.alarm.wait(rest).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(rest);
            let quiet = self.look_round(&mut seen);
            let accompanied = quiet && self.companion.is_present();
            // A request is there, and the companion has no processor to take it.
            let waits = accompanied && pending();
            if waits && passed_over && self.companion.relieve() {
                self.call();
            }
            passed_over = waits;
            rest = self.lock();
            if quiet && !accompanied {
                self.watched.store(false, Ordering::Release);
                // Or one that became busy just now had nobody look after it.
                if self.members.iter().any(Member::is_busy) {
                    self.watched.store(true, Ordering::Release);
                }
            }
        }
    }

    /// Calls others in the place of those who are kept; true where nothing has
    /// happened since the last time.
    fn look_round(&self, seen: &mut [u64]) -> bool {
        let mut quiet = true;
        for (member, seen) in self.members.iter().zip(seen) {
            let step = member.step.load(Ordering::Acquire);
            let same = step == *seen;
            *seen = step;
            quiet &= same && step.is_multiple_of(2);
            if same && !step.is_multiple_of(2) && !member.kept.swap(true, Ordering::AcqRel) {
                self.replace(member, step);
            }
        }
        quiet
    }

    fn replace(&self, member: &Member, step: u64) {
        // It came to its end just now: it takes the mark for granted, or it is
        // taken back.
        if member.step.load(Ordering::Acquire) != step && member.kept.swap(false, Ordering::AcqRel) {
            return;
        }
        self.call_in_place();
    }

    fn lock(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn is_busy(&self) -> bool {
        !self.step.load(Ordering::Acquire).is_multiple_of(2)
    }
}

#[cfg(test)]
mod tests {
    use super::super::companion::Farewell;
    use super::*;
    use std::collections::VecDeque;
    use std::sync::mpsc::{Receiver, Sender, channel};

    #[test]
    fn one_listens_and_a_second_is_called_for_more() {
        let crew = Crew::new(2);
        assert!(crew.rest(), "the first is called at once");
        assert!(!crew.may_rest(), "it is the only one");
        crew.call();
        assert!(!crew.may_rest(), "nobody rests who could come");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| crew.rest());
            while crew.lock().resting == 0 {
                std::thread::yield_now();
            }
            crew.call();
            assert!(second.join().expect("thread"));
        });
        assert!(crew.may_rest());
        assert!(!crew.may_rest());
        crew.end();
        assert!(!crew.rest());
    }

    #[test]
    fn who_is_kept_is_replaced() {
        let crew = Crew::new(2);
        assert!(crew.rest());
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| crew.watch(|| false));
            let second = scope.spawn(|| crew.rest());
            crew.busy(0);
            assert!(second.join().expect("thread"), "called by the watch");
            assert!(!crew.done(0), "somebody listens in its place");
            crew.busy(1);
            assert!(crew.done(1));
            crew.end();
            watch.join().expect("thread");
        });
    }

    /// It looks where its client is, who waits for an answer: execve(2) keeps others
    /// from looking at a process while it closes files.
    #[test]
    fn a_companion_that_is_kept_between_two_requests_is_replaced() {
        let crew = Crew::new(2);
        assert!(crew.rest());
        crew.companion.be_called();
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| crew.watch(|| true));
            let second = scope.spawn(|| crew.rest());
            let listens = crew.meanwhile(2, || assert!(second.join().expect("thread"), "called"));
            assert!(!listens, "somebody listens in its place");
            crew.end();
            watch.join().expect("thread");
        });
    }

    /// The one that relieves the companion goes on until that has a processor again.
    #[test]
    fn who_relieves_the_companion_does_not_rest_before_it_is_back() {
        let crew = Crew::new(2);
        assert!(crew.rest());
        crew.call();
        crew.companion.be_called();
        assert!(crew.companion.relieve() && !crew.companion.relieve());
        crew.listeners.store(2, Ordering::Release);
        assert!(!crew.may_rest());
        assert!(crew.companion.was_relieved());
        assert!(crew.may_rest());
    }

    /// /dev/fuse as far as the crew sees it, with clients who never give up.
    #[derive(Default)]
    struct Device {
        requests: Mutex<(VecDeque<Request>, bool)>,
        arrived: Condvar,
    }

    /// Answered by `answer`, once `until` says something or is gone.
    struct Request {
        until: Option<Receiver<()>>,
        answer: Sender<()>,
    }

    impl Device {
        fn send(&self, until: Option<Receiver<()>>) -> Receiver<()> {
            let (answer, answered) = channel();
            self.requests.lock().expect("lock").0.push_back(Request { until, answer });
            self.arrived.notify_one();
            answered
        }

        fn look(&self) -> Option<Request> {
            self.requests.lock().expect("lock").0.pop_front()
        }

        fn wait(&self) -> Option<Request> {
            let mut requests = self.requests.lock().expect("lock");
            loop {
                if let Some(request) = requests.0.pop_front() {
                    return Some(request);
                }
                if requests.1 {
                    return None;
                }
                requests = self.arrived.wait(requests).expect("lock");
            }
        }

        fn unmount(&self) {
            self.requests.lock().expect("lock").1 = true;
            self.arrived.notify_all();
        }

        /// Requests waited for no longer than this; whether it is not over.
        fn wait_for(&self, patience: Duration) -> (Option<Request>, bool) {
            let mut requests = self.requests.lock().expect("lock");
            if requests.0.is_empty() && !requests.1 {
                requests = self.arrived.wait_timeout(requests, patience).expect("lock").0;
            }
            (requests.0.pop_front(), !requests.1)
        }

        fn more(&self) -> bool {
            !self.requests.lock().expect("lock").0.is_empty()
        }

        /// As a worker does.
        fn serve(&self, crew: &Crew, number: usize) {
            while crew.rest() {
                loop {
                    let request = match self.look() {
                        Some(request) => request,
                        None if crew.may_rest() => break,
                        None => match self.wait() {
                            Some(request) => request,
                            None => return crew.end(),
                        },
                    };
                    crew.busy(number);
                    if self.more() {
                        crew.call();
                    }
                    if let Some(until) = request.until {
                        until.recv().ok();
                    }
                    request.answer.send(()).ok();
                    if !crew.done(number) {
                        break;
                    }
                    // Far more often than it happens.
                    let me = rustix::thread::gettid().as_raw_nonzero().get() as u32;
                    if crew.listeners.load(Ordering::Acquire) == 1
                        && crew.companion.summon(me, processor_of(me))
                    {
                        break;
                    }
                }
            }
        }

        /// As the companion does, who leaves again soon.
        fn accompany(&self, crew: &Crew, number: usize) {
            while let Some(stay) = crew.companion.rest() {
                let mut left = 3;
                loop {
                    let (request, goes_on) = self.wait_for(Duration::from_millis(1));
                    let Some(request) = request else {
                        if !goes_on {
                            return crew.end();
                        }
                        if crew.is_left_by_companion() {
                            break;
                        }
                        continue;
                    };
                    crew.busy(number);
                    if let Some(until) = request.until {
                        until.recv().ok();
                    }
                    request.answer.send(()).ok();
                    if !crew.done(number) || crew.companion.was_relieved() && crew.may_rest() {
                        break;
                    }
                    left -= 1;
                    if left <= 0 && crew.is_left_by_companion() {
                        break;
                    }
                }
                crew.companion.leaves(&stay, Farewell::Quiet);
            }
        }
    }

    /// Requests that last until another was answered: if at any time nobody
    /// listened, both would wait for ever.
    #[test]
    fn somebody_always_listens() {
        const CLIENTS: u64 = 6;
        const LONG: Duration = Duration::from_secs(60);
        for round in 0..20_u64 {
            let crew = Crew::new(CLIENTS as usize + 1);
            let device = Device::default();
            std::thread::scope(|scope| {
                scope.spawn(|| crew.watch(|| device.more()));
                if round % 2 == 1 {
                    scope.spawn(|| device.accompany(&crew, CLIENTS as usize + 1));
                }
                for number in 0..=CLIENTS as usize {
                    let (crew, device) = (&crew, &device);
                    scope.spawn(move || device.serve(crew, number));
                }
                let clients: Vec<_> = (0..CLIENTS)
                    .map(|client| {
                        let device = &device;
                        scope.spawn(move || {
                            let mut random = (round * CLIENTS + client) | 1;
                            for step in 0..50 {
                                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                                let slow = (random >> 60) < 3;
                                let (go_on, until) = channel();
                                let lasting = slow.then(|| device.send(Some(until)));
                                let answered = device.send(None).recv_timeout(LONG);
                                drop(go_on);
                                let after = lasting.map(|lasting| lasting.recv_timeout(LONG));
                                if answered.is_err() || after.is_some_and(|answered| answered.is_err()) {
                                    return Err(format!("round {round}, client {client}, step {step}"));
                                }
                            }
                            Ok(())
                        })
                    })
                    .collect();
                let results: Vec<_> =
                    clients.into_iter().map(|client| client.join().expect("client")).collect();
                device.unmount();
                crew.end();
                for result in results {
                    result.expect("an answer");
                }
            });
        }
    }
}
