//! One run of the program under `aiotrace run`, and the check after it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    Settings, crash,
    directory::Directory,
    log::Log,
    observed::Observed,
    outcome::Ended,
    processes::{Finished, Processes},
};
use crate::{
    failure::{Context as _, Failure, Hint as _, Result, bail},
    words::duration::in_words,
};

/// aiotrace ends the program by itself; if it does not, it is ended this much later.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a run is made of which not all was seen.
const TRIES: usize = 3;
/// The status of `aiotrace run` if it failed itself.
const FAILED: i32 = 125;
/// What is said of a check that took too long.
pub const LATE_CHECK: &str = "--check did not end in time (--script-timeout gives it more)";
/// What is said where the log of a run has no room.
const MAKE_ROOM: &str = "make room, and go on with --resume: what was told before is kept";

/// A run to be made.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// Its name, for the program and the scripts.
    pub name: &'a str,
    /// Its name, for files that stay.
    pub files: &'a str,
    /// The fault; without one, the stacks of all calls are wanted.
    pub rule: Option<&'a str>,
    /// How long it may take.
    pub timeout: Duration,
}

/// A run that was made.
#[derive(Debug)]
pub struct Done {
    /// How it ended.
    pub ended: Ended,
    /// What its trace says.
    pub observed: Observed,
    /// How long it took.
    pub took: Duration,
    /// The program has put something into its directory.
    pub used_directory: bool,
    /// What sanitizers said in what the program wrote.
    pub said: Vec<String>,
}

impl Trial<'_> {
    /// Makes the run; again, if not all of it was seen.
    pub fn run_until_seen(
        self,
        settings: &Settings,
        directory: &Directory,
        processes: &Processes,
    ) -> Result<Done> {
        let mut done = self.run(settings, directory, processes)?;
        for _ in 1..TRIES {
            if done.observed.unseen == 0 || processes.are_interrupted() {
                break;
            }
            done = self.run(settings, directory, processes)?;
        }
        Ok(done)
    }

    /// Makes the run.
    pub fn run(
        self,
        settings: &Settings,
        directory: &Directory,
        processes: &Processes,
    ) -> Result<Done> {
        let fresh = directory.fresh(self.name)?;
        let told = fresh.to_string_lossy();
        let mut environment = vec![
            ("AIOTRACE_SWEEP_DIR", told.to_string()),
            ("AIOTRACE_SWEEP_RUN", self.name.to_owned()),
            ("AIOTRACE_SWEEP_FAULT", self.rule.unwrap_or_default().to_owned()),
        ];
        let path = directory.log_path(self.files);
        let limit = settings.script_timeout;
        let mut log = Log::begin(&path)?;
        if let Some(text) = &settings.reset {
            let script = Script { name: "--reset", text, limit };
            let ended = script.run(&environment, &log, processes)?;
            // What it has left there belongs to the program.
            log.close().hint(MAKE_ROOM)?;
            if let Some(why) = ended.why_bad(script).filter(|_| !processes.are_interrupted()) {
                bail!("{why}; see {}", path.display());
            }
            log = Log::more(&path)?;
        }
        let trace = directory.path("traces", &format!("{}.jsonl", self.name));
        let mut command = self.command(settings, directory, &trace);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.end()?).stderr(log.end()?);
        let begun = Instant::now();
        let finished = processes.run(&mut command, Some(self.timeout + PATIENCE))?;
        let took = begun.elapsed();
        let timed_out = finished.timed_out || finished.status == 124 && took >= self.timeout;
        let mut ended = Ended { status: finished.status, timed_out, ..Ended::default() };
        processes.end_strays(&fresh);
        // It holds the pipe, too.
        drop(command);
        let said = log.close().hint(MAKE_ROOM)?;
        if let Some(text) = &settings.check
            && !processes.are_interrupted()
        {
            environment.push(("AIOTRACE_SWEEP_STATUS", finished.status.to_string()));
            let log = Log::more(&path)?;
            let script = Script { name: "--check", text, limit };
            let check = script.run(&environment, &log, processes)?;
            // A check that does not end has no answer, and so not a good one.
            ended.check = Some(check.status == 0 && !check.timed_out);
            ended.is_check_late = check.timed_out;
            processes.end_strays(&fresh);
            log.close().hint(MAKE_ROOM)?;
        }
        let observed = match processes.are_interrupted() {
            false if trace.exists() => Observed::read(&trace)?,
            _ => Observed::default(),
        };
        let _ = fs::remove_file(&trace);
        let used_directory = fs::read_dir(&fresh).is_ok_and(|mut it| it.next().is_some());
        fs::remove_dir_all(&fresh).context("cannot remove the directory of a run")?;
        if ended.status == FAILED && !observed.is_whole && !processes.are_interrupted() {
            let text = format!("run {} could not be traced: {}", self.name, last_said(&path));
            let hint = format!("see {}; --resume goes on", path.display());
            return Err(Failure::new(text).with_hint(hint));
        }
        Ok(Done { ended, observed, took, used_directory, said })
    }

    fn command(&self, settings: &Settings, directory: &Directory, trace: &Path) -> Command {
        let mut command = Command::new(crate::proc::OURSELVES);
        command.args(["run", "-f", "--source", "ptrace", "--format", "json", "-o"]).arg(trace);
        match self.rule {
            Some(rule) => {
                command.args(["-q", "--inject", rule, "--record"]).arg(self.recording(directory));
            }
            None => {
                command.arg("--stacks");
            }
        }
        command.arg("--timeout").arg(format!("{}ms", self.timeout.as_millis()));
        command.arg("--").args(&settings.command);
        command
    }

    /// Where its recording is.
    pub fn recording(&self, directory: &Directory) -> PathBuf {
        directory.path("recordings", &format!("{}.aiotrace", self.files))
    }
}

impl Done {
    /// Forgets what sanitizers say without a fault, too.
    pub fn without_usual(mut self, usual: &[String]) -> Self {
        self.ended.sanitizer = crash::new(&self.said, usual);
        self
    }
}

/// A script of the user's.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    /// The option with it.
    pub name: &'static str,
    /// What sh runs.
    pub text: &'a str,
    /// How long it may take.
    pub limit: Duration,
}

impl Script<'_> {
    /// Runs it.
    pub fn run(
        self,
        environment: &[(&str, String)],
        log: &Log,
        processes: &Processes,
    ) -> Result<Finished> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(self.text);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.end()?).stderr(log.end()?);
        processes.run(&mut command, Some(self.limit))
    }
}

impl Finished {
    /// Why this is no good end of a script.
    pub fn why_bad(self, script: Script<'_>) -> Option<String> {
        let Script { name, limit, .. } = script;
        if self.timed_out {
            let limit = in_words(limit.as_nanos() as u64);
            return Some(format!(
                "{name} did not end within {limit} (--script-timeout gives it more)"
            ));
        }
        (self.status != 0).then(|| format!("{name} ended with status {}", self.status))
    }
}

/// What aiotrace wrote last.
fn last_said(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let last = text.lines().rev().find_map(|it| it.strip_prefix("aiotrace: "));
    last.map_or_else(|| "aiotrace run has failed".to_owned(), printable)
}

/// A line that may be shown.
fn printable(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_takes_too_long_says_which_option_changes_that() {
        let script = Script { name: "--reset", text: "x", limit: Duration::from_secs(600) };
        let of = |status, timed_out| Finished { status, timed_out }.why_bad(script);
        assert_eq!(of(0, false), None);
        assert_eq!(of(7, false).unwrap(), "--reset ended with status 7");
        assert!(of(143, true).unwrap().contains("--script-timeout"));
    }
}
