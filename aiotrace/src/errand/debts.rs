//! Decides which processes are left alone for a while, because aiotrace waited for them too long.
//!
//! The time that was waited is a debt: of the process, of its user, and of all processes together.
//! Debts shrink as time passes, so that processes that do not answer cost aiotrace no more than a
//! part of its time. There are two accounts. What a busy machine explains ([`super::wait`]) stands
//! in one of its own, with larger bounds, so that a healthy program on such a machine is looked at,
//! and so that nobody who makes the machine busy can hold aiotrace up without end.
//!
//! An answer pays nothing back: memory that is served just in time costs as much as memory that is
//! never served.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::wait::Owed;

/// The part of all time that somebody can make aiotrace wait, and the debt beyond which they are
/// left alone until it has shrunk.
#[derive(Clone, Copy, Debug)]
struct Bound {
    part: f64,
    most: Duration,
}

const fn bound(part: f64, most: u64) -> Bound {
    Bound { part, most: Duration::from_millis(most) }
}

/// The bounds of one process, of one user, and of all processes together.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    process: Bound,
    user: Bound,
    all: Bound,
}

/// Of waits that only the target explains.
const TARGET: Bounds =
    Bounds { process: bound(0.05, 200), user: bound(0.1, 1000), all: bound(0.2, 3000) };
/// Of waits that a busy machine explains. With those of the target it is half of the time at most.
const MACHINE: Bounds =
    Bounds { process: bound(0.25, 2000), user: bound(0.25, 3000), all: bound(0.3, 4000) };
/// The most processes and the most users that are remembered. Beyond that, those without a debt are
/// forgotten; if all have debts, all are forgotten.
const MOST: usize = 4096;

/// The debts of processes and their users.
#[derive(Debug)]
pub struct Debts {
    target: Account,
    machine: Account,
}

impl Default for Debts {
    fn default() -> Self {
        Self { target: Account::new(TARGET), machine: Account::new(MACHINE) }
    }
}

impl Debts {
    /// Whether no process has ever made a debt.
    pub fn is_new(&self) -> bool {
        self.target.all.is_none() && self.machine.all.is_none()
    }

    /// Adds what was waited for a process of a user.
    pub fn add(&mut self, pid: u32, user: u32, now: Instant, owed: Owed) {
        self.target.add(pid, user, now, owed.target);
        self.machine.add(pid, user, now, owed.machine);
    }

