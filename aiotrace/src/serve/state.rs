//! What the scrapes tell, between them: the counts of each label set, and what the trace says of itself. It is fed by
//! the trace, and read by the scrapes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    counters::Counters,
    label::{Label, Labels},
    series::Series,
};
use crate::{
    counted::Counted,
    event::Handle,
    model::Finding,
    output::{Start, json::ListingLine},
    source::{Losses, ProbeRuns},
    words::escape::escaped,
};

/// Most names of processes that are remembered.
const MOST_NAMES: usize = 4096;

/// Where the values come from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The probes that count; `None`: nothing is counted.
    pub probes: Option<String>,
    /// What is missing, and why.
    pub lacks: Vec<String>,
}

/// Everything that is told but not looked up at a scrape.
#[derive(Debug)]
pub struct State {
    labels: Labels,
    /// Whether each label set has histograms.
    histograms: bool,
    /// The counts of each label set.
    pub series: Series<Counters>,
    /// The durations of the calls of the whole machine, and of its requests.
    pub machine: Counters,
    names: BTreeMap<u32, String>,
    /// The label sets of processes that were counted and have not ended.
    known: BTreeMap<u32, Label>,
    before: Counted,
    /// When calls on contexts last returned, and when the trace began: nanoseconds of CLOCK_MONOTONIC.
    used: BTreeMap<(u32, Handle), u64>,
    began: u64,
    /// When the counters were last read, nanoseconds of CLOCK_MONOTONIC.
    pub counted: Option<u64>,
    /// What was lost so far.
    pub losses: Losses,
    /// What the probes cost so far, if the kernel counts it.
    pub runs: Option<ProbeRuns>,
    /// Where the values come from.
    pub source: Source,
}

/// What the list of contexts says of one label set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The charge; `None`: it is unknown for a context.
    pub charge: Option<u64>,
    /// How many contexts there are.
    pub contexts: u64,
    /// Completions that are not reaped, in rings that were read.
    pub unreaped: u64,
    /// How many rings were not.
    pub unread: u64,
    /// Requests in flight; `None`: the number is unknown for a context.
    pub in_flight: Option<u64>,
    /// How long the context was not used that was not used longest, in nanoseconds; `None`: nothing is counted.
    pub idle: Option<u64>,
}

/// The time that [`Series`] takes, of a time in nanoseconds.
fn seconds(nanos: u64) -> u64 {
    nanos / 1_000_000_000
}

impl State {
    /// Nothing is known yet.
    pub fn new(labels: Labels, most_series: usize, histograms: bool) -> Self {
        Self {
            labels,
            histograms,
            series: Series::new(most_series),
            machine: Counters::default(),
            names: BTreeMap::new(),
            known: BTreeMap::new(),
            before: Counted::default(),
            used: BTreeMap::new(),
            began: 0,
            counted: None,
            losses: Losses::default(),
            runs: None,
            source: Source::default(),
        }
    }

    /// A trace that counts has begun.
    pub fn begin(&mut self, start: &Start) {
        self.began = start.clock.start;
        self.source.probes = Some(start.probes.text().to_owned());
        self.source.lacks = start.lacks.iter().map(|it| it.to_string()).collect();
        self.counted = Some(start.clock.start);
    }

    /// Remembers the name of a process. A process that runs another program gets another label set from then on.
    pub fn name(&mut self, pid: u32, name: &[u8]) {
        let name = escaped(name);
        if self.names.get(&pid) == Some(&name) {
            return;
        }
        self.known.remove(&pid);
        if self.names.len() < MOST_NAMES || self.names.contains_key(&pid) {
            self.names.insert(pid, name);
        }
    }

    /// The label set under which a process is counted.
    fn place(&mut self, pid: u32, now: u64) -> Label {
        let label = match self.known.get(&pid) {
            Some(label) => label.clone(),
            None => {
                let label = self.labels.of(pid, self.names.get(&pid).cloned());
                self.known.insert(pid, label.clone());
                label
            }
        };
        self.series.meet(&label, seconds(now))
    }

    /// Adds what was counted since the last time.
    pub fn count(&mut self, counted: &Counted) {
        let now = counted.time;
        let since = counted.since(&self.before);
        for ((pid, call), counts) in &since.calls {
            let place = self.place(*pid, now);
            let histograms = self.histograms;
            self.series.value(&place).add_calls(*call, counts, histograms);
            self.machine.add_calls(*call, counts, true);
        }
        for ((pid, call), errors) in &since.errors {
            let place = self.place(*pid, now);
            self.series.value(&place).add_call_errors(*call, errors);
        }
        for (pid, errors) in &since.results {
            let place = self.place(*pid, now);
            self.series.value(&place).add_request_errors(errors);
        }
        for ((pid, _), counts) in &since.contexts {
            let place = self.place(*pid, now);
            let histograms = self.histograms;
            self.series.value(&place).add_context(counts, histograms);
            self.machine.add_context(counts, true);
        }
        self.used = counted.contexts.iter().map(|(key, it)| (*key, it.used)).collect();
        // All that have not ended keep their series.
        let alive: Vec<u32> = self.known.keys().copied().collect();
        for pid in alive {
            self.place(pid, now);
        }
        self.before = counted.clone();
        self.forget(&counted.gone);
        self.series.expire(seconds(now));
        self.counted = Some(now);
        self.runs = counted.runs.or(self.runs);
    }

    /// Forgets processes that have ended, of which nothing more is told: their ids may be given again.
    fn forget(&mut self, gone: &BTreeSet<u32>) {
        for pid in gone {
            self.known.remove(pid);
            self.names.remove(pid);
        }
        self.before.forget(gone);
        // A name may be of a process that was never counted.
        if self.names.len() >= MOST_NAMES {
            let known = &self.known;
            self.names.retain(|pid, _| known.contains_key(pid));
        }
    }

    /// Counts a finding.
    pub fn find(&mut self, finding: &Finding, now: u64) {
        let place = self.place(finding.pid, now);
        self.series.value(&place).add_finding(finding.name.text(), finding.severity);
    }

    /// What the list of contexts says, by label set. `now`: nanoseconds of CLOCK_MONOTONIC.
    pub fn hold(&mut self, listing: &ListingLine, now: u64) -> BTreeMap<Label, Holding> {
        let mut held: BTreeMap<Label, Holding> = BTreeMap::new();
        let add = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
        for process in &listing.processes {
            let label = self.labels.of(process.pid, Some(process.name.clone()));
            let label = self.series.meet(&label, seconds(now));
            let counts = self.counted.is_some();
            let started = Holding { charge: Some(0), in_flight: Some(0), ..Holding::default() };
            let holding = held.entry(label).or_insert(started);
            holding.contexts += process.contexts.len() as u64;
            for it in &process.contexts {
                holding.charge = add(holding.charge, it.charge.map(u64::from));
                holding.in_flight = add(holding.in_flight, it.in_flight.map(u64::from));
                holding.unreaped += it.unreaped.map_or(0, u64::from);
                holding.unread += u64::from(it.unreaped.is_none());
                let key = (process.pid, Handle(it.handle.0));
                let used = self.used.get(&key).copied().unwrap_or(0).max(self.began);
                if counts {
                    holding.idle = holding.idle.max(Some(now.saturating_sub(used)));
                }
            }
        }
        if self.counted.is_none() {
            self.series.expire(seconds(now));
        }
        held
    }
}

#[cfg(test)]
mod tests;
