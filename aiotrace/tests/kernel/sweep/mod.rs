//! `aiotrace sweep`: a sweep that a test makes, and what it told.

pub mod going;
pub mod planted;
pub mod programs;
pub mod small;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    harness::Need,
    support::{aiotrace, binary, programs},
};

/// A fault at a site (known by its innermost function), once or always; and what came of it.
type Outcomes = BTreeMap<(String, String, String), String>;

/// Where sweeps are tested: what is new in other kernels is nothing that they need.
const ONCE: Need = Need::Native("it takes minutes where a processor is emulated");

struct Sweep {
    directory: TempDir,
}

impl Sweep {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    fn output(&self) -> PathBuf {
        self.directory.path().join("sweep")
    }

    /// A sweep of a workload.
    fn command(&self, options: &[&str], program: &[&str]) -> Command {
        let words = [
            &[programs().into_os_string()][..],
            &program.iter().map(Into::into).collect::<Vec<_>>(),
        ];
        self.of(options, &words.concat())
    }

    /// A sweep of any program, which is run in the directory of the test.
    fn of<S: AsRef<OsStr>>(&self, options: &[&str], program: &[S]) -> Command {
        let mut command = aiotrace();
        command.arg("sweep").arg("-o").arg(self.output()).args(options);
        command.arg("--").args(program).current_dir(self.directory.path());
        command
    }

    fn run(&self, options: &[&str], program: &[&str]) -> Output {
        self.command(options, program).output().unwrap()
    }

    /// A sweep of a script for sh.
    fn script(&self, options: &[&str], script: &str) -> Output {
        self.of(options, &["sh", "-c", script]).output().unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        let text =
            std::fs::read_to_string(self.output().join("outcomes.jsonl")).unwrap_or_default();
        text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect()
    }

    fn outcomes(&self) -> Outcomes {
        let text = |it: &Value, name: &str| it[name].as_str().unwrap().to_owned();
        let site = |it: &Value| {
            let name = text(it, "name");
            let mut words = name.split(' ');
            let call = words.next().unwrap().to_owned();
            let innermost = ["submit", "getevents", "setup", "make_context", "reap", "destroy"];
            let first = words.find(|it| !["from", "<"].contains(it) && !innermost.contains(it));
            format!("{call} {}", first.unwrap_or_default())
        };
        let key = |it: &Value| (site(it), text(it, "fault"), text(it, "mode"));
        self.lines().iter().map(|it| (key(it), text(it, "outcome"))).collect()
    }

    /// The table: what came of each fault at each site, once and always.
    fn table(&self) -> Outcomes {
        let text = |it: &Value, name: &str| it[name].as_str().unwrap().to_owned();
        let key = |it: &Value| (text(it, "site"), text(it, "fault"), text(it, "mode"));
        self.lines().iter().map(|it| (key(it), text(it, "outcome"))).collect()
    }

    /// How often each outcome was told, by call and fault; for programs of which only the calls have names.
    fn counts(&self) -> Vec<String> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for it in self.lines() {
            let text = |name: &str| it[name].as_str().unwrap().to_owned();
            let (name, fault, outcome) = (text("name"), text("fault"), text("outcome"));
            let call = name.split(' ').next().unwrap();
            *counts.entry(format!("{call} {fault}: {outcome}")).or_default() += 1;
        }
        counts.into_iter().map(|(what, count)| format!("{what} x {count}")).collect()
    }

    /// A sweep of a program of C, which is built first.
    fn built(&self, options: &[&str], source: &str) -> Output {
        let at = |name: &str| self.directory.path().join(name);
        std::fs::write(at("program.c"), source).unwrap();
        let mut cc = Command::new("cc");
        cc.current_dir(self.directory.path()).args(["-O1", "-o", "program", "program.c"]);
        let built = cc.output().unwrap();
        assert!(built.status.success(), "{}", text(&built));
        self.of(options, &["./program"]).output().unwrap()
    }

    /// How many files there are in a directory of the sweep.
    fn files(&self, name: &str) -> usize {
        std::fs::read_dir(self.output().join(name)).unwrap().count()
    }
}

fn text(output: &Output) -> String {
    let out = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&out).into_owned()
}

fn check() -> String {
    format!("{} planted-check", programs().display())
}

/// The outcomes that are bad.
fn bad(outcomes: &Outcomes) -> Vec<String> {
    const GOOD: [&str; 2] = ["recovered", "reported"];
    let is_bad = |it: &(&(String, String, String), &String)| !GOOD.contains(&it.1.as_str());
    let shown = outcomes.iter().filter(is_bad);
    shown.map(|((site, fault, mode), it)| format!("{site} {fault} {mode}: {it}")).collect()
}

/// Runs the command that makes a fault again, as somebody who pastes it into a shell.
fn pasted(line: &Value) -> Output {
    let directory = TempDir::new().unwrap();
    std::os::unix::fs::symlink(binary(), directory.path().join("aiotrace")).unwrap();
    let path = std::env::var("PATH").unwrap();
    Command::new("sh")
        .args(["-c", line["reproducer"].as_str().unwrap()])
        .env("PATH", format!("{}:{path}", directory.path().display()))
        .output()
        .unwrap()
}
