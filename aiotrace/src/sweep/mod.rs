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
//!  table, outcomes.jsonl, junit.xml, index.html
//! ```
//! The sweep itself traces nobody: each trial is a process of its own, so nothing that happens in one can harm
//! another, or the sweep.

mod baseline;
mod errands;
mod fault;
mod html;
mod journal;
mod junit;
mod list;
mod log;
mod observed;
mod outcome;
mod plan;
mod processes;
mod progress;
mod reproduce;
mod table;
mod trial;
mod trials;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use self::{
    baseline::Baseline, journal::Journal, plan::Plan, processes::Processes, progress::Progress,
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
    let processes = Processes::start()?;
    let progress = Progress::new();
    let (mut journal, mut plan) = Journal::open(settings)?;
    if plan.is_none() {
        let baseline = Baseline::run(settings, journal.directory(), &processes, &progress);
        progress.clear();
        let baseline = match baseline? {
            Ok(baseline) => baseline,
            Err(why) if processes.are_interrupted() => {
                return Ok(Report { text: why, end: End::Interrupted });
            }
            Err(why) => return Ok(Report { text: why, end: End::BaselineFailed }),
        };
        let made = Plan::make(settings, baseline);
        journal.write_plan(&made)?;
        eprintln!("aiotrace: {}", list::expected(settings, &made));
        plan = Some(made);
    }
    let plan = plan.ok_or_else(|| Failure::new("there is no plan"))?;
    if plan.points.is_empty() {
        return Ok(Report { text: list::why_nothing(settings, &plan), end: End::Nothing });
    }
    if settings.list {
        return Ok(Report { text: list::text(settings, &plan), end: End::Good });
    }
    let wanted = plan.shard(settings.shard);
    let tried = trials::run(settings, &plan, &wanted, &mut journal, &processes, &progress);
    progress.end();
    tried?;
    let told: Vec<_> = plan.in_order(journal.outcomes(), &wanted);
    journal.write("junit.xml", &junit::document(&plan, &told)?)?;
    journal.write("index.html", html::page(&plan, &told).as_bytes())?;
    let text = if settings.json {
        journal::lines(&told)?
    } else {
        table::text(settings, &plan, &told, &wanted)
    };
    let is_bad = told.iter().any(|it| settings.fail_on.contains(&it.outcome));
    let is_nothing = !wanted.is_empty() && told.iter().all(|it| it.made == 0);
    let end = match (processes.are_interrupted(), is_bad, is_nothing) {
        (true, ..) => End::Interrupted,
        (_, true, _) => End::Bad,
        (_, _, true) => End::Nothing,
        (false, false, false) => End::Good,
    };
    if end == End::Nothing {
        eprintln!("aiotrace: no fault was made, so this says nothing about the program");
    }
    Ok(Report { text, end })
}
