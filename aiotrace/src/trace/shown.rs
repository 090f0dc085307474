//! The output of a trace: which events are shown, and what happens when writing fails.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{
    event::{Body, Event},
    failure::{Context as _, Result},
    fault::Only,
    model::{Finding, Outcome, Report, Verdict},
    output::{Ended, Output},
};

/// How many lines a second a terminal gets; nobody can read more.
const LINES_PER_SECOND: u64 = 200;

/// The output of a running trace. A failure to write does not stop the trace at once.
pub struct Shown {
    /// The output that events go to.
    pub output: Box<dyn Output>,
    /// Calls are not shown.
    pub quiet: bool,
    /// Completions are shown, too.
    pub completions: bool,
    /// Limits the lines on a terminal.
    pub throttle: Option<Throttle>,
    /// Some calls come from the kernel whatever was chosen; of these, only the matching ones are
    /// shown.
    pub only: Option<Only>,
    /// Calls are shown one by one, not only as a summary.
    pub shows_calls: bool,
    /// How many calls were passed to the output.
    pub calls: u64,
    /// The error that ended the output.
    pub failed: Option<io::Error>,
}

impl Shown {
    /// Shows an event, if it is to be shown.
    pub fn event(&mut self, event: &Event) {
        if matches!(event.body, Body::Completion(_)) && !self.completions {
            return;
        }
        if let (Some(only), Body::Call(call)) = (&self.only, &event.body)
            && !only.wants(call)
        {
            return;
        }
        let is_frequent = matches!(
            event.body,
            Body::Call(_) | Body::Completion(_) | Body::Changed(_) | Body::Synchronous(_)
        );
        if self.quiet && is_frequent {
            return;
        }
        if let Some(throttle) = &mut self.throttle {
            if let Some(hidden) = throttle.hidden_before(Instant::now()) {
                self.attempt(|output| output.thinned(hidden));
            }
            if is_frequent && !self.admits() {
                return;
            }
        }
        self.calls += u64::from(matches!(event.body, Body::Call(_)));
        self.attempt(|output| output.event(event));
    }

    /// Shows a finding.
    pub fn finding(&mut self, finding: &Finding) {
        self.attempt(|output| output.finding(finding));
    }

    /// Shows a verdict on a fault.
    pub fn verdict(&mut self, verdict: &Verdict) {
        // If all goes well there are as many of these as faults, so they count as frequent lines.
        if verdict.outcome == Outcome::Retried && !self.admits() {
            return;
        }
        self.attempt(|output| output.verdict(verdict));
    }

    /// Whether another line that is one of many may be shown.
    pub fn admits(&mut self) -> bool {
        self.throttle.as_mut().is_none_or(Throttle::admit)
    }

    /// Writes out what is buffered, while nothing happens.
    pub fn pause(&mut self) {
        self.attempt(|output| output.flush());
    }

    /// Writes, unless writing has failed before.
    pub fn attempt(&mut self, write: impl FnOnce(&mut dyn Output) -> io::Result<()>) {
        if self.failed.is_none() {
            self.failed = write(self.output.as_mut()).err();
        }
    }

    /// Shows a report of what is known now.
    pub fn report(&mut self, ended: &Ended, mut report: Report) {
        if let Some(counts) = &mut report.counted {
            counts.shown = self.shows_calls.then_some(self.calls);
        }
        if let Some(hidden) = self.throttle.as_mut().and_then(Throttle::hidden) {
            self.attempt(|output| output.thinned(hidden));
        }
        self.attempt(|output| {
            output.report(ended, &report, None)?;
            output.flush()
        });
    }

    /// Whether everything could be written.
    pub fn finish(mut self) -> Result<()> {
        match self.failed.take() {
            // The reader of the output has closed it: it has seen enough.
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Some(error) => Err(error).context("cannot write the output; the trace was stopped"),
            None => Ok(()),
        }
    }
}

/// Lets a number of lines a second through (`LINES_PER_SECOND`).
pub struct Throttle {
    second: Instant,
    lines: u64,
    hidden: u64,
}

impl Throttle {
    /// Begins to count.
    pub fn new() -> Self {
        Self { second: Instant::now(), lines: 0, hidden: 0 }
    }

    /// Begins a new second, if it is time for one. Gives how many lines were hidden in the last
    /// one.
    fn hidden_before(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.second) < Duration::from_secs(1) {
            return None;
        }
        self.second = now;
        self.lines = 0;
        self.hidden()
    }

    fn hidden(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.hidden)).filter(|hidden| *hidden > 0)
    }

    fn admit(&mut self) -> bool {
        self.lines += 1;
        let admitted = self.lines <= LINES_PER_SECOND;
        self.hidden += u64::from(!admitted);
        admitted
    }
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_so_many_lines_and_a_count_of_the_rest() {
        let mut throttle = Throttle::new();
        let shown = (0..1000).filter(|_| throttle.admit()).count() as u64;
        assert_eq!(shown, LINES_PER_SECOND);
        let later = throttle.second + Duration::from_secs(1);
        assert_eq!(throttle.hidden_before(later), Some(1000 - LINES_PER_SECOND));
        assert_eq!(throttle.hidden(), None);
        assert!(throttle.admit());
    }
}
