//! Running aiotrace and reading what it wrote.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio},
};

use aiotrace::output::json::{
    CancelLine, CompletionLine, ContextAdoptedLine, ContextGoneLine, ContextMovedLine, DestroyLine,
    FindingLine, GeteventsLine, Line, ProcessLine, ReportLine, SetupLine, SubmitLine,
    UnfinishedLine,
};

use super::{machine, schema, session};

/// The path of the program under test; in a guest it is not where cargo built it.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("AIOTRACE_BINARY");
    path.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_aiotrace")), PathBuf::from)
}

/// The program under test.
pub fn aiotrace() -> Command {
    Command::new(binary())
}

/// The options for the probe set under test, unless these options choose one.
pub fn set_options(options: &[&str]) -> &'static [&'static str] {
    let asks = options.iter().any(|it| matches!(*it, "--probes" | "--source" | "--mechanism"));
    if asks { &[] } else { machine::set_options() }
}

/// The workloads of the crate `programs`, built beside aiotrace.
pub fn programs() -> PathBuf {
    let path = std::env::var_os("AIOTRACE_PROGRAMS");
    let path = path.map_or_else(|| binary().with_file_name("aio-programs"), PathBuf::from);
    assert!(path.exists(), "{} is not built: cargo xtask test", path.display());
    path
}

/// The root directory with programs of a newer Debian, which `cargo xtask setup` makes beside cargo's output.
pub fn newer_debian() -> PathBuf {
    let beside = binary().ancestors().nth(2).unwrap().join("debian-13");
    assert!(beside.exists(), "{} is missing: cargo xtask setup", beside.display());
    beside
}

/// The output of aiotrace, and how it ended.
pub struct Trace {
    pub lines: Vec<Line>,
    pub stderr: String,
    pub status: ExitStatus,
    pub most_memory: u64,
}

/// The trace of a command under `aiotrace run -f`, written to a file.
pub fn run<S: AsRef<OsStr>>(command: &[S]) -> Trace {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let trace = run_to_file(&file, "json", command);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    Trace { lines: parse(&text), ..trace }
}

