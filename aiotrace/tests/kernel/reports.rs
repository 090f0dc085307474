//! Public reports and cases from practice, as programs: what is found in them, what aiotrace says of those that hang,
//! and what it does not find in their twins.

use std::{
    io::Write as _,
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use aiotrace::output::json::{FindingLine, Line, ReportLine};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    harness::Need,
    machine,
    support::{
        Attached, Program, Trace, aiotrace, await_work, binary, parse, run_program,
        run_program_with,
    },
};

fn of<'a>(trace: &'a Trace, name: &str) -> Vec<&'a FindingLine> {
    trace.findings().into_iter().filter(|it| it.name == name).collect()
}

/// Count and message of a finding, from the report.
fn told(report: &ReportLine, name: &str) -> Vec<(u64, String)> {
    let of = report.findings.iter().filter(|it| it.name == name);
    of.map(|it| (it.count, it.message.clone())).collect()
}

/// The text that `attach -q` writes about a program that waits, and how long that takes.
fn attach_quietly(options: &[&str], pid: u32) -> (String, Duration) {
    let start = Instant::now();
    let output = aiotrace()
        .args(["attach", "-q", "-p", &pid.to_string()])
        .args(machine::set_options())
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap(), start.elapsed())
}

fn refused_writes_are_found_by_an_attach() {
    let mut program = Program::ready(&["closed-fd"]);
    let attached = Attached::to(program.pid());
    program.go_on();
    let trace = attached.end();
    let found = of(&trace, "refused-calls");
    assert_eq!(found.len(), 1, "{:?}", trace.findings());
    assert_eq!((found[0].severity.as_ref(), found[0].evidence["ret"]), ("warning", -9));
    assert!(
        found[0].message.contains("is not open, or not open for writing"),
        "{}",
        found[0].message
    );
    let report = trace.report();
    let (count, _) = &told(report, "refused-calls")[0];
    let row = report.requests.iter().find(|it| it.refused > 0).unwrap();
    assert_eq!((*count, row.refused), (180, 180));
}

fn refused_writes_are_found_where_calls_are_counted() {
    let mut program = Program::ready(&["closed-fd"]);
    let attached = Attached::new(&["-c", "-p", &program.pid().to_string()]);
    program.go_on();
    let trace = attached.end();
    let rows = told(trace.report(), "refused-calls");
    assert_eq!(rows.iter().map(|it| it.0).collect::<Vec<_>>(), [180], "{rows:?}");
    assert!(rows[0].1.contains("EBADF"), "{rows:?}");
}

fn the_field_that_is_wrong_is_named() {
    let trace = run_program(&["fsync-stale"]);
    let found = of(&trace, "refused-calls");
    assert!(found.len() == 1 && found[0].message.contains("and fsync takes none"), "{found:?}");
    assert_eq!(told(trace.report(), "refused-calls")[0].0, 5);
    let trace = run_program(&["resfd-file"]);
    let messages: Vec<_> =
        of(&trace, "refused-calls").iter().map(|it| it.message.clone()).collect();
    assert!(messages.iter().any(|it| it.contains("is no eventfd")), "{messages:?}");
    assert!(messages.iter().any(|it| it.contains("aio_resfd 999 is not open")), "{messages:?}");
}

fn why_nothing_was_cancelled_is_told() {
    let trace = run_program(&["key-cancel"]);
    let messages: Vec<_> =
        of(&trace, "cancel-refused").iter().map(|it| it.message.clone()).collect();
    let [key, copy] = &messages[..] else { panic!("{messages:?}") };
    assert!(key.contains("aio_key is 77 and not 0") && key.contains("which is in flight"), "{key}");
    assert!(copy.contains("one with the same content is, submitted from 0x"), "{copy}");
}

fn rwf_nowait_that_never_works_is_not_called_synchronous() {
    // The eventfd is for machines without a disk.
    let trace = run_program(&["nowait-write", "eventfd", "60"]);
    assert_eq!(of(&trace, "inline-completion").len(), 0);
    let rows = told(trace.report(), "failed-completion");
    assert!(rows.len() == 1 && rows[0].0 == 60, "{rows:?}");
    assert!(rows[0].1.contains("with RWF_NOWAIT"), "{rows:?}");
}

fn why_requests_are_complete_at_once_is_looked_up() {
    let trace = run_program(&["bad-inline-completion"]);
    let found = of(&trace, "inline-completion");
    let causes =
        ["it is open without O_DIRECT", "it is a file in memory", "neither a regular file"];
    let message = &found[0].message;
    assert!(causes.iter().any(|it| message.contains(it)), "{message}");
}

