//! How events are shown. Outputs write to any [`std::io::Write`] and know neither the source nor
//! the terminal.

pub mod clock;
pub mod counted;
pub mod json;
mod lines;
pub mod paths;
mod report;
pub mod summary;
pub mod text;

use std::{borrow::Cow, io, time::Duration};

pub use crate::words::escape;
use serde::{Deserialize, Serialize};

use crate::{
    bounded,
    counted::Counted,
    event::Event,
    model::{Finding, Report, Verdict},
    output::clock::Clock,
    source::{Losses, ProbeRuns},
};

/// Something that shows events.
pub trait Output {
    /// The trace begins.
    ///
    /// # Errors
    /// Those of the writer; so for all methods.
    fn start(&mut self, start: &Start) -> io::Result<()>;
    /// Something happened.
    ///
    /// # Errors
    /// Those of the writer.
    fn event(&mut self, event: &Event) -> io::Result<()>;
    /// Something was concluded.
    ///
    /// # Errors
    /// Those of the writer.
    fn finding(&mut self, finding: &Finding) -> io::Result<()>;
    /// Calls were counted in the kernel: all until now.
    ///
    /// # Errors
    /// Those of the writer.
    fn counted(&mut self, counted: &Counted) -> io::Result<()>;
    /// It is known what a program made of a fault.
    ///
    /// # Errors
    /// Those of the writer.
    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()>;
    /// Events were not shown, because a terminal cannot show so many.
    ///
    /// # Errors
    /// Those of the writer.
    fn thinned(&mut self, hidden: u64) -> io::Result<()>;
    /// What is known now: when the trace is over, or when somebody asks.
    ///
    /// # Errors
    /// Those of the writer.
    fn report(&mut self, end: &Ended, report: &Report) -> io::Result<()>;
    /// Let everything be seen that was written so far.
    ///
    /// # Errors
    /// Those of the writer.
    fn flush(&mut self) -> io::Result<()>;
}

/// How a trace begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// When it began, and how event times relate to wall time.
    pub clock: Clock,
    /// Name of the probe set.
    #[serde(deserialize_with = "bounded::text")]
    pub probes: Cow<'static, str>,
    /// What this probe set cannot see.
    #[serde(deserialize_with = "bounded::texts")]
    pub lacks: Vec<Cow<'static, str>>,
    /// The faults that were asked for.
    pub faults: Option<Faults>,
}

/// The faults of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// What chance depends on.
    pub seed: u64,
    /// They are only told, not made.
    pub dry_run: bool,
    /// In the order in which they are asked.
    #[serde(deserialize_with = "bounded::few")]
    pub rules: Vec<FaultRule>,
}

/// A fault rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRule {
    /// As it was written.
    #[serde(deserialize_with = "bounded::rule")]
    pub text: String,
    /// By what it acts: the name of a mechanism.
    #[serde(deserialize_with = "bounded::text")]
    pub mechanism: Cow<'static, str>,
}

/// How a trace ended, or stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// When, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Events that reached us.
    pub events: u64,
    /// What did not.
    pub losses: Losses,
    /// How long the probes were attached.
    pub attached: Duration,
    /// `targets_gone`, `time_over`, `signal`, `output_closed`; `asked`: it goes on; `recording_ends`.
    #[serde(deserialize_with = "bounded::text")]
    pub reason: Cow<'static, str>,
    /// What the trace cost; not known when it did not end.
    pub cost: Option<Cost>,
}

/// What a trace cost, from the attach to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Time that aiotrace took of the processors, without its probes.
    pub cpu: Duration,
    /// Most memory it had, bytes (`ru_maxrss`; with the ring buffer, which is mapped twice).
    pub memory: u64,
    /// Bytes of records that came from the probes, or from the ptrace loop.
    pub record_bytes: u64,
    /// What the probes took, if the kernel kept count (`sysctl kernel.bpf_stats_enabled=1`).
    pub probes: Option<ProbeRuns>,
}
