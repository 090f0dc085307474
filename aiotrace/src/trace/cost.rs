//! What a trace itself costs.

use std::time::Duration;

use nix::sys::{
    resource::{Usage, UsageWho, getrusage},
    time::TimeValLike as _,
};

use crate::{
    errand, output::Cost, proc::system::most_memory, source::ProbeRuns, words::number::thousands,
};

/// Measures the cost from the attach on.
pub struct Meter {
    before: Duration,
    record_bytes: u64,
}

impl Meter {
    /// Begins to measure.
    pub fn start() -> Self {
        let before = processor_time();
        Self { before, record_bytes: 0 }
    }

    /// Counts the bytes of a record.
    pub fn record(&mut self, record: &[u8]) {
        self.record_bytes += record.len() as u64;
    }

    /// The cost so far. `probes`: what the probes took, if that is known.
    pub fn cost(&self, probes: Option<ProbeRuns>) -> Option<Cost> {
        Some(Cost {
            cpu: (cpu(usage()?) + errand::processor_time()).saturating_sub(self.before),
            memory: most_memory()?,
            record_bytes: self.record_bytes,
            probes,
        })
    }
}

/// The processor time of this process and its helpers so far.
pub fn processor_time() -> Duration {
    usage().map_or(Duration::ZERO, cpu) + errand::processor_time()
}

/// The usage of this process, with all its threads.
fn usage() -> Option<Usage> {
    getrusage(UsageWho::RUSAGE_SELF).ok()
}

fn cpu(usage: Usage) -> Duration {
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// The cost in words, for the last line.
pub fn in_words(cost: &Cost) -> String {
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let mut text = format!(
        "took {:.2} s of CPU, {} MiB of memory",
        cost.cpu.as_secs_f64(),
        mebibytes(cost.memory)
    );
    if cost.record_bytes >= 1 << 20 {
        text.push_str(&format!(", {} MiB of records", mebibytes(cost.record_bytes)));
    }
    if let Some(ProbeRuns { count, time_ns }) = cost.probes {
        let seconds = Duration::from_nanos(time_ns).as_secs_f64();
        let each = time_ns.checked_div(count).unwrap_or(0);
        text.push_str(&format!(
            "; {} runs of probes took {seconds:.2} s, {each} ns each",
            thousands(count)
        ));
    }
    text
}
