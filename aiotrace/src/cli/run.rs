//! `aiotrace run`: start a program and trace it from its first call.

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use clap::Args;
use nix::sys::signal::{Signal, kill};

use super::{
    Hint,
    launch::{Child, ExecError},
    session::{Plan, Scope, Session, Show},
};
use crate::{process, source::collector::Reason};

/// Exit status when aiotrace failed, as `env`, `timeout` and `nice` have it.
pub const FAILED: u8 = 125;

/// Start a program and trace it from its first call. Returns the program's status (128+N for
/// signal N), 125 if aiotrace failed, 126 or 127 if the program could not be executed, 1 if there was a
/// finding that `--fail-on` names.
#[derive(Debug, Args)]
pub struct Options {
    /// Trace the children it creates, too
    #[arg(short, long)]
    follow: bool,
    /// Run it as this user
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// With ptrace: stop it at every system call, not only at those of AIO. It is slower, but the program
    /// lives on if aiotrace is killed. (Else it dies with aiotrace: a filter stays in it, and needs somebody
    /// who answers.)
    #[arg(long)]
    no_seccomp: bool,
    #[command(flatten)]
    show: Show,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    // The program waits, stopped before its exec, until the probes are attached.
    let mut child = Child::start(&options.command, options.user.as_deref())?;
    let process = process::open(child.pid())?;
    let plan = Plan {
        scope: Scope::Processes(vec![process]),
        follow: options.follow,
        launched: true,
        filtered: !options.no_seccomp,
    };
    let session = Session::prepare(&options.show, plan)?;
    let mut not_executed = None;
    let outcome = session.trace(|filtered| {
        if let Err(error) = child.release(filtered) {
            not_executed = Some(error);
        }
        Ok(())
    })?;
    if let Some(error) = not_executed {
        let status = error.status();
        let program = options.command[0].to_string_lossy().into_owned();
        if let ExecError::Exec(source) = error {
            eprintln!("aiotrace: cannot execute {program}: {source}");
            return Ok(status);
        }
        return Err(anyhow::Error::new(error).context(Hint(format!("{program} was not started"))));
    }
    if let Reason::Signal(signal @ (Signal::SIGTERM | Signal::SIGHUP)) = outcome.reason {
        // Who ends us means the program.
        let _ = kill(child.as_pid(), signal);
    }
    let status = child.wait(outcome.status).context("cannot learn the program's status")?;
    if outcome.failed {
        eprintln!("aiotrace: status 1, as --fail-on asks; that of the program is {status}");
        return Ok(1);
    }
    Ok(status)
}
