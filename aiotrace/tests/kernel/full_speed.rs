//! Real programs at full speed, without strace: nothing is lost, and our counts are those of the program itself.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use super::{
    harness::Need,
    machine,
    support::{self, Trace, run},
};

fn words(command: &str) -> Vec<&str> {
    command.split_whitespace().collect()
}

/// fio's own count of requests.
fn fio_requests(report: &str) -> u64 {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    let jobs = report["jobs"].as_array().unwrap();
    let of = |job: &serde_json::Value, kind: &str| job[kind]["total_ios"].as_u64().unwrap();
    jobs.iter().map(|job| of(job, "read") + of(job, "write")).sum()
}

fn fio(depth: u32, direct: u32, jobs: u32) -> Trace {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let trace = run(&words(&format!(
        "fio --name=j --ioengine=libaio --rw=randrw --bs=4k --size=64m --filename={} \
         --iodepth={depth} --direct={direct} --numjobs={jobs} --number_ios=2000 \
         --output-format=json --output={}",
        directory.path().join("file").display(),
        report.display(),
    )));
    assert!(trace.status.success(), "{}", trace.stderr);
    trace.assert_nothing_lost();
    let requests = fio_requests(&std::fs::read_to_string(report).unwrap());
    assert!(requests >= u64::from(jobs) * 2000);
    assert_eq!(trace.accepted_and_reaped(), (requests, requests), "depth {depth} direct {direct}");
    trace
}

fn fio_counts_the_same() {
    for depth in [1, 16] {
        for direct in [0, 1] {
            fio(depth, direct, 1);
        }
    }
    let trace = fio(16, 1, 4);
    assert_eq!(trace.setups().len(), 4);
}

fn qemu_img_counts_the_same() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(64 << 20).unwrap();
    let path = image.path().display().to_string();
    let trace = run(&words(&format!("qemu-img bench -n -t none -f raw -c 5000 -d 32 {path}")));
    assert!(trace.status.success(), "{}", trace.stderr);
    trace.assert_nothing_lost();
    // Some versions also try an fdsync, in a context of its own.
    let iocbs = trace.submits().into_iter().flat_map(|it| it.iocbs.iter().flatten());
    let reads = iocbs.filter(|it| it.op.as_deref() == Some("preadv"));
    assert_eq!(reads.count(), 5000);
    assert!(trace.submits().iter().all(|it| it.ret == it.args.nr));
}

fn sysbench_counts_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let common = "fileio --file-num=2 --file-total-size=8M";
    let in_directory = |program: &str, words: Vec<&str>| {
        std::process::Command::new(program).args(words).current_dir(&directory).output().unwrap()
    };
    let prepared = in_directory("sysbench", words(&format!("{common} prepare")));
    assert!(prepared.status.success());
    let trace = run(&words(&format!(
        "env -C {} sysbench {common} --file-test-mode=rndrd --file-io-mode=async --events=3000 run",
        directory.path().display()
    )));
    assert!(trace.status.success(), "{}", trace.stderr);
    trace.assert_nothing_lost();
    assert_eq!(trace.accepted_and_reaped().0, 3000);
}

fn stress_ng_reaps_what_it_submits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let trace = run(&words(&format!("stress-ng --aiol 2 --aiol-ops 2000 --temp-path {path}")));
    assert!(trace.status.success(), "{}", trace.stderr);
    trace.assert_nothing_lost();
    let (accepted, reaped) = trace.accepted_and_reaped();
    assert!(accepted >= 2000, "{accepted}");
    assert_eq!(accepted, reaped);
}

/// How many lines of a file contain a text.
fn lines_with(file: &Path, text: &str) -> u64 {
    let lines = BufReader::new(File::open(file).unwrap()).lines();
    lines.filter(|line| line.as_ref().unwrap().contains(text)).count() as u64
}

/// The most memory that a trace may take, in MiB. It counts the pages of the program itself, of which a build that is not
/// optimized has more.
const MOST_MEMORY: u64 = if cfg!(debug_assertions) { 80 } else { 64 };

