//! A look at the machine, shared by all scrapes within a second, and the samples that come of it.

use std::{borrow::Cow, sync::Mutex, sync::PoisonError, time::Duration};

use super::{
    counters::Counters,
    exposition::{Buckets, Exposition, Samples, Value},
    metrics,
    state::State,
};
use crate::{
    clock, errand,
    failure::{Context as _, Result},
    inventory::Inventory,
    output::json::ListingLine,
    proc,
    trace::processor_time,
};

/// For so long a list is told again instead of made anew.
const SHARED: Duration = Duration::from_secs(1);

/// Which processes are told.
pub type Wanted = Box<dyn Fn(u32) -> bool + Send>;

/// The version of aiotrace, and the commit it was built of.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// The version.
    pub version: &'static str,
    /// The commit; empty if it is not known.
    pub revision: &'static str,
}

/// All that a scrape needs.
pub struct Machine {
    lister: Mutex<Lister>,
    /// What the trace tells.
    pub state: Mutex<State>,
    version: Version,
    clock: clock::Clock,
}

struct Lister {
    inventory: Inventory,
    wanted: Wanted,
    last: Option<Look>,
}

/// A list, and when it was made.
struct Look {
    listing: ListingLine,
    at: u64,
}

/// Gives what a mutex holds, also if a thread has panicked meanwhile: each change of it is whole.
pub fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// Looks with this inventory.
    pub fn new(inventory: Inventory, wanted: Wanted, state: State, version: Version) -> Self {
        let lister = Mutex::new(Lister { inventory, wanted, last: None });
        Self { lister, state: Mutex::new(state), version, clock: clock::now() }
    }

    /// The text of a scrape. `own`: with the metrics of aiotrace as a process, which node_exporter has of itself;
    /// `refused`: how many connections were closed at once.
    ///
    /// # Errors
    /// If the machine cannot be looked at.
    pub fn scrape(&self, exposition: Exposition, own: Option<u64>) -> Result<String> {
        let mut lister = locked(&self.lister);
        let now = clock::monotonic();
        let is_fresh = |it: &Look| u128::from(now.saturating_sub(it.at)) < SHARED.as_nanos();
        if !lister.last.as_ref().is_some_and(is_fresh) {
            let mut listing = lister.inventory.glance().context("cannot list the contexts")?;
            let Lister { wanted, .. } = &*lister;
            listing.processes.retain(|it| wanted(it.pid));
            lister.last = Some(Look { listing, at: now });
        }
        let Some(look) = &lister.last else { return Ok(String::new()) };
        let mut samples = Samples::default();
        self.add_listing(&mut samples, look, &lister.inventory);
        self.add_counts(&mut samples);
        if let Some(refused) = own {
            self.add_own(&mut samples, refused);
        }
        samples.text(exposition).context("cannot write the metrics")
    }

    /// How old the counters are; `None`: nothing is counted.
    pub fn age(&self) -> Option<Duration> {
        let counted = locked(&self.state).counted?;
        Some(Duration::from_nanos(clock::monotonic().saturating_sub(counted)))
    }

    fn add_listing(&self, samples: &mut Samples, look: &Look, inventory: &Inventory) {
        let Look { listing, at } = look;
        let (by_bpf, reads_rings) = (inventory.is_by_bpf(), inventory.reads_rings());
        samples.number(metrics::AIO_NR, listing.aio_nr as f64);
        samples.number(metrics::AIO_MAX_NR, listing.aio_max_nr as f64);
        if let Some(sum) = listing.accounted {
            samples.number(metrics::UNACCOUNTED, listing.aio_nr as f64 - sum as f64);
        }
        if by_bpf {
            samples.number(metrics::UNLISTED, listing.lost);
        } else {
            samples.number(metrics::UNKNOWN_PROCESSES, listing.unknown);
        }
        let mut state = locked(&self.state);
        for (label, it) in state.hold(listing, *at) {
            let mut add = |metric, value: Option<f64>| {
                if let Some(value) = value {
                    samples.add(metric, Some(label.pairs()), [], Value::Number(value));
                }
            };
            add(metrics::CHARGE, it.charge.map(|it| it as f64));
            add(metrics::CONTEXTS, Some(it.contexts as f64));
            add(metrics::UNREAPED, reads_rings.then_some(it.unreaped as f64));
            add(metrics::UNREAD_RINGS, reads_rings.then_some(it.unread as f64));
            add(metrics::IN_FLIGHT, it.in_flight.map(|it| it as f64));
            add(metrics::OLDEST_IDLE, it.idle.map(|it| it as f64 / 1e9));
        }
        samples.number(metrics::SERIES_DROPPED, state.series.refused() as f64);
        let mut read = |tier: &'static str, at: u64| {
            let value = Value::Number(self.wall(at));
            samples.add(metrics::LAST_READ, None, [tier.into()], value);
        };
        read("list", *at);
        state.counted.into_iter().for_each(|at| read("count", at));
        let source = &state.source;
        let tier = if source.probes.is_some() { "count" } else { "list" };
        let probes = match &source.probes {
            Some(probes) => probes.clone(),
            None if by_bpf => "none".to_owned(),
            None => "none: /proc".to_owned(),
        };
        let values = [tier.into(), Cow::from(probes), Cow::from(source.lacks.join("; "))];
        samples.add(metrics::SOURCE, None, values, Value::Count(1));
    }

    fn add_counts(&self, samples: &mut Samples) {
        let state = locked(&self.state);
        if state.source.probes.is_none() {
            return;
        }
        for (label, counters) in state.series.all() {
            add_counters(samples, &label.pairs(), counters);
        }
        for (call, durations) in &state.machine.call_durations {
            let value = Value::Durations(Buckets::from(durations));
            samples.add(metrics::CALL_DURATION, None, [(*call).into()], value);
        }
        for (op, durations) in &state.machine.request_durations {
            let value = Value::Durations(Buckets::from(durations));
            samples.add(metrics::REQUEST_DURATION, None, [op.clone()], value);
        }
        for (count, cause, _) in state.losses.by_cause().filter(|it| it.1 != "unanswered") {
            samples.add(metrics::LOST, None, [cause.into()], Value::Count(count));
        }
        if let Some(runs) = state.runs {
            samples.add(metrics::PROBE_RUNS, None, [], Value::Count(runs.count));
            let seconds = runs.time_ns as f64 / 1e9;
            samples.add(metrics::PROBE_SECONDS, None, [], Value::Number(seconds));
        }
        let unanswered = Value::Count(errand::unanswered());
        samples.add(metrics::LOST, None, ["unanswered".into()], unanswered);
    }

    fn add_own(&self, samples: &mut Samples, refused: u64) {
        let Version { version, revision } = self.version;
        samples.add(metrics::BUILD, None, [version.into(), revision.into()], Value::Count(1));
        samples.add(metrics::REFUSED, None, [], Value::Count(refused));
        samples.add(metrics::CPU, None, [], Value::Number(processor_time().as_secs_f64()));
        if let Some(bytes) = proc::system::memory_now() {
            samples.number(metrics::MEMORY, bytes as f64);
        }
        samples.number(metrics::STARTED, self.wall(self.clock.start));
    }

    /// Seconds since 1970, of a time in nanoseconds of CLOCK_MONOTONIC. (The offset is that of now: the wall clock may
    /// have been set.)
    fn wall(&self, at: u64) -> f64 {
        let offset = clock::now().to_wall;
        (at as i64).saturating_add(offset) as f64 / 1e9
    }
}

