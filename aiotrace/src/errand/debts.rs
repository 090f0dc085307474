//! Decides which processes are left alone for a while, because aiotrace waited for them in vain.
//!
//! The time that was waited is a debt: of the process, of its user, and of all processes together.
//! Debts shrink as time passes, so that processes that do not answer cost aiotrace no more than a
//! part of its time.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The part of all time that one process, one user, and all processes together can make aiotrace
/// wait.
const OF_PROCESS: f64 = 0.05;
const OF_USER: f64 = 0.1;
const OF_ALL: f64 = 0.2;
/// A process, a user, or all processes together that owe more than this are left alone until the
/// debt has shrunk.
const MOST_OF_PROCESS: Duration = Duration::from_millis(200);
const MOST_OF_USER: Duration = Duration::from_secs(1);
const MOST_OF_ALL: Duration = Duration::from_secs(3);
/// The most processes and the most users that are remembered. Beyond that, those without a debt are
/// forgotten; if all have debts, all are forgotten.
const MOST: usize = 4096;

/// The debts of processes and their users.
#[derive(Debug, Default)]
pub struct Debts {
    processes: HashMap<u32, Debt>,
    users: HashMap<u32, Debt>,
    all: Option<Debt>,
}

#[derive(Clone, Copy, Debug)]
struct Debt {
    owed: Duration,
    since: Instant,
}

impl Debt {
    fn at(self, now: Instant, forgiven: f64) -> Duration {
        self.owed.saturating_sub(now.saturating_duration_since(self.since).mul_f64(forgiven))
    }

    /// The debt after it has grown.
    fn grown(before: Option<Self>, now: Instant, forgiven: f64, by: Duration) -> Self {
        Self { owed: before.map_or(Duration::ZERO, |it| it.at(now, forgiven)) + by, since: now }
    }
}

impl Debts {
    /// Whether no process has ever made a debt.
    pub fn is_new(&self) -> bool {
        self.all.is_none()
    }

    /// Adds the time that was waited in vain for a process of a user.
    pub fn add(&mut self, pid: u32, user: u32, now: Instant, waited: Duration) {
        for (map, key, part) in
            [(&mut self.processes, pid, OF_PROCESS), (&mut self.users, user, OF_USER)]
        {
            if map.len() >= MOST {
                map.retain(|_, it| !it.at(now, part).is_zero());
            }
            if map.len() >= MOST {
                map.clear();
            }
            map.insert(key, Debt::grown(map.get(&key).copied(), now, part, waited));
        }
        self.all = Some(Debt::grown(self.all, now, OF_ALL, waited));
    }

    /// Whether this process is to be left alone.
    pub fn is_left_alone(&self, pid: u32, user: u32, now: Instant) -> bool {
        let owes = |it: Option<&Debt>, part, most| it.is_some_and(|it| it.at(now, part) > most);
        owes(self.processes.get(&pid), OF_PROCESS, MOST_OF_PROCESS)
            || owes(self.users.get(&user), OF_USER, MOST_OF_USER)
            || owes(self.all.as_ref(), OF_ALL, MOST_OF_ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_process_is_left_alone_for_twenty_times_as_long_as_it_let_us_wait() {
        let (mut debts, start) = (Debts::default(), Instant::now());
        assert!(debts.is_new() && !debts.is_left_alone(7, 0, start));
        debts.add(7, 0, start, 200 * MS);
        assert!(!debts.is_left_alone(7, 0, start));
        debts.add(7, 0, start, 50 * MS);
        assert!(debts.is_left_alone(7, 0, start + 999 * MS));
        assert!(!debts.is_left_alone(7, 0, start + 1001 * MS));
        assert!(!debts.is_left_alone(8, 0, start), "another of the user");
    }

    #[test]
    fn many_processes_of_a_user_cost_no_more_than_a_part_of_the_time_and_others_are_asked() {
        let (mut debts, start) = (Debts::default(), Instant::now());
        let (mut now, mut waited) = (start, Duration::ZERO);
        for pid in 0..100_000 {
            if !debts.is_left_alone(pid, 1000, now) {
                debts.add(pid, 1000, now, 200 * MS);
                waited += 200 * MS;
                now += 200 * MS;
            }
            now += MS;
        }
        let all = (now - start).mul_f64(OF_USER) + MOST_OF_USER + 200 * MS;
        assert!(waited <= all, "{waited:?} of {:?}", now - start);
        assert!(!debts.is_left_alone(200_000, 1001, now), "another user");
        assert!(debts.processes.len() <= MOST);
    }

    #[test]
    fn many_users_cost_no_more_than_a_part_of_the_time() {
        let (mut debts, mut now) = (Debts::default(), Instant::now());
        let mut asked = 0;
        for it in 0..1000 {
            if !debts.is_left_alone(it, it, now) {
                debts.add(it, it, now, 200 * MS);
                asked += 1;
            }
            now += MS;
        }
        assert!(asked <= 18, "{asked}");
    }
}