    /// Whether this process is to be left alone.
    pub fn is_left_alone(&self, pid: u32, user: u32, now: Instant) -> bool {
        [&self.target, &self.machine].into_iter().any(|it| it.is_left_alone(pid, user, now))
    }
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

/// The debts of one kind.
#[derive(Debug)]
struct Account {
    bounds: Bounds,
    processes: HashMap<u32, Debt>,
    users: HashMap<u32, Debt>,
    all: Option<Debt>,
}

impl Account {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, processes: HashMap::new(), users: HashMap::new(), all: None }
    }

    fn add(&mut self, pid: u32, user: u32, now: Instant, waited: Duration) {
        if waited.is_zero() {
            return;
        }
        let Bounds { process, user: of_user, all } = self.bounds;
        for (map, key, Bound { part, .. }) in
            [(&mut self.processes, pid, process), (&mut self.users, user, of_user)]
        {
            if map.len() >= MOST {
                map.retain(|_, it| !it.at(now, part).is_zero());
            }
            if map.len() >= MOST {
                map.clear();
            }
            map.insert(key, Debt::grown(map.get(&key).copied(), now, part, waited));
        }
        self.all = Some(Debt::grown(self.all, now, all.part, waited));
    }

    fn is_left_alone(&self, pid: u32, user: u32, now: Instant) -> bool {
        let owes =
            |it: Option<&Debt>, of: Bound| it.is_some_and(|it| it.at(now, of.part) > of.most);
        owes(self.processes.get(&pid), self.bounds.process)
            || owes(self.users.get(&user), self.bounds.user)
            || owes(self.all.as_ref(), self.bounds.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// What only the target explains.
    fn target(ms: u32) -> Owed {
        Owed { target: ms * MS, machine: Duration::ZERO }
    }

    /// What a busy machine explains.
    fn machine(ms: u32) -> Owed {
        Owed { target: Duration::ZERO, machine: ms * MS }
    }

    #[test]
    fn a_process_is_left_alone_for_twenty_times_as_long_as_it_let_us_wait() {
        let (mut debts, start) = (Debts::default(), Instant::now());
        assert!(debts.is_new() && !debts.is_left_alone(7, 0, start));
        debts.add(7, 0, start, target(200));
        assert!(!debts.is_left_alone(7, 0, start));
        debts.add(7, 0, start, target(50));
        assert!(debts.is_left_alone(7, 0, start + 999 * MS));
        assert!(!debts.is_left_alone(7, 0, start + 1001 * MS));
        assert!(!debts.is_left_alone(8, 0, start), "another of the user");
    }

    /// What is waited in 60 s for a process that is looked at as soon as it may be, and how many of its looks were
    /// left out. Between two looks the process does something else for a while.
    fn of_a_minute(owed: Owed, each: Duration, between: Duration) -> (Duration, u32) {
        let (mut debts, start) = (Debts::default(), Instant::now());
        let (mut now, mut waited, mut left_out) = (start, Duration::ZERO, 0);
        while now < start + 60_000 * MS {
            if debts.is_left_alone(7, 1000, now) {
                left_out += 1;
            } else {
                debts.add(7, 1000, now, owed);
                waited += each;
                now += each;
            }
            now += between;
        }
        (waited, left_out)
    }

    #[test]
    fn waits_that_a_busy_machine_explains_cost_a_healthy_program_no_look() {
        // Owed, the wait, the time between two looks: whether a look may be left out.
        let table = [
            // The target alone explains it: it may not take more than a twentieth of the time.
            (target(40), 40, 400, true),
            (target(20), 20, 400, false),
            // A disk, or a lock whose holder waits for a processor: up to a fifth of the time.
            (machine(40), 40, 400, false),
            (machine(100), 100, 400, false),
            (machine(300), 300, 1500, false),
            // Who waits for the machine all the time is looked at now and then.
            (machine(1000), 1000, 1, true),
        ];
        for (owed, each, between, expected) in table {
            let (_, left_out) = of_a_minute(owed, each * MS, between * MS);
            assert_eq!(left_out > 0, expected, "{owed:?} each {between} ms: {left_out}");
        }
    }

    #[test]
    fn nobody_can_hold_us_up_for_more_than_a_part_of_the_time_whatever_explains_it() {
        for (owed, each, bound) in [
            (target(200), 200, TARGET.process),
            (machine(20), 20, MACHINE.process),
            (machine(1000), 1000, MACHINE.process),
        ] {
            let (waited, _) = of_a_minute(owed, each * MS, MS);
            let most = (60_000 * MS).mul_f64(bound.part) + bound.most + each * MS;
            assert!(waited <= most, "{owed:?}: {waited:?}");
        }
    }

    #[test]
    fn who_makes_the_machine_busy_does_not_hold_up_the_looks_at_others() {
        let (mut debts, start) = (Debts::default(), Instant::now());
        let (mut now, mut left_out) = (start, 0);
        // 100 processes of one user make the machine busy as well as they can.
        for turn in 0..60_000 {
            let pid = turn % 100;
            if !debts.is_left_alone(pid, 1000, now) {
                debts.add(pid, 1000, now, machine(500));
                now += 500 * MS;
            }
            left_out += u32::from(debts.is_left_alone(777, 1001, now));
            now += MS;
        }
        assert_eq!(left_out, 0);
    }

    #[test]
    fn many_processes_of_a_user_cost_no_more_than_a_part_of_the_time_and_others_are_asked() {
        for (owed, each, Bounds { user, .. }) in
            [(target(200), 200 * MS, TARGET), (machine(200), 200 * MS, MACHINE)]
        {
            let (mut debts, start) = (Debts::default(), Instant::now());
            let (mut now, mut waited) = (start, Duration::ZERO);
            for pid in 0..100_000 {
                if !debts.is_left_alone(pid, 1000, now) {
                    debts.add(pid, 1000, now, owed);
                    waited += each;
                    now += each;
                }
                now += MS;
            }
            let all = (now - start).mul_f64(user.part) + user.most + each;
            assert!(waited <= all, "{waited:?} of {:?}", now - start);
            assert!(!debts.is_left_alone(200_000, 1001, now), "another user");
            assert!(debts.target.processes.len().max(debts.machine.processes.len()) <= MOST);
        }
    }

    #[test]
    fn many_users_cost_no_more_than_a_part_of_the_time() {
        for (owed, most) in [(target(200), 18), (machine(200), 40)] {
            let (mut debts, mut now) = (Debts::default(), Instant::now());
            let mut asked = 0;
            for it in 0..1000 {
                if !debts.is_left_alone(it, it, now) {
                    debts.add(it, it, now, owed);
                    asked += 1;
                }
                now += MS;
            }
            assert!(asked <= most, "{asked}");
        }
    }
}
