//! Tries the points of the plan, several at a time. What is bad is tried again, alone: a busy machine makes programs
//! slow, and what cannot be repeated helps nobody.

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Settings,
    journal::{Directory, Journal, Told},
    outcome::{Outcome, judge},
    plan::{Plan, Point},
    processes::Processes,
    progress::Progress,
    reproduce,
    trial::{Done, Trial},
};
use crate::{
    failure::{Failure, Result},
    words::duration::in_words,
};

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
    /// Bad ones, to be tried again alone.
    again: Vec<(&'a Point, Outcome)>,
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
    for it in
        journal.outcomes().iter().filter(|it| wanted.iter().any(|point| point.number == it.point))
    {
        progress.add(it.outcome);
    }
    let is_told = |it: &&&Point| !journal.outcomes().iter().any(|told| told.point == it.number);
    let left: Vec<&Point> = wanted.iter().filter(is_told).copied().collect();
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
        for _ in 0..settings.jobs {
            scope.spawn(|| trials.work());
        }
    });
    loop {
        let mut shared = trials.shared();
        if let Some(failure) = shared.failure.take() {
            return Err(failure);
        }
        let Some((point, first)) = shared.again.pop() else { return Ok(()) };
        drop(shared);
        trials.keep_failure(trials.again(point, first));
    }
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
            self.keep_failure(self.once(point));
        }
    }

    fn once(&self, point: &'a Point) -> Result<()> {
        let (outcome, done) = self.trial(point)?;
        if self.processes.are_interrupted() {
            return Ok(());
        }
        if !outcome.is_bad() {
            return self.tell(point, outcome, &done, None);
        }
        if self.settings.jobs == 1 {
            return self.again(point, outcome);
        }
        self.shared().again.push((point, outcome));
        Ok(())
    }

    /// Tries a point alone, whose first run was bad.
    fn again(&self, point: &Point, first: Outcome) -> Result<()> {
        if self.processes.are_interrupted() {
            return Ok(());
        }
        let (second, done) = self.trial(point)?;
        if self.processes.are_interrupted() {
            return Ok(());
        }
        let is_busy = first == Outcome::Hung && self.settings.jobs > 1;
        if first == second || is_busy {
            return self.tell(point, second, &done, None);
        }
        let differs = format!("first {}, then {}", first.text(), second.text());
        self.tell(point, Outcome::Flaky, &done, Some(differs))
    }

    fn trial(&self, point: &Point) -> Result<(Outcome, Done)> {
        let name = format!("{:03}", point.number);
        let trial = self.named(point, &name);
        let done = trial.run(self.settings, &self.directory, self.processes)?;
        let mut outcome = judge(&done.ended, &done.observed, self.plan.baseline.usual());
        let is_unstable = self.plan.site(&point.site).is_some_and(|it| it.is_unstable);
        if outcome == Outcome::NotReached && is_unstable {
            outcome = Outcome::Flaky;
        }
        Ok((outcome, done))
    }

    fn named<'b>(&self, point: &'b Point, name: &'b str) -> Trial<'b> {
        Trial { name, rule: Some(&point.rule), timeout: Some(self.timeout) }
    }

    fn tell(
        &self,
        point: &Point,
        outcome: Outcome,
        done: &Done,
        differs: Option<String>,
    ) -> Result<()> {
        let name = format!("{:03}", point.number);
        let recording = self.named(point, &name).recording(&self.directory);
        let is_kept = outcome.is_bad() || outcome == Outcome::Flaky;
        if !is_kept {
            let _ = fs::remove_file(&recording);
        }
        let site = self.plan.site(&point.site).map(|it| it.name.clone()).unwrap_or_default();
        let told = Told {
            v: 1,
            point: point.number,
            site: point.site.clone(),
            name: site,
            fault: point.fault.clone(),
            mode: point.mode,
            outcome,
            evidence: self.evidence(done, differs),
            status: done.ended.status,
            check: done.ended.check,
            made: done.observed.made,
            duration_ms: done.took.as_millis() as u64,
            reproducer: reproduce::command(self.settings, &point.rule, self.timeout, outcome),
            log: format!("logs/{name}.log"),
            recording: is_kept.then(|| format!("recordings/{name}.aiotrace")),
        };
        self.shared().journal.tell(told)?;
        self.progress.add(outcome);
        Ok(())
    }

    /// What shows the outcome, in words.
    fn evidence(&self, done: &Done, differs: Option<String>) -> String {
        let Done { ended, observed, .. } = done;
        let mut parts: Vec<String> = differs.into_iter().chain(observed.messages.clone()).collect();
        parts.push(match ended.timed_out {
            true => format!("it did not end within {}", in_words(self.timeout.as_nanos() as u64)),
            false => format!("status {}", ended.status),
        });
        let usual = self.plan.baseline.undestroyed;
        if observed.undestroyed > usual && !ended.timed_out {
            let left = observed.undestroyed;
            parts.push(format!("contexts not destroyed: {left}, without the fault {usual}"));
        }
        parts.extend(ended.sanitizer.clone());
        let words = |passed| if passed { "check passed" } else { "check failed" }.to_owned();
        parts.extend(ended.check.map(words));
        if !observed.is_whole {
            parts.push("the trace has no end".to_owned());
        }
        parts.join("; ")
    }
}
