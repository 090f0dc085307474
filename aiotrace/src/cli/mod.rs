//! The command line: one file per subcommand. [`main`] parses, runs, and decides the exit status.

mod attach;
mod cgroup;
mod conclusions;
mod cost;
mod doctor;
mod explain;
mod inject;
mod launch;
mod ls;
mod patience;
pub(crate) mod recorder;
mod report;
mod run;
mod session;
mod shown;
mod source;
mod view;
mod written;

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{errand, stacks::child};

/// See, account for and break Linux native AIO (io_setup, io_submit, io_getevents, io_pgetevents,
/// io_cancel, io_destroy) in running programs.
#[derive(Debug, Parser)]
#[command(name = "aiotrace", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Attach(attach::Options),
    Run(run::Options),
    Ls(ls::Options),
    Report(report::Options),
    Explain(explain::Options),
    Doctor(doctor::Options),
    /// What aiotrace runs to read symbols and debug information
    #[command(hide = true)]
    Symbolize {
        /// The process that asks
        parent: u32,
        /// Say what it could still do, instead
        #[arg(long)]
        try_all: bool,
    },
}

impl Command {
    fn looks_at_processes(&self) -> bool {
        match self {
            Self::Attach(_) | Self::Run(_) | Self::Ls(_) | Self::Doctor(_) => true,
            Self::Report(_) | Self::Explain(_) | Self::Symbolize { .. } => false,
        }
    }
}

/// Exit status when aiotrace itself failed.
const FAILED: u8 = 2;

/// Runs the program.
pub fn main() -> ExitCode {
    // AIOTRACE_LOG=debug shows what goes on inside, loader included.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("AIOTRACE_LOG"))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(match error.exit_code() {
                0 => 0,
                _ if std::env::args().nth(1).is_some_and(|it| it == "run") => run::FAILED,
                _ => FAILED,
            });
        }
    };
    if cli.command.looks_at_processes()
        && let Err(error) = errand::start()
    {
        eprintln!("aiotrace: cannot start the process that looks at others: {error}");
        return ExitCode::from(FAILED);
    }
    let (result, failed) = match cli.command {
        Command::Attach(options) => (attach::run(options), FAILED),
        Command::Run(options) => (run::run(options), run::FAILED),
        Command::Ls(options) => (ls::run(options), FAILED),
        Command::Report(options) => (report::run(options), FAILED),
        Command::Explain(options) => (explain::run(options), FAILED),
        Command::Doctor(options) => (doctor::run(options), FAILED),
        Command::Symbolize { parent, try_all } => {
            (child::run(parent, try_all).map(|()| 0).map_err(Into::into), FAILED)
        }
    };
    errand::end();
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            tell(&error);
            ExitCode::from(failed)
        }
    }
}

/// The chain of causes, and what to do.
fn tell(error: &anyhow::Error) {
    // The hint is the outermost context, marked by its type.
    let hint = error.downcast_ref::<Hint>();
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let is_hint = hint.is_some_and(|hint| hint.0 == text);
        // Some libraries repeat their cause in their own text.
        if !is_hint && !causes.last().is_some_and(|last| last.contains(&text)) {
            causes.push(text);
        }
    }
    eprintln!("aiotrace: {}", causes.join(": "));
    if let Some(Hint(hint)) = hint {
        eprintln!("aiotrace: {hint}");
    }
}

/// What the user can do about an error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Hint(String);
