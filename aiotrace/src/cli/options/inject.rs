//! The options that say which faults to make.

use std::time::Duration;

use clap::Args;

use super::{super::complete, parse_duration, values};
use crate::{
    fault::{self, Rule},
    trace,
};

/// The heading of the options about faults.
pub const FAULTS: &str = "Faults (aiotrace-faults(7) has all conditions)";

/// The faults to make.
#[derive(Debug, Args)]
#[command(next_help_heading = FAULTS)]
pub struct Inject {
    /// Make calls or completions fail, for instance io_submit:error=EAGAIN:when=3
    ///
    /// Others: io_submit:error=EAGAIN:when=3+10 (the third, and each tenth after it),
    /// io_submit:accept=1 (it takes one request only), complete:res=EIO:op=pread:prob=1%. May be
    /// given up to 16 times. A verdict on each fault says what the program made of it.
    #[arg(long = "inject", value_name = "RULE", value_parser = fault::argument, add = complete::rule())]
    rules: Vec<Rule>,
    /// What prob= depends on: the same seed and the same calls have the same faults
    ///
    /// Without it, one is chosen and shown.
    #[arg(hide_short_help = true, long, value_name = "N", requires = "rules")]
    seed: Option<u64>,
    /// No more faults after this time (for instance 500ms, 10s, 2m)
    #[arg(long = "for", value_name = "TIME", allow_hyphen_values = true, value_parser = parse_duration, requires = "rules")]
    limit: Option<Duration>,
    /// Show which faults would be made, and make none
    #[arg(long, requires = "rules")]
    dry_run: bool,
    /// Make faults by this mechanism, instead of the best for each rule
    ///
    /// `aiotrace doctor` shows what this machine allows.
    #[arg(hide_short_help = true, long, value_enum, value_name = "NAME", requires = "rules")]
    mechanism: Option<Mechanism>,
}

values! {
    #[value(rename_all = "snake_case")]
    Mechanism of fault::Mechanism {
        /// BPF in the place of the system call (Linux 7.1, or CONFIG_FUNCTION_ERROR_INJECTION)
        FmodRet,
        /// A kprobe that overrides the system call (CONFIG_BPF_KPROBE_OVERRIDE)
        Override,
        /// BPF in the place of security_file_permission: requests that read or write
        FilePermission,
        /// BPF that writes into the events that io_getevents returns (no lockdown)
        WriteUser,
        /// ptrace: all faults, on any kernel, also without privilege; slower
        Ptrace,
    }
}

impl Inject {
    /// The settings that these options stand for.
    pub fn settings(self) -> trace::Injected {
        let Self { rules, seed, limit, dry_run, mechanism } = self;
        trace::Injected { rules, seed, limit, dry_run, mechanism: mechanism.map(Into::into) }
    }
}
