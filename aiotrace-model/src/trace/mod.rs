//! What a trace is: how it begins and ends, what it lost, and what it cost.

mod losses;
mod named;
mod probes;

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    losses::{Losses, ProbeRuns},
    named::{Probes, Reason},
    probes::{By, ProbeSet, Refused},
};
use crate::bounded;

/// When the trace began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Nanoseconds of CLOCK_MONOTONIC, the clock of event times.
    pub start: u64,
    /// What to add to CLOCK_MONOTONIC to get nanoseconds since 1970 UTC.
    pub to_wall: i64,
}

/// How a trace begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// When it began, and how event times relate to wall time.
    pub clock: Clock,
    /// What sees the calls.
    pub probes: Probes,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Events that reached us.
    pub events: u64,
    /// What did not.
    pub losses: Losses,
    /// How long the probes were attached.
    pub attached: Duration,
    /// Why, or why it is told how it stands.
    pub reason: Reason,
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
