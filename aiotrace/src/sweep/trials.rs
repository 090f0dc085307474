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
    words::{duration::in_words, number::thousands},
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
    /// Those to be tried again alone.
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
    let before = plan.in_order(journal.outcomes(), wanted).iter().map(|it| it.outcome).collect();
    let each = Duration::from_millis(plan.baseline.duration_ms) / settings.jobs.max(1) as u32;
    progress.begin(wanted.len(), before, each);
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

/// Whether a run showed enough for its outcome. A busy machine hides some of what a program does.
fn is_sure(outcome: Outcome, done: &Done) -> bool {
    match outcome {
        // A program that reaps from the ring was faster, this time.
        Outcome::NotMade => false,
        Outcome::NotReached | Outcome::Recovered | Outcome::Unsure => !done.observed.is_doubtful(),
        _ => true,
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

    /// Tries those again that were bad.
    fn all_again(&self) -> Result<()> {
        loop {
            let mut shared = self.shared();
            if let Some(failure) = shared.failure.take() {
                return Err(failure);
            }
            let Some((point, first)) = shared.again.pop() else { return Ok(()) };
            drop(shared);
            self.keep_failure(self.again(point, first));
        }
    }

    fn once(&self, point: &'a Point) -> Result<()> {
        let (outcome, done) = self.trial(point)?;
        if self.processes.are_interrupted() {
            return Ok(());
        }
        if !outcome.is_bad() && is_sure(outcome, &done) {
            return self.tell(point, outcome, &done, None);
        }
        if self.settings.jobs == 1 {
            return self.again(point, outcome);
        }
        self.shared().again.push((point, outcome));
        Ok(())
    }

    /// Tries a point alone, whose first run was bad, or showed too little.
    fn again(&self, point: &Point, mut first: Outcome) -> Result<()> {
        if self.processes.are_interrupted() {
            return Ok(());
        }
        let (mut second, mut done) = self.trial(point)?;
        if !first.is_bad() && second.is_bad() && !self.processes.are_interrupted() {
            first = second;
            (second, done) = self.trial(point)?;
        }
        if self.processes.are_interrupted() {
            return Ok(());
        }
        let is_busy = first == Outcome::Hung && self.settings.jobs > 1;
        // What is not sure is no other outcome.
        for _ in 0..2 {
            if is_sure(second, &done) || self.processes.are_interrupted() {
                break;
            }
            (second, done) = self.trial(point)?;
        }
        if first == second || is_busy || !first.is_bad() {
            return self.tell(point, second, &done, None);
        }
        let differs = format!("first {}, then {}", first.text(), second.text());
        self.tell(point, Outcome::Flaky, &done, Some(differs))
    }

    fn trial(&self, point: &Point) -> Result<(Outcome, Done)> {
        let name = format!("{:03}", point.number);
        let trial = self.named(point, &name);
        let site = self.plan.site(&point.site);
        self.progress.run(point, site.map_or("", |it| it.name.as_str()));
        let done = trial.run_until_seen(self.settings, &self.directory, self.processes)?;
        let mut outcome = judge(&done.ended, &done.observed, self.plan.baseline.usual());
        let is_unstable = site.is_some_and(|it| it.is_unstable);
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
            reproducer: self.reproducer(point, outcome),
            log: format!("logs/{name}.log"),
            recording: is_kept.then(|| format!("recordings/{name}.aiotrace")),
        };
        self.shared().journal.tell(told)?;
        self.progress.add(point, outcome);
        Ok(())
    }

    fn reproducer(&self, point: &Point, outcome: Outcome) -> String {
        let uses_directory = self.plan.baseline.uses_directory;
        reproduce::command(self.settings, uses_directory, &point.rule, self.timeout, outcome)
    }

    /// What shows the outcome, in words.
    fn evidence(&self, done: &Done, differs: Option<String>) -> String {
        let Done { ended, observed, .. } = done;
        let mut parts: Vec<String> = differs.into_iter().chain(observed.messages.clone()).collect();
        if let Some(why) = observed.why.as_ref().filter(|_| observed.verdicts_of("unsure") > 0) {
            parts.push(format!("unsure: {why}"));
        }
        if observed.unseen > 0 {
            parts.push("aiotrace did not see all of it".to_owned());
        }
        if let Some(lasted) = observed.lasted() {
            let made = thousands(observed.made);
            parts.push(format!(
                "the last of {made} faults came {} after the first",
                in_words(lasted)
            ));
        }
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
