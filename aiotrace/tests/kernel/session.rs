//! One aiotrace for many programs. aiotrace takes half a second to start, and five where the processor is emulated.
//! So tests that need no options of their own share one: `aiotrace run -f` of `aio-programs each`, which runs the
//! programs that the tests ask for, one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use aiotrace::output::json::{FindingRow, Line, ReportLine};

use super::{
    machine,
    support::{self, Trace, aiotrace},
};

/// If a session's report has more contexts and findings than this, the session is ended and the next test begins
/// another: aiotrace lists only the first 256.
const MANY_ROWS: usize = 150;

/// Longer than the model gathers the ends of contexts that end with their processes.
const TOGETHER: Duration = Duration::from_secs(10);

/// What has not come by then, on a kernel that skips runs of probes, may never come.
const SKIPPED_AFTER: Duration = Duration::from_secs(15);

/// The sessions, by the options of aiotrace.
static SESSIONS: Mutex<BTreeMap<Vec<String>, Session>> = Mutex::new(BTreeMap::new());
/// Findings that came after the tests had looked, in sessions that have ended.
static LATE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The trace of a program that ends by itself, under aiotrace with these options.
pub fn run(options: &[&str], program: &[&str]) -> Trace {
    with(options, |session| session.run(program, Until::End))
}

/// The same for a program that goes on until this is found.
pub fn run_until_found(options: &[&str], program: &[&str], finding: &str) -> Trace {
    with(options, |session| session.run(program, Until::Found(finding)))
}

/// The same for a program that goes on for this time.
pub fn run_for(options: &[&str], program: &[&str], time: Duration) -> Trace {
    with(options, |session| session.run(program, Until::Past(time)))
}

/// The kernel skipped runs of the probes, so that what the test waits for does not come.
pub struct Skipped;

/// How long a program goes on.
#[derive(Clone, Copy)]
enum Until<'a> {
    /// Until it ends by itself.
    End,
    /// Until this is found.
    Found(&'a str),
    /// For this time.
    Past(Duration),
}

fn with(options: &[&str], work: impl FnOnce(&mut Session) -> Trace) -> Trace {
    let key: Vec<String> = options.iter().map(|it| (*it).to_owned()).collect();
    // The session is not in the map while it is used: if the test fails, or is given up, the session is abandoned.
    let session = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    let mut session = session.unwrap_or_else(|| Session::begin(options));
    let trace = work(&mut session);
    if session.rows > MANY_ROWS {
        session.end();
    } else {
        SESSIONS.lock().unwrap_or_else(PoisonError::into_inner).insert(key, session);
    }
    trace
}

/// The process ids of the tracers.
pub fn tracers() -> Vec<u32> {
    let sessions = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    sessions.values().map(|it| it.child.id()).collect()
}

/// Whether there was no session, or all were ended and nothing was found late.
pub fn is_unused() -> bool {
    let is_empty = SESSIONS.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
    is_empty && LATE.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
}

/// Ends all sessions; tests that need one begin another.
pub fn pause_all() {
    let sessions = std::mem::take(&mut *SESSIONS.lock().unwrap_or_else(PoisonError::into_inner));
    sessions.into_values().for_each(Session::end);
}

/// Ends all sessions; fails if one found something after the test of its program was over.
pub fn end_all() {
    pause_all();
    let late = std::mem::take(&mut *LATE.lock().unwrap_or_else(PoisonError::into_inner));
    assert!(late.is_empty(), "found when the test was over:\n{}", late.join("\n"));
}

/// Forgets all sessions, and kills their processes.
pub fn abandon_all() {
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    directory: tempfile::TempDir,
    /// How far the output of aiotrace has been read, in bytes.
    offset: u64,
    /// The process that runs the programs.
    driver: u32,
    /// The names of the findings that the tests have seen, with the program, by process.
    seen: BTreeMap<u32, (String, BTreeSet<String>)>,
    lost: u64,
    lost_by_cause: BTreeMap<String, u64>,
    /// Number of contexts and findings in the last report.
    rows: usize,
}

#[derive(serde::Deserialize)]
struct Whose {
    pid: Option<u32>,
}

/// Lines, each with the process that it is about.
type Lines = Vec<(Option<u32>, Line)>;

