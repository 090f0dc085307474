//! How long requests take, as histograms.

use hdrhistogram::Histogram;

/// Durations, nanoseconds. Percentiles are exact to 5 %, the longest exactly.
#[derive(Clone, Debug)]
pub struct Durations {
    histogram: Histogram<u32>,
    longest: u64,
    /// Some are only known not to be longer.
    at_most: bool,
}

impl Default for Durations {
    fn default() -> Self {
        // One digit, growing as needed: 2 KiB at most.
        #[expect(clippy::expect_used, reason = "constant and valid arguments")]
        let histogram = Histogram::new(1).expect("1 is a valid precision");
        Self { histogram, longest: 0, at_most: false }
    }
}

/// A histogram in three numbers, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// Half took no longer.
    pub p50: u64,
    /// One in a hundred took longer.
    pub p99: u64,
    /// None took longer.
    pub max: u64,
    /// All of these are bounds: it took so long, or less.
    pub at_most: bool,
}

impl Durations {
    /// One more, which took so long, or, if that is a bound, at most so long.
    pub fn record(&mut self, nanos: u64, is_bound: bool) {
        self.at_most |= is_bound;
        self.longest = self.longest.max(nanos);
        // It grows as needed, so this cannot fail.
        let _ = self.histogram.record(nanos);
    }

    /// All of the other one.
    pub fn add(&mut self, other: &Self) {
        self.longest = self.longest.max(other.longest);
        self.at_most |= other.at_most;
        // Both grow as needed, so adding cannot fail.
        let _ = self.histogram.add(&other.histogram);
    }

    /// `None` if there is none.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let of = |quantile| self.histogram.value_at_quantile(quantile).min(self.longest);
        (!self.histogram.is_empty()).then(|| Percentiles {
            p50: of(0.5),
            p99: of(0.99),
            max: self.longest,
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
    /// From then until it was reaped.
    pub reap: Durations,
}

impl Latency {
    /// All of the other one.
    pub fn add(&mut self, other: &Self) {
        self.submit.add(&other.submit);
        self.complete.add(&other.complete);
        self.reap.add(&other.reap);
    }
}