/// The same; the file is not read here.
pub fn run_to_file<S: AsRef<OsStr>>(file: &Path, format: &str, command: &[S]) -> Trace {
    let mut child = aiotrace()
        .args(["run", "-f", "--format", format])
        .args(set_options(&[]))
        .arg("-o")
        .arg(file)
        .arg("--")
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let watcher = std::thread::spawn(move || {
        let mut stderr = String::new();
        pipe.read_to_string(&mut stderr).unwrap();
        stderr
    });
    // The number only grows, so the last look is enough.
    let mut peak = 0;
    while !watcher.is_finished() {
        peak = most_memory(child.id()).unwrap_or(peak);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let status = child.wait().unwrap();
    Trace { lines: Vec::new(), stderr: watcher.join().unwrap(), status, most_memory: peak }
}

/// The reason of a finding that is unsure after a loss.
pub const LOST: &str = "events were lost";

/// Options that change nothing for most programs: programs that need no others share an aiotrace.
pub const SHARED: [&str; 3] = ["--denied", "--slow-submit", "250ms"];

/// Traces a workload by an `aiotrace run -f` that it shares with others; the workload must succeed, and nothing may
/// be lost. Where the kernel skips runs of probes, it runs again until none was skipped, four times at most.
pub fn run_program(arguments: &[&str]) -> Trace {
    let mut trace = session::run(&SHARED, arguments);
    for _ in 1..4 {
        // A skipped run may be reported only during the next program.
        let is_whole = || trace.skipped() == 0 && !trace.why_unsure().iter().any(|it| it == LOST);
        if !machine::skips_runs() || is_whole() {
            break;
        }
        trace = session::run(&SHARED, arguments);
    }
    assert!(trace.status.success(), "{arguments:?}: {}; {}", trace.status, trace.stderr);
    trace.assert_nothing_lost();
    trace
}

/// Traces a workload by an `aiotrace run -f` of its own; it must succeed, and nothing may be lost.
pub fn run_program_with(options: &[&str], arguments: &[&str]) -> Trace {
    let trace = run_with(options, arguments);
    assert!(trace.status.success(), "{arguments:?}: {}", trace.stderr);
    trace.assert_nothing_lost();
    trace
}

/// The longest time that a test waits for anything.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Waits until a condition is true.
pub fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "{what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Waits until a process uses processor time, which shows that nothing has stopped it.
pub fn await_work(pid: u32) {
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        // utime and stime
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = used();
    await_that("the target goes on", || used() > before);
}

/// Traces a command under `aiotrace` with these arguments, which begin with `run`; the JSON goes to a file. The
/// command may end in any way.
pub fn traced<S: AsRef<OsStr>>(options: &[&str], command: &[S]) -> Trace {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let output = aiotrace()
        .args(options)
        .args(["--format", "json", "-o"])
        .arg(&file)
        .arg("--")
        .args(command)
        .output()
        .unwrap();
    let lines = parse(&std::fs::read_to_string(&file).unwrap());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Trace { lines, stderr, status: output.status, most_memory: 0 }
}

/// Traces a workload under `aiotrace run -f` with options; it may end in any way.
pub fn run_with(options: &[&str], arguments: &[&str]) -> Trace {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let output = output_of(&file, "json", options, arguments);
    let lines = parse(&std::fs::read_to_string(file).unwrap_or_default());
    let stderr = String::from_utf8(output.stderr).unwrap();
    Trace { lines, stderr, status: output.status, most_memory: 0 }
}

/// Traces a workload under `aiotrace run -f`, which writes to a file. Returns what the workload said, what aiotrace
/// wrote to stderr, and how it ended.
pub fn output_of(file: &Path, format: &str, options: &[&str], arguments: &[&str]) -> Output {
    aiotrace()
        .args(["run", "-f", "--format", format])
        .args(set_options(options))
        .args(options)
        .arg("-o")
        .arg(file)
        .arg("--")
        .arg(programs())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Attaches for a second to a program that is ready and waits.
pub fn attach_for_a_second(options: &[&str], arguments: &[&str]) -> Trace {
    let mut program = Program::ready(arguments);
    let pid = program.pid().to_string();
    let options: Vec<&str> = options.iter().copied().chain(["-d", "1", "-p", &pid]).collect();
    let trace = Attached::new(&options).end();
    program.go_on();
    trace
}

/// The most memory that a process has had so far, in bytes. (wait4 would count its children, too.)
fn most_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read(format!("/proc/{pid}/status")).ok()?;
    aiotrace::proc::status_bytes(&status, "VmHWM")
}

/// Every line must be of the documented format.
pub fn parse(text: &str) -> Vec<Line> {
    let parse = |line| {
        schema::check(line);
        Line::parse(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    text.lines().map(parse).collect()
}

macro_rules! all_of {
    ($name:ident, $variant:ident, $type:ty) => {
        pub fn $name(&self) -> Vec<&$type> {
            let of = |line| match line {
                &Line::$variant(ref it) => Some(it),
                _ => None,
            };
            self.lines.iter().filter_map(of).collect()
        }
    };
}

impl Trace {
    all_of!(setups, Setup, SetupLine);
    all_of!(destroys, Destroy, DestroyLine);
    all_of!(submits, Submit, SubmitLine);
    all_of!(getevents, Getevents, GeteventsLine);
    all_of!(cancels, Cancel, CancelLine);
    all_of!(unfinished, Unfinished, UnfinishedLine);
    all_of!(processes, Process, ProcessLine);
    all_of!(completions, Completion, CompletionLine);
    all_of!(gone, ContextGone, ContextGoneLine);
    all_of!(moved, ContextMoved, ContextMovedLine);
    all_of!(adopted, ContextAdopted, ContextAdoptedLine);
    all_of!(findings, Finding, FindingLine);

    pub fn report(&self) -> &ReportLine {
        match self.lines.last() {
            Some(Line::Report(report)) => report,
            other => panic!("the last line is {other:?}; stderr: {}", self.stderr),
        }
    }

    pub fn assert_nothing_lost(&self) {
        let report = self.report();
        if machine::skips_runs() && self.skipped() > 0 {
            // The counts of calls that are missing because of a skipped run are left out, too.
            let of = |cause: &str| report.lost_by_cause.get(cause).copied().unwrap_or(0);
            let missed = of("enter_missed") + of("exit_missed");
            assert_eq!(report.lost, self.skipped() + missed, "{:?}", report.lost_by_cause);
            return;
        }
        assert_eq!(report.lost, 0, "{:?}; {}", report.lost_by_cause, self.stderr);
        assert!(!self.stderr.contains(" LOST"), "{}", self.stderr);
        assert!(!self.lines.iter().any(|line| matches!(line, Line::Lost(_))));
    }

    /// The reasons of findings that are unsure.
    pub fn why_unsure(&self) -> Vec<String> {
        self.findings().iter().filter_map(|it| it.why.as_ref().map(ToString::to_string)).collect()
    }

    /// How many runs of probes the kernel skipped.
    pub fn skipped(&self) -> u64 {
        self.report().lost_by_cause.get("skipped_runs").copied().unwrap_or(0)
    }

    /// How many requests were accepted, and how many events were reaped.
    pub fn accepted_and_reaped(&self) -> (u64, u64) {
        let accepted = self.submits().iter().map(|it| it.ret.max(0) as u64).sum();
        let reaped = self.getevents().iter().map(|it| it.ret.max(0) as u64).sum();
        (accepted, reaped)
    }
}

/// The id of a user without any privilege.
pub const NOBODY: u32 = 65534;

/// Makes a command run as that user.
pub fn as_nobody(command: &mut Command) -> &mut Command {
    command.uid(NOBODY).gid(NOBODY)
}

/// A workload that runs beside the test. It is killed by its id when this value is dropped.
pub struct Program {
    pub child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Starts a workload, and waits until it says that it is ready.
    pub fn ready(arguments: &[&str]) -> Self {
        let mut program = Self::start(arguments);
        assert_eq!(program.line(), "ready");
        program
    }

    /// The same as a user without any privilege.
    pub fn ready_as_nobody(arguments: &[&str]) -> Self {
        let mut program = Self::of(as_nobody(Command::new(programs()).args(arguments)));
        assert_eq!(program.line(), "ready");
        program
    }

    pub fn start(arguments: &[&str]) -> Self {
        Self::of(Command::new(programs()).args(arguments))
    }

    /// Starts another program.
    pub fn of(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { stdin: child.stdin.take(), stdout, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that the program writes.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Lets the program go on.
    pub fn go_on(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An `aiotrace attach` that runs beside the test and writes JSON to a pipe.
pub struct Attached {
    pub child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
    text: String,
}

impl Attached {
    /// Attaches, and returns when the probes are attached.
    pub fn new(options: &[&str]) -> Self {
        Self::by(aiotrace(), options)
    }

    /// The same through another program that starts aiotrace.
    pub fn through(before: &[&str], options: &[&str]) -> Self {
        let mut command = Command::new(before[0]);
        command.args(&before[1..]).arg(aiotrace().get_program());
        Self::by(command, options)
    }

    fn by(mut command: Command, options: &[&str]) -> Self {
        let mut child = command
            .args(["attach", "--format", "json"])
            // `--no-seccomp` is for programs that are launched.
            .args(set_options(options).iter().filter(|it| **it != "--no-seccomp"))
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = child.stderr.take().unwrap();
        let mut attached = Self { child, stdout, stderr, text: String::new() };
        // This line is written when the probes are attached.
        assert!(matches!(attached.next(), Some(Line::Start(_))), "{}", attached.text);
        attached
    }

    pub fn to(pid: u32) -> Self {
        Self::new(&["-p", &pid.to_string()])
    }

    /// The next line, or `None` at the end.
    pub fn next(&mut self) -> Option<Line> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        self.text.push_str(&line);
        (!line.is_empty()).then(|| parse(&line).remove(0))
    }

    /// Reads lines up to the wanted one.
    pub fn await_line(&mut self, wanted: impl Fn(&Line) -> bool) -> Line {
        while let Some(line) = self.next() {
            if wanted(&line) {
                return line;
            }
        }
        panic!("aiotrace ended before that: {}", self.text)
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the signal goes to our own child, which is not waited for yet.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0, "kill");
    }

    /// The whole trace, after aiotrace has ended by itself.
    pub fn end(mut self) -> Trace {
        self.stdout.read_to_string(&mut self.text).unwrap();
        let mut stderr = String::new();
        self.stderr.read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        Trace { lines: parse(&self.text), stderr, status, most_memory: 0 }
    }
}
