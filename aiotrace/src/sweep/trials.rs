//! Tries the points of the plan, several at a time. What one run is not enough for is run again, alone.

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Settings,
    directory::Directory,
    evidence,
    journal::Journal,
    next::{Next, Seen, next},
    outcome::{Outcome, judge},
    plan::{Plan, Point},
    processes::Processes,
    progress::Progress,
    reproduce::Reproduced,
    told::{Run, Told},
    trial::Trial,
};
use crate::failure::{Failure, Result};

/// What all threads need.
struct Trials<'a> {
    settings: &'a Settings,
    plan: &'a Plan,
    directory: Directory,
    processes: &'a Processes,
    progress: &'a Progress,
    timeout: Duration,
    until: Option<Instant>,
    shared: Mutex<Shared<'a>>,
}

struct Shared<'a> {
    journal: &'a mut Journal,
    left: std::vec::IntoIter<&'a Point>,
    /// Those to be run again alone.
    again: Vec<&'a Point>,
    failure: Option<Failure>,
}

/// Tries the points that have no outcome yet.
///
/// # Errors
/// If a run could not be made, or its outcome not written down.
pub fn run(
    settings: &Settings,
    plan: &Plan,
    wanted: &[&Point],
    journal: &mut Journal,
    processes: &Processes,
    progress: &Progress,
) -> Result<()> {
    let before = plan.in_order(journal.outcomes(), wanted).iter().map(|it| it.outcome).collect();
    let each = Duration::from_millis(plan.baseline.duration_ms) / settings.jobs.max(1) as u32;
    progress.begin(wanted.len(), before, each);
    let is_open = |it: &&&Point| journal.told(it.number).is_none();
    let left: Vec<&Point> = wanted.iter().filter(is_open).copied().collect();
    let directory = journal.directory().clone();
    let trials = Trials {
        settings,
        plan,
        directory,
        processes,
        progress,
        timeout: plan.baseline.timeout(settings),
        until: settings.budget.map(|it| Instant::now() + it),
        shared: Mutex::new(Shared {
            journal,
            left: left.into_iter(),
            again: Vec::new(),
            failure: None,
        }),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| progress.draw_until_over());
        let workers: Vec<_> = (0..settings.jobs).map(|_| scope.spawn(|| trials.work())).collect();
        let joined: Vec<_> = workers.into_iter().map(|it| it.join()).collect();
        let done = if joined.iter().all(Result::is_ok) { trials.all_again() } else { Ok(()) };
        progress.end();
        joined
            .into_iter()
            .for_each(|it| it.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        done
    })
}

impl<'a> Trials<'a> {
    fn shared(&self) -> MutexGuard<'_, Shared<'a>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_failure(&self, result: Result<()>) {
        if let Err(failure) = result {
            self.shared().failure.get_or_insert(failure);
        }
    }

    /// No new run begins.
    fn is_over(&self) -> bool {
        self.processes.are_interrupted() || self.until.is_some_and(|it| Instant::now() >= it)
    }

    fn work(&self) {
        while !self.is_over() {
            let mut shared = self.shared();
            if shared.failure.is_some() {
                return;
            }
            let Some(point) = shared.left.next() else { return };
            drop(shared);
            self.keep_failure(self.first(point));
        }
    }

    /// Runs those again that one run was not enough for.
    fn all_again(&self) -> Result<()> {
        loop {
            let mut shared = self.shared();
            if let Some(failure) = shared.failure.take() {
                return Err(failure);
            }
            let Some(point) = shared.again.pop() else { return Ok(()) };
            drop(shared);
            self.keep_failure(self.settle(point));
        }
    }

    /// The first run of a point; beside others, if several are made at a time.
    fn first(&self, point: &'a Point) -> Result<()> {
        let is_alone = self.settings.jobs == 1;
        // An interrupted sweep may have made some.
        let mut runs = self.shared().journal.runs(point.number);
        if runs.is_empty() {
            let Some(run) = self.trial(point, 1, is_alone)? else { return Ok(()) };
            runs.push(run);
            if self.is_told(point, &mut runs)? {
                return Ok(());
            }
        }
        self.progress.suspect(point);
        if is_alone {
            return self.settle(point);
        }
        self.shared().again.push(point);
        Ok(())
    }

