//! Decides whose stop is handled next: processes take turns, one stop each. The kernel reports the newest thread
//! first (`ptrace_link` puts it in front, [ptrace.c], and `ptrace_do_wait` begins there, [exit.c]), so a process that
//! makes threads without end would come before all others, and the others would stand still.
//!
//! So all stops that there are, are taken from the kernel and wait here. That comes to an end, because a stopped
//! thread makes no new ones: each thread has one stop, and perhaps its end.
//!
//! [ptrace.c]: https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/ptrace.c?h=v6.12.117#n73
//! [exit.c]: https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/exit.c?h=v6.12.117#n1561

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::super::requests::{Status, What};

/// Stops that wait to be handled.
pub struct Turns {
    /// The stops of each process, in the order in which they came.
    stops: HashMap<u32, VecDeque<(u32, Status)>>,
    /// Processes with stops that wait: the first one is next.
    order: VecDeque<u32>,
    /// How many stops each thread has here.
    of_thread: HashMap<u32, u32>,
    /// When the kernel was last asked for more stops, and how long that took.
    asked: (Instant, Duration),
}

impl Turns {
    /// No stops are waiting.
    pub fn new(now: Instant) -> Self {
        let (stops, of_thread) = (HashMap::new(), HashMap::new());
        Self { stops, order: VecDeque::new(), of_thread, asked: (now, Duration::ZERO) }
    }

    /// Adds the stop of a thread, or its end.
    pub fn add(&mut self, pid: u32, tid: u32, status: Status) {
        let stops = self.stops.entry(pid).or_default();
        if stops.is_empty() {
            self.order.push_back(pid);
        }
        stops.push_back((tid, status));
        *self.of_thread.entry(tid).or_default() += 1;
    }

    /// Takes the next stop.
    pub fn next(&mut self) -> Option<(u32, Status)> {
        loop {
            let pid = self.order.pop_front()?;
            let Some(stops) = self.stops.get_mut(&pid) else { continue };
            let Some((tid, status)) = stops.pop_front() else { continue };
            if stops.is_empty() {
                self.stops.remove(&pid);
            } else {
                self.order.push_back(pid);
            }
            if self.is_last(tid) || status.what() == What::Ended {
                return Some((tid, status));
            }
            // The thread has left this stop without us: it was killed, or another thread runs a new program under its
            // id.
        }
    }

    /// Takes one stop of a thread away, and returns whether it was its only one.
    fn is_last(&mut self, tid: u32) -> bool {
        let Some(count) = self.of_thread.get_mut(&tid) else { return true };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.of_thread.remove(&tid);
        }
        is_last
    }

    /// Whether a stop of this thread waits here.
    pub fn has(&self, tid: u32) -> bool {
        self.of_thread.contains_key(&tid)
    }

    /// Whether no stop waits here.
    pub fn are_over(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether to ask the kernel for more stops. To ask for many threads takes time, and at most half of the time is
    /// spent on it.
    pub fn want_more(&self, now: Instant) -> bool {
        let (until, took) = self.asked;
        self.are_over() || now.saturating_duration_since(until) >= took
    }

    /// Notes from when to when the kernel was asked.
    pub fn have_asked(&mut self, since: Instant, now: Instant) {
        self.asked = (now, now.saturating_duration_since(since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOPPED: Status = Status(libc::PTRACE_EVENT_STOP << 16 | libc::SIGTRAP << 8 | 0x7f);
    const EXEC: Status = Status(libc::PTRACE_EVENT_EXEC << 16 | libc::SIGTRAP << 8 | 0x7f);
    const ENDED: Status = Status(0);

    fn turns() -> Turns {
        Turns::new(Instant::now())
    }

    #[test]
    fn a_process_waits_for_one_stop_of_each_other_one() {
        let mut turns = turns();
        // Two processes make threads without end.
        (0..1000).for_each(|tid| turns.add(1, 10_000 + tid, STOPPED));
        (0..1000).for_each(|tid| turns.add(2, 20_000 + tid, STOPPED));
        for round in 0..100 {
            turns.add(3, 3, STOPPED);
            turns.add(1, 30_000 + round, STOPPED);
            let before = (0..).take_while(|_| turns.next().unwrap().0 != 3).count();
            assert!(before <= 2, "round {round}: {before}");
        }
        let left = std::iter::from_fn(|| turns.next()).count();
        assert!(left > 1000 && turns.are_over() && turns.of_thread.is_empty());
    }

    #[test]
    fn a_thread_that_was_killed_in_its_stop_has_ended() {
        let mut turns = turns();
        turns.add(1, 10, STOPPED);
        turns.add(1, 10, ENDED);
        assert_eq!((turns.next(), turns.next()), (Some((10, ENDED)), None));
    }

    #[test]
    fn a_new_program_takes_the_place_of_the_stopped_first_thread() {
        let mut turns = turns();
        turns.add(1, 1, STOPPED);
        turns.add(1, 11, ENDED);
        turns.add(1, 1, EXEC);
        assert_eq!((turns.next(), turns.next()), (Some((11, ENDED)), Some((1, EXEC))));
        // An id that is used again: the end of the first thread comes first.
        turns.add(1, 12, ENDED);
        turns.add(1, 12, STOPPED);
        assert_eq!((turns.next(), turns.next()), (Some((12, ENDED)), Some((12, STOPPED))));
    }

    #[test]
    fn half_of_the_time_is_for_the_stops() {
        let mut turns = turns();
        let (begun, ms) = (Instant::now(), Duration::from_millis(1));
        turns.add(1, 1, STOPPED);
        turns.have_asked(begun, begun + 3 * ms);
        assert!(!turns.want_more(begun + 5 * ms) && turns.want_more(begun + 6 * ms));
        turns.next();
        assert!(turns.want_more(begun + 3 * ms));
    }
}
