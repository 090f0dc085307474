//! All tiny programs under one aiotrace, one line of result for each. The same suite runs natively and
//! as the only process of a virtual machine; the lines must be equal, whatever probes are used.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

const PROGRAMS: &[&str] = &[
    "submit 1",
    "submit 65",
    "submit 5000",
    "errnos",
    "libaio",
    "unreadable",
    "late",
    "reap-ring 300",
    "reuse 200",
    "threads 8",
    "fork 20",
    "exec",
    "seccomp",
    "compat",
    "completions",
    "short",
    "destroy-in-flight",
    "exit-in-flight",
    "exec-in-flight",
    "unmap-ring",
    "move-ring",
    "forked-handle",
    "vfork",
    "callers",
    "32-bit",
    "t1",
    "t2",
    "t3",
    "t4",
    "t5",
    "t6",
    "t7",
    "t8",
    "t9",
    "t10",
    "t11",
    "t12",
    "t13",
    "t14",
    "t15",
    "t16",
    "t17",
    "t18",
    "t19",
    "t20",
    "t21",
    "t22",
    "bad-context-growth",
    "good-context-leak",
    "bad-released-at-exit",
    "good-released-at-exit",
    "bad-unreaped-completions",
    "good-unreaped-completions",
    "good-discarded-poll",
    "bad-iocb-reused-in-flight",
    "good-iocb-reused-in-flight",
    "bad-short-submit-dropped",
    "good-short-submit-dropped",
    "bad-submit-eagain",
    "good-submit-eagain",
    "bad-failed-completion",
    "good-failed-completion",
    "bad-short-io",
    "good-short-io",
    "bad-inline-completion",
    "good-inline-completion",
    "bad-use-after-destroy",
    "good-use-after-destroy",
    "bad-setup-denied",
    "good-setup-denied",
    "bad-sandbox-denied",
    "good-sandbox-denied",
    "bad-cancel-refused",
    "good-cancel-refused",
    "bad-not-kernel-aio",
    "good-not-kernel-aio",
];

/// What stands for a while until it is found: the program waits that long.
const FOUND_IN_TIME: [(&str, &str); 4] = [
    ("t17", "context-leak"),
    ("bad-context-growth", "context-growth"),
    ("bad-unreaped-completions", "unreaped-completions"),
    ("bad-short-io", "short-io"),
];
/// So that it does not take long.
const THRESHOLDS: [&str; 6] = ["--unreaped-after", "2s", "--idle-after", "2s", "--growth", "8"];
/// Where [`each`] finds what aiotrace writes.
const OUTPUT: &str = "AIO_SUITE_OUTPUT";
/// Nothing takes longer to be found, unless what shows it was lost.
const PATIENCE: Duration = Duration::from_secs(15);

/// Programs that are about findings, which are compared then. (Others run into some by the way: how long
/// an emulated processor takes, for instance.)
fn is_about_findings(program: &str) -> bool {
    let is_alarm = |rest: &str| rest.bytes().all(|it| it.is_ascii_digit());
    program.starts_with("bad-")
        || program.starts_with("good-")
        || program.strip_prefix('t').is_some_and(is_alarm)
}

/// Programs whose threads do the same in each run.
fn is_deterministic(program: &str) -> bool {
    !program.starts_with("reuse") && program != "errnos" && is_countable(program)
}

/// Programs that make the same calls in each run, and whose completions all probes see: how many slots a
/// ring has depends on the processors that took some; what completes while a ring is moved is seen only
/// by a probe in the kernel; and one goes on until it is found.
fn is_countable(program: &str) -> bool {
    !["bad-context-growth", "bad-submit-eagain", "t6", "t21"].contains(&program)
}

/// Runs each program, one after the other, and says how it ended.
pub fn each() {
    let us = std::env::current_exe().expect("our path");
    for &program in PROGRAMS {
        let mut words = program.split(' ');
        let mut command = match program {
            // A program of its own, beside us.
            "32-bit" => Command::new(us.with_file_name("aio-programs-32")),
            _ => {
                let mut command = Command::new(&us);
                command.args(words.by_ref());
                command
            }
        };
        let awaited = FOUND_IN_TIME.iter().find(|it| it.0 == program);
        let status = match awaited {
            Some((_, finding)) => until_found(&mut command, finding),
            None => command.stdin(Stdio::null()).status(),
        };
        let status = status.map_or_else(|error| error.to_string(), |it| it.to_string());
        crate::say(&format!("{program} | {status}"));
    }
}

