//! When to look at something again: each interval is twice the one before, up to a limit.

use super::SECOND;

/// The longest interval.
const LONGEST: u64 = 30 * SECOND;

/// When to look at something, and when to look again.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When the next look is due.
    pub due: u64,
    /// Time from the next look to the one after it, nanoseconds.
    interval: u64,
}

impl Pace {
    /// A pace whose first look is due at that time, and the second `interval` later.
    pub fn new(due: u64, interval: u64) -> Self {
        Self { due, interval }
    }

    /// Whether a look is due.
    pub fn is_due(self, now: u64) -> bool {
        now >= self.due
    }

    /// Notes a look at this time.
    pub fn looks(&mut self, now: u64) {
        self.due = now.saturating_add(self.interval);
        self.interval = (self.interval * 2).min(LONGEST);
    }
}

/// How many looks are taken in each second, whatever the program does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    /// The second that counts.
    second: u64,
    taken: u32,
}

impl Budget {
    /// Takes one, if there were fewer than `most` in this second.
    pub fn take(&mut self, now: u64, most: u32) -> bool {
        self.take_many(now, 1, most)
    }

    /// Takes so many, if there is room for all of them.
    pub fn take_many(&mut self, now: u64, count: u32, most: u32) -> bool {
        if self.second != now / SECOND {
            *self = Self { second: now / SECOND, taken: 0 };
        }
        let taken = self.taken.saturating_add(count);
        let has_room = taken <= most;
        if has_room {
            self.taken = taken;
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_looks_are_taken_in_a_second() {
        let mut budget = Budget::default();
        let mut taken = |now| (0..10).filter(|_| budget.take(now, 4)).count();
        assert_eq!([taken(0), taken(SECOND - 1), taken(SECOND), taken(9 * SECOND)], [4, 0, 4, 4]);
    }

    #[test]
    fn looks_become_rare_and_do_not_end() {
        let mut pace = Pace::new(5 * SECOND, SECOND);
        assert!(!pace.is_due(5 * SECOND - 1) && pace.is_due(5 * SECOND));
        let mut now = 5 * SECOND;
        let intervals: Vec<u64> = std::iter::repeat_with(|| {
            pace.looks(now);
            let interval = pace.due - now;
            now = pace.due;
            interval / SECOND
        })
        .take(7)
        .collect();
        assert_eq!(intervals, [1, 2, 4, 8, 16, 30, 30]);
    }
}