impl Session {
    fn begin(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = aiotrace()
            .args(["run", "-f", "--format", "json"])
            .args(machine::set_options())
            .args(options)
            .arg("-o")
            .arg(directory.path().join("trace.json"))
            .arg("--")
            .arg(support::programs())
            .arg("each")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(directory.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stdin = child.stdin.take();
        Self {
            child,
            stdin,
            stdout,
            directory,
            offset: 0,
            driver: 0,
            seen: BTreeMap::new(),
            lost: 0,
            lost_by_cause: BTreeMap::new(),
            rows: 0,
        }
    }

    /// Runs a program, and returns its trace.
    fn run(&mut self, program: &[&str], until: Until<'_>) -> Trace {
        let how = if matches!(until, Until::End) { "run" } else { "hold" };
        self.say(&format!("{how} {}", program.join(" ")));
        let root: u32 = self.answer().parse().unwrap();
        let mut lines = Lines::new();
        match until {
            Until::End => (),
            Until::Found(name) => {
                let is_it = |line: &Line| matches!(line, Line::Finding(it) if it.name == name);
                self.read_until(&mut lines, name, |line, _| is_it(line));
            }
            Until::Past(time) => std::thread::sleep(time),
        }
        if how == "hold" {
            self.say("release");
        }
        let status = ExitStatus::from_raw(self.answer().parse().unwrap());
        // The driver makes a call when the program is over: its line comes after all lines of the program.
        self.read_until(&mut lines, "the end of the program", |line, driver| {
            matches!(line, Line::Destroy(it) if it.args.ctx.0 == 0 && it.pid == driver)
        });
        let mut report = self.report(&mut lines);
        // The ends of contexts that end with their processes are gathered, and come a second later.
        let ends = lines.iter().any(|(_, line)| {
            matches!(line, Line::ContextGone(it) if it.how == "exit" || it.how == "exec")
        });
        let is_told = |lines: &Lines| {
            let mut findings = lines.iter().filter_map(|(_, line)| match line {
                Line::Finding(it) => Some(&it.name),
                _ => None,
            });
            findings.any(|it| it == "released-at-exit" || it == "context-leak")
        };
        let start = Instant::now();
        while ends && !is_told(&lines) && start.elapsed() < TOGETHER {
            std::thread::sleep(Duration::from_millis(100));
            report = self.report(&mut lines);
        }
        self.trace(lines, report, status, (root, program))
    }

    fn report(&mut self, lines: &mut Lines) -> ReportLine {
        // SAFETY: the signal goes to our own child, which is not waited for yet.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, libc::SIGUSR1) }, 0, "kill");
        self.read_until(lines, "a report", |line, _| matches!(line, Line::Report(_)));
        let Some((_, Line::Report(report))) = lines.pop() else { unreachable!() };
        report
    }

    fn trace(
        &mut self,
        mut lines: Lines,
        report: ReportLine,
        status: ExitStatus,
        (root, program): (u32, &[&str]),
    ) -> Trace {
        self.rows = report.contexts.len() + report.findings.len();
        let mut pids = BTreeSet::from([root]);
        for (_, line) in &lines {
            if let Line::Process(it) = line
                && let Some(child) = it.child.filter(|_| pids.contains(&it.pid))
            {
                pids.insert(child);
            }
        }
        // The lines of the program's own processes, and lines that belong to no process.
        lines.retain(|(pid, _)| pid.is_none_or(|it| pids.contains(&it)));
        let mut report = report;
        let before = std::mem::replace(&mut self.lost, report.lost);
        report.lost -= before;
        for (cause, count) in &mut report.lost_by_cause {
            let before = self.lost_by_cause.insert(cause.to_string(), *count).unwrap_or(0);
            *count -= before;
        }
        report.contexts.retain(|it| pids.contains(&it.pid));
        report.requests.retain(|it| pids.contains(&it.pid));
        report.findings.retain(|it| pids.contains(&it.pid));
        for pid in pids {
            let in_report = report.findings.iter().filter(|it| it.pid == pid);
            let mut names: BTreeSet<String> = in_report.map(|it| it.name.to_string()).collect();
            names.extend(lines.iter().filter_map(|(of, line)| match line {
                Line::Finding(it) if *of == Some(pid) => Some(it.name.to_string()),
                _ => None,
            }));
            self.seen.insert(pid, (program.join(" "), names));
        }
        let mut lines: Vec<Line> = lines.into_iter().map(|it| it.1).collect();
        lines.push(Line::Report(report));
        Trace { lines, stderr: self.stderr(), status, most_memory: 0 }
    }

    fn say(&mut self, line: &str) {
        let said = writeln!(self.stdin.as_mut().unwrap(), "{line}");
        said.unwrap_or_else(|error| panic!("aiotrace has ended ({error}): {}", self.stderr()));
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "aiotrace has ended: {}", self.stderr());
        line.trim_end().to_owned()
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stderr")).unwrap_or_default()
    }

