//! Other people's programs: every finding above info is true. Each program was looked at by hand once; beside its
//! test stands which findings are allowed, and why.

use std::{path::Path, process::Command};

use aiotrace::output::json::CompletionLine;

use super::{
    harness::Need,
    support::{Attached, Trace, run},
};

/// The findings about a command, without those of severity info.
fn above_info(command: &[&str]) -> Vec<String> {
    let trace = run(command);
    // All of these programs waited for their requests: where no probe sees completions, aiotrace knows only an upper
    // bound.
    let ends = trace.gone();
    let is_true = ends.iter().all(|it| it.at_most || it.in_flight.is_none_or(|count| count == 0));
    assert!(is_true, "{command:?}: {ends:?}");
    assert!(trace.status.success(), "{command:?}: {}", trace.stderr);
    trace.assert_nothing_lost();
    assert!(!trace.setups().is_empty(), "{command:?} uses kernel AIO");
    let found = trace.findings();
    let above = found.iter().filter(|it| it.severity != "info");
    above.map(|it| format!("{} {}", it.severity, it.name)).collect()
}

fn fio(file: &Path, more: &[&str]) -> Vec<String> {
    let filename = format!("--filename={}", file.display());
    let command = ["fio", "--name=x", &filename, "--size=16M", "--rw=randrw", "--bs=4k"];
    let command = command.iter().copied().chain(["--ioengine=libaio", "--iodepth=16"]);
    command.chain(more.iter().copied()).map(str::to_owned).collect()
}

/// fio reaps with io_getevents, or from the ring; its requests are buffered (inline-completion: true, the page cache
/// is not asynchronous) or use O_DIRECT.
/// Without O_DIRECT, io_submit waits for the disk itself (blocking-submit: true, if the disk is slow enough).
fn nothing_is_wrong_with_fio() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f");
    for reap in ["--userspace_reap=0", "--userspace_reap=1"] {
        for direct in ["--direct=0", "--direct=1"] {
            let command = fio(&file, &[reap, direct]);
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            let mut found = above_info(&command);
            found.retain(|it| direct == "--direct=1" || it != "warning blocking-submit");
            assert_eq!(found, [""; 0], "{reap} {direct}");
        }
    }
}

/// qemu-img reaps from the ring and exits without io_destroy (released-at-exit: true). Without a probe inside of the
/// kernel, nobody knows whether its last writes completed before the exit (unsure). Its writes extend the file, and
/// io_submit waits for that (blocking-submit: true, if the disk is slow enough).
fn nothing_is_wrong_with_qemu_img() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("q");
    let file = file.to_str().unwrap();
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "raw", file, "32M"]).status();
    assert!(made.unwrap().success());
    let bench = ["qemu-img", "bench", "-t", "none", "-n", "-c", "2000", "-d", "16", "-f", "raw"];
    for write in [&[][..], &["-w"]] {
        let command: Vec<&str> = bench.iter().chain(write).copied().chain([file]).collect();
        let mut found = above_info(&command);
        found.retain(|it| it != "warning blocking-submit");
        assert_eq!(found, [""; 0], "{write:?}");
    }
}

fn nothing_is_wrong_with_sysbench() {
    let directory = tempfile::tempdir().unwrap();
    let script = format!(
        "cd {} && sysbench fileio --file-total-size=16M --file-num=4 prepare > /dev/null && exec \
         sysbench fileio --file-total-size=16M --file-num=4 --file-test-mode=rndrw --threads=2 \
         --file-io-mode=async --file-extra-flags=direct --events=2000 run > /dev/null",
        directory.path().display()
    );
    assert_eq!(above_info(&["sh", "-c", &script]), [""; 0]);
}

