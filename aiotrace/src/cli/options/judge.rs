//! The options that say what is worth a finding, and what makes a trace fail.

use std::time::Duration;

use clap::Args;

use super::{inject::FAULTS, parse_duration, values};
use crate::{
    model::{Outcome, Severity, Thresholds},
    trace,
};

/// When something is worth a finding.
#[derive(Debug, Args)]
#[command(next_help_heading = "Findings (aiotrace explain NAME explains each)")]
pub struct Judge {
    /// End with status 1 if there is a finding of this severity, or a worse one
    #[arg(long, value_enum, value_name = "SEVERITY")]
    fail_on: Option<FailOn>,
    /// End with status 1 if a verdict on a fault is one of these, or if a rule never acted
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "VERDICT[,VERDICT]...",
        requires = "rules",
        help_heading = FAULTS
    )]
    fail_on_fault: Vec<FailOnFault>,
    /// With --fail-on-fault: a rule that never acted is no failure
    #[arg(
        long,
        requires = "fail_on_fault",
        hide_short_help = true,
        help_heading = FAULTS
    )]
    allow_unfired: bool,
    /// request-stuck: a file request is in flight for this long
    #[arg(hide_short_help = true, long, allow_hyphen_values = true, value_parser = parse_duration, default_value = "30s", value_name = "TIME")]
    stuck_after: Duration,
    /// unreaped-completions: a completion is not reaped for this long
    #[arg(hide_short_help = true, long, allow_hyphen_values = true, value_parser = parse_duration, default_value = "10s", value_name = "TIME")]
    unreaped_after: Duration,
    /// blocking-submit: io_submit takes this long
    #[arg(hide_short_help = true, long, allow_hyphen_values = true, value_parser = parse_duration, default_value = "50ms", value_name = "TIME")]
    slow_submit: Duration,
    /// context-growth: a context that is not used for this long is idle
    #[arg(hide_short_help = true, long, allow_hyphen_values = true, value_parser = parse_duration, default_value = "10s", value_name = "TIME")]
    idle_after: Duration,
    /// context-leak: before each report, look for lost handles in all memory of the process
    ///
    /// A report is made at the end, and when SIGUSR1 asks. It looks for the handles of idle contexts in
    /// all the memory that their process can write, some 0.3 s for each GiB.
    #[arg(hide_short_help = true, long)]
    scan: bool,
    /// context-growth: this many contexts are idle while new ones are made
    #[arg(hide_short_help = true, long, default_value_t = 16, value_name = "N")]
    growth: u64,
}

values! {
    /// The values of `--fail-on`.
    FailOn of Severity {
        Error,
        Warning,
        Info,
    }
}

values! {
    /// The values of `--fail-on-fault`.
    FailOnFault of Outcome {
        /// Requests were never done, and the program did not say so
        Lost,
        /// A context was never destroyed
        Leaked,
        /// The program made no more AIO calls, or --timeout ended it
        Hung,
        /// The program crashed
        Died,
        /// Requests were never done, and the program ended with a status that is not 0
        Reported,
        /// The program ended with a status that is not 0
        Exited,
        /// aiotrace did not see enough to say
        Unsure,
        /// The trace ended first, or somebody killed the program
        Undecided,
    }
}

impl Judge {
    /// The settings that these options stand for.
    pub fn settings(self) -> trace::Judged {
        let nanos = |it: Duration| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX / 4);
        trace::Judged {
            thresholds: Thresholds {
                stuck: nanos(self.stuck_after),
                unreaped: nanos(self.unreaped_after),
                slow_submit: nanos(self.slow_submit),
                idle: nanos(self.idle_after),
                growth: self.growth,
            },
            fail_on: self.fail_on.map(Into::into),
            fail_on_fault: self.fail_on_fault.into_iter().map(Into::into).collect(),
            allow_unfired: self.allow_unfired,
            scan: self.scan,
        }
    }
}
