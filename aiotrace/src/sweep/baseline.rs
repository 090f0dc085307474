//! The baseline: the program without a fault, several times. What is not the same each time cannot be judged.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Settings,
    journal::Directory,
    observed::Site,
    outcome::Usual,
    processes::Processes,
    trial::{self, Trial},
};
use crate::failure::Result;

/// What the program does without a fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
}

impl Baseline {
    /// Runs the program; or says why the sweep cannot begin.
    pub fn run(
        settings: &Settings,
        directory: &Directory,
        processes: &Processes,
    ) -> Result<Result<Self, String>> {
        if let Some(setup) = &settings.setup {
            let status = trial::script(setup, &[], directory.log("setup")?, None, processes)?;
            if status != 0 {
                let log = directory.log_path("setup");
                return Ok(Err(format!(
                    "--setup ended with status {status}: see {}\n",
                    log.display()
                )));
            }
        }
        let mut runs = Vec::new();
        for number in 1..=settings.baseline_runs {
            let name = format!("baseline-{number}");
            let trial = Trial { name: &name, rule: None, timeout: settings.timeout };
            let done = trial.run(settings, directory, processes)?;
            let log = directory.log_path(&name);
            let log = log.display();
            if processes.are_interrupted() {
                return Ok(Err("interrupted in the baseline\n".to_owned()));
            }
            let why = match &done.ended {
                it if it.timed_out => Some("it did not end in time".to_owned()),
                it if matches!(it.status, 125..=127) || !done.observed.is_whole => {
                    Some(format!("it could not be run or traced: status {}", it.status))
                }
                it if it.check == Some(false) => Some("--check failed".to_owned()),
                _ if done.observed.lost_records > 0 => Some("records were lost".to_owned()),
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
        if sites.is_empty() {
            return Ok(Err(
                "the baseline failed: the program made no AIO call (io_setup, io_submit, io_getevents ...) whose place \
                 in it could be found\n"
                    .to_owned(),
            ));
        }
        let without_site = runs.iter().map(|it| it.observed.without_site).max().unwrap_or(0);
        let undestroyed = runs.iter().map(|it| it.observed.undestroyed).max().unwrap_or(0);
        let duration_ms = median.as_millis() as u64;
        Ok(Ok(Self { status, duration_ms, sites, undestroyed, without_site }))
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