/// Runs a program until what it does was found.
fn until_found(command: &mut Command, finding: &str) -> std::io::Result<ExitStatus> {
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let file = std::env::var_os(OUTPUT).unwrap_or_default();
    let head = format!("\"pid\":{},", program.id());
    let name = format!("\"name\":\"{finding}\"");
    let start = Instant::now();
    let is_found = || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().any(|line| line.contains(&name) && line.contains(&head))
    };
    while !is_found() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(program.stdin.take());
    program.wait()
}

/// Runs all under this aiotrace and this probe set.
pub fn run(aiotrace: &Path, probes: &str) {
    let us = std::env::current_exe().expect("our path");
    let start = std::time::Instant::now();
    let file = std::env::temp_dir().join(format!("suite-{}.json", std::process::id()));
    let output = Command::new(aiotrace)
        .args(["run", "-f", "--stacks", "--denied", "--format", "json"])
        .args(selected(probes))
        .args((probes == "ptrace-no-seccomp").then_some("--no-seccomp"))
        .args(THRESHOLDS)
        .arg("-o")
        .arg(&file)
        .env(OUTPUT, &file)
        .arg("--")
        .args([us.as_os_str(), "each".as_ref()])
        .output()
        .expect("aiotrace can be started");
    let json = std::fs::read_to_string(&file).unwrap_or_default();
    let _ = std::fs::remove_file(&file);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let ended = stdout.lines().filter_map(|line| line.split_once(" | "));
    for ((program, status), tally) in ended.zip(Tally::of_each(&json)) {
        let (facts, refused) = tally.text(program);
        crate::say(&format!("suite {probes} | {program} | {status} | {facts}"));
        crate::say(&format!("refused {probes} | {program} | {refused}"));
    }
    let (attached, json_of_attach) = attach(aiotrace, probes, &file);
    crate::say(&format!("suite {probes} | attach | {attached}"));
    crate::say(&format!("suite {probes} | ls | {}", list(aiotrace)));
    crate::say(&format!("suite {probes} | counted | {}", counted(aiotrace, probes)));
    crate::say(&format!("suite {probes} | chosen | {}", chosen(aiotrace, probes)));
    crate::say(&format!("suite {probes} | end | {}", lost(&json)));
    if !output.status.success() || json.is_empty() {
        crate::say(&String::from_utf8_lossy(&output.stderr));
    }
    crate::say(&json_of_attach);
    crate::say(&format!("{probes}: {:.1} s", start.elapsed().as_secs_f64()));
}

/// How this probe set is asked for; `ptrace` is none, and takes their place.
fn selected(probes: &str) -> [&str; 2] {
    if probes.starts_with("ptrace") { ["--source", "ptrace"] } else { ["--probes", probes] }
}

/// What `-c` counts of a program that submits and reaps a hundred times: in the kernel, where probes do it.
pub fn counted(aiotrace: &Path, probes: &str) -> String {
    let is_ptrace = probes.starts_with("ptrace");
    // ptrace sees every call, and counts no requests.
    let options = if is_ptrace { &["-c"][..] } else { &["-c", "--requests"] };
    let (status, report) = hundred_pairs(aiotrace, probes, options);
    let Some((_, calls)) = report.split_once("\"calls\":[") else { return report };
    let rows = calls.split("\"call\":").skip(1);
    let counts = rows.map(|row| {
        let name = row.split(',').next().unwrap_or_default().trim_matches('"');
        format!("{name} {}", value(row, "calls").unwrap_or("?"))
    });
    let counts: Vec<String> = counts.collect();
    let reads = calls.split_once("\"pread\":").map(|it| it.1);
    let of_reads = |field| match reads.and_then(|it| value(it, field)) {
        None if is_ptrace => "100",
        found => found.unwrap_or("no"),
    };
    let (requests, timed) = (of_reads("requests"), of_reads("timed"));
    format!("{status} | {} | {requests} requests, {timed} timed", counts.join(", "))
}

/// How many calls of such a program are shown with `--only`. ptrace refuses it, and sees all anyway.
pub fn chosen(aiotrace: &Path, probes: &str) -> String {
    if probes.starts_with("ptrace") {
        return "op=pread 200, error 0".to_owned();
    }
    let shown = |only| {
        let (_, report) = hundred_pairs(aiotrace, probes, &["--only", only]);
        value(&report, "shown").map_or(report.clone(), str::to_owned)
    };
    format!("op=pread {}, error {}", shown("op=pread"), shown("error"))
}

