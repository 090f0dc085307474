//! When something is looked at: twice as long from each look to the next, up to a limit.

use super::SECOND;

/// From one look to the next, never longer than this.
const LONGEST: u64 = 30 * SECOND;

/// When to look at something.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Not before this time.
    pub due: u64,
    /// From the next look to the one after it, nanoseconds.
    interval: u64,
}

impl Pace {
    /// The first look is due then, and `interval` later the second.
    pub fn new(due: u64, interval: u64) -> Self {
        Self { due, interval }
    }

    /// Whether a look is due.
    pub fn is_due(self, now: u64) -> bool {
        now >= self.due
    }

    /// It is looked at now.
    pub fn looks(&mut self, now: u64) {
        self.due = now.saturating_add(self.interval);
        self.interval = (self.interval * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
