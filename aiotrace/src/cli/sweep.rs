//! `aiotrace sweep`: each realistic fault at each place where a program does AIO.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{options::parse_duration, print};
use crate::{
    failure::Result,
    sweep::{self, Choice, End, Mode, Outcome},
};

/// Try each realistic fault at each place where a program does AIO, and show the outcomes in a table
///
/// Each fault has a run of its own. Exit status 0 if nothing was bad, 1 if something was, 2 if the
/// sweep could not be done or made no fault, 3 if the program is not the same without faults, 4 if
/// it was interrupted (--resume goes on).
#[derive(Debug, Args)]
pub struct Options {
    /// default, all (also what sandboxes do, no memory, and late answers), or names of faults, as
    /// --list shows them
    #[arg(long, value_name = "default|all|LIST", default_value = "default", value_parser = Choice::parse)]
    faults: Choice,
    /// How often each fault is made in a run: at the first call from its site, at each call, or a
    /// run for each of the two
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "once,always",
        value_name = "MODE[,MODE]"
    )]
    mode: Vec<ModeOption>,
    /// Run this shell command once, before the sweep
    #[arg(long, value_name = "COMMAND")]
    setup: Option<String>,
    /// Run this shell command before each run of the program
    #[arg(long, value_name = "COMMAND")]
    reset: Option<String>,
    /// Run this shell command after each run: status 0 says that the data is right. It, --reset and
    /// the program have AIOTRACE_SWEEP_DIR, a directory that is fresh for each run, in their
    /// environment, also AIOTRACE_SWEEP_RUN and AIOTRACE_SWEEP_FAULT; the check has
    /// AIOTRACE_SWEEP_STATUS, too
    #[arg(long, value_name = "COMMAND")]
    check: Option<String>,
    /// How long --setup, --reset and --check may take, each time
    #[arg(long, allow_hyphen_values = true, value_parser = parse_duration, default_value = "10m", value_name = "TIME")]
    script_timeout: Duration,
    /// How long a run may take, instead of a multiple of what the baseline took (and of 10 minutes
    /// for each run of the baseline)
    #[arg(long, allow_hyphen_values = true, value_parser = parse_duration, value_name = "TIME")]
    timeout: Option<Duration>,
    /// A run may take this many times as long as without a fault
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    timeout_multiplier: u32,
    /// A run may take so long in any case, unless --timeout is given
    #[arg(long, allow_hyphen_values = true, value_parser = parse_duration, default_value = "20s", value_name = "TIME")]
    minimum_timeout: Duration,
    /// Runs at a time, which must share no files. What is bad is run again alone
    #[arg(short, long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Runs without a fault, before the first one
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    baseline_runs: u16,
    /// Only this part of the plan, for instance 1/4, 2/4, 3/4 and 4/4 on four machines. Each point
    /// is in one part, on whatever machine
    #[arg(long, value_name = "K/N", value_parser = parse_shard)]
    shard: Option<(usize, usize)>,
    /// No run begins after this time, counted from the first fault; places that are called rarely
    /// come first. --resume goes on
    #[arg(long, allow_hyphen_values = true, value_parser = parse_duration, value_name = "TIME")]
    budget: Option<Duration>,
    /// Run the program without a fault, show the sites, the plan and how long it takes, and stop. A
    /// sweep that is there stays as it is
    #[arg(long)]
    list: bool,
    /// Go on with a sweep that was interrupted or has used up its --budget: of the same command,
    /// directory, --check, --faults and --mode
    #[arg(long, conflicts_with = "list")]
    resume: bool,
    /// Try again only what was bad in the last sweep (which was as for --resume), at the same sites,
    /// without a new baseline. What is not reached any more is told, and the status is 2
    #[arg(long, conflicts_with_all = ["list", "resume"])]
    iterate: bool,
    /// The directory for the plan, the outcomes, logs and recordings. A sweep that is there becomes
    /// DIR.old when the baseline has passed
    #[arg(short, long, default_value = "aiotrace.sweep", value_name = "DIR")]
    output: PathBuf,
    /// text: the table; json: a line for each outcome, with --list for each point
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The outcomes that are bad: corrupt, lost, died, hung, leaked, also flaky, unsure, reported
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "corrupt,lost,died,hung,leaked",
        value_name = "OUTCOME[,OUTCOME]...",
        value_parser = parse_outcome
    )]
    fail_on: Vec<Outcome>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeOption {
    Once,
    Always,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn parse_outcome(text: &str) -> Result<Outcome, String> {
    Outcome::parse(text).ok_or_else(|| {
        let all = Outcome::ALL.map(Outcome::text).join(", ");
        format!("no outcome is named {text:?}; they are {all}")
    })
}

fn parse_shard(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    numbers.filter(|(k, n)| (1..=*n).contains(k)).ok_or_else(|| {
        format!("{text:?} is no part: write for instance 1/4 for the first of four, up to 4/4")
    })
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let mut modes: Vec<Mode> = Vec::new();
    for it in options.mode {
        let mode = match it {
            ModeOption::Once => Mode::Once,
            ModeOption::Always => Mode::Always,
        };
        if !modes.contains(&mode) {
            modes.push(mode);
        }
    }
    let report = sweep::run(&sweep::Settings {
        command: options.command,
        faults: options.faults,
        modes,
        setup: options.setup,
        reset: options.reset,
        check: options.check,
        script_timeout: options.script_timeout,
        timeout: options.timeout,
        timeout_multiplier: options.timeout_multiplier,
        minimum_timeout: options.minimum_timeout,
        jobs: options.jobs.into(),
        baseline_runs: options.baseline_runs.into(),
        shard: options.shard,
        budget: options.budget,
        list: options.list,
        resume: options.resume,
        iterate: options.iterate,
        output: options.output,
        json: options.format == Format::Json,
        fail_on: options.fail_on,
    })?;
    print(&report.text)?;
    Ok(match report.end {
        End::Good => 0,
        End::Bad => 1,
        End::Nothing | End::Unsettled => 2,
        End::BaselineFailed => 3,
        End::Interrupted => 4,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_named_as_in_the_table_or_as_in_json() {
        assert_eq!(parse_outcome("not made"), parse_outcome("not_made"));
        assert!(parse_outcome("bad").unwrap_err().contains("corrupt, lost"));
    }

    #[test]
    fn shards_are_counted_from_one() {
        assert_eq!(parse_shard("1/4"), Ok((1, 4)));
        for bad in ["0/4", "5/4", "1", "a/b", "1/0"] {
            assert!(parse_shard(bad).unwrap_err().contains("1/4"), "{bad}");
        }
    }
}
