//! Makes a [`Snapshot`] of what the kernel counted in an interval and of the list of contexts at its
//! end. No call is told one by one: what is open all day on a busy machine must cost little.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use super::snapshot::{ByOwner, FindingRow, Flags, Identity, Numbers, Own, Row, Snapshot};
use crate::{
    clock,
    counted::Counted,
    errand::{Errand as _, Started},
    event::{Body, Change, Event, Handle},
    inventory::Inventory,
    model::{Finding, Report},
    output::{
        Ended, Output, Rows, Start,
        json::{ListedContext, ListedProcess, ListingLine},
    },
    proc,
    source::collector::Pace,
    trace::{Cgroup, processor_time},
    words::escape::escaped,
};

/// Most findings kept.
const MOST_FINDINGS: usize = 256;
/// Most names of processes that are remembered.
const MOST_NAMES: usize = 4096;
/// Most of a processor that may be taken, in percent; otherwise the interval gets longer.
const MOST_CPU: f64 = 1.0;
/// The interval is never made longer than this.
const LONGEST: Duration = Duration::from_secs(60);

/// Takes the snapshots. If it fails, the trace ends.
pub trait Sink {
    /// Takes a snapshot.
    ///
    /// # Errors
    /// If nothing more is wanted (`BrokenPipe`), or it cannot be shown.
    fn take(&mut self, snapshot: Snapshot) -> io::Result<()>;

