//! `aiotrace run`: starts a program and traces it from its first call.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use nix::sys::signal::{Signal, kill};

use super::{
    complete,
    options::{FAULTS, Show, parse_duration},
};
use crate::{
    errand::open,
    failure::{Context as _, Failure, Result},
    source::collector,
    trace::{Child, ExecError, Junit, Plan, Scope, Session, Settings, find_program},
};

/// The exit status when the program was ended by `--timeout`; timeout(1) has the same.
const TIMED_OUT: u8 = 124;
/// The exit status when aiotrace failed; `env`, `timeout` and `nice` have the same.
pub const FAILED: u8 = 125;

/// Start a program and trace it from its first call
///
/// Returns the program's status (128+N for signal N), 125 if aiotrace failed, 126 or 127 if the
/// program could not be executed, 124 if --timeout ended it, 1 if there was something that --fail-on
/// or --fail-on-fault names.
#[derive(Debug, Args)]
pub struct Options {
    /// Trace the children it creates, too
    #[arg(short, long)]
    follow: bool,
    /// Run it as this user
    #[arg(short, long, value_name = "USER", add = complete::user())]
    user: Option<String>,
    /// With ptrace: stop the program at every system call, not only at those of AIO
    ///
    /// It is slower, but the program lives on if aiotrace is killed. (Without this it dies with
    /// aiotrace: a filter stays in it, and needs a tracer that answers it.)
    #[arg(long, hide_short_help = true)]
    no_seccomp: bool,
    /// End the program after this time, as timeout(1) does
    ///
    /// By SIGTERM, and by SIGKILL if it is still there 5 s later. The status is 124 then, and the
    /// verdict on faults that the program had is `hung`.
    #[arg(long, allow_hyphen_values = true, value_parser = parse_duration, value_name = "TIME")]
    timeout: Option<Duration>,
    #[command(flatten)]
    show: Show,
    /// Write what became of the faults to this file as JUnit, which CI systems read
    ///
    /// A test case for each rule, call and errno. It fails if --fail-on-fault names a verdict on it
    /// (without it: lost, leaked, hung or died).
    #[arg(
        long,
        value_name = "FILE",
        requires = "rules",
        hide_short_help = true,
        help_heading = FAULTS
    )]
    junit: Option<PathBuf>,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "CMD",
        add = complete::program(),
        // Else it stands in the group of the options above.
        help_heading = None::<&str>
    )]
    command: Vec<OsString>,
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    // What the other user may execute is not known here.
    if options.user.is_none()
        && let Err(errno) = find_program(&options.command[0])
    {
        return Err(not_executed(&options.command[0], ExecError::Exec(errno)));
    }
    // The program waits, stopped before its exec, until the probes are attached.
    let mut child = Child::start(&options.command, options.user.as_deref())?;
    let process = open(child.pid())?;
    let plan = Plan {
        scope: Scope::Processes(vec![process]),
        follow: options.follow,
        launched: true,
        filtered: !options.no_seccomp,
        timeout: options.timeout,
    };
    let words: Vec<_> = options.command.iter().map(|it| it.to_string_lossy()).collect();
    let junit = options.junit.map(|path| Junit { path, program: words.join(" ") });
    let settings = Settings { junit, ..options.show.settings() };
    let session = Session::prepare(&settings, plan)?;
    // A program that cannot be executed has no report: nothing of it was seen.
    let begin = |filtered| {
        child.release(filtered).map_err(|error| not_executed(&options.command[0], error))
    };
    let outcome = session.trace(begin)?;
    if let collector::Reason::Signal(signal @ (Signal::SIGTERM | Signal::SIGHUP)) = outcome.reason {
        // SIGTERM and SIGHUP sent to aiotrace are meant for the program: pass them on.
        let _ = kill(child.as_pid(), signal);
    }
    let status = child.wait(outcome.status).context("cannot learn the program's status")?;
    if let Some(why) = outcome.failed {
        eprintln!("aiotrace: status 1, as {why}; that of the program is {status}");
        return Ok(1);
    }
    if outcome.timed_out {
        eprintln!(
            "aiotrace: status {TIMED_OUT}, for --timeout ended the program; its own is {status}"
        );
        return Ok(TIMED_OUT);
    }
    Ok(status)
}

fn not_executed(program: &OsStr, error: ExecError) -> Failure {
    let (status, program) = (error.status(), program.to_string_lossy());
    match error {
        ExecError::Exec(errno) => Failure::from(errno)
            .during(format_args!("cannot execute {program}"))
            .with_status(status),
        ExecError::Gone(_) => Failure::from(error).with_hint(format!("{program} was not started")),
    }
}