fn add_counters(samples: &mut Samples, pairs: &[super::label::Pair], counters: &Counters) {
    let of = || Some(pairs.to_vec());
    for (call, count) in &counters.calls {
        samples.add(metrics::CALLS, of(), [(*call).into()], Value::Count(*count));
    }
    for ((call, errno), count) in &counters.call_errors {
        let values = [(*call).into(), errno.clone()];
        samples.add(metrics::CALL_ERRORS, of(), values, Value::Count(*count));
    }
    for (op, count) in &counters.requests {
        samples.add(metrics::REQUESTS, of(), [op.clone()], Value::Count(*count));
    }
    for (op, count) in &counters.bytes {
        samples.add(metrics::REQUEST_BYTES, of(), [op.clone()], Value::Count(*count));
    }
    for (errno, count) in &counters.request_errors {
        samples.add(metrics::REQUEST_ERRORS, of(), [errno.clone()], Value::Count(*count));
    }
    for ((name, severity), count) in &counters.findings {
        let values = [(*name).into(), (*severity).into()];
        samples.add(metrics::FINDINGS, of(), values, Value::Count(*count));
    }
    for (call, durations) in &counters.call_durations {
        let value = Value::Durations(Buckets::from(durations));
        samples.add(metrics::PROCESS_CALL_DURATION, of(), [(*call).into()], value);
    }
    for (op, durations) in &counters.request_durations {
        let value = Value::Durations(Buckets::from(durations));
        samples.add(metrics::PROCESS_REQUEST_DURATION, of(), [op.clone()], value);
    }
}
