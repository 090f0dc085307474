//! `aiotrace sweep`: each realistic fault at each place where a program does AIO, one run for each.
//!
//! ```text
//!  baseline   runs without a fault: which call sites there are, how long a run takes, how it ends
//!     |
//!  plan       sites x faults x once and always, written down before the first fault
//!     |
//!  trial      a run of `aiotrace run --inject RULE:site=ID -- CMD`, then the check
//!     |
//!  outcome    joined from the verdict, the status and the check; into the journal at once
//!     |
//!  next       is that enough, or is another run needed?
//!     |
//!  table, outcomes.jsonl, junit.xml, index.html
//! ```
//! The sweep itself traces nobody: each trial is a process of its own, so nothing that happens in one can harm
//! another, or the sweep.

mod baseline;
mod crash;
mod directory;
mod errands;
mod evidence;
mod fault;
mod html;
mod journal;
mod junit;
mod list;
mod log;
mod next;
mod observed;
mod outcome;
mod plan;
mod processes;
mod progress;
mod reproduce;
mod summary;
mod table;
mod told;
mod trial;
mod trials;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use self::{
    baseline::Baseline, journal::Journal, plan::Plan, processes::Processes, progress::Progress,
    summary::Summary, told::Told,
};
pub use self::{errands::ERRANDS, fault::Choice, outcome::Outcome, plan::Mode};
use crate::failure::{Failure, Result};

/// What a sweep is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The faults.
    pub faults: Choice,
    /// Each fault once, always, or both.
    pub modes: Vec<Mode>,
    /// Run once before the sweep.
    pub setup: Option<String>,
    /// Run before each run of the program.
    pub reset: Option<String>,
    /// Says after each run, by its status, whether the data is right.
    pub check: Option<String>,
    /// How long each of these scripts may take.
    pub script_timeout: Duration,
    /// How long a run may take; `None`: by the baseline.
    pub timeout: Option<Duration>,
    /// By how much a run may be slower than the baseline.
    pub timeout_multiplier: u32,
    /// No run is given less than this.
    pub minimum_timeout: Duration,
    /// Runs at a time.
    pub jobs: usize,
    /// Runs without a fault.
    pub baseline_runs: usize,
    /// Which part of the plan: the first number from 1 up to the second.
    pub shard: Option<(usize, usize)>,
    /// How long the faults may take in all.
    pub budget: Option<Duration>,
    /// Only show the plan.
    pub list: bool,
    /// Go on with a sweep that was interrupted.
    pub resume: bool,
    /// Only what was bad in the last sweep.
    pub iterate: bool,
    /// Where everything is written.
    pub output: PathBuf,
    /// Outcomes as JSON lines on stdout instead of the table.
    pub json: bool,
    /// The outcomes that are bad.
    pub fail_on: Vec<Outcome>,
}

impl Settings {
    /// Whether this outcome is bad: it makes the exit status, is run again before it is told, and is kept in full.
    fn is_bad(&self, outcome: Outcome) -> bool {
        self.fail_on.contains(&outcome)
    }

    /// Whether it is shown in full: it is bad, or one of its runs was.
    fn is_shown(&self, told: &Told) -> bool {
        self.is_bad(told.outcome) || told.outcome == Outcome::Flaky && told.recording.is_some()
    }

    /// What is no outcome is in words, which are no JSON.
    fn in_words(&self, words: String, end: End) -> Report {
        if self.json {
            eprint!("{words}");
        }
        let text = if self.json { String::new() } else { words };
        Report { text, end }
    }
}

/// How a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// No outcome was bad.
    Good,
    /// Some were.
    Bad,
    /// The baseline was not as it must be.
    BaselineFailed,
    /// It was interrupted, and can be resumed.
    Interrupted,
    /// No fault was made, so nothing is known.
    Nothing,
    /// What was bad could not be made again.
    Unsettled,
}

/// What is shown at the end, and how it ended.
pub struct Report {
    /// For stdout.
    pub text: String,
    /// How it ended.
    pub end: End,
}

/// Runs a sweep.
///
/// # Errors
/// If the sweep itself could not be done.
pub fn run(settings: &Settings) -> Result<Report> {
    // Without a slash at its end.
    let settings = &Settings { output: settings.output.components().collect(), ..settings.clone() };
    let processes = Processes::start()?;
    let progress = Progress::new(settings.fail_on.clone());
    let (mut journal, mut plan) = Journal::open(settings)?;
    if plan.is_none() {
        let baseline = Baseline::run(settings, journal.directory(), &processes, &progress);
        progress.clear();
        let baseline = match baseline? {
            Ok(baseline) => baseline,
            Err(why) if processes.are_interrupted() => {
                return Ok(settings.in_words(why, End::Interrupted));
            }
            Err(why) => return Ok(settings.in_words(why, End::BaselineFailed)),
        };
        let made = Plan::make(settings, baseline)?;
        journal.begin(&made, settings)?;
        if !settings.list {
            eprintln!("aiotrace: {}", list::expected(settings, &made));
        }
        plan = Some(made);
    }
    let plan = plan.ok_or_else(|| Failure::new("there is no plan"))?;
    if settings.list {
        journal.discard()?;
    }
    if plan.points.is_empty() {
        return Ok(settings.in_words(list::why_nothing(settings, &plan), End::Nothing));
    }
    if settings.list {
        let text = match settings.json {
            true => list::json(settings, &plan)?,
            false => list::text(settings, &plan),
        };
        return Ok(Report { text, end: End::Good });
    }
    let wanted = plan.shard(settings.shard);
    let tried = trials::run(settings, &plan, &wanted, &mut journal, &processes, &progress);
    progress.end();
    tried?;
    let summary = Summary::of(settings, &plan, &journal, &wanted);
    journal.write("junit.xml", &junit::document(settings, &plan, &summary)?)?;
    let page = html::page(settings, &plan, &summary.told);
    journal.write("index.html", page.as_bytes())?;
    let text = if settings.json {
        eprint!("{}", table::open(&plan, &summary));
        told::lines::<Told, _>(&summary.told)?
    } else {
        table::text(settings, &plan, &summary)
    };
    let end = summary.end(settings, processes.are_interrupted());
    if end == End::Nothing {
        eprintln!("aiotrace: no fault was made, so this says nothing about the program");
    }
    Ok(Report { text, end })
}
