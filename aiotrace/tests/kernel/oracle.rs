//! The same run under strace and under aiotrace: the same calls with the same arguments and
//! results, thread by thread. strace runs *inside* of aiotrace, so that both see one run.

use std::ffi::OsString;

use super::{harness::Need, strace, support};

/// Runs a command under both and compares the calls. Returns their number.
fn compare(command: &[OsString]) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let prefix = directory.path().join("strace");
    let mut all: Vec<OsString> = vec!["strace".into()];
    all.extend(strace::OPTIONS.map(OsString::from));
    all.push(prefix.into());
    all.extend(command.iter().cloned());
    let trace = support::run(&all);
    assert!(trace.status.success(), "{command:?}: {}", trace.stderr);
    trace.assert_nothing_lost();
    let (theirs, ours) = (strace::read(directory.path()), strace::of(&trace.lines));
    assert_eq!(
        theirs.keys().collect::<Vec<_>>(),
        ours.keys().collect::<Vec<_>>(),
        "threads that make calls"
    );
    for (tid, theirs) in &theirs {
        let ours = &ours[tid];
        assert_eq!(theirs.len(), ours.len(), "calls of {tid}");
        for (index, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
            assert!(agree(theirs, ours), "call {index}\nstrace   {theirs}\naiotrace {ours}");
        }
    }
    theirs.values().map(Vec::len).sum()
}

/// Whether two calls are equal, up to the 4,096 iocbs or events that aiotrace records.
fn agree(theirs: &str, ours: &str) -> bool {
    let Some((head, tail)) = ours.split_once(", ...]") else { return theirs == ours };
    theirs.starts_with(head) && theirs.ends_with(tail)
}

fn tiny(arguments: &[&str]) -> usize {
    let mut command = vec![support::programs().into_os_string()];
    command.extend(arguments.iter().map(OsString::from));
    compare(&command)
}

fn words(command: &str) -> Vec<OsString> {
    command.split_whitespace().map(OsString::from).collect()
}

fn every_documented_errno() {
    assert!(tiny(&["errnos"]) > 40);
}

fn calls_through_libaio() {
    assert_eq!(tiny(&["libaio"]), 6);
}

fn submits_of_every_size() {
    for nr in ["1", "2", "64", "65", "1000", "4096", "5000"] {
        assert_eq!(tiny(&["submit", nr]), 4, "io_submit of {nr}");
    }
}

fn memory_that_cannot_be_read() {
    assert_eq!(tiny(&["unreadable"]), 5);
}

fn calls_denied_by_seccomp() {
    assert_eq!(tiny(&["seccomp"]), 6);
}

fn threads_that_reuse_iocbs() {
    assert!(tiny(&["reuse", "300"]) >= 602);
}

fn sixty_four_threads() {
    assert_eq!(tiny(&["threads", "64"]), 64 * 202);
}

fn children_and_a_new_program() {
    assert_eq!(tiny(&["fork", "20"]), 20 * 4);
    assert_eq!(tiny(&["exec"]), 3 + 6);
}

fn a_program_that_reaps_from_the_ring() {
    assert_eq!(tiny(&["reap-ring", "300"]), 302);
}

fn fio() {
    let directory = tempfile::tempdir().unwrap();
    for (depth, direct, jobs) in [(1, 0, 1), (1, 1, 1), (16, 0, 1), (16, 1, 1), (16, 1, 4)] {
        let calls = compare(&words(&format!(
            "fio --name=j --ioengine=libaio --rw=randrw --bs=4k --size=8m --filename={} \
             --iodepth={depth} --direct={direct} --numjobs={jobs} --number_ios=300 --output=/dev/null",
            directory.path().join("file").display(),
        )));
        assert!(calls >= jobs * 300, "{calls} calls at depth {depth}, direct {direct}");
    }
}

fn qemu_img_bench() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(16 << 20).unwrap();
    let path = image.path().display();
    let calls = compare(&words(&format!("qemu-img bench -n -t none -f raw -c 300 -d 8 {path}")));
    assert!(calls >= 300, "{calls} calls");
}

fn stress_ng() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let calls = compare(&words(&format!("stress-ng --aiol 1 --aiol-ops 20 --temp-path {path}")));
    assert!(calls >= 30, "{calls} calls");
}

fn sysbench() {
    let directory = tempfile::tempdir().unwrap();
    let common = "fileio --file-num=2 --file-total-size=8M";
    let prepared = std::process::Command::new("sysbench")
        .args(common.split(' '))
        .arg("prepare")
        .current_dir(&directory)
        .output()
        .unwrap();
    assert!(prepared.status.success());
    // sysbench works in the current directory.
    let calls = compare(&words(&format!(
        "env -C {} sysbench {common} --file-test-mode=rndrw --file-io-mode=async --events=300 run",
        directory.path().display(),
    )));
    assert!(calls >= 300, "{calls} calls");
}

const STRACE: Need = Need::Native("it runs strace");

tests![
    every_documented_errno if STRACE,
    calls_through_libaio if STRACE,
    submits_of_every_size if STRACE,
    memory_that_cannot_be_read if STRACE,
    calls_denied_by_seccomp if STRACE,
    threads_that_reuse_iocbs if STRACE,
    sixty_four_threads if STRACE,
    children_and_a_new_program if STRACE,
    a_program_that_reaps_from_the_ring if STRACE,
    fio if STRACE,
    qemu_img_bench if STRACE,
    stress_ng if STRACE,
    sysbench if STRACE,
];