    /// Takes lines up to the wanted one; `wanted` gets the driver's process id, too.
    fn read_until(
        &mut self,
        lines: &mut Lines,
        what: &str,
        mut is_last: impl FnMut(&Line, u32) -> bool,
    ) {
        let start = Instant::now();
        let mut is_asked = false;
        loop {
            let text = self.whole_lines();
            let mut taken = 0;
            for line in text.split_inclusive('\n') {
                taken += line.len() as u64;
                let pid = serde_json::from_str::<Whose>(line).unwrap().pid;
                let line = support::parse(line).remove(0);
                // The first process in the output is the driver.
                if let (0, Line::Process(it)) = (self.driver, &line) {
                    self.driver = it.pid;
                }
                let is_over = is_last(&line, self.driver);
                lines.push((pid, line));
                if is_over {
                    self.offset += taken;
                    return;
                }
            }
            self.offset += taken;
            let is_alive = self.child.try_wait().unwrap().is_none();
            assert!(is_alive, "aiotrace ended before {what}: {}", self.stderr());
            let is_late = start.elapsed() >= support::PATIENCE;
            if is_late || !is_asked && machine::skips_runs() && start.elapsed() >= SKIPPED_AFTER {
                is_asked = true;
                let report = self.last_report();
                // Then what the finding rests on is unsure, and aiotrace says so.
                let is_skipped = !report.contains(r#""skipped_runs":0,"#);
                if is_skipped && machine::skips_runs() && report.contains("events were lost") {
                    std::panic::panic_any(Skipped);
                }
                assert!(!is_late, "{what} does not come: {report}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What aiotrace knows now, as it writes it.
    fn last_report(&self) -> String {
        // SAFETY: has no pointers; the process is a child that was not waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGUSR1) };
        let start = Instant::now();
        loop {
            let text = self.whole_lines();
            let is_report = |it: &&str| it.contains(r#""event":"report""#);
            if let Some(line) = text.lines().rfind(is_report) {
                return line.to_owned();
            }
            if start.elapsed() >= support::PATIENCE {
                return format!("no report: {}", self.stderr());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What aiotrace has written since the last look, without a last line that is not complete.
    fn whole_lines(&self) -> String {
        let Ok(mut file) = std::fs::File::open(self.directory.path().join("trace.json")) else {
            return String::new();
        };
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(self.offset)).and_then(|_| file.read_to_end(&mut text)).unwrap();
        text.truncate(text.iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1));
        String::from_utf8(text).unwrap()
    }

    /// Ends the driver and aiotrace. Findings that came after the test of a program are kept.
    fn end(mut self) {
        drop(self.stdin.take());
        let mut rest = String::new();
        let _ = self.stdout.read_to_string(&mut rest);
        let status = self.child.wait().unwrap();
        let stderr = self.stderr();
        assert!(status.success(), "{status}: {stderr}");
        let lines = support::parse(&self.whole_lines());
        let Some(Line::Report(report)) = lines.last() else { panic!("no report: {stderr}") };
        let mut late = LATE.lock().unwrap_or_else(PoisonError::into_inner);
        for (pid, (program, seen)) in &self.seen {
            // The ends of contexts that end with their processes are gathered, and may come only here; whether requests
            // complete inline depends on the machine's disk, and waits for a look at the file. And a kernel may report
            // only here that it skipped a run: then findings that rest on it are unsure.
            let is_late = |it: &&FindingRow| {
                let is_cut = machine::skips_runs() && it.why.as_deref() == Some(support::LOST);
                let may_be_late = ["released-at-exit", "inline-completion"].contains(&&*it.name);
                let is_known = seen.contains(&*it.name) || may_be_late;
                it.pid == *pid && !is_known && !is_cut
            };
            let found: Vec<_> = report.findings.iter().filter(is_late).collect();
            if !found.is_empty() {
                late.push(format!("{program}: {found:?}"));
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // This fails only for a process that has ended. A process that waits in the kernel may not end even now.
        let _ = self.child.kill();
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(5)
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
