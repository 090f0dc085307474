//! `aiotrace top`: what it shows is what `ls` and `-c` say, on the screen and as tables.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{
    harness::Need,
    pty::Pty,
    schema,
    support::{Program, aiotrace, programs},
};

/// The charge of the contexts of `hold COUNT`.
fn charge(count: u64) -> u64 {
    (0..count).map(|index| 1 + index % 9).sum()
}

/// The cells of the row of this process.
fn row(text: &str, pid: u32) -> Vec<String> {
    let line = text.lines().find(|it| it.split_whitespace().next() == Some(&pid.to_string()));
    line.map(|it| it.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

fn tables_are_what_ls_and_the_counters_say() {
    let held = Program::ready(&["hold", "45"]);
    let busy = Program::ready(&["hold", "3"]);
    let columns = ["--columns", "pid,ctx,charge,req,reap,name"];
    let output =
        aiotrace().args(["top", "-b", "-n", "2", "-d", "500ms"]).args(columns).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let tables: Vec<&str> = text.split("\n\n").filter(|it| !it.is_empty()).collect();
    assert_eq!(tables.len(), 2, "{text}");
    for table in tables {
        let cells = row(table, held.pid());
        assert_eq!(&cells[1..3], ["45", &charge(45).to_string()], "{table}");
        assert_eq!(cells[3], "0", "it makes no requests: {table}");
        assert!(!row(table, busy.pid()).is_empty(), "{table}");
    }
    let only = aiotrace()
        .args(["top", "-b", "-n", "1", "-d", "100ms", "-p", &held.pid().to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(only.stdout).unwrap();
    assert!(!row(&text, held.pid()).is_empty() && row(&text, busy.pid()).is_empty(), "{text}");
}

fn a_process_that_ends_in_the_interval_is_in_its_table() {
    let mut top = aiotrace();
    top.args(["top", "-b", "-d", "200ms", "--columns", "name,req,reap"]);
    let mut top = top.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    // The first table is there: calls are counted from now on.
    while !next().is_empty() {}
    let status = Command::new(programs()).args(["pairs", "1000"]).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
    // Each of the tables that follow may be the one.
    let is_it = |line: &String| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        cells.first() == Some(&"aio-programs") && cells.get(1).is_some_and(|it| *it != "0")
    };
    assert!(std::iter::repeat_with(next).take(10_000).any(|it| is_it(&it)));
    kill(Pid::from_raw(top.id() as i32), Signal::SIGTERM).unwrap();
    assert!(top.wait().unwrap().success());
}

fn json_has_the_interval_lines() {
    let output = aiotrace()
        .args(["top", "-b", "-n", "3", "-d", "100ms", "--format", "json"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .inspect(|it| schema::check(it))
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(lines[0]["event"], "start");
    let intervals = lines.iter().filter(|it| it["event"] == "interval").count();
    assert_eq!(intervals, 3, "{text}");
    assert_eq!(lines.last().unwrap()["event"], "interval", "nothing comes after the last");
}

fn the_screen_shows_it_goes_into_it_and_leaves_nothing_behind() {
    let held = Program::ready(&["hold", "45"]);
    let mut command = aiotrace();
    command.args(["top", "-d", "200ms", "-s", "charge", "-F", &format!("^{} ", held.pid())]);
    let mut pty = Pty::start(command, (80, 24));
    let pid = held.pid();
    let shown = pty.await_screen("its row", |it| !row(&it.contents(), pid).is_empty());
    let cells = row(&shown, pid);
    assert_eq!(&cells[2..4], ["45", &charge(45).to_string()], "{shown}");
    assert!(shown.contains("fs.aio-nr") && shown.contains("none lost"), "{shown}");
    pty.type_keys("\r");
    let of = format!("of aio-programs:{pid}");
    let contexts = pty.await_screen("its contexts", |it| {
        it.contents().contains(&of) && it.contents().contains(" 0x")
    });
    assert!(contexts.contains("CHARGE"), "{contexts}");
    pty.type_keys("q");
    assert!(pty.end().success());
}

fn a_second_signal_leaves_the_terminal_as_it_was() {
    let mut command = aiotrace();
    command.args(["top", "-d", "200ms"]);
    let pty = Pty::start(command, (80, 24));
    pty.await_text("none lost");
    let pid = Pid::from_raw(pty.child.id() as i32);
    kill(pid, Signal::SIGTERM).unwrap();
    let _ = kill(pid, Signal::SIGTERM);
    pty.end();
}

fn a_recording_is_played() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pairs.aiotrace");
    let status = aiotrace()
        .args(["run", "-q", "-f", "-o", "/dev/null", "--record"])
        .arg(&file)
        .arg("--")
        .arg(programs())
        .args(["pairs", "1000"])
        .status()
        .unwrap();
    assert!(status.success());
    let output = aiotrace().args(["top", "-b", "-d", "60s"]).arg(&file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("aio-programs"), "{text}");
    let mut command = aiotrace();
    command.args(["top", "-d", "10ms"]).arg(&file);
    let mut pty = Pty::start(command, (100, 24));
    pty.await_text("a recording by");
    pty.type_keys("3");
    pty.await_text("pread fd=");
    pty.type_keys("q");
    assert!(pty.end().success());
}

const TERMINAL: Need = Need::Native("it needs a terminal, and a guest has none");

tests![
    tables_are_what_ls_and_the_counters_say if Need::SLOW,
    a_process_that_ends_in_the_interval_is_in_its_table if Need::SLOW,
    json_has_the_interval_lines if Need::SLOW,
    the_screen_shows_it_goes_into_it_and_leaves_nothing_behind if TERMINAL,
    a_second_signal_leaves_the_terminal_as_it_was if TERMINAL,
    a_recording_is_played if TERMINAL,
];
