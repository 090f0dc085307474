//! Sweeps of other people's programs: what was seen by hand.

use std::process::Command;

use super::{
    super::{
        harness::cannot_run,
        support::{aiotrace, programs},
    },
    ONCE, Sweep, pasted, text,
};

const ONE_FAULT: [&str; 4] = ["--mode", "once", "--baseline-runs", "2"];

/// fio tries again what io_submit did not take, and goes on with the rest of a short request; it ends with another
/// status after an error.
fn fio_recovers_or_reports() {
    let sweep = Sweep::new();
    let program = "fio --name=j --ioengine=libaio --userspace_reap=0 --rw=write --bs=4k --size=64k --iodepth=4 \
                   --iodepth_batch=4 --direct=1 --filename=$AIOTRACE_SWEEP_DIR/file";
    let output = sweep.script(&ONE_FAULT, &format!("exec {program}"));
    let mut counts = sweep.counts();
    // The verdict on the rest of a short write is not sure where it comes from the next memory.
    let short: Vec<_> = counts.extract_if(.., |it| it.contains("short")).collect();
    assert!(
        ["io_submit short: recovered x 2", "io_submit short: unsure x 2"]
            .contains(&short[0].as_str()),
        "{}",
        text(&output)
    );
    let expected = [
        "io_getevents EINTR: recovered x 2",
        "io_setup EAGAIN: reported x 1",
        "io_submit EAGAIN: recovered x 2",
        "io_submit accept=1: recovered x 1",
        "io_submit res=EIO: reported x 2",
        "io_submit res=ENOSPC: reported x 2",
    ];
    assert_eq!(counts, expected, "{}", text(&output));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// It is told to go on after errors: then it loses a write and ends with status 0.
fn fio_that_goes_on_after_errors_loses_a_write() {
    let sweep = Sweep::new();
    let program = "fio --name=j --ioengine=libaio --rw=write --bs=4k --size=256k --iodepth=4 --direct=1 \
                   --continue_on_error=all --filename=$AIOTRACE_SWEEP_DIR/file";
    let options = [&ONE_FAULT[..], &["--faults", "res=EIO"]].concat();
    let output = sweep.script(&options, &format!("exec {program}"));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(sweep.counts(), ["io_submit res=EIO: lost x 1"], "{}", text(&output));
    let again = pasted(&sweep.lines()[0]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert!(text(&again).contains("lost 1 request"), "{}", text(&again));
}

/// qemu-img's requests have vectors: how long they are, their completions tell. The request that io_submit did not take
/// waits for the completion of another one, and there is none.
fn qemu_img_reports_each_fault_but_one_and_waits_for_ever_after_eagain() {
    let sweep = Sweep::new();
    let program = "qemu-img create -q -f raw $AIOTRACE_SWEEP_DIR/disk 1M && \
                   exec qemu-img bench -t none -n -w -c 8 -d 4 -f raw $AIOTRACE_SWEEP_DIR/disk";
    let output = sweep.script(&[&ONE_FAULT[..], &["--timeout", "5s"]].concat(), program);
    let expected = [
        "io_setup EAGAIN: reported x 1",
        "io_submit EAGAIN: hung x 1",
        "io_submit res=EIO: reported x 1",
        "io_submit res=ENOSPC: reported x 1",
        "io_submit short: reported x 1",
    ];
    // It reaps from the ring by itself, and may be faster than the fault.
    let counts: Vec<_> =
        sweep.counts().iter().map(|it| it.replace("not_made", "reported")).collect();
    assert_eq!(counts, expected, "{}", text(&output));
}

/// A benchmark that reads nothing, and says nothing of it.
fn sysbench_loses_reads_and_ends_with_status_0() {
    let sweep = Sweep::new();
    let files = ["--file-total-size=4M", "--file-num=2"];
    let prepare = Command::new("sysbench")
        .current_dir(sweep.directory.path())
        .arg("fileio")
        .args(files)
        .arg("prepare")
        .output();
    assert!(prepare.unwrap().status.success());
    let run = [
        "--file-test-mode=seqrd",
        "--file-io-mode=async",
        "--file-extra-flags=direct",
        "--events=20",
        "run",
    ];
    let program = [&["sysbench", "fileio"][..], &files, &run].concat();
    let output = sweep.of(&ONE_FAULT, &program).output().unwrap();
    let expected = [
        "io_getevents EINTR: recovered x 1",
        "io_setup EAGAIN: reported x 1",
        "io_submit EAGAIN: reported x 1",
        "io_submit res=EIO: lost x 1",
        "io_submit short: lost x 1",
    ];
    assert_eq!(sweep.counts(), expected, "{}", text(&output));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
}

/// A short read is taken for the end of the file: QEMU fills the rest with zeros, and the copy has them. (What sysbench
/// writes, and checks with --validate, is right after a short write that it ignores: such a fault changes what the
/// program is told, and the kernel has written all of it.)
fn qemu_img_copies_zeros_after_a_short_read() {
    let sweep = Sweep::new();
    let source = sweep.directory.path().join("source");
    let random: Vec<u8> = (0..64_u32 << 18).flat_map(|it| (it ^ 0x5eed).to_le_bytes()).collect();
    std::fs::write(&source, random).unwrap();
    let image = "driver=raw,file.driver=file,file.filename=source,file.aio=native";
    let copy = "$AIOTRACE_SWEEP_DIR/copy";
    let program =
        format!("exec qemu-img convert -m 8 -W -T none --image-opts {image} -O raw {copy}");
    let check = format!("test $AIOTRACE_SWEEP_STATUS != 0 || cmp source {copy}");
    let options = [&ONE_FAULT[..], &["--faults", "short", "--check", &check]].concat();
    let output = sweep.script(&options, &program);
    assert_eq!(sweep.counts(), ["io_submit short: corrupt x 1"], "{}", text(&output));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let line = &sweep.lines()[0];
    assert!(line["evidence"].as_str().unwrap().contains("check failed"), "{line}");
    assert_eq!(line["status"], 0);
    let directory = sweep.directory.path().display();
    let again = pasted(&serde_json::json!({
        "reproducer": format!("cd {directory} && {}", line["reproducer"].as_str().unwrap())
    }));
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    assert!(text(&again).contains("differ"), "{}", text(&again));
}

/// Both documents of JUnit, read by a library that we did not write.
fn junit_is_read_by_others() {
    const READ: &str = "
import sys, junitparser
for path in sys.argv[1:]:
    xml = junitparser.JUnitXml.fromfile(path)
    for suite in xml:
        for case in suite:
            kinds = [type(it).__name__ + ' ' + (it.type or '') for it in case.result]
            print(suite.name, '|', case.classname, '|', case.name, '|', ', '.join(kinds) or 'passed')
    print(xml.tests, xml.failures, xml.skipped, xml.errors)
";
    // Debian's own Python has the library.
    let has = Command::new("/usr/bin/python3").args(["-c", "import junitparser"]).output();
    if !has.is_ok_and(|it| it.status.success()) {
        return cannot_run("python3-junitparser is missing");
    }
    let sweep = Sweep::new();
    let output = sweep.run(
        &["--faults", "EAGAIN,res=ENOSPC", "--mode", "once", "--baseline-runs", "1"],
        &["planted"],
    );
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let of_run = sweep.directory.path().join("run.xml");
    let traced = aiotrace()
        .args(["run", "-q", "--source", "ptrace", "--junit"])
        .arg(&of_run)
        .args(["--inject", "complete:res=EIO:op=write:caller=log_line"])
        .args(["--inject", "io_cancel:error=EAGAIN", "--"])
        .arg(programs())
        .arg("planted")
        .env("AIOTRACE_SWEEP_DIR", sweep.directory.path())
        .output()
        .unwrap();
    assert_eq!(traced.status.code(), Some(0), "{}", text(&traced));
    let read = Command::new("/usr/bin/python3")
        .args(["-c", READ])
        .args([sweep.output().join("junit.xml"), of_run])
        .output()
        .unwrap();
    let shown = text(&read);
    let lines: Vec<&str> = shown.lines().collect();
    let has = |begins: &str, ends: &str| {
        lines.iter().any(|it| it.starts_with(begins) && it.ends_with(ends))
    };
    assert!(has("io_setup | site ", "EAGAIN once | passed"), "{shown}");
    assert!(
        has("io_submit | site ", "write_batch < work: res=ENOSPC once | Failure died"),
        "{shown}"
    );
    assert!(lines.contains(&"9 2 0 0"), "{shown}");
    assert!(
        has(
            &format!("{} planted | rule 1 complete:", programs().display()),
            "| completion EIO | Failure lost"
        ),
        "{shown}"
    );
    assert!(has(&programs().display().to_string(), "never acted | Skipped never acted"), "{shown}");
    assert!(lines.contains(&"2 1 1 0"), "{shown}");
}

tests![
    fio_recovers_or_reports if ONCE,
    fio_that_goes_on_after_errors_loses_a_write if ONCE,
    qemu_img_reports_each_fault_but_one_and_waits_for_ever_after_eagain if ONCE,
    sysbench_loses_reads_and_ends_with_status_0 if ONCE,
    qemu_img_copies_zeros_after_a_short_read if ONCE,
    junit_is_read_by_others if ONCE,
];
