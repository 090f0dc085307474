//! What other people's programs make of faults: each verdict agrees with the program's calls, and with how it ended.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};

use aiotrace::output::json::{FaultLine, FindingLine, GeteventsLine, IocbObject, Line, SubmitLine};
use tempfile::TempDir;

use super::{
    harness::Need,
    support::{Trace, aiotrace, newer_debian, traced},
};

/// What the calls alone say: the fault, and whether the program submitted the requests again.
struct Made {
    call: &'static str,
    /// How many requests were refused or failed, and how many of these it submitted again.
    refused: usize,
    again: usize,
    /// A request that was submitted again was accepted.
    accepted: bool,
}

fn made(trace: &Trace) -> Vec<Made> {
    let submits = trace.submits();
    let mut made = Vec::new();
    for (index, call) in submits.iter().enumerate().filter(|(_, it)| it.injected) {
        let later = || submits[index + 1..].iter().filter(|it| it.args.ctx == call.args.ctx);
        let (mut again, mut accepted) = (0, false);
        let refused = &call.iocbs[call.ret.max(0) as usize..];
        for one in refused.iter().flatten() {
            let is_it = |it: &IocbObject| {
                it.op == one.op && (it.fd, it.offset, it.nbytes) == (one.fd, one.offset, one.nbytes)
            };
            again += usize::from(later().any(|it| it.iocbs.iter().flatten().any(is_it)));
            let taken = |it: &SubmitLine| -> bool {
                it.iocbs.iter().take(it.ret.max(0) as usize).flatten().any(is_it)
            };
            accepted |= later().any(|it| taken(it));
        }
        made.push(Made { call: "io_submit", refused: refused.len(), again, accepted });
    }
    let getevents = trace.getevents();
    for (index, _) in getevents.iter().enumerate().filter(|(_, it)| it.injected) {
        let accepted = getevents[index + 1..].iter().any(|it| it.ret >= 0);
        // With other arguments it is another wait: fio looks for what is left before it ends.
        let wants = |it: &GeteventsLine| (it.args.min_nr, it.args.nr, it.args.events);
        let next = getevents.get(index + 1);
        let again = usize::from(next.is_some_and(|it| wants(it) == wants(getevents[index])));
        made.push(Made { call: "io_getevents", refused: 0, again, accepted });
    }
    for event in trace.completions().into_iter().filter(|it| it.injected) {
        let of = |it: &&IocbObject| it.address == event.obj;
        let before = submits.iter().filter(|it| it.ts.0 <= event.ts.0);
        let request = before.flat_map(|it| it.iocbs.iter().flatten()).rfind(of).unwrap();
        let later = submits.iter().filter(|it| it.entered.is_some_and(|at| at.0 > event.ts.0));
        let is_it = |it: &&IocbObject| {
            it.op == request.op
                && (it.fd, it.offset, it.nbytes) == (request.fd, request.offset, request.nbytes)
        };
        let again = later.flat_map(|it| it.iocbs.iter().flatten()).filter(is_it).count();
        made.push(Made { call: "complete", refused: 1, again, accepted: again > 0 });
    }
    made
}

/// Runs a command under a rule; each verdict must agree with the calls, and with how the command ended. Returns the
/// verdict, if there was a fault, and the exit status.
fn verdict<S: AsRef<OsStr>>(rule: &str, command: &[S]) -> (Option<String>, Option<i32>) {
    let trace = traced(&["run", "-f", "--source", "ptrace", "--inject", rule], command);
    trace.assert_nothing_lost();
    let faults: Vec<&FaultLine> = trace
        .lines
        .iter()
        .filter_map(|line| if let Line::Fault(it) = line { Some(it) } else { None })
        .filter(|it| !it.anew)
        .collect();
    let made = made(&trace);
    assert_eq!(faults.len(), made.len(), "{rule}");
    let rows = &trace.report().faults;
    assert_eq!(rows.iter().map(|it| it.made).sum::<u64>(), made.len() as u64, "{rows:?}");
    for (fault, made) in faults.iter().zip(&made) {
        assert_eq!(fault.call, made.call);
        let is_retried = made.again > 0 && made.again >= made.refused;
        assert_eq!(fault.sequel == "retried", is_retried, "{rule}: {}", fault.message);
        assert_eq!(fault.succeeded, made.accepted, "{rule}: {}", fault.message);
        assert_eq!(fault.lost, (made.refused - made.again.min(made.refused)) as u64, "{rule}");
        // With fio, a child makes the calls, and has an exit status of its own.
        let processes = trace.processes();
        let exit = processes.iter().find(|it| it.pid == fault.pid && it.change == "exit").unwrap();
        let ended = fault.next_fault || fault.exit_code == exit.exit_code;
        assert!(ended, "{rule}: {} but {exit:?}", fault.message);
    }
    (faults.first().map(|it| it.verdict.clone().into()), trace.status.code())
}

