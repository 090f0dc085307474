//! Files with code that cost whoever reads their tables for unwinding, or their symbols, as much as they can. As in
//! [`super::hostile`], the targets run as nobody; and another target must not notice.

use std::{path::Path, time::Duration};

use super::{
    bombs,
    harness::Need,
    hostile::{SOURCES, copy, directory, with_file},
    machine,
    support::{Attached, Program, Trace},
};

/// Traces a target that makes calls from code in this file, beside one that says how long it was held up.
fn traced(options: &[&str], how: &str, file: &Path) -> (Trace, Duration) {
    let mut innocent = Program::ready(&["heartbeat"]);
    let mut target = Program::ready_as_nobody(&["attack", how, file.to_str().unwrap()]);
    let pids = format!("{},{}", innocent.pid(), target.pid());
    let attached = Attached::new(&[options, &["-p", &pids]].concat());
    target.go_on();
    assert!(target.child.wait().unwrap().success());
    innocent.go_on();
    let held_up = Duration::from_millis(innocent.line().parse().unwrap());
    assert!(innocent.child.wait().unwrap().success());
    (attached.end(), held_up)
}

/// A table for unwinding without an index, of a file that is mapped in 120 places: an index for each of them would take
/// minutes, and gigabytes.
fn a_table_without_an_index_is_read_once_or_not_at_all() {
    const MOST_MEMORY: u64 = 128 << 20;
    for source in SOURCES {
        let some = if machine::runs_everything() { 2 } else { 1 };
        for mebibytes in [8, 1].into_iter().take(some) {
            let directory = directory();
            let file = directory.path().join("x");
            bombs::without_index(&file, mebibytes);
            let (trace, held_up) = traced(&[source, &["--stacks"]].concat(), "regions", &file);
            assert!(trace.status.success(), "{source:?}: {}", trace.stderr);
            assert_eq!(with_file(&trace, &file), 120, "{source:?}: {}", trace.stderr);
            let memory = trace.report().cost.as_ref().unwrap().memory_bytes;
            assert!(memory < MOST_MEMORY, "{source:?}, {mebibytes} MiB: {memory}");
            // It was 36 s and more.
            assert!(held_up < Duration::from_secs(4), "{source:?}, {mebibytes} MiB: {held_up:?}");
        }
    }
}

/// Symbols that take minutes to read, while threads are held in stops because a rule has to know the call sites.
fn symbols_that_take_minutes_do_not_hold_up_another_target() {
    let directory = directory();
    let file = copy(directory.path());
    bombs::write(&file, bombs::MUCH_TIME);
    let rule = "io_setup:error=EAGAIN:caller=nobody";
    let options = ["--source", "ptrace", "--inject", rule];
    let (trace, held_up) = traced(&options, "plain", &file);
    assert_eq!(trace.setups().len(), 8, "{}", trace.stderr);
    let said = format!("no names of the functions in {}: no answer within 1s", file.display());
    assert_eq!(trace.stderr.matches(&said).count(), 1, "{}", trace.stderr);
    // With the patience of whoever shows events it is 5 s.
    assert!(held_up < Duration::from_secs(4), "{held_up:?}");
}

tests![
    a_table_without_an_index_is_read_once_or_not_at_all if Need::LONG,
    symbols_that_take_minutes_do_not_hold_up_another_target if Need::LONG,
];