/// fio on the page cache, as fast as the processors can: it makes far more calls than can be written as text in that
/// time, so the records that wait go through the file.
fn fio_on_the_page_cache(jobs: u32, format: &str, submit: &str) {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let trace_file = directory.path().join("trace");
    let trace = support::run_to_file(
        &trace_file,
        format,
        &words(&format!(
            "fio --name=j --ioengine=libaio --rw=randread --bs=4k --size=16m --filename={} \
             --invalidate=0 --iodepth=1 --numjobs={jobs} --time_based --runtime=3 --output-format=json --output={}",
            directory.path().join("file").display(),
            report.display(),
        )),
    );
    assert!(trace.status.success(), "{}", trace.stderr);
    assert!(trace.stderr.contains("none lost"), "{jobs} jobs, {format}: {}", trace.stderr);
    let mebibytes = trace.most_memory >> 20;
    assert!(mebibytes < MOST_MEMORY, "{mebibytes} MiB");
    let requests = fio_requests(&std::fs::read_to_string(report).unwrap());
    assert_eq!(lines_with(&trace_file, submit), requests);
    eprintln!("{jobs} jobs, {format}: {requests} requests in 3 s, {mebibytes} MiB");
}

fn fio_at_full_speed_loses_nothing() {
    const TEXT: (&str, &str) = ("text", " io_submit(");
    const JSON: (&str, &str) = ("json", "\"event\":\"io_submit\"");
    let all = [(1, TEXT), (4, JSON), (1, JSON), (4, TEXT)];
    let some = if machine::runs_everything() { 4 } else { 2 };
    for (jobs, (format, submit)) in all.into_iter().take(some) {
        fio_on_the_page_cache(jobs, format, submit);
    }
}

/// fio, for a minute if all is to be run, at the speed of the disk, every call written to a file.
fn fio_for_a_while_stays_under_64_mib() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let trace_file = directory.path().join("trace.txt");
    let seconds = if machine::runs_everything() { 60 } else { 5 };
    let trace = support::run_to_file(
        &trace_file,
        "text",
        &words(&format!(
            "fio --name=j --ioengine=libaio --rw=randread --bs=4k --size=64m --filename={} \
             --iodepth=16 --direct=1 --time_based --runtime={seconds} --output-format=json --output={}",
            directory.path().join("file").display(),
            report.display(),
        )),
    );
    assert!(trace.status.success(), "{}", trace.stderr);
    assert!(trace.stderr.contains("none lost"), "{}", trace.stderr);
    let mebibytes = trace.most_memory >> 20;
    assert!(mebibytes < MOST_MEMORY, "{mebibytes} MiB");
    let requests = fio_requests(&std::fs::read_to_string(report).unwrap());
    assert_eq!(lines_with(&trace_file, " io_submit("), requests);
    eprintln!("{requests} requests in {seconds} s, {mebibytes} MiB");
}

/// Compressing takes longer than the calls do; the records that wait are in a file.
fn a_recording_at_full_speed_has_everything() {
    let directory = tempfile::tempdir().unwrap();
    // Their records are many times what the ring buffer holds.
    let pairs = if machine::runs_everything() { "2000000" } else { "400000" };
    let output = support::aiotrace()
        .args(["run", "-q", "--record"])
        .arg(directory.path().join("recording"))
        .arg("--")
        .arg(support::programs())
        .args(["bench-pair", pairs])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains("none lost"), "{stderr}");
}

const PROGRAMS: Need = Need::Native("the guests do not have these programs");

tests![
    fio_counts_the_same if PROGRAMS,
    qemu_img_counts_the_same if PROGRAMS,
    sysbench_counts_the_same if PROGRAMS,
    stress_ng_reaps_what_it_submits if PROGRAMS,
    fio_at_full_speed_loses_nothing if PROGRAMS,
    fio_for_a_while_stays_under_64_mib if PROGRAMS,
    a_recording_at_full_speed_has_everything if PROGRAMS,
];
