//! How far the sweep is: one line on a terminal, nothing elsewhere.

use std::{
    collections::HashSet,
    io::{IsTerminal as _, Write as _, stderr},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{outcome::Outcome, plan::Point};

/// How often the line is drawn anew, if nothing happens.
const EVERY: Duration = Duration::from_secs(1);
/// The longest line: no terminal is narrower, and a longer one would stay on the screen.
const WIDEST: usize = 79;

/// How far the sweep is.
pub struct Progress {
    is_shown: bool,
    /// The outcomes that are bad.
    bad: Vec<Outcome>,
    state: Mutex<State>,
    is_over: Condvar,
}

#[derive(Default)]
struct State {
    /// Points in all.
    all: usize,
    /// What was told, also by the sweep that is gone on with.
    outcomes: Vec<Outcome>,
    /// Of these, how many were told before.
    before: usize,
    /// How long a point takes, as far as the baseline tells.
    each: Duration,
    /// When the first point began.
    begun: Option<Instant>,
    /// Points that are run again before anything is told of them.
    suspected: HashSet<usize>,
    /// What runs now, and since when.
    now: Vec<(usize, String, Instant)>,
    is_over: bool,
}

impl Progress {
    /// Nothing was done yet. `bad`: the outcomes that are.
    pub fn new(bad: Vec<Outcome>) -> Self {
        let is_shown = stderr().is_terminal();
        Self { is_shown, bad, state: Mutex::default(), is_over: Condvar::new() }
    }

    /// A run of the baseline begins.
    pub fn baseline(&self, number: usize, all: usize) {
        if self.is_shown {
            let _ = write!(stderr(), "\r\x1b[Kbaseline {number}/{all}");
        }
    }

    /// The points begin. `before`: what was told of them already; `each`: how long one takes without a fault.
    pub fn begin(&self, all: usize, before: Vec<Outcome>, each: Duration) {
        let mut state = self.state();
        (state.all, state.before, state.each) = (all, before.len(), each);
        (state.outcomes, state.begun) = (before, Some(Instant::now()));
        self.draw(&state);
    }

    /// A run of a point begins.
    pub fn run(&self, point: &Point, name: &str) {
        let mut state = self.state();
        state.now.retain(|it| it.0 != point.number);
        let what = format!("{} {} at {name}", point.fault, point.mode.text());
        state.now.push((point.number, what, Instant::now()));
        self.draw(&state);
    }

    /// A point is run again before anything is told of it.
    pub fn suspect(&self, point: &Point) {
        let mut state = self.state();
        state.now.retain(|it| it.0 != point.number);
        state.suspected.insert(point.number);
        self.draw(&state);
    }

    /// A point has its outcome.
    pub fn add(&self, point: &Point, outcome: Outcome) {
        let mut state = self.state();
        state.suspected.remove(&point.number);
        state.now.retain(|it| it.0 != point.number);
        state.outcomes.push(outcome);
        self.draw(&state);
    }

    /// Draws the line again and again, until it is over.
    pub fn draw_until_over(&self) {
        let mut state = self.state();
        while self.is_shown && !state.is_over {
            self.draw(&state);
            let waited = self.is_over.wait_timeout(state, EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Removes the line.
    pub fn clear(&self) {
        if self.is_shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }

    /// Removes the line for good.
    pub fn end(&self) {
        self.state().is_over = true;
        self.is_over.notify_all();
        self.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, state: &State) {
        if self.is_shown && !state.is_over {
            let _ = write!(stderr(), "\r\x1b[K{}", state.line(&self.bad, Instant::now()));
        }
    }
}

impl State {
    /// `17/96  2 lost  1 hung  1 to run again  eta 3m05s  now EINTR once at io_getevents from reap (12s)`
    fn line(&self, bad: &[Outcome], now: Instant) -> String {
        let mut line = format!("{}/{}", self.outcomes.len(), self.all);
        for bad in Outcome::ALL.iter().filter(|it| bad.contains(it)) {
            let count = self.outcomes.iter().filter(|it| *it == bad).count();
            if count > 0 {
                line.push_str(&format!("  {count} {}", bad.text()));
            }
        }
        if !self.suspected.is_empty() {
            line.push_str(&format!("  {} to run again", self.suspected.len()));
        }
        line.push_str(&format!("  eta {}", left(self.left(now))));
        if let Some((_, what, since)) = self.now.first() {
            let time = format!(" ({})", left(now.duration_since(*since)));
            let room = WIDEST.saturating_sub(line.chars().count() + time.len() + "  now ".len());
            let what: String = what.chars().take(room).collect();
            line.push_str(&format!("  now {what}{time}"));
        }
        line.chars().take(WIDEST).collect()
    }

    /// How long the rest takes, as far as is known.
    fn left(&self, now: Instant) -> Duration {
        let done = self.outcomes.len() - self.before;
        let left = self.all.saturating_sub(self.outcomes.len()) as u32;
        let took = self.begun.map_or(Duration::ZERO, |it| now.duration_since(it));
        let each = match done {
            0 => self.each.saturating_sub(took / left.max(1)),
            _ => took / done as u32,
        };
        each.saturating_mul(left)
    }
}

/// `12s`, `3m05s`, `2h07m`
fn left(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_ones_and_the_time_that_is_left_are_in_the_line() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let each = Duration::from_secs(3);
        let bad = [Outcome::Hung, Outcome::Lost];
        let mut state = State { all: 5, each, begun: Some(begun), ..State::default() };
        assert_eq!(state.line(&bad, at(0)), "0/5  eta 15s", "by the baseline");
        state.outcomes = vec![Outcome::Lost, Outcome::Recovered, Outcome::Lost];
        state.before = 1;
        assert_eq!(state.line(&bad, at(4)), "3/5  2 lost  eta 4s");
        state.suspected.insert(5);
        assert_eq!(state.line(&bad, at(4)), "3/5  2 lost  1 to run again  eta 4s");
        state.suspected.clear();
        state.now.push((4, "EINTR once at io_getevents from reap".to_owned(), at(2)));
        let line = "3/5  2 lost  eta 4s  now EINTR once at io_getevents from reap (2s)";
        assert_eq!(state.line(&bad, at(4)), line);
        state.now[0].1 = "x".repeat(200);
        let line = state.line(&bad, at(4));
        assert!(line.chars().count() == WIDEST && line.ends_with("x (2s)"), "{line}");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(
            [5, 185, 7620].map(|it| left(Duration::from_secs(it))),
            ["5s", "3m05s", "2h07m"]
        );
    }
}
