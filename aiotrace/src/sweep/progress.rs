//! How far the sweep is: one line on a terminal, nothing elsewhere.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::outcome::Outcome;
use crate::words::duration::in_words;

/// How far the sweep is.
pub struct Progress {
    all: usize,
    is_shown: bool,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was told in this run of the sweep, and in all.
    outcomes: Vec<Outcome>,
    before: Option<usize>,
}

impl Progress {
    /// Of so many points.
    pub fn new(all: usize) -> Self {
        let is_shown = stderr().is_terminal();
        Self { all, is_shown, begun: Instant::now(), state: Mutex::default() }
    }

    /// Another point has its outcome.
    pub fn add(&self, outcome: Outcome) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // What was told in the same moment was told by a sweep before.
        if self.begun.elapsed() < Duration::from_millis(1) {
            *state.before.get_or_insert(0) += 1;
        }
        state.outcomes.push(outcome);
        if self.is_shown {
            let line =
                line(self.all, &state.outcomes, state.before.unwrap_or(0), self.begun.elapsed());
            let _ = write!(stderr(), "\r\x1b[K{line}");
        }
    }

    /// Removes the line.
    pub fn clear(&self) {
        if self.is_shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

/// `17/96  2 lost  1 hung  eta 3m`
fn line(all: usize, outcomes: &[Outcome], before: usize, took: Duration) -> String {
    let mut line = format!("{}/{all}", outcomes.len());
    for bad in Outcome::BAD {
        let count = outcomes.iter().filter(|it| **it == bad).count();
        if count > 0 {
            line.push_str(&format!("  {count} {}", bad.text()));
        }
    }
    let (done, left) =
        (outcomes.len() - before.min(outcomes.len()), all.saturating_sub(outcomes.len()));
    if done > 0 {
        let each = took / done as u32;
        line.push_str(&format!("  eta {}", in_words((each * left as u32).as_nanos() as u64)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_ones_and_the_time_that_is_left_are_in_the_line() {
        let told = [Outcome::Lost, Outcome::Recovered, Outcome::Lost];
        let shown = line(5, &told, 1, Duration::from_secs(4));
        assert_eq!(shown, "3/5  2 lost  eta 4.00s");
    }
}