    /// Whether anything more is wanted.
    ///
    /// # Errors
    /// `BrokenPipe` if not.
    fn check(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which processes of the list are shown.
pub enum Watched {
    /// All of them.
    All,
    /// These.
    Processes(BTreeSet<u32>),
    /// Those in a cgroup.
    Cgroup(Cgroup),
}

impl Watched {
    fn pids(&self) -> Option<BTreeSet<u32>> {
        match self {
            Self::All => None,
            Self::Processes(pids) => Some(pids.clone()),
            Self::Cgroup(it) => Some(it.processes().into_iter().collect()),
        }
    }
}

/// Gathers what is shown.
pub struct Gatherer<S> {
    sink: S,
    inventory: Inventory,
    watched: Watched,
    pace: Pace,
    asked: Duration,
    source: String,
    /// When the trace began, and when the last interval ended.
    began: u64,
    last: u64,
    before: Counted,
    names: BTreeMap<u32, String>,
    /// When the processes began that are shown.
    started: BTreeMap<u32, u64>,
    findings: Findings,
    lost: u64,
    cost: Cost,
}

#[derive(Default)]
struct Findings {
    list: Vec<FindingRow>,
    more: u64,
}

/// What looking costs.
struct Cost {
    cpu: Duration,
    at: Instant,
    /// The kernel measures the probes as long as this is open.
    stats: Option<OwnedFd>,
    each_call: Option<u64>,
}

impl<S: Sink> Gatherer<S> {
    /// Gathers, as often as `pace` says.
    pub fn new(sink: S, inventory: Inventory, watched: Watched, pace: Pace) -> Self {
        let began = clock::monotonic();
        Self {
            sink,
            inventory,
            watched,
            asked: pace.interval(),
            pace,
            source: String::new(),
            began,
            last: began,
            before: Counted::default(),
            names: BTreeMap::new(),
            started: BTreeMap::new(),
            findings: Findings::default(),
            lost: 0,
            cost: Cost { cpu: processor_time(), at: Instant::now(), stats: None, each_call: None },
        }
    }

    /// Looks at the machine without anything that was counted.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn look(&mut self, source: &str) -> io::Result<()> {
        source.clone_into(&mut self.source);
        let counted = Counted { time: clock::monotonic(), ..Counted::default() };
        self.interval(&counted, None)
    }

    /// The sink.
    pub fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    fn interval(&mut self, counted: &Counted, since: Option<&Counted>) -> io::Result<()> {
        let listing = self.inventory.glance().ok();
        let length = counted.time.saturating_sub(self.last);
        self.last = counted.time;
        let (now, all) = (since.map(ByOwner::of).unwrap_or_default(), ByOwner::of(counted));
        let calls = since.map_or(0, Counted::total);
        let mut rows = Listing::of(listing.as_ref(), self.watched.pids());
        rows.count(&now, &all);
        if since.is_some() {
            rows.idle(counted, self.began);
        }
        self.name(&mut rows);
        let Listing { mut processes, mut contexts, .. } = rows;
        self.findings.flag(&mut processes, &mut contexts);
        let own = self.own(since.is_some(), counted, calls);
        let snapshot = Snapshot {
            time: counted.time,
            length,
            since: counted.time.saturating_sub(self.began),
            every: nanos(self.pace.interval()),
            asked: nanos(self.asked),
            limit: listing.as_ref().map(|it| (it.aio_nr, it.aio_max_nr)),
            calls,
            source: self.source.clone(),
            lost: self.lost,
            own: Some(own),
            processes: processes.into_values().collect(),
            contexts: contexts.into_values().collect(),
            descriptors: None,
            findings: self.findings.list.clone(),
            more_findings: self.findings.more,
            counted: since.is_some(),
        };
        self.sink.take(snapshot)
    }

    /// Puts in the names and starts of processes. Those of processes that are not shown any more are
    /// forgotten, as their ids may be given again.
    fn name(&mut self, rows: &mut Listing) {
        let names = &mut self.names;
        let mut kept = BTreeMap::new();
        for (pid, row) in &mut rows.processes {
            if row.name.is_empty() {
                let name = || match pid {
                    0 => "(others)".to_owned(),
                    _ => proc::name(*pid).map_or_else(|| "?".to_owned(), |it| escaped(&it)),
                };
                row.name = names.get(pid).cloned().unwrap_or_else(name);
            }
            let known = self.started.get(pid).copied();
            let start = || Started { pid: *pid }.ask().flatten().unwrap_or(0);
            let start = if *pid == 0 { 0 } else { known.unwrap_or_else(start) };
            kept.insert(*pid, start);
            row.id = Identity::Process(*pid, start);
        }
        for ((pid, handle), row) in &mut rows.contexts {
            if let Some(process) = rows.processes.get(pid) {
                row.name.clone_from(&process.name);
                row.unit.clone_from(&process.unit);
            }
            row.id = Identity::Context(*pid, kept.get(pid).copied().unwrap_or(0), *handle);
        }
        // A name is needed once more after the end of its process, for what it did before.
        if names.len() >= MOST_NAMES {
            names.retain(|pid, _| kept.contains_key(pid));
        }
        self.started = kept;
    }

    /// What looking cost in this interval. If that is too much, the interval gets longer.
    fn own(&mut self, is_counted: bool, counted: &Counted, calls: u64) -> Own {
        let (cpu, at) = (processor_time(), Instant::now());
        let took = cpu.saturating_sub(self.cost.cpu).as_secs_f64();
        let part = took * 100.0 / at.duration_since(self.cost.at).as_secs_f64().max(1e-3);
        // To begin costs more.
        if self.before.time > 0 || !is_counted {
            let every = self.pace.interval();
            if part > MOST_CPU {
                self.pace.set((every * 2).min(LONGEST.max(self.asked)));
            } else if part < MOST_CPU / 4.0 {
                self.pace.set((every / 2).max(self.asked));
            }
        }
        if let (Some(runs), true) = (counted.runs, calls > 0)
            && self.cost.stats.take().is_some()
        {
            self.cost.each_call = Some(runs.time_ns / calls);
        }
        (self.cost.cpu, self.cost.at) = (cpu, at);
        let memory = proc::system::memory_now().unwrap_or(0);
        Own { cpu: part, memory, each_call: self.cost.each_call }
    }
}

fn nanos(it: Duration) -> u64 {
    u64::try_from(it.as_nanos()).unwrap_or(u64::MAX)
}

/// The rows that are put together.
struct Listing {
    /// There is a list, and it is whole: who is not in it has no context.
    is_whole: bool,
    processes: BTreeMap<u32, Row>,
    contexts: BTreeMap<(u32, Handle), Row>,
}

impl Listing {
    fn of(listing: Option<&ListingLine>, watched: Option<BTreeSet<u32>>) -> Self {
        let is_whole = listing.is_some_and(|it| it.source == "bpf" && it.lost == 0);
        let mut rows = Self { is_whole, processes: BTreeMap::new(), contexts: BTreeMap::new() };
        let all = listing.into_iter().flat_map(|it| &it.processes);
        for process in all.filter(|it| watched.as_ref().is_none_or(|pids| pids.contains(&it.pid))) {
            for context in &process.contexts {
                let handle = Handle(context.handle.0);
                rows.contexts.insert((process.pid, handle), context_row(process.pid, context));
            }
            rows.processes.insert(process.pid, process_row(process));
        }
        rows
    }

