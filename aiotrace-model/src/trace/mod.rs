//! What a trace is: how it begins and ends, what it lost, and what it cost.

mod losses;
mod named;
mod probes;
mod who;

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    losses::{Losses, ProbeRuns},
    named::{Probes, Reason},
    probes::{By, ProbeSet, Refused},
    who::{Container, Pod, Who, is_id},
};
use crate::bounded;

/// When the trace began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Nanoseconds of CLOCK_MONOTONIC, the clock of event times.
    pub start: u64,
    /// What to add to CLOCK_MONOTONIC to get nanoseconds since 1970 UTC.
    pub to_wall: i64,
    /// What to add to CLOCK_MONOTONIC to get CLOCK_BOOTTIME, the clock of the starts of processes: the time that the
    /// machine has slept, in nanoseconds.
    pub to_boot: i64,
}

/// The machine of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The architecture, as Rust names it: `x86_64`, `aarch64`.
    #[serde(deserialize_with = "bounded::text")]
    pub arch: Cow<'static, str>,
    /// The size of a page, in bytes.
    pub page_size: u64,
    /// The release of the kernel, if it is known.
    #[serde(deserialize_with = "bounded::known_text")]
    pub kernel: Option<String>,
    /// The name of the host (in a container, that of the container), if it is known.
    #[serde(deserialize_with = "bounded::known_text")]
    pub host: Option<String>,
    /// The number of this run of the machine (`/proc/sys/kernel/random/boot_id`), if it is known.
    #[serde(deserialize_with = "bounded::known_text")]
    pub boot_id: Option<String>,
}

/// How a trace begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// When it began, and how event times relate to wall time.
    pub clock: Clock,
    /// Where.
    pub machine: Machine,
    /// The source: ptrace, or a set of probes.
    pub probes: Probes,
    /// What this probe set cannot see.
    #[serde(deserialize_with = "bounded::texts")]
    pub lacks: Vec<Cow<'static, str>>,
    /// The faults that the user asked for.
    pub faults: Option<Faults>,
}

/// The faults of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// The seed on which chance depends.
    pub seed: u64,
    /// The faults are only reported, not made.
    pub dry_run: bool,
    /// The rules, in the order in which they are tried.
    #[serde(deserialize_with = "bounded::few")]
    pub rules: Vec<FaultRule>,
}

/// A fault rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRule {
    /// The rule as it was written.
    #[serde(deserialize_with = "bounded::rule")]
    pub text: String,
    /// The name of the mechanism by which it acts.
    #[serde(deserialize_with = "bounded::text")]
    pub mechanism: Cow<'static, str>,
}

/// The end of a trace, or its state when a report is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The time, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Events that reached us.
    pub events: u64,
    /// Records that did not reach us.
    pub losses: Losses,
    /// How long the probes were attached.
    pub attached: Duration,
    /// Why the trace ended, or why there is a report before its end.
    pub reason: Reason,
    /// What the trace cost; unknown if it did not end.
    pub cost: Option<Cost>,
}

/// What a trace cost, from the attach to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Processor time of aiotrace, without its probes.
    pub cpu: Duration,
    /// The most memory that it had, in bytes (`ru_maxrss`; with the ring buffer, which is mapped twice).
    pub memory: u64,
    /// Bytes of records that came from the probes, or from the ptrace loop.
    pub record_bytes: u64,
    /// The cost of the probes, if the kernel counts it (`sysctl kernel.bpf_stats_enabled=1`).
    pub probes: Option<ProbeRuns>,
}
