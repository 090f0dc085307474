//! The command line: one file per subcommand. [`main`] parses, runs, and decides the exit status.

mod attach;
mod capacity;
mod complete;
mod completions;
mod doctor;
mod explain;
mod ls;
mod man;
mod options;
mod report;
mod run;
mod serve;
mod sweep;
mod target;
mod top;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{
    errand,
    failure::{Context as _, Failure, Result},
    privileges,
    source::ptrace,
    stacks::{self, child},
};

/// See, account for and break Linux native AIO (io_setup, io_submit, io_getevents, io_pgetevents,
/// io_cancel, io_destroy) in running programs.
#[derive(Debug, Parser)]
#[command(name = "aiotrace", version = VERSION, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// The version, and the commit of which a release was built.
const VERSION: &str = env!("AIOTRACE_VERSION");

/// What to try first.
const FIRST: &str = "\
See what programs do with Linux native AIO. As root, try:

  aiotrace ls                               who has AIO contexts, and who holds fs.aio-nr
  aiotrace attach -q -p PID --duration 12s  what is wrong with a running program
  aiotrace attach -c --requests -p PID      who does how much, and how fast
  aiotrace run -q -f -- CMD                 what is wrong with a program, from its first call on
  aiotrace doctor                           what works on this machine

`aiotrace --help` has all commands, `aiotrace COMMAND -h` the options.
";

#[derive(Debug, Subcommand)]
enum Command {
    Attach(attach::Options),
    Run(run::Options),
    Sweep(sweep::Options),
    Ls(ls::Options),
    Capacity(capacity::Options),
    Top(top::Options),
    Serve(serve::Options),
    Report(report::Options),
    Explain(explain::Options),
    Doctor(doctor::Options),
    Completions(completions::Options),
    Man(man::Options),
    /// The helper that reads symbols and debug information for aiotrace
    #[command(hide = true)]
    Symbolize {
        /// The process id of the aiotrace that started it
        parent: u32,
        /// Say what the helper could still do, instead of working
        #[arg(long)]
        try_all: bool,
    },
}

impl Command {
    fn looks_at_processes(&self) -> bool {
        match self {
            Self::Attach(_)
            | Self::Run(_)
            | Self::Ls(_)
            | Self::Top(_)
            | Self::Capacity(_)
            | Self::Serve(_)
            | Self::Doctor(_) => true,
            Self::Report(_)
            | Self::Sweep(_)
            | Self::Explain(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Symbolize { .. } => false,
        }
    }
}

/// The kinds of errands that helpers can run.
const ERRANDS: errand::Kinds = &[
    errand::PROCESSES,
    stacks::ERRANDS,
    crate::names::ERRANDS,
    ptrace::ERRANDS,
    crate::sweep::ERRANDS,
];

/// The exit status when aiotrace itself failed.
const FAILED: u8 = 2;

/// Runs the program.
pub fn main() -> ExitCode {
    completions::answer(Cli::command);
    // AIOTRACE_LOG=debug shows what aiotrace and its loader do.
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
                _ if is_run() => run::FAILED,
                _ => FAILED,
            });
        }
    };
    let Some(command) = cli.command else {
        eprint!("{FIRST}");
        return ExitCode::from(FAILED);
    };
    let mut helpers_begin: fn() -> io::Result<()> = || Ok(());
    if let Command::Serve(options) = &command {
        if let Err(error) = privileges::limit(options.reads_rings()) {
            eprintln!("aiotrace: cannot give up capabilities: {error}");
            return ExitCode::from(FAILED);
        }
        helpers_begin = privileges::keep_for_helpers;
    }
    if command.looks_at_processes()
        && let Err(error) = errand::start(ERRANDS, helpers_begin)
    {
        eprintln!("aiotrace: cannot start the process that looks at others: {error}");
        return ExitCode::from(FAILED);
    }
    let (result, failed) = match command {
        Command::Attach(options) => (attach::run(options), FAILED),
        Command::Run(options) => (run::run(options), run::FAILED),
        Command::Sweep(options) => (sweep::run(options), FAILED),
        Command::Ls(options) => (ls::run(options), FAILED),
        Command::Capacity(options) => (capacity::run(options), FAILED),
        Command::Top(options) => (top::run(options), FAILED),
        Command::Serve(options) => (serve::run(options), FAILED),
        Command::Report(options) => (report::run(options), FAILED),
        Command::Explain(options) => (explain::run(options), FAILED),
        Command::Doctor(options) => (doctor::run(options), FAILED),
        Command::Completions(options) => (completions::run(options), FAILED),
        Command::Man(options) => (man::run(options, Cli::command()), FAILED),
        Command::Symbolize { parent, try_all } => {
            (child::run(parent, try_all).map(|()| 0).map_err(Failure::from), FAILED)
        }
    };
    errand::end();
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("aiotrace: {}", failure.text());
            if let Some(hint) = failure.hint() {
                eprintln!("aiotrace: {hint}");
            }
            ExitCode::from(failure.status().unwrap_or(failed))
        }
    }
}

/// Whether the command line means `run`, whatever is wrong with the rest of it.
fn is_run() -> bool {
    let meant = Cli::command().ignore_errors(true).try_get_matches();
    meant.is_ok_and(|it| it.subcommand_name() == Some("run"))
}

/// Writes what a command has to say. It is no error if the reader has closed the pipe.
fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the output")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_errand_has_a_name_of_its_own() {
        let mut names: Vec<&str> = ERRANDS.iter().copied().flatten().map(|it| it.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() == count && count > 20, "{names:?}");
    }
}
