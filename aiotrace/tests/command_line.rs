//! The command line without a kernel: wrong use, and what is said of it. No root needed.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::process::{Command, Output};

fn aiotrace(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aiotrace")).args(arguments).output().unwrap()
}

fn stderr(arguments: &[&str], status: i32) -> String {
    let output = aiotrace(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn a_target_is_required_and_there_is_one_kind_of_it() {
    assert!(stderr(&["attach"], 2).contains("--pid"));
    assert!(stderr(&["attach", "-a", "-p", "1"], 2).contains("cannot be used with"));
    assert!(stderr(&["attach", "-p", "fio"], 2).contains("\"fio\" is not a process id"));
    assert!(stderr(&["attach", "-p", ""], 2).contains("does the program run?"));
    assert!(stderr(&["run"], 125).contains("<CMD>"));
}

#[test]
fn a_process_that_is_not_there_is_said_so_before_anything_else() {
    // Larger than any pid (PID_MAX_LIMIT is 4,194,304).
    let text = stderr(&["attach", "-p", "4194305"], 2);
    assert!(text.contains("no such process: 4194305"), "{text}");
    assert!(text.contains("`pidof NAME`"), "{text}");
}

#[test]
fn wrong_values_say_what_is_right() {
    let text = stderr(&["attach", "-a", "-d", "soon"], 2);
    assert!(text.contains("write for instance 500ms, 10s or 2m"), "{text}");
    let text = stderr(&["attach", "-a", "--format", "xml"], 2);
    assert!(text.contains("text, json"), "{text}");
}

#[test]
fn the_help_fits_a_terminal() {
    for command in
        [&["--help"][..], &["attach", "-h"], &["run", "-h"], &["ls", "-h"], &["explain", "-h"]]
    {
        let output = aiotrace(command);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(!text.contains('\x1b'), "no colours where there is no terminal");
    }
    insta::assert_snapshot!(String::from_utf8(aiotrace(&["attach", "-h"]).stdout).unwrap());
}

#[test]
fn an_errno_is_explained() {
    let text = String::from_utf8(aiotrace(&["explain", "io_setup", "EAGAIN"]).stdout).unwrap();
    insta::assert_snapshot!(text);
    let same = aiotrace(&["explain", "io_setup", "-11"]);
    assert_eq!(String::from_utf8(same.stdout).unwrap(), text, "numbers will do");
    let all = String::from_utf8(aiotrace(&["explain", "io_cancel"]).stdout).unwrap();
    assert!(all.contains("io_cancel EINPROGRESS"), "{all}");
    let text = stderr(&["explain", "io_uring"], 2);
    assert!(text.contains("the calls are io_setup, "), "{text}");
    assert!(text.contains("the findings are context-leak, "), "{text}");
    assert!(stderr(&["explain", "io_setup", "EGAIN"], 2).contains("\"EGAIN\" is no errno"));
    let text = stderr(&["explain", "io_setup", "EPIPE"], 2);
    assert!(
        text.contains("io_setup is not known to return EPIPE; it returns EAGAIN, EFAULT"),
        "{text}"
    );
}

#[test]
fn a_finding_is_explained() {
    let explain = |name: &[&str]| {
        let output = aiotrace(&[&["explain"], name].concat());
        assert_eq!(output.status.code(), Some(0), "{name:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        // Tables of the document have no place here.
        assert!(text.lines().all(|line| line.chars().count() <= 88), "{text}");
        text
    };
    insta::assert_snapshot!(explain(&["unreaped-completions"]));
    for name in aiotrace::model::Name::ALL {
        let text = explain(&[name.text()]);
        assert!(text.starts_with(&format!("{}\n  severity  ", name.text())), "{text}");
        assert!(text.contains("\n  do        "), "{text}");
    }
    let all = explain(&[]);
    assert!(all.contains("\n  short-io ") && all.contains("\n  io_cancel "), "{all}");
    let text = stderr(&["explain", "short-io", "EIO"], 2);
    assert!(text.contains("short-io is a finding and has no errno"), "{text}");
}
