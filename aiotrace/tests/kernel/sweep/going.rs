//! Sweeps that are interrupted, split, gone on with, or cannot begin.

use std::{
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use super::{
    super::{
        mounts::Mounted,
        pty::Pty,
        support::{aiotrace, await_that, programs},
    },
    ONCE, Sweep, text,
};

/// A few points: of the repaired program, whose outcomes do not depend on time.
const FEW: [&str; 6] = ["--faults", "EAGAIN", "--mode", "once", "--baseline-runs", "2"];
const REPAIRED: [&str; 2] = ["planted", "repaired"];

/// Waits until no process has the directory of this sweep in its environment.
fn await_nothing_left(sweep: &Sweep) {
    let ours = sweep.output().canonicalize().unwrap();
    await_that("nothing runs any more", || {
        let of_sweep = |it: std::fs::DirEntry| {
            let environment = std::fs::read(it.path().join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(ours.to_str().unwrap())
        };
        !std::fs::read_dir("/proc").unwrap().flatten().any(of_sweep)
    });
}

fn start(sweep: &Sweep, options: &[&str]) -> Child {
    let mut command = sweep.command(options, &REPAIRED);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Wherever it is killed (in the baseline, in a run, while it writes), it goes on, and tells the same in the end.
fn a_sweep_that_is_killed_at_any_moment_goes_on_and_leaves_nothing_behind() {
    let whole = Sweep::new();
    let begun = Instant::now();
    assert_eq!(whole.run(&FEW, &REPAIRED).status.code(), Some(0));
    let all = begun.elapsed();
    let sweep = Sweep::new();
    let mut random = u64::from(std::process::id());
    let mut killed = 0;
    for turn in 0.. {
        let has_plan = sweep.output().join("plan.json").exists();
        let resume: &[&str] = if has_plan { &["--resume"] } else { &[] };
        let mut child = start(&sweep, &[&FEW, resume].concat());
        if turn == 3 {
            assert_eq!(child.wait().unwrap().code(), Some(0));
            break;
        }
        // Up to half of the time that it takes: any moment is as good as another.
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let until = Instant::now() + all * (random >> 54) as u32 / 2048;
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        await_nothing_left(&sweep);
    }
    assert!(killed >= 2, "{killed}");
    assert_eq!(sweep.table(), whole.table());
    assert_eq!((sweep.files("runs"), sweep.files("traces")), (0, 0));
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
    assert_eq!(sweep.files("runs"), 0);
}

fn a_program_that_is_not_the_same_without_faults_is_not_judged() {
    let sweep = Sweep::new();
    let run = |options: &[&str], script: &str| {
        let output = sweep.script(options, script);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        text(&output)
    };
    let program = programs().display().to_string();
    let script = format!("{program} planted repaired; [ $AIOTRACE_SWEEP_RUN != baseline-2 ]");
    assert!(run(&[], &script).contains("ended with status [0, 1, 0]"));
    let script = format!("{program} planted repaired");
    assert!(run(&["--check", "exit 7"], &script).contains("--check failed"));
}

/// What applies nowhere is said, and is not as if all were well.
fn a_sweep_without_faults_says_why_and_is_no_success() {
    let sweep = Sweep::new();
    let run = |options: &[&str], script: &str| {
        let output = sweep.script(options, script);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        text(&output)
    };
    let shown = run(&[], "exit 0");
    assert!(
        shown.contains("none of the faults can happen") && shown.contains("it made no AIO call"),
        "{shown}"
    );
    // It reaps from the ring by itself.
    let program = programs().display().to_string();
    let shown = run(&["--faults", "EINTR,res=ENOSPC"], &format!("{program} reap-ring 4"));
    assert!(
        shown.contains("EINTR has no place here: it needs an io_getevents (a program that reaps"),
        "{shown}"
    );
    assert!(shown.contains("res=ENOSPC has no place here: it needs a write"), "{shown}");
    assert!(shown.contains("its AIO calls: io_setup from"), "{shown}");
    // There are points, but no run comes to any.
    let script =
        format!("case $AIOTRACE_SWEEP_RUN in baseline*) {program} planted repaired;; esac");
    let shown = run(&["--faults", "accept=1"], &script);
    assert!(shown.contains("2 not reached") && shown.contains("no fault was made"), "{shown}");
    let shown =
        run(&["--budget", "1ns", "--faults", "EAGAIN"], &format!("{program} planted repaired"));
    assert!(shown.contains("nothing was tried") && shown.contains("--resume"), "{shown}");
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

/// A list costs nobody the outcomes of a night; nor does a baseline that fails.
fn an_older_sweep_stays_until_the_baseline_of_the_next_one_has_passed() {
    let sweep = Sweep::new();
    let at = |name: &str| sweep.directory.path().join(name);
    for _ in 0..2 {
        assert_eq!(sweep.run(&FEW, &REPAIRED).status.code(), Some(0));
    }
    let kept = |name: &str| std::fs::read_to_string(at(name).join("outcomes.jsonl")).unwrap();
    let before = [kept("sweep"), kept("sweep.old")];
    let list = sweep.run(&[&FEW[..], &["--list"]].concat(), &REPAIRED);
    assert_eq!(list.status.code(), Some(0), "{}", text(&list));
    assert!(!at("sweep.new").exists());
    let fails = sweep.run(&[&FEW[..], &["--check", "false"]].concat(), &REPAIRED);
    assert_eq!(fails.status.code(), Some(3), "{}", text(&fails));
    assert!(text(&fails).contains("sweep.new/logs/baseline-1.log"), "{}", text(&fails));
    assert_eq!([kept("sweep"), kept("sweep.old")], before);
    // With a slash at the end it is the same directory.
    let words = [&programs().display().to_string()[..], "planted", "repaired"];
    let mut command = aiotrace();
    command.current_dir(sweep.directory.path()).args(["sweep", "-o", "sweep/"]).args(FEW);
    let output = command.arg("--").args(words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(kept("sweep.old"), before[0]);
    assert!(!at("sweep.new").exists() && !at("sweep").join(".old").exists());
}

fn a_script_that_does_not_end_is_ended() {
    let sweep = Sweep::new();
    for (option, status) in [("--setup", 3), ("--reset", 2), ("--check", 3)] {
        let options = [&FEW[..], &[option, "sleep 1000", "--script-timeout", "1s"]].concat();
        let output = sweep.run(&options, &REPAIRED);
        assert_eq!(output.status.code(), Some(status), "{}", text(&output));
        let shown = text(&output);
        assert!(shown.contains(option) && shown.contains("--script-timeout"), "{shown}");
    }
}

/// For machines: JSON, or nothing.
fn stdout_has_nothing_but_json_if_that_is_asked_for() {
    let sweep = Sweep::new();
    let run = |options: &[&str], program: &[&str]| {
        let options = [&["--format", "json", "--baseline-runs", "1"], options].concat();
        let output = sweep.run(&options, program);
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        (lines, output.status.code())
    };
    let (points, status) = run(&["--list"], &REPAIRED);
    assert!(points.len() > 40 && points[0]["rule"].is_string(), "{points:?}");
    assert_eq!(status, Some(0));
    assert_eq!(run(&["--check", "false"], &REPAIRED), (Vec::new(), Some(3)));
    assert_eq!(run(&["--faults", "EINTR"], &["reap-ring", "4"]), (Vec::new(), Some(2)));
    let (outcomes, status) = run(&["--faults", "EAGAIN", "--mode", "once"], &REPAIRED);
    assert_eq!((outcomes.len(), status), (6, Some(0)));
}

fn parts_of_a_sweep_tell_together_what_the_whole_tells() {
    let parts = ["1/2", "2/2"].map(|part| {
        let sweep = Sweep::new();
        let output = sweep.run(&[&FEW[..], &["--shard", part]].concat(), &REPAIRED);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        sweep.table()
    });
    let together: std::collections::BTreeMap<_, _> = parts.iter().flatten().collect();
    assert_eq!(together.len(), parts[0].len() + parts[1].len());
    let whole = Sweep::new();
    // What the budget leaves, --resume does.
    let budget = whole.run(&[&FEW[..], &["--budget", "1ns"]].concat(), &REPAIRED);
    assert_eq!(budget.status.code(), Some(2), "{}", text(&budget));
    let output = whole.run(&[&FEW[..], &["--resume"]].concat(), &REPAIRED);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(whole.table().iter().collect::<std::collections::BTreeMap<_, _>>(), together);
}

fn what_was_bad_is_tried_again_and_nothing_else() {
    let sweep = Sweep::new();
    let at = |name: &str| sweep.directory.path().join(name);
    std::fs::write(at("arguments"), "planted").unwrap();
    let script = format!("exec {} $(cat arguments)", programs().display());
    let count = |name: &str| std::fs::read_to_string(at(name)).unwrap_or_default().lines().count();
    let options = [
        "--faults",
        "res=ENOSPC",
        "--mode",
        "once",
        "--baseline-runs",
        "1",
        "--setup",
        "echo x >> setups",
        "--reset",
        "echo $AIOTRACE_SWEEP_RUN >> resets",
    ];
    let output = sweep.script(&options, &script);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let bad: Vec<_> = sweep.lines().iter().map(|it| it["outcome"].clone()).collect();
    assert_eq!(bad, ["lost", "died", "reported"], "{}", text(&output));
    assert_eq!((count("setups"), count("resets")), (1, 1 + 2 + 2 + 1));
    std::fs::remove_file(at("resets")).unwrap();
    std::fs::write(at("arguments"), "planted repaired").unwrap();
    let output = sweep.script(&[&options[..], &["--iterate"]].concat(), &script);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let runs = std::fs::read_to_string(at("resets")).unwrap();
    assert_eq!(runs.lines().collect::<Vec<_>>(), ["001", "002"], "{}", text(&output));
    assert!(sweep.table().values().all(|it| it == "reported"), "{}", text(&output));
    assert_eq!((count("setups"), sweep.lines().len()), (1, 3));
}

/// After a change the sites of what was bad may not be there any more: that is no success, however often it is asked.
fn what_was_bad_and_is_not_reached_any_more_is_told() {
    let sweep = Sweep::new();
    let arguments = sweep.directory.path().join("arguments");
    std::fs::write(&arguments, "planted").unwrap();
    let script = format!("exec {} $(cat arguments)", programs().display());
    let options = ["--faults", "res=ENOSPC", "--mode", "once", "--baseline-runs", "1"];
    let output = sweep.script(&options, &script);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    std::fs::write(&arguments, "pairs 2").unwrap();
    for _ in 0..2 {
        let output = sweep.script(&[&options[..], &["--iterate"]].concat(), &script);
        let shown = text(&output);
        assert_eq!(output.status.code(), Some(2), "{shown}");
        assert_eq!(shown.matches("not made any more: res=ENOSPC once at").count(), 2, "{shown}");
        assert!(shown.contains("which was lost") && shown.contains("which was died"), "{shown}");
    }
    std::fs::write(&arguments, "planted repaired").unwrap();
    let output = sweep.script(&[&options[..], &["--iterate"]].concat(), &script);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let other = sweep.script(&[&options[..], &["--resume", "--check", "true"]].concat(), &script);
    assert_eq!(other.status.code(), Some(2), "{}", text(&other));
    assert!(text(&other).contains("--check"), "{}", text(&other));
}

/// With several runs at a time, what is bad is confirmed at the end. What was seen before is not lost.
fn what_was_bad_in_one_run_is_run_again_after_an_interruption() {
    let sweep = Sweep::new();
    let options = ["--faults", "res=ENOSPC", "--mode", "once", "--baseline-runs", "1", "-j", "2"];
    let mut child = sweep.command(&options, &["planted"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let suspected = sweep.output().join("runs.jsonl");
    await_that("a run was bad", || std::fs::metadata(&suspected).is_ok_and(|it| it.len() > 0));
    child.kill().unwrap();
    child.wait().unwrap();
    await_nothing_left(&sweep);
    let output = sweep.run(&[&options[..], &["--resume"]].concat(), &["planted"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let outcomes: Vec<_> = sweep.lines().iter().map(|it| it["outcome"].clone()).collect();
    assert!(outcomes.contains(&"lost".into()) && outcomes.contains(&"died".into()));
    assert_eq!(outcomes.len(), 3);
    // Each bad one was run twice in all.
    let names = std::fs::read_dir(sweep.output().join("logs")).unwrap();
    let names: Vec<_> = names.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.iter().filter(|it| it.ends_with("-2.log")).count(), 2, "{names:?}");
    assert!(!names.iter().any(|it| it.ends_with("-3.log")), "{names:?}");
}

/// What was told before is kept; when there is room again, the sweep goes on.
fn a_full_disk_loses_no_outcome_that_was_told() {
    let whole = Sweep::new();
    assert_eq!(whole.run(&FEW, &REPAIRED).status.code(), Some(0));
    let sweep = Sweep::new();
    let Some(_disk) = Mounted::memory(sweep.directory.path(), "size=2m") else { return };
    let filler = sweep.directory.path().join("filler");
    let fill =
        format!("test $AIOTRACE_SWEEP_RUN != 004 || cat /dev/zero > {} || true", filler.display());
    let output = sweep.run(&[&FEW[..], &["--reset", &fill]].concat(), &REPAIRED);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(
        text(&output).contains("No space left") && text(&output).contains("--resume"),
        "{}",
        text(&output)
    );
    let told = sweep.lines();
    assert!((3..whole.lines().len()).contains(&told.len()), "{told:?}");
    std::fs::remove_file(&filler).unwrap();
    let output = sweep.run(&[&FEW[..], &["--resume"]].concat(), &REPAIRED);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(sweep.lines()[..told.len()], told);
    assert_eq!(sweep.table(), whole.table());
}

fn a_terminal_shows_how_far_it_is_and_how_long_it_takes() {
    let sweep = Sweep::new();
    let mut pty = Pty::start(sweep.command(&FEW, &REPAIRED), (80, 60));
    pty.await_screen("the baseline", |it| it.contents().contains("baseline 1/2"));
    pty.await_screen("the time that is left", |it| {
        let line = it.contents();
        line.contains("/6  eta ") && line.contains("  now E")
    });
    let end = pty.await_screen("the table", |it| it.contents().contains("6 of 6 points"));
    assert!(!end.contains("eta"), "{end}");
    assert_eq!(pty.child.wait().unwrap().code(), Some(0));
}

tests![
    a_sweep_that_is_killed_at_any_moment_goes_on_and_leaves_nothing_behind if ONCE,
    ctrl_c_ends_the_run_and_says_how_to_go_on if ONCE,
    a_program_that_is_not_the_same_without_faults_is_not_judged if ONCE,
    a_sweep_without_faults_says_why_and_is_no_success if ONCE,
    the_plan_is_shown_and_split if ONCE,
    an_older_sweep_stays_until_the_baseline_of_the_next_one_has_passed if ONCE,
    a_script_that_does_not_end_is_ended if ONCE,
    stdout_has_nothing_but_json_if_that_is_asked_for if ONCE,
    parts_of_a_sweep_tell_together_what_the_whole_tells if ONCE,
    what_was_bad_is_tried_again_and_nothing_else if ONCE,
    what_was_bad_and_is_not_reached_any_more_is_told if ONCE,
    what_was_bad_in_one_run_is_run_again_after_an_interruption if ONCE,
    a_full_disk_loses_no_outcome_that_was_told if ONCE,
    a_terminal_shows_how_far_it_is_and_how_long_it_takes if ONCE,
];
