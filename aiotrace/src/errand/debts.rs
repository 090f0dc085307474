//! Who is left alone for a while, because we waited for it in vain.
//!
//! What was waited is owed: by the process, by its user, and by all together. It is forgiven as time goes by, so that
//! no more than a part of all time is lost to those who do not answer.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The part of all time that one process, one user, and all together can make us wait.
const OF_PROCESS: f64 = 0.05;
const OF_USER: f64 = 0.1;
const OF_ALL: f64 = 0.2;
/// Whoever owes more than this is left alone until enough is forgiven.
const MOST_OF_PROCESS: Duration = Duration::from_millis(200);
const MOST_OF_USER: Duration = Duration::from_secs(1);
const MOST_OF_ALL: Duration = Duration::from_secs(3);
/// Processes and users remembered, at most: beyond, those that owe nothing any more are forgotten, and if there are
/// none, all of them.
const MOST: usize = 4096;

/// What is owed.
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

    /// More is owed.
    fn grown(before: Option<Self>, now: Instant, forgiven: f64, by: Duration) -> Self {
        Self { owed: before.map_or(Duration::ZERO, |it| it.at(now, forgiven)) + by, since: now }
    }
}

impl Debts {
    /// Nobody has ever owed anything.
    pub fn is_new(&self) -> bool {
        self.all.is_none()
    }

    /// This was waited in vain for a process of a user.
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

    /// Whether it is to be left alone.
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
