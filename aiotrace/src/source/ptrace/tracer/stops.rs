//! Finds out which of many threads have stopped, without looking at all of them for each one that did: a process may
//! have thousands of threads, and stands still in the meantime.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// After this many threads that have not stopped, the others get time to stop.
const AT_ONCE: usize = 256;
/// If no thread has stopped for this time, we look whether any still can. The next look is after twice the time.
const STALL: Duration = Duration::from_millis(20);

/// Threads that were asked to stop and have not done so.
pub struct Unstopped {
    left: VecDeque<u32>,
    /// When we give up waiting for them.
    until: Instant,
    /// When the last of them stopped.
    since: Instant,
    stall: Duration,
}

impl Unstopped {
    /// Waits for these threads, in the order in which they were asked to stop: most stop in that order, too.
    pub fn new(threads: impl IntoIterator<Item = u32>, patience: Duration, now: Instant) -> Self {
        let left = threads.into_iter().collect();
        Self { left, until: now + patience, since: now, stall: STALL }
    }

    /// Asks some of the threads whether they have stopped, and returns whether any has.
    pub fn round(&mut self, now: Instant, mut has_stopped: impl FnMut(u32) -> bool) -> bool {
        let (mut any, mut missed) = (false, 0);
        for _ in 0..self.left.len() {
            let Some(tid) = self.left.pop_front() else { break };
            if has_stopped(tid) {
                any = true;
                continue;
            }
            self.left.push_back(tid);
            missed += 1;
            if missed == AT_ONCE {
                break;
            }
        }
        if any {
            self.since = now;
        }
        any
    }

    /// Whether waiting is over: all threads have stopped, the time is over, or none of the others can stop.
    pub fn is_over(&mut self, now: Instant, cannot_stop: impl FnMut(&u32) -> bool) -> bool {
        if self.left.is_empty() || now >= self.until {
            return true;
        }
        if now.duration_since(self.since) < self.stall {
            return false;
        }
        self.stall *= 2;
        self.left.iter().all(cannot_stop)
    }

    /// The threads that have not stopped.
    pub fn left(self) -> impl Iterator<Item = u32> {
        self.left.into_iter()
    }
}

/// Decides when to ask each thread by itself. `waitpid(-1)` looks at all tracees until it finds one that has stopped
/// ([`ptrace_do_wait`]), always in the same order, so the last ones wait longest. To ask for one thread costs the
/// same however many there are ([`do_wait_pid`], since Linux 5.12).
///
/// [`ptrace_do_wait`]: https://elixir.bootlin.com/linux/v6.12.117/source/kernel/exit.c#L1557
/// [`do_wait_pid`]: https://elixir.bootlin.com/linux/v6.12.117/source/kernel/exit.c#L1615
#[derive(Default)]
pub struct Crowd {
    /// How many stops are taken with `waitpid(-1)` before each thread is asked again.
    skip: u32,
}

impl Crowd {
    /// Whether to ask each of this many threads, now that one has stopped.
    pub fn is_to_be_asked(&mut self, threads: usize) -> bool {
        /// With fewer threads each wait is short.
        const MANY: usize = 128;
        let is_due = threads >= MANY && self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        is_due
    }

    /// The result of asking each thread: `stopped` of them had stopped.
    pub fn had(&mut self, stopped: usize, threads: usize) {
        if stopped * 32 < threads {
            self.skip = 16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often `count` threads are asked, and looked at in /proc, if `stuck` of them never stop.
    fn costs(count: u32, stuck: u32) -> (u32, u32) {
        let start = Instant::now();
        let mut unstopped = Unstopped::new(0..count, Duration::from_millis(500), start);
        let (mut asked, mut looks, mut now) = (0, 0, start);
        loop {
            // One thread in eight has had no time to stop yet.
            let mut early = 0;
            let any = unstopped.round(now, |tid| {
                asked += 1;
                early += 1;
                tid >= stuck && early % 8 != 0
            });
            let is_over = unstopped.is_over(now, |tid| {
                looks += 1;
                *tid < stuck
            });
            if is_over {
                break;
            }
            now += if any { Duration::ZERO } else { Duration::from_micros(200) };
        }
        assert_eq!(unstopped.left().count() as u32, stuck);
        assert!(now - start < Duration::from_millis(50), "{:?}", now - start);
        (asked, looks)
    }

    #[test]
    fn many_threads_cost_as_many_looks() {
        for count in [100, 1_000, 10_000] {
            let (asked, looks) = costs(count, 0);
            assert!(asked < 2 * count && looks == 0, "{count}: {asked}, {looks}");
            let (asked, looks) = costs(count, 10);
            assert!(asked < 2 * count + 2000 && looks == 10, "{count}: {asked}, {looks}");
            let (_, looks) = costs(count, count / 2);
            assert!(looks <= count / 2, "{count}: {looks}");
        }
    }

    #[test]
    fn a_thread_that_gets_no_processor_is_waited_for() {
        let start = Instant::now();
        let mut unstopped = Unstopped::new([7], Duration::from_millis(500), start);
        let mut looks = 0;
        let mut is_over = |ms| {
            unstopped.is_over(start + Duration::from_millis(ms), |_| {
                looks += 1;
                false
            })
        };
        assert!((0..500).all(|ms| !is_over(ms)) && is_over(500));
        assert_eq!(looks, 5, "after 20, 40, 80, 160 and 320 ms");
    }

    #[test]
    fn each_thread_is_asked_where_many_stop() {
        let mut crowd = Crowd::default();
        assert!(!crowd.is_to_be_asked(100), "few");
        assert!(crowd.is_to_be_asked(5000));
        crowd.had(4000, 5000);
        assert!(crowd.is_to_be_asked(5000));
        crowd.had(1, 5000);
        let skipped = (0..100).take_while(|_| !crowd.is_to_be_asked(5000)).count();
        assert_eq!(skipped, 16);
    }
}