const ONCE: &str = "io_submit:error=EAGAIN:when=5";
const REFUSED: &str = "io_submit:error=EFAULT:when=5";
const FAILED: &str = "complete:res=EIO:when=5";

fn is(verdict: &str, status: i32) -> (Option<String>, Option<i32>) {
    (Some(verdict.to_owned()), Some(status))
}

/// fio submits again after EAGAIN; after EFAULT it does so once, on its way out, and reports it by its exit status.
/// It does not repeat a read that failed, and reports that.
fn what_fio_makes_of_faults() {
    let directory = tempfile::tempdir().unwrap();
    let file = format!("--filename={}", directory.path().join("f").display());
    let of = |rule| {
        let all = ["fio", "--name=x", &file, "--size=4M", "--io_size=256k", "--rw=randread"];
        let all = [&all[..], &["--bs=4k", "--direct=1", "--ioengine=libaio", "--iodepth=8"]];
        verdict(rule, &all.concat())
    };
    assert_eq!(of(ONCE), is("retried", 0));
    assert_eq!(of("io_getevents,io_pgetevents:error=EINTR:when=3"), is("retried", 0));
    assert_eq!(of(REFUSED), is("exited", 1));
    assert_eq!(of(FAILED), is("reported", 1));
    let interrupted = of("io_getevents,io_pgetevents:error=EINVAL:when=3");
    assert_eq!(interrupted.0.as_deref(), Some("unsure"), "{interrupted:?}");
    assert_ne!(interrupted.1, Some(0));
}

/// A benchmark with the qemu-img below this root directory, and the directory with the file that it reads.
fn qemu_img_bench(root: &Path) -> (TempDir, Vec<String>) {
    let directory = tempfile::tempdir_in(root.join("tmp")).unwrap();
    let file = directory.path().join("q");
    std::fs::write(&file, vec![0; 4 << 20]).unwrap();
    let seen = Path::new("/").join(file.strip_prefix(root).unwrap());
    let root = root.to_str().unwrap();
    let bench = ["chroot", root, "qemu-img", "bench", "-t", "none", "-n", "-c", "100", "-d", "8"];
    let file = ["-f", "raw", seen.to_str().unwrap()];
    (directory, bench.into_iter().chain(file).map(str::to_owned).collect())
}

/// The root directories with an older qemu-img and with a newer one.
fn roots() -> [PathBuf; 2] {
    [PathBuf::from("/"), newer_debian()]
}

/// qemu-img submits again after EAGAIN, and ends after any other error. It reaps from the ring, so it makes no call
/// that a signal could interrupt.
fn what_qemu_img_makes_of_faults() {
    for root in roots() {
        let (_directory, bench) = qemu_img_bench(&root);
        assert_eq!(verdict(ONCE, &bench), is("retried", 0), "{bench:?}");
        let interrupted = verdict("io_getevents,io_pgetevents:error=EINTR:when=3", &bench);
        assert_eq!(interrupted, (None, Some(0)), "{bench:?}");
        assert_eq!(verdict(REFUSED, &bench), is("reported", 1), "{bench:?}");
        // qemu-img may have read the result in the ring before it was changed: only its exit status shows that it did
        // not. If it reaped the completion before it could be changed, there is no fault.
        let failed = verdict(FAILED, &bench);
        assert!([is("unsure", 1), (None, Some(0))].contains(&failed), "{bench:?}: {failed:?}");
    }
}