/// stress-ng writes beyond the end of its file, and io_submit waits for that (blocking-submit: true, if the disk is
/// slow enough). It cancels requests that cannot be cancelled (cancel-refused: true), and makes calls with arguments
/// that are wrong on purpose (refused-calls: true).
fn nothing_is_wrong_with_stress_ng() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let command = ["stress-ng", "--aiol", "2", "--aiol-ops", "500", "--temp-path", path];
    let mut found = above_info(&command);
    found.retain(|it| !["warning blocking-submit", "warning refused-calls"].contains(&&**it));
    assert_eq!(found, [""; 0]);
}

/// aiotrace attaches in the middle of the work, with requests in flight: it guesses nothing about what happened
/// before.
fn a_busy_fio_is_adopted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f");
    let mut command = fio(&file, &["--direct=1", "--iodepth=32", "--time_based", "--runtime=60"]);
    command.push("--thread".into());
    let mut fio = Command::new("fio")
        .args(&command[1..])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid = fio.id();
    // Waits until fio works: it has a ring, and has written to it.
    let is_busy = || {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let mut lines = maps.lines();
        let ring = lines.find_map(|it| aiotrace::proc::ring::mapped(it.as_bytes())).map(|it| it.0);
        ring.and_then(|at| aiotrace::proc::ring::read(pid, at)).is_some_and(|it| it.tail > 50)
    };
    while !is_busy() {
        assert!(fio.try_wait().unwrap().is_none(), "fio ended");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let trace = Attached::new(&["-p", &pid.to_string(), "-d", "1"]).end();
    let _ = fio.kill();
    let _ = fio.wait();
    check_adopted(&trace, pid);
}

fn check_adopted(trace: &Trace, pid: u32) {
    trace.assert_nothing_lost();
    assert!(trace.findings().is_empty(), "{:?}", trace.findings());
    let [adopted] = trace.adopted()[..] else { panic!("{:?}", trace.adopted()) };
    assert_eq!((adopted.pid, adopted.charge), (pid, Some(32)));
    let [context] = &trace.report().contexts[..] else { panic!("{:?}", trace.report().contexts) };
    assert!(context.adopted && context.sure, "{context:?}");
    assert!(context.peak_in_flight <= 32 && context.in_flight <= 32, "{context:?}");
    assert!(context.requests > 100, "{context:?}");
    // Completions of requests that aiotrace does not know: they were in flight before the attach, or were submitted
    // after the ring was adopted and before calls were recorded.
    let completions = trace.completions().len() as u64;
    let strangers = completions - context.requests;
    let is_undated = |it: &&&CompletionLine| it.since.as_ref().is_some_and(|it| it.0 == 0);
    let undated = trace.completions().iter().filter(is_undated).count() as u64;
    assert!(strangers <= 32 + undated, "{strangers} of {completions}, {undated} undated");
    // Every event that was reaped was seen to complete, except for those that were in the ring at the attach.
    let (accepted, reaped) = trace.accepted_and_reaped();
    let before =
        u64::from(adopted.ring.as_ref().map_or(0, |it| (it.tail + it.nr - it.head) % it.nr));
    let unreaped = context.unreaped.unwrap();
    // Events that were reaped before recording began were in the ring when it was adopted, or belong to unknown
    // requests.
    let unseen = completions + before - (reaped + unreaped);
    assert!(unseen <= before + strangers, "{unseen}, {before} + {strangers}, left {unreaped}");
    // The iocbs of a call that began before the attach are unknown, so their completions cannot be assigned.
    let submits = trace.submits();
    let unnamed = submits.iter().filter(|it| &*it.entry == "before_attach");
    let unnamed: u64 = unnamed.map(|it| it.ret.max(0) as u64).sum();
    let named = context.requests + context.in_flight;
    assert!((named..=named + unnamed).contains(&accepted), "{accepted}, {context:?}");
}

const PROGRAMS: Need = Need::Native("the guests do not have these programs");

tests![
    nothing_is_wrong_with_fio if PROGRAMS,
    nothing_is_wrong_with_qemu_img if PROGRAMS,
    nothing_is_wrong_with_sysbench if PROGRAMS,
    nothing_is_wrong_with_stress_ng if PROGRAMS,
    a_busy_fio_is_adopted if PROGRAMS,
];
