//! The baseline: the program without a fault, several times. What is not the same each time cannot be judged.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Settings, crash,
    directory::Directory,
    log::Log,
    observed::Site,
    outcome::Usual,
    processes::Processes,
    progress::Progress,
    trial::{self, Script, Trial},
};
use crate::{failure::Result, words::duration::in_words};

/// How long a run may take of which is not known how long it takes.
const LIMIT: Duration = Duration::from_secs(600);

const INTERRUPTED: &str =
    "interrupted before the first fault: there is nothing to resume, begin anew\n";

/// What the program does without a fault.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// The status with which it ends.
    pub status: i32,
    /// How long a run takes; the median.
    pub duration_ms: u64,
    /// Where it calls AIO.
    pub sites: Vec<Site>,
    /// Contexts that it does not destroy.
    pub undestroyed: u64,
    /// Calls whose site could not be found.
    pub without_site: u64,
    /// The program puts files into its AIOTRACE_SWEEP_DIR.
    pub uses_directory: bool,
    /// What sanitizers say without a fault.
    pub said: Vec<String>,
}

impl Baseline {
    /// Runs the program; or says why the sweep cannot begin.
    pub fn run(
        settings: &Settings,
        directory: &Directory,
        processes: &Processes,
        progress: &Progress,
    ) -> Result<Result<Self, String>> {
        if let Some(setup) = &settings.setup {
            let path = directory.log_path("setup");
            let log = Log::begin(&path)?;
            let script = Script { name: "--setup", text: setup, limit: settings.script_timeout };
            let ended = script.run(&[], &log, processes)?;
            log.close()?;
            if processes.are_interrupted() {
                return Ok(Err(INTERRUPTED.to_owned()));
            }
            if let Some(why) = ended.why_bad(script) {
                return Ok(Err(format!("{why}; see {}\n", path.display())));
            }
        }
        let mut runs = Vec::new();
        for number in 1..=settings.baseline_runs {
            progress.baseline(number, settings.baseline_runs);
            let name = format!("baseline-{number}");
            let timeout = settings.timeout.unwrap_or(LIMIT);
            let trial = Trial { name: &name, files: &name, rule: None, timeout };
            let done = trial.run_until_seen(settings, directory, processes)?;
            let log = directory.log_path(&name);
            let log = log.display();
            if processes.are_interrupted() {
                return Ok(Err(INTERRUPTED.to_owned()));
            }
            let why = match &done.ended {
                it if it.timed_out => Some(format!(
                    "it did not end within {} (--timeout gives it more)",
                    in_words(timeout.as_nanos() as u64)
                )),
                it if matches!(it.status, 125..=127) || !done.observed.is_whole => {
                    Some(format!("it could not be run or traced: status {}", it.status))
                }
                it if it.is_check_late => Some(trial::LATE_CHECK.to_owned()),
                it if it.check == Some(false) => Some("--check failed".to_owned()),
                _ if done.observed.unseen > 0 => {
                    Some("aiotrace did not see all of it (is the machine too busy?)".to_owned())
                }
                _ => None,
            };
            if let Some(why) = why {
                return Ok(Err(format!(
                    "the baseline failed in run {number}, without a fault: {why}; see {log}\n"
                )));
            }
            runs.push(done);
        }
        let statuses: Vec<i32> = runs.iter().map(|it| it.ended.status).collect();
        let status = statuses[0];
        if statuses.iter().any(|it| *it != status) {
            return Ok(Err(format!(
                "the baseline failed: without a fault, the runs ended with status {statuses:?}, and not alike\n"
            )));
        }
        let mut durations: Vec<Duration> = runs.iter().map(|it| it.took).collect();
        durations.sort_unstable();
        let median = durations[durations.len() / 2];
        let mut all: BTreeMap<String, (Site, usize)> = BTreeMap::new();
        for run in &runs {
            for (id, site) in &run.observed.sites {
                let (known, times) = all.entry(id.clone()).or_insert_with(|| (site.clone(), 0));
                *times += 1;
                known.hits = known.hits.max(site.hits);
                known.most_requests = known.most_requests.max(site.most_requests);
                let fewest = [known.fewest_bytes, site.fewest_bytes];
                known.fewest_bytes = fewest.into_iter().flatten().min();
                known.reads |= site.reads;
                known.writes |= site.writes;
                known.syncs |= site.syncs;
            }
        }
        let mut sites: Vec<Site> = all
            .into_values()
            .map(|(site, times)| Site { is_unstable: times < runs.len(), ..site })
            .collect();
        sites.sort_by(|a, b| {
            (order(&a.call), &a.name, &a.id).cmp(&(order(&b.call), &b.name, &b.id))
        });
        let without_site = runs.iter().map(|it| it.observed.without_site).max().unwrap_or(0);
        let undestroyed = runs.iter().map(|it| it.observed.undestroyed).max().unwrap_or(0);
        let duration_ms = median.as_millis() as u64;
        let uses_directory = runs.iter().any(|it| it.used_directory);
        let mut said = Vec::new();
        runs.iter().flat_map(|it| &it.said).for_each(|it| crash::keep(&mut said, it.clone()));
        Ok(Ok(Self { status, duration_ms, sites, undestroyed, without_site, uses_directory, said }))
    }

    /// What is so without a fault.
    pub fn usual(&self) -> Usual {
        Usual { status: self.status, undestroyed: self.undestroyed }
    }

    /// How long a run with a fault may take.
    pub fn timeout(&self, settings: &Settings) -> Duration {
        let usual = Duration::from_millis(self.duration_ms);
        let multiple = usual.saturating_mul(settings.timeout_multiplier);
        settings.timeout.unwrap_or_else(|| multiple.max(settings.minimum_timeout))
    }
}

/// In the order of a context's life.
fn order(call: &str) -> usize {
    let calls = ["io_setup", "io_submit", "io_getevents", "io_cancel", "io_destroy"];
    calls.iter().position(|it| *it == call).unwrap_or(calls.len())
}