/// A program hangs, or is slow, when we attach: the report describes its wait.
fn a_wait_is_described_and_nothing_is_blamed() {
    let mut program = Program::ready(&["min-nr-waits"]);
    let (text, _) = attach_quietly(&["-d", "2500ms", "--unreaped-after", "500ms"], program.pid());
    assert!(text.contains("waits in io_getevents for 4 completions without a timeout; "), "{text}");
    let in_flight = if super::cases::knows_in_flight() {
        "no request is in flight"
    } else {
        "what is in flight is not known (submitted before the attach; "
    };
    assert!(text.contains(in_flight), "{text}");
    assert!(text.contains("=== no findings (watched "), "{text}");
    program.go_on();

    let mut program = Program::ready(&["stuck-read"]);
    let (text, _) = attach_quietly(&["-d", "2500ms", "--unreaped-after", "500ms"], program.pid());
    assert!(text.contains("waits in io_getevents for 40 completions"), "{text}");
    assert!(!text.contains("unreaped-completions:"), "{text}");
    program.go_on();
}

fn whoever_waits_in_io_destroy_or_exit_is_no_stranger_to_aio() {
    for (how, said) in [
        ("destroy", "is in io_destroy, which waits for the requests in flight"),
        ("exit", "is in exit and waits there for requests in flight"),
    ] {
        let mut program = Program::ready(&["exit-waits", how]);
        wait_until(|| is_in_state_d(program.pid()));
        let (text, _) = attach_quietly(&["-d", "1500ms"], program.pid());
        assert!(text.contains(said), "{how}: {text}");
        assert!(!text.contains("not-kernel-aio"), "{how}: {text}");
        if how == "exit" {
            let listed = aiotrace().arg("ls").output().unwrap();
            let listed = String::from_utf8(listed.stdout).unwrap();
            assert!(listed.contains("is in exit and waits there for AIO requests"), "{listed}");
        }
        program.go_on();
    }
}

fn is_in_state_d(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|it| it.1.starts_with('D'))
}

fn wait_until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn sixty_thousand_contexts_fit_a_screen_and_do_not_delay_the_end() {
    let mut program = Program::ready(&["many", "60000", "0"]);
    let (text, took) = attach_quietly(&["-d", "2s"], program.pid());
    let lines = text.lines().count();
    assert!(lines <= 24, "{lines} lines: {text}");
    assert!(text.contains("+++ adopted 60000 contexts, 60000 of fs.aio-nr"), "{text}");
    // The search for each context among all others takes longest: it took ten seconds before it was bounded. A busy
    // machine takes one.
    assert!(took < Duration::from_secs(6), "{took:?}");
    program.go_on();
}

fn what_is_equal_is_one_finding() {
    let mut program = Program::ready(&["many", "0", "60"]);
    let attached = Attached::to(program.pid());
    program.go_on();
    let trace = attached.end();
    // Descriptors that were closed before they could be looked up count as one file, too.
    let told = told(trace.report(), "inline-completion");
    assert!(told.len() <= 2, "60 descriptors of one file: {told:?}");
    // Where a processor is emulated, not all of the descriptors get enough calls.
    let enough = if machine::guest().is_some() { 1 } else { 60 };
    assert!((enough..=60).contains(&told.iter().map(|it| it.0).sum::<u64>()), "{told:?}");
    let trace = run_program(&["exec-self", "5"]);
    let released = of(&trace, "released-at-exit").len();
    assert!(released <= 2, "each exec is the same, and the exit: {released}");
}

fn what_came_after_the_first_failure_and_after_the_last_is_told_apart() {
    let trace = run_program(&["enospc", "limit"]);
    let rows = told(trace.report(), "failed-completion");
    assert_eq!(rows[0].0, 36, "{rows:?}");
    assert!(
        rows[0].1.contains("; 35 io_submit after it, none after the last of these"),
        "{rows:?}"
    );
}

fn a_trend_is_told_before_it_is_a_finding() {
    let trend = |report: &ReportLine| report.trends.iter().map(|it| it.made).sum::<u64>();
    let mut leaks = Program::ready(&["reconnect", "1"]);
    let trace = Attached::new(&["-d", "4s", "-p", &leaks.pid().to_string()]).end();
    assert_eq!(of(&trace, "context-growth").len(), 0, "too early");
    assert!(trend(trace.report()) >= 8, "{:?}", trace.report().trends);
    leaks.go_on();
    let mut pool = Program::ready(&["many", "50", "0"]);
    let trace = Attached::new(&["-d", "3s", "-p", &pool.pid().to_string()]).end();
    assert_eq!(trend(trace.report()), 0);
    pool.go_on();
}

fn an_unsure_finding_says_why() {
    let trace = run_program(&["bad-discarded-at-exit"]);
    let found = of(&trace, "discarded-requests");
    assert_eq!(found[0].unsure, found[0].why.is_some());
    for it in trace.findings() {
        assert_eq!(it.unsure, it.why.is_some(), "{it:?}");
    }
}

fn a_fifo_that_nobody_reads_does_not_keep_us() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let run = |duration: &str| {
        let mut command = aiotrace();
        command.args(["attach", "-a", "-d", duration, "-o"]).arg(&fifo).stdin(Stdio::null());
        command
    };
    let output = run("100ms").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("a FIFO that nobody reads"), "{stderr}");
    // A FIFO that is read works, however much other programs write.
    let read = directory.path().join("read");
    let stdout = std::fs::File::create(&read).unwrap();
    let mut reader = Command::new("cat").arg(&fifo).stdout(stdout).spawn().unwrap();
    let output = run("200ms").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(reader.wait().unwrap().success());
    assert!(String::from_utf8_lossy(&std::fs::read(&read).unwrap()).contains("=== "));
}

