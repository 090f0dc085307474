//! What a trace looks at, and how it is shown. (A [`Plan`](super::Plan) says which processes it is
//! about.)

use std::{path::PathBuf, time::Duration};

use super::view::{Color, View};
use crate::{
    failure::{Failure, Result},
    fault::{Mechanism, Only, Rule},
    model::{Outcome, Severity, Thresholds},
    output::{Traced, clock, junit::Fails},
    source::{
        bpf::Wanted,
        collector::{Counting, Pace},
    },
};

/// What a trace looks at, and how it is shown.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How events are shown.
    pub view: View,
    /// Whether stacks of other calls than io_setup are copied, too: with ptrace of all, with BPF of io_submit.
    pub stacks: bool,
    /// Whether debug information that this machine lacks is fetched.
    pub debuginfod: bool,
    /// The recording to which all events are written.
    pub record: Option<PathBuf>,
    /// Below which directory the files of container engines are.
    pub host_root: PathBuf,
    /// Where events come from.
    pub source: SourceKind,
    /// Which probes are used.
    pub probes: Wanted,
    /// Whether calls that a seccomp filter answers are watched for, even if no target has a filter.
    pub denied: bool,
    /// The time after which the trace ends.
    pub duration: Option<Duration>,
    /// How often the counts are shown.
    pub interval: Option<Pace>,
    /// Whether ended processes are forgotten when they were told, which a trace without end needs.
    pub forgets: bool,
    /// Only these calls are shown.
    pub only: Option<Only>,
    /// One call in this many is shown.
    pub sample: Option<u32>,
    /// Whether requests are counted, too, where calls are counted.
    pub requests: bool,
    /// What is worth a finding, and what makes the trace fail.
    pub judged: Judged,
    /// The faults that are made.
    pub injected: Injected,
    /// A file for what became of the faults.
    pub junit: Option<Junit>,
}

/// A file of JUnit for what became of the faults.
#[derive(Clone, Debug)]
pub struct Junit {
    /// The file.
    pub path: PathBuf,
    /// What it says that was tested.
    pub program: String,
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

/// When something is worth a finding, and what makes a trace fail.
#[derive(Clone, Debug)]
pub struct Judged {
    /// When something is worth a finding.
    pub thresholds: Thresholds,
    /// A finding of this severity, or a worse one, makes the trace fail.
    pub fail_on: Option<Severity>,
    /// A verdict on a fault that is one of these makes the trace fail, and so does a rule that never acted.
    pub fail_on_fault: Vec<Outcome>,
    /// Whether a rule may never act without making the trace fail.
    pub allow_unfired: bool,
    /// Whether all writable memory of processes is searched for the handles of idle contexts before
    /// each report.
    pub scan: bool,
}

/// The faults that are made.
#[derive(Clone, Debug, Default)]
pub struct Injected {
    /// The rules, which say which faults to make, and when.
    pub rules: Vec<Rule>,
    /// The seed of prob=; `None`: one is chosen.
    pub seed: Option<u64>,
    /// The time after which no more faults are made.
    pub limit: Option<Duration>,
    /// Whether faults are only reported, not made.
    pub dry_run: bool,
    /// The mechanism; `None`: the best one for each rule.
    pub mechanism: Option<Mechanism>,
}

impl Settings {
    /// A trace that only counts calls and requests, and tells of them as often.
    pub fn that_counts(pace: Pace) -> Self {
        Self {
            view: View {
                output: None,
                format: Traced::Text,
                summary: true,
                quiet: true,
                verbose: false,
                timestamps: clock::Format::Relative,
                color: Color::Never,
            },
            stacks: false,
            debuginfod: false,
            record: None,
            host_root: PathBuf::from("/"),
            source: SourceKind::Bpf,
            probes: Wanted::Auto,
            denied: false,
            duration: None,
            interval: Some(pace),
            forgets: false,
            only: None,
            sample: None,
            requests: true,
            judged: Judged {
                thresholds: Thresholds::default(),
                fail_on: None,
                fail_on_fault: Vec::new(),
                allow_unfired: false,
                scan: false,
            },
            injected: Injected::default(),
            junit: None,
        }
    }

    /// Which calls are reported although calls are counted: 0 for none, N for one in N.
    pub(super) fn sample(&self) -> u32 {
        self.sample.unwrap_or(u32::from(self.only.is_some()))
    }

    /// How calls are counted in the kernel, if they are.
    pub(super) fn counting(&self) -> Option<Counting> {
        if self.sample() > 0 {
            return Some(Counting { requests: false, interval: None, forgets: false });
        }
        let needs_calls = self.record.is_some() || self.injected.is_wanted() || self.stacks;
        let counts = self.view.summary && !needs_calls && self.source != SourceKind::Ptrace;
        counts.then(|| Counting {
            requests: self.requests,
            interval: self.interval.clone(),
            forgets: self.forgets,
        })
    }

    /// Whether all that is wanted can be had together.
    ///
    /// # Errors
    /// If it cannot; the error says which options conflict.
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

impl Judged {
    /// What is a failed test case.
    pub(super) fn fails(&self) -> Fails {
        if self.fail_on_fault.is_empty() {
            return Fails { on: Fails::USUAL.into(), unfired: false };
        }
        Fails { on: self.fail_on_fault.clone(), unfired: !self.allow_unfired }
    }
}

impl Injected {
    /// Whether there are any rules.
    pub(super) fn is_wanted(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Whether the user asked for ptrace.
    pub(super) fn wants_ptrace(&self) -> bool {
        self.mechanism == Some(Mechanism::Ptrace)
    }
}
