//! What is traced and how it is shown: the options that `attach` and `run` share.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    super::complete, host_root::HostRoot, inject::Inject, judge::Judge, parse_duration, values,
    view::View,
};
use crate::{
    fault::{Only, only_argument},
    source::{bpf, collector::Pace},
    trace,
};

/// What is traced, and how it is shown.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    view: View,
    /// Show the call stacks of io_submit, too (-v shows those of io_setup), and of all calls with --source ptrace;
    /// and the call sites
    #[arg(long)]
    stacks: bool,
    /// Fetch debug information that this machine lacks from the servers in DEBUGINFOD_URLS
    ///
    /// elfutils' debuginfod-find does it, without privilege, and with 20 s for each file and 60 s in all. Nothing is
    /// shown meanwhile.
    #[arg(hide_short_help = true, long)]
    debuginfod: bool,
    /// Write every event to this file, for `aiotrace report FILE`
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    record: Option<PathBuf>,
    /// Where events come from
    #[arg(long, value_enum, default_value_t = Source::Auto, value_name = "SOURCE")]
    source: Source,
    /// Which probes to use; `aiotrace doctor` shows which can be loaded
    #[arg(hide_short_help = true, long, value_enum, default_value_t = Probes::Auto, value_name = "SET")]
    probes: Probes,
    /// See calls that a seccomp filter answers, also with trampolines
    ///
    /// Without it, this is done only if a process of -p or --cgroup has a filter. It costs every
    /// system call of the machine some 100 ns.
    #[arg(hide_short_help = true, long)]
    denied: bool,
    /// Stop after this time (for instance 500ms, 10s, 2m)
    #[arg(short, long, allow_hyphen_values = true, value_parser = parse_duration, value_name = "TIME")]
    duration: Option<Duration>,
    /// With -c: show what was counted each TIME
    #[arg(long, allow_hyphen_values = true, value_parser = parse_duration, requires = "summary", value_name = "TIME")]
    interval: Option<Duration>,
    /// Show only some calls: error, fd=N, op=NAME[|NAME] (pread, pwrite, ...)
    ///
    /// `error`: the call fails or is short, or gives a result that is an error. With commas, calls
    /// to which all of it applies. They are chosen in the kernel: the others are only counted, and
    /// there are no findings about requests.
    #[arg(long, add = complete::only(), value_parser = only_argument, value_name = "WHAT", conflicts_with_all = CHOOSING_NEEDS_BPF)]
    only: Option<Only>,
    /// Show one in N calls of io_submit, of io_getevents and of io_pgetevents
    ///
    /// On each processor, of those that --only leaves; otherwise as --only.
    #[arg(hide_short_help = true, long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N", conflicts_with_all = CHOOSING_NEEDS_BPF)]
    sample: Option<u32>,
    /// With -c: look into the requests, too: operations, bytes, failed results, latencies
    ///
    /// A latency is the time from io_submit until io_getevents gives the result.
    #[arg(long, requires = "summary")]
    requests: bool,
    #[command(flatten)]
    pub host_root: HostRoot,
    #[command(flatten)]
    judge: Judge,
    #[command(flatten)]
    inject: Inject,
}

/// The options that need every call, so that none can be left out.
const CHOOSING_NEEDS_BPF: [&str; 4] = ["summary", "quiet", "record", "rules"];

values! {
    /// The values of `--source`.
    Source of trace::SourceKind {
        /// bpf, unless there are faults that only ptrace can make
        Auto,
        /// Probes in the kernel; they do not stop the target
        Bpf,
        /// ptrace: needs no privilege for `run`, and stops the target at each AIO call (`attach`: at each
        /// system call). Attaching makes an io_getevents return early that has some of the completions
        /// it waits for, but not all
        Ptrace,
    }
}

values! {
    /// The values of `--probes`.
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
    /// The settings that these options stand for.
    pub fn settings(self) -> trace::Settings {
        trace::Settings {
            view: self.view.settings(),
            stacks: self.stacks,
            debuginfod: self.debuginfod,
            record: self.record,
            host_root: self.host_root.path(),
            source: self.source.into(),
            probes: self.probes.into(),
            denied: self.denied,
            duration: self.duration,
            interval: self.interval.map(Pace::every),
            forgets: false,
            only: self.only,
            sample: self.sample,
            requests: self.requests,
            judged: self.judge.settings(),
            injected: self.inject.settings(),
            junit: None,
        }
    }
}
