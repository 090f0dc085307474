//! Small programs, for one thing each that a sweep says of them.

use super::{super::support::programs, ONCE, Sweep, text};

/// Reads a file of three and a half blocks to its end, and prints nothing if it has read all of it.
const READS: &str = r#"
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <unistd.h>
#define BLOCK 4096
static char block[BLOCK];
__attribute__((noinline)) static long read_block(aio_context_t context, int fd, long at) {
    struct iocb iocb = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_nbytes = BLOCK, .aio_offset = at};
    struct iocb *list[] = {&iocb};
    struct io_event event;
    iocb.aio_buf = (unsigned long)block;
    if (syscall(SYS_io_submit, context, 1, list) != 1) _exit(1);
    if (syscall(SYS_io_getevents, context, 1, 1, &event, 0) != 1) _exit(1);
    return event.res;
}
int main(void) {
    aio_context_t context = 0;
    long at = 0, got;
    int fd = open("file", O_CREAT | O_TRUNC | O_RDWR, 0600);
    for (int part = 0; part < 7; part++)
        if (write(fd, block, BLOCK / 2) != BLOCK / 2) return 1;
    if (syscall(SYS_io_setup, 1, &context)) return 1;
    while ((got = read_block(context, fd, at)) > 0) at += got;
    if (got < 0 || at != 7 * BLOCK / 2) return 1;
    return syscall(SYS_io_destroy, context) != 0;
}
"#;

/// A short read gives fewer bytes than there are, never more: otherwise the file would have no end.
fn a_program_that_reads_to_the_end_of_a_file_finds_it() {
    let sweep = Sweep::new();
    let options =
        ["--faults", "short", "--baseline-runs", "1", "--timeout", "5s", "--check", "true"];
    let output = sweep.built(&options, READS);
    assert_eq!(sweep.counts(), ["io_submit short: recovered x 2"], "{}", text(&output));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let made = |mode: &str| {
        sweep.lines().into_iter().find(|it| it["mode"] == mode).unwrap()["made"].clone()
    };
    // Of the last block half is left, which is not less than the fault gives.
    assert_eq!((made("once"), made("always")), (1.into(), 6.into()));
}

/// In the baseline it makes the calls; otherwise it does this.
fn script(otherwise: &str) -> String {
    let program = programs().display().to_string();
    format!(
        "case $AIOTRACE_SWEEP_RUN in baseline*) exec {program} planted repaired;; *) {otherwise};; esac"
    )
}

const ONE: [&str; 6] = ["--faults", "accept=1", "--mode", "once", "--baseline-runs", "1"];

/// What goes wrong before the fault is bad, too. (Its twin is in going.rs: a run that only does not come there.)
fn a_program_that_crashes_before_the_fault_has_died() {
    let sweep = Sweep::new();
    let output = sweep.script(&ONE, &script("kill -SEGV $$"));
    assert_eq!(sweep.counts(), ["io_submit accept=1: died x 1"], "{}", text(&output));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("the fault was not made"), "{}", text(&output));
    let check = "case $AIOTRACE_SWEEP_RUN in baseline*) ;; *) exit 1;; esac";
    let options = [&ONE[..], &["--check", check]].concat();
    let output = sweep.script(&options, &script("exit 0"));
    assert_eq!(sweep.counts(), ["io_submit accept=1: corrupt x 1"], "{}", text(&output));
}

/// The log and the recording are those of the run that was bad, although another one came after it.
fn a_flaky_outcome_has_the_evidence_of_its_bad_run() {
    let sweep = Sweep::new();
    let once = "test -e seen && exec echo good; touch seen; echo bad; kill -SEGV $$";
    let output = sweep.script(&ONE, &script(once));
    assert_eq!(sweep.counts(), ["io_submit accept=1: flaky x 1"], "{}", text(&output));
    let line = &sweep.lines()[0];
    let read =
        |name: &str| std::fs::read(sweep.output().join(line[name].as_str().unwrap())).unwrap();
    assert!(String::from_utf8(read("log")).unwrap().contains("bad"), "{line}");
    assert!(!read("recording").is_empty() && line["status"] == 139, "{line}");
    assert!(text(&output).contains("first died, then not reached"), "{}", text(&output));
    let page = std::fs::read_to_string(sweep.output().join("index.html")).unwrap();
    assert!(page.contains("first died, then not reached"));
    assert_eq!(sweep.files("recordings"), 1);
}

/// Only what the program itself writes, and only what it does not write without a fault, is a crash.
fn what_is_said_without_a_fault_is_no_crash() {
    let sweep = Sweep::new();
    let say = |pid: &str| format!("echo \"=={pid}==ERROR: AddressSanitizer: SEGV on 0x{pid}\"");
    let program = format!("{}; exec {} planted repaired", say("$$"), programs().display());
    let check = say("9").replace("SEGV", "of the check");
    let reset = say("9").replace("SEGV", "of the reset");
    let options = [&ONE[..], &["--check", &check, "--reset", &reset]].concat();
    let output = sweep.script(&options, &program);
    assert_eq!(sweep.counts(), ["io_submit accept=1: recovered x 1"], "{}", text(&output));
    let other = say("9").replace("SEGV", "another error");
    let program = format!("test -n \"$AIOTRACE_SWEEP_FAULT\" && {other}; {program}");
    let output = sweep.script(&options, &program);
    assert_eq!(sweep.counts(), ["io_submit accept=1: died x 1"], "{}", text(&output));
    assert!(text(&output).contains("another error"), "{}", text(&output));
}

/// What is bad when the time is used up is said, and is not good.
fn a_budget_that_is_used_up_leaves_open_what_was_bad_once() {
    let sweep = Sweep::new();
    let slow = script("sleep 2; kill -SEGV $$");
    let options = ["--faults", "accept=1,EAGAIN", "--mode", "once", "--baseline-runs", "1"];
    let output = sweep.script(&[&options[..], &["--budget", "1s"]].concat(), &slow);
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(shown.contains("bad in one run, and not run again yet"), "{shown}");
    assert!(shown.contains("points have no outcome") && shown.contains("--resume"), "{shown}");
    let junit = std::fs::read_to_string(sweep.output().join("junit.xml")).unwrap();
    assert!(junit.contains("seen once, to be run again") && junit.contains("not tried"), "{junit}");
}

tests![
    a_program_that_reads_to_the_end_of_a_file_finds_it if ONCE,
    a_program_that_crashes_before_the_fault_has_died if ONCE,
    a_flaky_outcome_has_the_evidence_of_its_bad_run if ONCE,
    what_is_said_without_a_fault_is_no_crash if ONCE,
    a_budget_that_is_used_up_leaves_open_what_was_bad_once if ONCE,
];
