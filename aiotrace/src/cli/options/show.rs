//! What is traced, and how it is told: what `attach` and `run` share.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{inject::Inject, judge::Judge, parse_duration, values, view::View};
use crate::{
    fault::{Only, only_argument},
    source::bpf,
    trace,
};

/// What is traced, and how it is told.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    view: View,
    /// Look where io_submit is called, too: the functions in progress (for io_setup, -v shows them)
    #[arg(long)]
    stacks: bool,
    /// Write down all that is seen, for `aiotrace report FILE`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Where events come from
    #[arg(long, value_enum, default_value_t = Source::Auto, value_name = "SOURCE")]
    source: Source,
    /// Which probes to use; `aiotrace doctor` tells what can be had
    #[arg(long, value_enum, default_value_t = Probes::Auto, value_name = "SET")]
    probes: Probes,
    /// See calls that a seccomp filter answers, also with trampolines. (Without it they are looked for
    /// if a process of -p or --cgroup has a filter.) Costs every system call of the machine some 100 ns
    #[arg(long)]
    denied: bool,
    /// Stop after this time (for instance 500ms, 10s, 2m)
    #[arg(short, long, allow_hyphen_values = true, value_parser = parse_duration, value_name = "TIME")]
    duration: Option<Duration>,
    /// With -c: show what was counted each TIME
    #[arg(long, allow_hyphen_values = true, value_parser = parse_duration, requires = "summary", value_name = "TIME")]
    interval: Option<Duration>,
    /// Show only some calls: op=NAME[|NAME] (pread, pwrite, ...), fd=N, error (the call fails or is short, or
    /// gives a result that is an error); with commas, all of it. Chosen in the kernel; what is not shown is
    /// counted, and findings about requests are not made
    #[arg(long, value_parser = only_argument, value_name = "WHAT", conflicts_with_all = CHOOSING_NEEDS_BPF)]
    only: Option<Only>,
    /// Show one io_submit in N, one io_getevents and one io_pgetevents (of those that --only leaves), on each
    /// processor; otherwise as --only
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N", conflicts_with_all = CHOOSING_NEEDS_BPF)]
    sample: Option<u32>,
    /// With -c: look into the requests, too: operations, bytes, results that are errors, and latencies, from
    /// io_submit until io_getevents gives the result
    #[arg(long, requires = "summary")]
    requests: bool,
    #[command(flatten)]
    judge: Judge,
    #[command(flatten)]
    inject: Inject,
}

/// With which options calls cannot be left out.
const CHOOSING_NEEDS_BPF: [&str; 4] = ["summary", "quiet", "record", "rules"];

values! {
    /// `--source`
    Source of trace::SourceKind {
        /// bpf, unless there are faults that only ptrace can make
        Auto,
        /// Probes in the kernel; they do not stop the target
        Bpf,
        /// ptrace: needs no privilege for `run`, and stops the target at each AIO call (`attach`: at each
        /// system call)
        Ptrace,
    }
}

values! {
    /// `--probes`
    Probes of bpf::Wanted {
        /// The best that can be loaded, piece by piece
        Auto,
        /// Trampolines (fentry, fexit), or fail
        Trampoline,
        /// Tracepoints of all system calls, and nothing else
        Syscall,
        /// kprobes, which are never preempted, or fail
        Kprobe,
    }
}

impl Show {
    /// What they say.
    pub fn settings(self) -> trace::Settings {
        trace::Settings {
            view: self.view.settings(),
            stacks: self.stacks,
            record: self.record,
            source: self.source.into(),
            probes: self.probes.into(),
            denied: self.denied,
            duration: self.duration,
            interval: self.interval,
            only: self.only,
            sample: self.sample,
            requests: self.requests,
            judged: self.judge.settings(),
            injected: self.inject.settings(),
        }
    }
}