/// It sees the last completions in the ring, and makes no call after that: nothing is discarded when it ends. (The newer
/// version ends a context of its own with a request in flight, on trial: that is so, and told.)
fn qemu_img_that_is_well_discards_nothing() {
    for root in roots() {
        let (_directory, mut bench) = qemu_img_bench(&root);
        bench.push("-w".to_owned());
        let trace = traced(&["run", "-f"], &bench);
        assert!(trace.status.success(), "{}", trace.stderr);
        let messages: Vec<&str> = trace.findings().iter().map(|it| &*it.message).collect();
        assert!(!messages.iter().any(|it| it.starts_with("exit with ")), "{messages:?}");
        // (On a busy machine an io_submit may really wait.)
        let is_well = |it: &&FindingLine| it.severity == "info" || it.name == "blocking-submit";
        assert!(trace.findings().iter().all(is_well), "{messages:?}");
    }
}

/// The first request of the newer version is a trial: an fdsync on a context of its own, which it destroys before the
/// request is reaped. A refusal does not matter to it, and the request is lost. The older version ends.
fn two_versions_of_qemu_img_make_different_things_of_the_first_fault() {
    let [older, newer] = roots().map(|root| {
        let (_directory, bench) = qemu_img_bench(&root);
        verdict("io_submit:error=EFAULT:when=1", &bench)
    });
    assert_eq!(older, is("reported", 1));
    assert_eq!(newer, is("lost", 0));
}

/// sysbench ends after any error of io_submit, even after EAGAIN. It does not repeat a read that failed, and exits
/// with status 0: only a line of text shows the failure.
fn what_sysbench_makes_of_faults() {
    let directory = tempfile::tempdir().unwrap();
    let script = format!(
        "cd {} && S='sysbench fileio --file-total-size=4M --file-num=2' && $S prepare > /dev/null && exec $S \
         --file-test-mode=seqrd --threads=1 --file-io-mode=async --file-extra-flags=direct --events=100 run",
        directory.path().display()
    );
    let of = |rule| verdict(rule, &["sh", "-c", &script]);
    assert_eq!(of(ONCE), is("reported", 1));
    assert_eq!(of("io_submit:error=EAGAIN"), is("reported", 1));
    assert_eq!(of(REFUSED), is("reported", 1));
    assert_eq!(of(FAILED), is("lost", 0));
    assert_eq!(of("io_getevents,io_pgetevents:error=EINTR:when=3").1, Some(0));
}

/// If no request is ever accepted, these two programs make no more AIO calls, and wait.
fn fio_and_qemu_img_hang_if_nothing_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("f");
    std::fs::write(&data, vec![0; 1 << 20]).unwrap();
    let data = data.to_str().unwrap();
    let name = format!("--filename={data}");
    let fio = ["fio", "--name=x", &name, "--rw=randread", "--direct=1", "--ioengine=libaio"];
    let bench = ["qemu-img", "bench", "-t", "none", "-n", "-c", "100", "-f", "raw", data];
    for command in [&[&fio[..], &["--iodepth=8"]].concat()[..], &bench] {
        let mut tracer = aiotrace()
            .args(["run", "-f", "--source", "ptrace", "--format", "json"])
            .args(["--inject", "io_submit:error=EAGAIN", "-o", "/dev/stderr", "--"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut calls, mut hung) = (Vec::new(), None);
        for line in BufReader::new(tracer.stderr.take().unwrap()).lines() {
            match Line::parse(&line.unwrap()) {
                Ok(Line::Submit(it)) => calls.push(it),
                Ok(Line::Fault(it)) if it.verdict == "hung" => {
                    hung = Some(it);
                    break;
                }
                _ => (),
            }
        }
        // The launched program dies with aiotrace.
        tracer.kill().unwrap();
        tracer.wait().unwrap();
        let hung = hung.unwrap_or_else(|| panic!("{} does not hang", command[0]));
        assert!(calls.iter().all(|it| it.injected && it.ret == -11), "nothing was accepted");
        let last = calls.last().unwrap();
        assert_eq!((hung.ts, hung.lost), (last.ts, last.iocbs.len() as u64), "{}", hung.message);
    }
}

const PROGRAMS: Need = Need::Native("the guests do not have these programs");

tests![
    what_fio_makes_of_faults if PROGRAMS,
    what_qemu_img_makes_of_faults if PROGRAMS,
    qemu_img_that_is_well_discards_nothing if PROGRAMS,
    two_versions_of_qemu_img_make_different_things_of_the_first_fault if PROGRAMS,
    what_sysbench_makes_of_faults if PROGRAMS,
    fio_and_qemu_img_hang_if_nothing_is_accepted if PROGRAMS,
];
