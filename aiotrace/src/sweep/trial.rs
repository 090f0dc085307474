//! One run of the program under `aiotrace run`, and the check after it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    Settings, journal::Directory, log::Log, observed::Observed, outcome::Ended,
    processes::Processes,
};
use crate::failure::{Context as _, Failure, Hint as _, Result, bail};

/// aiotrace ends the program by itself; if it does not, it is ended this much later.
const PATIENCE: Duration = Duration::from_secs(15);
/// A check has at least so long.
const FOR_CHECK: Duration = Duration::from_secs(60);
/// How often a run is made of which not all was seen.
const TRIES: usize = 3;
/// The status of `aiotrace run` if it failed itself.
const FAILED: i32 = 125;
/// How much of a log is searched for what sanitizers say.
const SEARCHED: u64 = 4 << 20;

/// A run to be made.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// Its name, for files.
    pub name: &'a str,
    /// The fault; without one, the stacks of all calls are wanted.
    pub rule: Option<&'a str>,
    /// How long it may take.
    pub timeout: Option<Duration>,
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
        let log = Log::open(&directory.log_path(self.name))?;
        if let Some(reset) = &settings.reset {
            let status = script(reset, &environment, &log, None, processes)?;
            if status != 0 && !processes.are_interrupted() {
                let log = directory.log_path(self.name);
                bail!("--reset ended with status {status}: see {}", log.display());
            }
        }
        let trace = directory.path("traces", &format!("{}.jsonl", self.name));
        let mut command = self.command(settings, directory, &trace);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.end()?).stderr(log.end()?);
        let begun = Instant::now();
        let finished = processes.run(&mut command, self.timeout.map(|it| it + PATIENCE))?;
        let took = begun.elapsed();
        let is_over = |limit: Duration| finished.status == 124 && took >= limit;
        let timed_out = finished.timed_out || self.timeout.is_some_and(is_over);
        let mut ended = Ended { status: finished.status, timed_out, ..Ended::default() };
        processes.end_strays(&fresh);
        if let Some(check) = &settings.check
            && !processes.are_interrupted()
        {
            environment.push(("AIOTRACE_SWEEP_STATUS", finished.status.to_string()));
            let limit = self.timeout.map(|it| it.max(FOR_CHECK));
            ended.check = Some(script(check, &environment, &log, limit, processes)? == 0);
            processes.end_strays(&fresh);
        }
        // It holds the pipe for the next process, too.
        drop(command);
        log.close().hint("make room, and go on with --resume: what was told before is kept")?;
        ended.sanitizer = sanitizer(&directory.log_path(self.name));
        let observed = match processes.are_interrupted() {
            false if trace.exists() => Observed::read(&trace)?,
            _ => Observed::default(),
        };
        let _ = fs::remove_file(&trace);
        let used_directory = fs::read_dir(&fresh).is_ok_and(|mut it| it.next().is_some());
        fs::remove_dir_all(&fresh).context("cannot remove the directory of a run")?;
        if ended.status == FAILED && !observed.is_whole && !processes.are_interrupted() {
            let log = directory.log_path(self.name);
            return Err(Failure::new(format!(
                "run {} could not be traced: {}",
                self.name,
                said(&log)
            ))
            .with_hint(format!("see {}; --resume goes on", log.display())));
        }
        Ok(Done { ended, observed, took, used_directory })
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
        if let Some(timeout) = self.timeout {
            command.arg("--timeout").arg(format!("{}ms", timeout.as_millis()));
        }
        command.arg("--").args(&settings.command);
        command
    }

    /// Where its recording is.
    pub fn recording(&self, directory: &Directory) -> std::path::PathBuf {
        directory.path("recordings", &format!("{}.aiotrace", self.name))
    }
}

/// Runs a script with sh, and returns its status.
pub fn script(
    text: &str,
    environment: &[(&str, String)],
    log: &Log,
    limit: Option<Duration>,
    processes: &Processes,
) -> Result<i32> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(text);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(log.end()?).stderr(log.end()?);
    let finished = processes.run(&mut command, limit)?;
    // A script that does not end has no answer, and so not a good one.
    Ok(if finished.timed_out { 124 } else { finished.status })
}

/// What aiotrace wrote last.
fn said(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let last = text.lines().rev().find_map(|it| it.strip_prefix("aiotrace: "));
    last.map_or_else(|| "aiotrace run has failed".to_owned(), line)
}

/// A line that may be shown.
fn line(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(200).collect()
}

/// The line with which a sanitizer says what it found.
fn sanitizer(log: &Path) -> Option<String> {
    const SAY: [&str; 5] = [
        "ERROR: AddressSanitizer",
        "WARNING: ThreadSanitizer",
        "WARNING: MemorySanitizer",
        "ERROR: HWAddressSanitizer",
        ": runtime error: ",
    ];
    let lines = BufReader::new(File::open(log).ok()?.take(SEARCHED)).split(b'\n');
    let texts =
        lines.map_while(std::io::Result::ok).map(|it| String::from_utf8_lossy(&it).into_owned());
    let mut said = texts.filter(|line| SAY.iter().any(|it| line.contains(it)));
    said.next().map(|it| line(&it))
}
