//! How long requests take, as histograms.

use crate::counted::histogram::{Fineness, Histogram};

/// Durations in nanoseconds. Percentiles are exact to 6 %, the longest duration is exact.
#[derive(Clone, Debug)]
pub struct Durations {
    histogram: Histogram,
    /// Some of the durations are upper bounds.
    at_most: bool,
}

impl Default for Durations {
    fn default() -> Self {
        Self { histogram: Histogram::new(Fineness::Sixteenths), at_most: false }
    }
}

/// A histogram in three numbers, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// Half of the durations are no longer.
    pub p50: u64,
    /// One in a hundred is longer.
    pub p99: u64,
    /// None is longer.
    pub max: u64,
    /// All of these numbers are upper bounds.
    pub at_most: bool,
}

impl Durations {
    /// Adds a duration; `is_bound`: it is an upper bound.
    pub fn record(&mut self, nanos: u64, is_bound: bool) {
        self.at_most |= is_bound;
        self.histogram.record(nanos);
    }

    /// Adds the durations of another histogram.
    pub fn add(&mut self, other: &Self) {
        self.at_most |= other.at_most;
        self.histogram.add(&other.histogram);
    }

    /// The percentiles; `None` if there are no durations.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let of = &self.histogram;
        (of.count() > 0).then(|| Percentiles {
            p50: of.quantile(0.5),
            p99: of.quantile(0.99),
            max: of.most(),
            at_most: self.at_most,
        })
    }
}

/// The three parts of a request's life.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// From the entry of io_submit to its return, for each request of the call.
    pub submit: Durations,
    /// From the entry of io_submit to the completion (in the syscall set: to when it was seen).
    pub complete: Durations,
    /// From the completion until it was reaped.
    pub reap: Durations,
}

impl Latency {
    /// Adds the latencies of other requests.
    pub fn add(&mut self, other: &Self) {
        self.submit.add(&other.submit);
        self.complete.add(&other.complete);
        self.reap.add(&other.reap);
    }
}