/// Whatever aiotrace waits for: the first signal asks it to end, and while it still collects, it ends well if it can.
fn a_second_signal_ends_it_though_nobody_reads() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let program = Program::ready(&["storm"]);
    let pid = program.pid().to_string();
    for source in ["bpf", "ptrace"] {
        for (duration, signals) in [("1000", 2), ("0.3", 1)] {
            // The FIFO is open at both ends, and never read.
            let stdout = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
            let is_full = || {
                let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
                poll(&mut fds, PollTimeout::ZERO).unwrap() == 0
            };
            let mut tracer = aiotrace()
                .args(["attach", "--source", source, "-d", duration, "-p", &pid])
                .stdout(stdout.try_clone().unwrap())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            while !is_full() {
                assert_eq!(tracer.try_wait().unwrap(), None, "{source}: it traces");
                std::thread::sleep(Duration::from_millis(10));
            }
            for _ in 0..signals {
                std::thread::sleep(Duration::from_secs(1));
                assert_eq!(tracer.try_wait().unwrap(), None, "{source}: it waits for a reader");
                // SAFETY: the signal goes to our own child, which is not waited for yet.
                assert_eq!(unsafe { libc::kill(tracer.id() as i32, libc::SIGINT) }, 0, "kill");
            }
            // Nobody reads: if aiotrace waited for a reader, this line would wait for ever.
            let status = tracer.wait().unwrap();
            assert_eq!(status.signal(), Some(libc::SIGINT), "{source} {duration}: {status}");
            await_work(program.pid());
        }
    }
}

fn a_recording_is_read_from_a_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.aiotrace");
    run_program_with(&["--record", file.to_str().unwrap()], &["pairs", "3"]);
    let bytes = std::fs::read(&file).unwrap();
    let (stdin, mut tell) = std::io::pipe().unwrap();
    let writer = std::thread::spawn(move || tell.write_all(&bytes).unwrap());
    let output = Command::new(binary())
        .args(["report", "--format", "json", "-"])
        .stdin(stdin)
        .output()
        .unwrap();
    writer.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = parse(&text);
    assert!(matches!(lines.last(), Some(Line::Report(report)) if report.contexts.len() == 1));
}

/// The line in the trace shows the status that aiotrace returns.
fn a_program_that_is_not_there_exits_with_127_everywhere() {
    let output = aiotrace().args(["run", "-q", "--", "/nonexistent/program"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(127));
    assert!(text.starts_with("aiotrace: cannot execute /nonexistent/program: ENOENT"), "{text}");
    assert_eq!(output.stdout, b"", "nothing was traced");
}

/// A program that hangs elsewhere than in AIO lives, and that is what is said of it.
fn of_a_program_that_makes_no_call_it_is_said_that_it_lives() {
    let mut program = Program::ready(&["hold", "2"]);
    let pid = program.pid().to_string();
    let output = aiotrace().args(["attach", "-q", "-d", "1", "-p", &pid]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    program.go_on();
    let said = format!("aio-programs:{pid} lives and has 2 contexts ===");
    assert!(text.contains("=== no AIO call in ") && text.contains(&said), "{text}");
}

const SECONDS: Need =
    Need::Native("it waits for seconds, which are minutes where a processor is emulated");
const CAT: Need = Need::Native("it runs cat");

tests![
    refused_writes_are_found_by_an_attach if Need::LONG,
    refused_writes_are_found_where_calls_are_counted if Need::LONG,
    the_field_that_is_wrong_is_named if Need::SAME,
    why_nothing_was_cancelled_is_told if Need::SAME,
    rwf_nowait_that_never_works_is_not_called_synchronous if Need::SAME,
    why_requests_are_complete_at_once_is_looked_up if Need::SAME,
    a_wait_is_described_and_nothing_is_blamed if SECONDS,
    whoever_waits_in_io_destroy_or_exit_is_no_stranger_to_aio if SECONDS,
    sixty_thousand_contexts_fit_a_screen_and_do_not_delay_the_end if SECONDS,
    what_is_equal_is_one_finding if Need::LONG,
    what_came_after_the_first_failure_and_after_the_last_is_told_apart if Need::LONG,
    a_trend_is_told_before_it_is_a_finding if SECONDS,
    an_unsure_finding_says_why if Need::Native("the guests have no /dev/fuse"),
    of_a_program_that_makes_no_call_it_is_said_that_it_lives if Need::SAME,
    a_fifo_that_nobody_reads_does_not_keep_us if CAT,
    a_second_signal_ends_it_though_nobody_reads if SECONDS,
    a_recording_is_read_from_a_pipe if Need::LONG,
    a_program_that_is_not_there_exits_with_127_everywhere if Need::LONG,
];