/// The status of aiotrace with these options and a program that submits and reaps a hundred times, and its
/// report; what it complains of, if there is none.
fn hundred_pairs(aiotrace: &Path, probes: &str, options: &[&str]) -> (ExitStatus, String) {
    let us = std::env::current_exe().expect("our path");
    let output = Command::new(aiotrace)
        .args(["run", "--format", "json"])
        .args(options)
        .args(selected(probes))
        .arg("--")
        .args([us.as_os_str(), "pairs".as_ref(), "100".as_ref()])
        .output()
        .expect("aiotrace can be started");
    let json = String::from_utf8_lossy(&output.stdout);
    let report = json.lines().rev().find(|it| value(it, "event") == Some("report"));
    let report = report.map_or_else(
        || format!("no report: {}", String::from_utf8_lossy(&output.stderr)),
        str::to_owned,
    );
    (output.status, report)
}

/// `aiotrace ls` beside a process that holds three contexts.
fn list(aiotrace: &Path) -> String {
    use std::{
        io::{BufRead as _, BufReader},
        process::Stdio,
    };
    let us = std::env::current_exe().expect("our path");
    let mut program = Command::new(us)
        .args(["hold", "3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut ready = String::new();
    let mut stdout = BufReader::new(program.stdout.take().expect("its output"));
    stdout.read_line(&mut ready).expect("its output");
    let listed = Command::new(aiotrace).arg("ls").output().expect("aiotrace can be started");
    drop(program.stdin.take());
    let _ = program.wait();
    let text = String::from_utf8_lossy(&listed.stdout);
    let holds = text.contains(" 3          6 ");
    let sum = text.lines().find(|it| it.starts_with("accounted ")).unwrap_or("nothing");
    format!("{} | holds 3: {holds} | {sum}", listed.status)
}

/// Attaches to a thread that is blocked in io_getevents, and lets it go on: its return must be seen,
/// though it came in where no probe was. Gives the result, and what was written if it is wrong.
fn attach(aiotrace: &Path, probes: &str, file: &Path) -> (String, String) {
    use std::{io::Write as _, process::Stdio};
    let us = std::env::current_exe().expect("our path");
    let mut program = Command::new(us)
        .arg("blocked-on-stdin")
        .stdin(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let is_blocked = || {
        let call = std::fs::read_to_string(format!("/proc/{}/syscall", program.id()));
        call.is_ok_and(|it| it.starts_with(&format!("{} ", libc::SYS_io_getevents)))
    };
    while !is_blocked() {
        std::thread::yield_now();
    }
    let mut tracer = Command::new(aiotrace)
        .args(["attach", "--format", "json"])
        .args(selected(probes))
        .arg("-o")
        .arg(file)
        .args(["-p", &program.id().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .expect("aiotrace can be started");
    // The first line is written when the probes are attached.
    while !std::fs::read_to_string(file).is_ok_and(|it| it.contains("blocked_at_attach")) {
        if tracer.try_wait().expect("aiotrace's status").is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let mut stdin = program.stdin.take().expect("its input");
    stdin.write_all(b"x").expect("its input");
    let ended = program.wait().expect("its status");
    let _ = tracer.wait();
    let json = std::fs::read_to_string(file).unwrap_or_default();
    let _ = std::fs::remove_file(file);
    let calls =
        json.lines().filter(|line| value(line, "event").is_some_and(|it| it.starts_with("io_")));
    let calls: Vec<String> = calls
        .map(|line| {
            let field = |name: &str| value(line, name).unwrap_or("null").to_owned();
            format!("{} {} {}", field("event"), field("ret"), field("entry"))
        })
        .collect();
    let calls = calls.join(", ");
    let is_right = calls == "io_getevents 1 before_attach, io_destroy 0 seen";
    (format!("{ended} | {calls}"), if is_right { String::new() } else { json })
}

/// What was told of one program.
#[derive(Default)]
struct Tally {
    counts: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
    findings: BTreeMap<String, u64>,
    /// Of each thread: what it did, in order.
    threads: BTreeMap<u64, DefaultHasher>,
    /// How many contexts have a handle, by process and handle: two, while io_destroy of the older one
    /// waits. What completes after the end of the last is discarded, and only a probe inside of the
    /// kernel sees it.
    alive: BTreeMap<(String, String), i64>,
}

impl Tally {
    /// One for each child of the first process: its own events, and those of its descendants.
    fn of_each(json: &str) -> Vec<Self> {
        let number = |line: &str, field: &str| value(line, field)?.parse::<u64>().ok();
        let mut tallies: Vec<Self> = Vec::new();
        let mut program_of: HashMap<u64, usize> = HashMap::new();
        let mut first = None;
        for line in json.lines() {
            let (Some(event), Some(pid)) = (value(line, "event"), number(line, "pid")) else {
                continue;
            };
            let first = *first.get_or_insert(pid);
            if event == "process" {
                if let Some(child) = number(line, "child") {
                    let index = program_of.get(&pid).copied();
                    if pid == first {
                        tallies.push(Self::default());
                    }
                    program_of.insert(child, index.unwrap_or(tallies.len() - 1));
                }
            } else if let Some(tally) = program_of.get(&pid).map(|index| &mut tallies[*index]) {
                tally.add(event, line);
            }
        }
        tallies
    }

    fn add(&mut self, event: &str, line: &str) {
        let field = |name: &str| value(line, name).unwrap_or("null").to_owned();
        let errno = field("errno");
        match event {
            "refused" => {
                *self.refused.entry(format!("[{}] {errno}", field("index"))).or_default() += 1;
            }
            "completion" if self.alive.get(&(field("pid"), field("ctx"))) == Some(&0) => (),
            "completion" => {
                // A read that another one overtakes may have another length; an error is an error.
                *self.counts.entry(format!("completion {errno}")).or_default() += 1;
            }
            // An emulated processor is slow.
            "finding" if field("name") == "blocking-submit" => (),
            "finding" => {
                let unsure = if field("unsure") == "true" { " unsure" } else { "" };
                let text = format!("{} {}{unsure}", field("name"), field("severity"));
                *self.findings.entry(text).or_default() += 1;
            }
            "context_gone" => {
                if let Some(alive) = self.alive.get_mut(&(field("pid"), field("ctx"))) {
                    *alive -= 1;
                }
                // How many fit into a ring depends on the processors that took slots of it.
                let in_flight = match field("in_flight").parse::<u64>() {
                    Ok(50..) => "many".to_owned(),
                    _ => field("in_flight"),
                };
                let text = format!("gone {} {in_flight}", field("how"));
                *self.counts.entry(text).or_default() += 1;
            }
            "context_moved" => {
                self.alive.insert((field("pid"), field("from")), 0);
                self.alive.insert((field("pid"), field("to")), 1);
                *self.counts.entry("moved".to_owned()).or_default() += 1;
            }
            _ if event.starts_with("io_") => {
                *self.counts.entry(format!("{event} {errno}")).or_default() += 1;
                if line.contains("leak_here\",") {
                    *self.counts.entry(format!("{event} in leak_here")).or_default() += 1;
                }
                if event == "io_setup" && field("ret") == "0" {
                    *self.alive.entry((field("pid"), field("handle"))).or_default() += 1;
                }
                let tid = value(line, "tid").and_then(|it| it.parse().ok()).unwrap_or(0);
                let operations: Vec<&str> =
                    line.split("\"op\":").skip(1).filter_map(|it| it.split(',').next()).collect();
                let results: Vec<&str> =
                    line.split("\"res\":").skip(1).filter_map(|it| it.split(',').next()).collect();
                (event, field("ret"), field("entry"), operations, results)
                    .hash(self.threads.entry(tid).or_default());
            }
            _ => {
                *self.counts.entry(event.to_owned()).or_default() += 1;
            }
        }
    }

    /// All but what only some probes can see, and that.
    fn text(&self, program: &str) -> (String, String) {
        let with_order = is_deterministic(program);
        let list = |counts: &BTreeMap<String, u64>| {
            let items: Vec<String> =
                counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
            items.join(", ")
        };
        let order: BTreeSet<u64> = self.threads.values().map(|it| it.finish()).collect();
        let mut all = DefaultHasher::new();
        order.hash(&mut all);
        let order = if with_order { format!("{:016x}", all.finish()) } else { "any".to_owned() };
        let mut findings = self.findings.clone();
        if !is_countable(program) {
            // That takes so many calls.
            findings.remove("inline-completion info");
        }
        let found = match is_about_findings(program) {
            true => format!(" | found {}", list(&findings)),
            false => String::new(),
        };
        let counts = if is_countable(program) { list(&self.counts) } else { String::new() };
        (format!("{counts} | order {order}{found}"), list(&self.refused))
    }
}

/// What was lost, by cause.
fn lost(json: &str) -> String {
    let report = json.lines().rev().find(|it| value(it, "event") == Some("report"));
    let Some(lost) = report.and_then(|it| value(it, "lost_by_cause")) else {
        return "no report".to_owned();
    };
    let lost: Vec<&str> = lost.split(',').filter(|it| !it.ends_with(":0")).collect();
    format!("lost {}", lost.join(" ").replace('"', ""))
}

/// The value of the first field of this name: a number, a word in quotes, or an object.
fn value<'a>(line: &'a str, field: &str) -> Option<&'a str> {
    let rest = line.split_once(&format!("\"{field}\":"))?.1;
    let end: &[char] = if rest.starts_with('{') { &['}'] } else { &[',', '}'] };
    Some(rest.split(end).next()?.trim_matches(['"', '{']))
}
