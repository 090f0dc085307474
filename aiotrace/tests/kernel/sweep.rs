//! `aiotrace sweep`: planted defects are found, each as its kind and nothing else; what was interrupted goes on.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    harness::Need,
    support::{aiotrace, await_that, binary, programs},
};

/// A fault at a site (known by its innermost function), once or always; and what came of it.
type Outcomes = BTreeMap<(String, String, String), String>;

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

    fn command(&self, options: &[&str], program: &[&str]) -> Command {
        let mut command = aiotrace();
        command.arg("sweep").arg("-o").arg(self.output()).args(["--timeout", "5s"]).args(options);
        command.arg("--").arg(programs()).args(program);
        command
    }

    fn run(&self, options: &[&str], program: &[&str]) -> Output {
        self.command(options, program).output().unwrap()
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

fn each_planted_defect_is_found_as_its_kind_and_nothing_else() {
    let sweep = Sweep::new();
    let output = sweep.run(&["--check", &check(), "-j", "2"], &["planted"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let expected = [
        "io_getevents reap_header EINTR always: hung",
        "io_getevents reap_header EINTR once: hung",
        "io_submit log_line res=EIO always: lost",
        "io_submit log_line res=EIO once: lost",
        "io_submit log_line res=ENOSPC always: lost",
        "io_submit log_line res=ENOSPC once: lost",
        "io_submit read_header EAGAIN always: hung",
        "io_submit read_header res=EIO always: leaked",
        "io_submit read_header res=EIO once: leaked",
        "io_submit write_batch accept=1 always: lost",
        "io_submit write_batch accept=1 once: lost",
        "io_submit write_batch res=ENOSPC always: died",
        "io_submit write_batch res=ENOSPC once: died",
        "io_submit write_checked short always: corrupt",
        "io_submit write_checked short once: corrupt",
    ];
    assert_eq!(bad(&sweep.outcomes()), expected, "{}", text(&output));
    // Each bad one has a line that can be pasted, and a recording.
    let shown = text(&output);
    for line in sweep.lines().iter().filter(|it| it["recording"].is_string()) {
        assert!(shown.contains(line["reproducer"].as_str().unwrap()), "{line}");
        assert!(sweep.output().join(line["recording"].as_str().unwrap()).exists(), "{line}");
    }
    reproduces(&sweep);
    let page = std::fs::read_to_string(sweep.output().join("index.html")).unwrap();
    assert!(page.contains("write_batch") && !page.contains("<script"));
    let junit = std::fs::read_to_string(sweep.output().join("junit.xml")).unwrap();
    assert_eq!(junit.matches("<failure").count(), expected.len(), "{junit}");
    let is_empty =
        |name: &str| std::fs::read_dir(sweep.output().join(name)).unwrap().next().is_none();
    assert!(is_empty("runs") && is_empty("traces"));
}

/// The line of a lost request, run by a shell, loses it again.
fn reproduces(sweep: &Sweep) {
    let lines = sweep.lines();
    let lost = lines.iter().find(|it| it["fault"] == "accept=1" && it["mode"] == "once").unwrap();
    let line = lost["reproducer"].as_str().unwrap();
    let rest = line.strip_prefix("aiotrace ").unwrap();
    let path = sweep.directory.path();
    let output = Command::new("sh")
        .args(["-c", &format!("{} {rest}", binary().display())])
        .env("AIOTRACE_SWEEP_DIR", path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("lost 3 requests"), "{}", text(&output));
}

fn the_repaired_twin_has_no_defect() {
    let sweep = Sweep::new();
    let output = sweep.run(&["--check", &check(), "-j", "2"], &["planted", "repaired"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(bad(&sweep.outcomes()), [""; 0], "{}", text(&output));
    assert!(sweep.outcomes().len() > 40, "{}", text(&output));
}

fn threads_and_a_program_without_symbols_have_the_same_outcomes() {
    let of = |program: &Path, arguments: &[&str]| {
        let sweep = Sweep::new();
        let mut command = aiotrace();
        command.arg("sweep").arg("-o").arg(sweep.output());
        command.args(["--faults", "res=ENOSPC", "--mode", "once", "--baseline-runs", "2", "--"]);
        let output = command.arg(program).arg("planted").args(arguments).output().unwrap();
        let died = sweep.lines().iter().filter(|it| it["outcome"] == "died").count();
        assert_eq!((sweep.lines().len(), died), (3, 1), "{}", text(&output));
    };
    of(&programs(), &["16"]);
    let directory = TempDir::new().unwrap();
    let stripped = directory.path().join("stripped");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(programs()).status().unwrap();
    assert!(strip.success());
    of(&stripped, &[]);
}

fn a_sweep_that_was_killed_goes_on_and_leaves_nothing_behind() {
    let options = ["--faults", "EAGAIN,EINTR", "--mode", "once", "--baseline-runs", "2"];
    let whole = Sweep::new();
    whole.run(&options, &["planted", "repaired"]);
    let sweep = Sweep::new();
    let mut command = sweep.command(&options, &["planted", "repaired"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    await_that("some outcomes are told", || sweep.lines().len() >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let ours = sweep.output().canonicalize().unwrap();
    await_that("nothing runs any more", || {
        let of_sweep = |it: std::fs::DirEntry| {
            let environment = std::fs::read(it.path().join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(ours.to_str().unwrap())
        };
        !std::fs::read_dir("/proc").unwrap().flatten().any(of_sweep)
    });
    assert!(sweep.lines().len() < whole.lines().len(), "it was killed too late");
    let resumed = [&options[..], &["--resume"]].concat();
    let output = sweep.run(&resumed, &["planted", "repaired"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(sweep.outcomes(), whole.outcomes(), "{}", text(&output));
    assert!(std::fs::read_dir(sweep.output().join("runs")).unwrap().next().is_none());
    let other = sweep.run(&["--resume"], &["planted"]);
    assert_eq!(other.status.code(), Some(2), "{}", text(&other));
    assert!(text(&other).contains("of another command"), "{}", text(&other));
}

fn ctrl_c_ends_the_run_and_says_how_to_go_on() {
    let sweep = Sweep::new();
    let mut command =
        sweep.command(&["--faults", "EAGAIN", "--baseline-runs", "1"], &["planted", "repaired"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    await_that("an outcome is told", || !sweep.lines().is_empty());
    // SAFETY: the signal goes to our own child.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(text(&output).contains("--resume"), "{}", text(&output));
    assert!(std::fs::read_dir(sweep.output().join("runs")).unwrap().next().is_none());
}

fn a_program_that_is_not_the_same_without_faults_is_not_judged() {
    let sweep = Sweep::new();
    let run = |options: &[&str], script: &str| {
        let mut command = aiotrace();
        command.arg("sweep").arg("-o").arg(sweep.output()).args(options);
        let output = command.args(["--", "sh", "-c", script]).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        text(&output)
    };
    let program = programs().display().to_string();
    assert!(run(&[], "exit 0").contains("made no AIO call"));
    let script = format!("{program} planted repaired; [ $AIOTRACE_SWEEP_RUN != baseline-2 ]");
    assert!(run(&[], &script).contains("ended with status [0, 1, 0]"));
    let script = format!("{program} planted repaired");
    assert!(run(&["--check", "exit 7"], &script).contains("--check failed"));
}

fn the_plan_is_shown_and_split() {
    let sweep = Sweep::new();
    let output = sweep.run(&["--list", "--baseline-runs", "1"], &["planted", "repaired"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let shown = text(&output);
    assert!(shown.contains("io_submit from submit < write_batch"), "{shown}");
    assert!(sweep.output().join("plan.json").exists() && sweep.lines().is_empty());
    let points = |options: &[&str]| {
        let all = [&["--list", "--baseline-runs", "1"], options].concat();
        let output = text(&sweep.run(&all, &["planted", "repaired"]));
        output.lines().filter(|it| it.starts_with("  0")).map(str::to_owned).collect::<Vec<_>>()
    };
    let (mut first, second) = (points(&["--shard", "1/2"]), points(&["--shard", "2/2"]));
    assert!(!second.is_empty() && !first.iter().any(|it| second.contains(it)));
    first.extend(second);
    first.sort();
    let mut all = points(&[]);
    all.sort();
    assert_eq!(first, all);
}

fn a_rule_by_site_or_caller_acts_there_alone_and_not_by_bpf() {
    let run = |rule: &str, by: &[&str]| {
        let mut command = aiotrace();
        command.args(["run", "--source", "ptrace", "-q", "--inject", rule]).args(by);
        text(&command.arg("--").arg(programs()).args(["planted", "repaired"]).output().unwrap())
    };
    let shown = run("io_submit:error=EAGAIN:caller=log_*", &[]);
    assert!(shown.contains("io_submit EAGAIN x"), "{shown}");
    let shown = run("io_submit:error=EAGAIN:caller=nobody", &[]);
    assert!(shown.contains("never acted"), "{shown}");
    let mut bpf = aiotrace();
    bpf.args([
        "run",
        "--mechanism",
        "fmod_ret",
        "--inject",
        "io_submit:error=EAGAIN:site=0000000a",
    ]);
    let output = bpf.args(["--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(text(&output).contains("only ptrace"), "{}", text(&output));
}

const ONCE: Need = Need::Native("it takes minutes where a processor is emulated");

tests![
    each_planted_defect_is_found_as_its_kind_and_nothing_else if ONCE,
    the_repaired_twin_has_no_defect if ONCE,
    threads_and_a_program_without_symbols_have_the_same_outcomes if ONCE,
    a_sweep_that_was_killed_goes_on_and_leaves_nothing_behind if ONCE,
    ctrl_c_ends_the_run_and_says_how_to_go_on if ONCE,
    a_program_that_is_not_the_same_without_faults_is_not_judged if ONCE,
    the_plan_is_shown_and_split if ONCE,
    a_rule_by_site_or_caller_acts_there_alone_and_not_by_bpf if ONCE,
];
