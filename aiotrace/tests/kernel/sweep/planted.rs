//! A program with planted defects: each is found as its kind and nothing else, and none is found in its repaired twin.

use std::{ffi::OsStr, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    super::support::{aiotrace, programs},
    ONCE, Sweep, bad, check, pasted, text,
};

fn each_planted_defect_is_found_as_its_kind_and_nothing_else() {
    let sweep = Sweep::new();
    let output = sweep.run(&["--check", &check(), "-j", "2", "--timeout", "4s"], &["planted"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let expected = [
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
    lines_that_can_be_pasted_give_the_same(&sweep);
    let page = std::fs::read_to_string(sweep.output().join("index.html")).unwrap();
    assert!(page.contains("write_batch") && !page.contains("<script"));
    let junit = std::fs::read_to_string(sweep.output().join("junit.xml")).unwrap();
    assert_eq!(junit.matches("<failure").count(), expected.len(), "{junit}");
    assert_eq!((sweep.files("runs"), sweep.files("traces")), (0, 0));
}

/// Each of them, run by a shell: the status shows the outcome, or the report does.
fn lines_that_can_be_pasted_give_the_same(sweep: &Sweep) {
    let lines: Vec<Value> =
        sweep.lines().into_iter().filter(|it| it["recording"].is_string()).collect();
    // Those that hang do so at the same time.
    std::thread::scope(|scope| {
        for some in lines.chunks(lines.len().div_ceil(4)) {
            scope.spawn(move || some.iter().for_each(gives_the_same));
        }
    });
}

fn gives_the_same(line: &Value) {
    let output = pasted(line);
    let (shown, status) = (text(&output), output.status.code());
    let is_same = match line["outcome"].as_str().unwrap() {
        "corrupt" => status == Some(1) && shown.contains("is not as it was written"),
        "lost" => status == Some(0) && shown.contains(" lost "),
        "died" => status == Some(134) && shown.contains("died by SIGABRT"),
        "hung" => status == Some(124),
        "leaked" => status == Some(0) && shown.contains("released-at-exit"),
        _ => false,
    };
    assert!(is_same, "{line}\n{status:?}\n{shown}");
}

fn the_repaired_twin_has_no_defect() {
    let sweep = Sweep::new();
    let output = sweep.run(&["--check", &check(), "-j", "2"], &["planted", "repaired"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(bad(&sweep.outcomes()), [""; 0], "{}", text(&output));
    // Outcomes would be fewer: which functions share a name depends on the compiler.
    assert!(sweep.lines().len() > 40, "{}", text(&output));
}

fn threads_and_a_program_without_symbols_have_the_same_outcomes() {
    let of = |program: &Path, arguments: &[&str]| {
        let sweep = Sweep::new();
        let options = ["--faults", "res=ENOSPC", "--mode", "once", "--baseline-runs", "2"];
        let words = [
            &[program.as_os_str()][..],
            &[OsStr::new("planted")],
            &arguments.iter().map(OsStr::new).collect::<Vec<_>>(),
        ]
        .concat();
        let output = sweep.of(&options, &words).output().unwrap();
        let died = sweep.lines().iter().filter(|it| it["outcome"] == "died").count();
        assert_eq!((sweep.lines().len(), died), (3, 1), "{}", text(&output));
        let line = sweep.lines().into_iter().find(|it| it["outcome"] == "died").unwrap();
        assert_eq!(pasted(&line).status.code(), Some(134), "{line}");
    };
    of(&programs(), &["16"]);
    let directory = TempDir::new().unwrap();
    let stripped = directory.path().join("stripped");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(programs()).status().unwrap();
    assert!(strip.success());
    of(&stripped, &[]);
}

/// Ignores what became of its only write.
const IGNORES: &str = r#"
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <unistd.h>
static char line[512];
__attribute__((noinline)) static void log_line(aio_context_t context, int fd) {
    struct iocb iocb = {.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = fd, .aio_nbytes = sizeof line};
    struct iocb *list[] = {&iocb};
    struct io_event event;
    iocb.aio_buf = (unsigned long)line;
    if (syscall(SYS_io_submit, context, 1, list) != 1) _exit(1);
    if (syscall(SYS_io_getevents, context, 1, 1, &event, 0) != 1) _exit(1);
}
int main(void) {
    aio_context_t context = 0;
    int fd = open("log", O_CREAT | O_WRONLY, 0600);
    if (fd < 0 || syscall(SYS_io_setup, 1, &context)) return 1;
    log_line(context, fd);
    return syscall(SYS_io_destroy, context) != 0;
}
"#;

fn a_static_program_has_sites_with_and_without_symbols() {
    let sweep = Sweep::new();
    let source = sweep.directory.path().join("ignores.c");
    std::fs::write(&source, IGNORES).unwrap();
    for more in [&[][..], &["-s"]] {
        let mut cc = Command::new("cc");
        cc.current_dir(sweep.directory.path()).args([
            "-O1",
            "-static",
            "-o",
            "ignores",
            "ignores.c",
        ]);
        let built = cc.args(more).output().unwrap();
        assert!(built.status.success(), "{}", text(&built));
        let output = sweep.of(&["--mode", "once"], &["./ignores"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let expected = [
            "io_getevents EINTR: reported x 1",
            "io_setup EAGAIN: reported x 1",
            "io_submit EAGAIN: reported x 1",
            "io_submit res=EIO: lost x 1",
            "io_submit res=ENOSPC: lost x 1",
            "io_submit short: lost x 1",
        ];
        assert_eq!(sweep.counts(), expected, "{}", text(&output));
        let has_names = text(&output).contains("io_submit from log_line < main");
        assert_eq!(has_names, more.is_empty(), "{}", text(&output));
    }
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

tests![
    each_planted_defect_is_found_as_its_kind_and_nothing_else if ONCE,
    the_repaired_twin_has_no_defect if ONCE,
    threads_and_a_program_without_symbols_have_the_same_outcomes if ONCE,
    a_static_program_has_sites_with_and_without_symbols if ONCE,
    a_rule_by_site_or_caller_acts_there_alone_and_not_by_bpf if ONCE,
];
