//! `aiotrace attach`: traces programs that are already running.

use std::path::PathBuf;

use clap::Args;

use super::options::Show;
use crate::{
    errand::{OpenError, Opened, open},
    failure::{Failure, Result},
    trace::{Cgroup, Plan, Scope, Session},
};

/// Trace running programs until they end, or until Ctrl-C. They keep running. The short ways: `-q`
/// shows what is wrong, `--only error` what fails, `-c --requests` who does how much and how fast.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// Trace the children they create, too
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    show: Show,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Trace these processes: ids, with commas or blanks between them
    #[arg(short, long = "pid", value_name = "PID", value_parser = parse_pids, num_args = 1..)]
    pids: Vec<Pids>,
    /// Trace every process in this cgroup (v2) or below it
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Trace every process
    #[arg(short, long)]
    all: bool,
}

/// Process ids, as `pidof` and other tools write them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pids(pub(super) Vec<u32>);

pub(super) fn parse_pids(text: &str) -> Result<Pids, String> {
    let numbers = text.split([',', ' ', '\t', '\n']).filter(|it| !it.is_empty());
    let pids = numbers
        .map(|it| it.parse().map_err(|_| format!("{it:?} is not a process id")))
        .collect::<Result<Vec<u32>, _>>()?;
    if pids.is_empty() {
        Err("no process id (does the program run?)".into())
    } else {
        Ok(Pids(pids))
    }
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let Target { pids, cgroup, all: _ } = options.target;
    let pids: Vec<u32> = pids.into_iter().flat_map(|it| it.0).collect();
    let scope = match cgroup {
        Some(path) => Scope::Cgroup(Cgroup::find(&path)?),
        None if pids.is_empty() => Scope::All,
        None => Scope::Processes(open_all(&pids)?),
    };
    let plan =
        Plan { scope, follow: options.follow, launched: false, filtered: false, timeout: None };
    let settings = options.show.settings();
    let outcome = Session::prepare(&settings, plan)?.trace(|_| Ok(()))?;
    if let Some(why) = &outcome.failed {
        eprintln!("aiotrace: status 1, as {why}");
    }
    Ok(u8::from(outcome.failed.is_some()))
}

/// Opens these processes, each once.
pub(super) fn open_all(pids: &[u32]) -> Result<Vec<Opened>> {
    let mut opened: Vec<Opened> = Vec::new();
    for &id in pids {
        let process = open(id).map_err(explain)?;
        if process.pid != id {
            eprintln!("aiotrace: {id} is a thread of process {}: tracing the process", process.pid);
        }
        if opened.iter().all(|it| it.pid != process.pid) {
            opened.push(process);
        }
    }
    Ok(opened)
}

fn explain(error: OpenError) -> Failure {
    let hint = match &error {
        OpenError::Gone(_) => {
            "it may have ended, or have another id here if it is in a container; \
                               `pidof NAME` or `ps -e` show what runs"
        }
        OpenError::Other { .. } => "run as root",
    };
    Failure::from(error).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_ids_come_as_pidof_writes_them() {
        assert_eq!(parse_pids("12,13"), Ok(Pids(vec![12, 13])));
        assert_eq!(parse_pids("12 13\n"), Ok(Pids(vec![12, 13])));
        assert!(parse_pids("").unwrap_err().contains("does the program run?"));
        assert!(parse_pids("12,fio").unwrap_err().contains("\"fio\" is not a process id"));
        assert!(parse_pids("-1").is_err());
    }
}