    /// Runs a point alone until it is clear what comes of it.
    fn settle(&self, point: &Point) -> Result<()> {
        let mut runs = self.shared().journal.runs(point.number);
        // The last run may have been enough, and the sweep killed before that was told.
        let seen: Vec<Seen> = runs.iter().map(Run::seen).collect();
        if let Next::Tell { outcome, run } = next(&seen, |it| self.settings.is_bad(it)) {
            return self.tell(point, outcome, run, runs);
        }
        while !self.is_over() {
            let Some(run) = self.trial(point, runs.len() + 1, true)? else { return Ok(()) };
            runs.push(run);
            if self.is_told(point, &mut runs)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tells what came of a point, if its runs are enough for that; otherwise the last one is written down.
    fn is_told(&self, point: &Point, runs: &mut Vec<Run>) -> Result<bool> {
        let seen: Vec<Seen> = runs.iter().map(Run::seen).collect();
        match next(&seen, |it| self.settings.is_bad(it)) {
            Next::Tell { outcome, run } => {
                self.tell(point, outcome, run, std::mem::take(runs))?;
                Ok(true)
            }
            Next::Again => {
                let last = runs.last().cloned();
                last.into_iter().try_for_each(|it| self.shared().journal.add(it))?;
                Ok(false)
            }
        }
    }

    /// Makes a run; `None` if it was interrupted.
    fn trial(&self, point: &Point, number: usize, is_alone: bool) -> Result<Option<Run>> {
        let name = format!("{:03}", point.number);
        let files = if number == 1 { name.clone() } else { format!("{name}-{number}") };
        let trial =
            Trial { name: &name, files: &files, rule: Some(&point.rule), timeout: self.timeout };
        self.progress.run(point, self.plan.name(point));
        let done = trial.run_until_seen(self.settings, &self.directory, self.processes)?;
        if self.processes.are_interrupted() {
            return Ok(None);
        }
        let baseline = &self.plan.baseline;
        let done = done.without_usual(&baseline.said);
        let (mut outcome, sure) = judge(&done.ended, &done.observed, baseline.usual());
        let is_unstable = self.plan.site(&point.site).is_some_and(|it| it.is_unstable);
        if outcome == Outcome::NotReached && is_unstable {
            outcome = Outcome::Flaky;
        }
        let is_bad = self.settings.is_bad(outcome);
        if !is_bad {
            let _ = fs::remove_file(trial.recording(&self.directory));
        }
        let told = Told {
            v: 1,
            point: point.number,
            site: point.site.clone(),
            name: self.plan.name(point).to_owned(),
            fault: point.fault.clone(),
            mode: point.mode,
            outcome,
            evidence: evidence::of_run(&done, baseline.undestroyed, self.timeout),
            status: done.ended.status,
            check: done.ended.check,
            made: done.observed.made,
            duration_ms: done.took.as_millis() as u64,
            reproducer: self.reproducer(point, outcome),
            log: format!("logs/{files}.log"),
            recording: is_bad.then(|| format!("recordings/{files}.aiotrace")),
        };
        Ok(Some(Run { sure, alone: is_alone, told }))
    }

    /// Tells what came of a point. The recordings of its other runs are not needed any more.
    fn tell(&self, point: &Point, outcome: Outcome, run: usize, runs: Vec<Run>) -> Result<()> {
        let shown = &runs[run];
        let mut told = shown.told.clone();
        if outcome != told.outcome {
            told.evidence = evidence::of_flaky(&runs, shown);
        }
        told.outcome = outcome;
        // A check that fails now and then is a part of the line, too.
        told.reproducer = match (outcome, shown.told.outcome) {
            (Outcome::Flaky, Outcome::Corrupt) => told.reproducer,
            _ => self.reproducer(point, outcome),
        };
        for other in runs.iter().filter_map(|it| it.told.recording.as_ref()) {
            if told.recording.as_ref() != Some(other) {
                let _ = fs::remove_file(self.directory.root().join(other));
            }
        }
        self.shared().journal.tell(told)?;
        self.progress.add(point, outcome);
        Ok(())
    }

    fn reproducer(&self, point: &Point, outcome: Outcome) -> String {
        let uses_directory = self.plan.baseline.uses_directory;
        Reproduced { settings: self.settings, uses_directory, point, timeout: self.timeout }
            .line(outcome)
    }
}
