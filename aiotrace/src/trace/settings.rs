//! What a trace looks at, and how it is told. (Which processes it is of, says a [`Plan`](super::Plan).)

use std::{path::PathBuf, time::Duration};

use super::view::View;
use crate::{
    failure::{Failure, Result},
    fault::{Mechanism, Only, Rule},
    model::{Outcome, Severity, Thresholds},
    source::{bpf::Wanted, collector::Counting},
};

/// What a trace looks at, and how it is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How events are shown.
    pub view: View,
    /// Stacks of io_submit are taken, too.
    pub stacks: bool,
    /// Where all that is seen is written down.
    pub record: Option<PathBuf>,
    /// Where events come from.
    pub source: SourceKind,
    /// Which probes are used.
    pub probes: Wanted,
    /// Calls that a seccomp filter answers are looked for in any case.
    pub denied: bool,
    /// The trace ends after this time.
    pub duration: Option<Duration>,
    /// What was counted is shown each time that so much has passed.
    pub interval: Option<Duration>,
    /// Only these calls are shown.
    pub only: Option<Only>,
    /// One call in so many is shown.
    pub sample: Option<u32>,
    /// Where calls are counted, their requests are, too.
    pub requests: bool,
    /// What is concluded.
    pub judged: Judged,
    /// The faults that are made.
    pub injected: Injected,
}

/// Where events come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceKind {
    /// Probes, unless there are faults that only ptrace can make.
    #[default]
    Auto,
    /// Probes in the kernel.
    Bpf,
    /// ptrace.
    Ptrace,
}

/// From when on something is worth a finding, and what makes a trace fail.
#[derive(Clone, Debug)]
pub struct Judged {
    /// From when on something is worth a finding.
    pub thresholds: Thresholds,
    /// A finding of this severity, or a worse one, makes the trace fail.
    pub fail_on: Option<Severity>,
    /// A verdict on a fault that is one of these makes the trace fail, and so does a rule that never acted.
    pub fail_on_fault: Vec<Outcome>,
    /// A rule that never acted does not.
    pub allow_unfired: bool,
    /// All the memory of a process is searched for the handles of idle contexts, before each report.
    pub scan: bool,
}

/// The faults that are made.
#[derive(Clone, Debug, Default)]
pub struct Injected {
    /// What they are, and when.
    pub rules: Vec<Rule>,
    /// What chance depends on; `None`: one is chosen.
    pub seed: Option<u64>,
    /// No more faults after this time.
    pub limit: Option<Duration>,
    /// They are only told.
    pub dry_run: bool,
    /// By what they are made; `None`: by the best for each rule.
    pub mechanism: Option<Mechanism>,
}

impl Settings {
    /// Which calls are told although they are counted; 0: none, N: one in so many.
    pub(super) fn sample(&self) -> u32 {
        self.sample.unwrap_or(u32::from(self.only.is_some()))
    }

    /// How calls are counted in the kernel, if they are.
    pub(super) fn counting(&self) -> Option<Counting> {
        if self.sample() > 0 {
            return Some(Counting { requests: false, interval: None });
        }
        let needs_calls = self.record.is_some() || self.injected.is_wanted() || self.stacks;
        let counts = self.view.summary && !needs_calls && self.source != SourceKind::Ptrace;
        counts.then_some(Counting { requests: self.requests, interval: self.interval })
    }

    /// Whether all that is wanted can be had together.
    ///
    /// # Errors
    /// What cannot.
    pub(super) fn check(&self) -> Result<()> {
        if self.sample() > 0 && self.source == SourceKind::Ptrace {
            let text = "--only and --sample choose in the kernel, not with ptrace";
            return Err(Failure::new(text).with_hint("leave out --source ptrace"));
        }
        if (self.requests || self.interval.is_some()) && self.counting().is_none() {
            let text = "--requests and --interval need calls counted in the kernel";
            let hint = "leave out --record, --inject, --stacks and --source ptrace";
            return Err(Failure::new(text).with_hint(hint));
        }
        Ok(())
    }
}

impl Injected {
    /// Whether there are any.
    pub(super) fn is_wanted(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Whether ptrace is asked for.
    pub(super) fn wants_ptrace(&self) -> bool {
        self.mechanism == Some(Mechanism::Ptrace)
    }
}