    /// Puts in what was counted, also of processes and contexts that have ended.
    fn count(&mut self, now: &ByOwner, all: &ByOwner) {
        let (is_whole, nothing) = (self.is_whole, Numbers::default());
        let gone = |mut row: Row| {
            let zero = is_whole.then_some(0);
            (row.contexts, row.charge, row.in_flight, row.unreaped) = (zero, zero, zero, zero);
            row
        };
        for (pid, numbers) in &now.processes {
            let id = Identity::Process(*pid, 0);
            let row = self.processes.entry(*pid);
            row.or_insert_with(|| gone(Row::new(id, *pid, ""))).now = numbers.clone();
        }
        for (key @ (pid, handle), numbers) in now.contexts.iter().filter(|it| it.0.0 != 0) {
            let new = || {
                let mut row = gone(Row::new(Identity::Context(*pid, 0, *handle), *pid, ""));
                row.what = format!("{:#x} ended", handle.0);
                row
            };
            self.contexts.entry(*key).or_insert_with(new).now = numbers.clone();
        }
        for (pid, row) in &mut self.processes {
            row.all = all.processes.get(pid).unwrap_or(&nothing).clone();
        }
        for (key, row) in &mut self.contexts {
            row.all = all.contexts.get(key).unwrap_or(&nothing).clone();
        }
    }

    /// Puts in how long contexts were not used.
    fn idle(&mut self, counted: &Counted, began: u64) {
        for (key, row) in &mut self.contexts {
            let used = counted.contexts.get(key).map_or(0, |it| it.used);
            row.idle = Some(counted.time.saturating_sub(used.max(began)));
            row.idle_at_least = used < began;
            let Some(process) = self.processes.get_mut(&key.0) else { continue };
            if process.idle < row.idle {
                (process.idle, process.idle_at_least) = (row.idle, row.idle_at_least);
            }
        }
    }
}

fn process_row(it: &ListedProcess) -> Row {
    let mut row = Row::new(Identity::Process(it.pid, 0), it.pid, it.name.clone());
    let last = it.cgroup.as_deref().and_then(|it| it.rsplit('/').find(|it| !it.is_empty()));
    row.unit = it.who.clone().or_else(|| last.map(str::to_owned));
    row.contexts = Some(it.contexts.len() as u64);
    (row.charge, row.in_flight, row.unreaped) = (it.charge, it.in_flight, it.unreaped);
    row
}

fn context_row(pid: u32, it: &ListedContext) -> Row {
    let mut row = Row::new(Identity::Context(pid, 0, Handle(it.handle.0)), pid, "");
    row.what = format!("{:#x}", it.handle.0);
    row.contexts = Some(1);
    row.charge = it.charge.map(u64::from);
    row.in_flight = it.in_flight.map(u64::from);
    row.unreaped = it.unreaped.map(u64::from);
    row
}

impl Findings {
    fn add(&mut self, it: &Finding) {
        if self.list.len() >= MOST_FINDINGS {
            self.more += 1;
            return;
        }
        let place = self.list.len() as u64;
        self.list.push(FindingRow::of(it, place));
    }

    fn flag(
        &self,
        processes: &mut BTreeMap<u32, Row>,
        contexts: &mut BTreeMap<(u32, Handle), Row>,
    ) {
        for it in &self.list {
            let flag = |flags: &mut Flags| flags.count(it.severity);
            if let Some(row) = processes.get_mut(&it.pid) {
                flag(&mut row.flags);
            }
            if let Some(row) = it.context.and_then(|handle| contexts.get_mut(&(it.pid, handle))) {
                flag(&mut row.flags);
            }
        }
    }
}

impl<S: Sink> Output for Gatherer<S> {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        (self.began, self.last) = (start.clock.start, start.clock.start);
        self.source = format!("{} probes", start.probes.text());
        // It is an error on kernels before 5.8, and without the right to do it; then the cost is not
        // known.
        self.cost.stats = aya::sys::enable_stats(aya::sys::Stats::RunTime).ok();
        (self.cost.cpu, self.cost.at) = (processor_time(), Instant::now());
        Ok(())
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match &event.body {
            Body::Process(process) => {
                let mut keep = |pid| {
                    if self.names.len() < MOST_NAMES || self.names.contains_key(&pid) {
                        self.names.insert(pid, escaped(&process.name));
                    }
                };
                if let Change::Fork { child, .. } = process.change {
                    keep(child);
                }
                keep(event.pid);
            }
            Body::Lost { records } => self.lost += (*records).max(1),
            _ => (),
        }
        Ok(())
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.findings.add(finding);
        Ok(())
    }

    fn counted(&mut self, counted: &Counted) -> io::Result<()> {
        if !counted.ends_interval {
            return Ok(());
        }
        let since = counted.since(&self.before);
        self.interval(counted, Some(&since))?;
        self.before = counted.clone();
        Ok(())
    }

    fn report(&mut self, _: &Ended, _: &Report, _: Option<&Rows>) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.check()
    }
}

#[cfg(test)]
mod tests;
