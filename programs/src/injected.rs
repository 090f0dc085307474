//! Each fault by each mechanism that this machine has, and what a program receives: `receive`, with one line
//! changed. One line of result for each case; the same natively and in virtual machines.

use std::{
    ffi::{OsStr, OsString},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

/// What `receive` says without faults.
const UNHARMED: [&str; 8] = [
    "io_setup 0",
    "io_submit 3",
    "io_getevents 3 8,8,8",
    "io_submit 1",
    "io_pgetevents 1 8",
    "io_submit 1",
    "io_cancel -115",
    "io_destroy 0",
];

/// A fault, and what the program says in the place of one of those lines.
struct Case {
    rule: &'static str,
    /// Which line.
    line: usize,
    says: &'static [&'static str],
    by: &'static [&'static str],
}

const fn case(
    rule: &'static str,
    line: usize,
    says: &'static [&'static str],
    by: &'static [&'static str],
) -> Case {
    Case { rule, line, says, by }
}

const WHOLE: &[&str] = &["fmod_ret", "override", "ptrace"];
const REQUEST: &[&str] = &["fmod_ret", "override", "file_permission", "ptrace"];
const SHORT: &[&str] = &["file_permission", "ptrace"];
const RESULT: &[&str] = &["write_user", "ptrace"];
const PTRACE: &[&str] = &["ptrace"];

/// The mechanisms.
const MECHANISMS: [&str; 5] = ["fmod_ret", "override", "file_permission", "write_user", "ptrace"];

const CASES: &[Case] = &[
    case("io_setup:error=EAGAIN:when=1", 0, &["io_setup -11", "io_setup 0"], WHOLE),
    case("io_setup:error=ENOMEM:when=1", 0, &["io_setup -12", "io_setup 0"], WHOLE),
    case("io_submit:error=EAGAIN:when=1", 1, &["io_submit -11", "io_submit 3"], REQUEST),
    case("io_submit:error=EFAULT:max=1", 1, &["io_submit -14", "io_submit 3"], REQUEST),
    case(
        "io_submit:error=EAGAIN:when=1..2",
        1,
        &["io_submit -11", "io_submit -11", "io_submit 3"],
        REQUEST,
    ),
    case("io_submit:accept=2", 1, &["io_submit 2", "io_submit 1"], SHORT),
    case("io_submit:accept=1:when=1", 1, &["io_submit 1", "io_submit 2"], SHORT),
    case("io_getevents:error=EINTR:when=1", 2, &["io_getevents -4", "io_getevents 3 8,8,8"], WHOLE),
    case(
        "io_getevents:error=EFAULT:when=1",
        2,
        &["io_getevents -14", "io_getevents 3 8,8,8"],
        WHOLE,
    ),
    case("complete:res=EIO:when=2", 2, &["io_getevents 3 8,-5,8"], RESULT),
    case("complete:res=ENOSPC:op=pwrite", 4, &["io_pgetevents 1 -28"], RESULT),
    case("complete:res=5:op=pwrite", 4, &["io_pgetevents 1 5"], RESULT),
    case("io_pgetevents:error=EINTR:when=1", 4, &["io_pgetevents -4", "io_pgetevents 1 8"], WHOLE),
    case("io_cancel:error=EAGAIN:when=1:force", 6, &["io_cancel -11", "io_cancel -115"], WHOLE),
    case("io_cancel:error=EINVAL:when=1", 6, &["io_cancel -22", "io_cancel -115"], WHOLE),
    case("io_destroy:error=EINVAL:when=1", 7, &["io_destroy -22", "io_destroy 0"], WHOLE),
    case("io_submit:error=EAGAIN:after=1h", 1, &["io_submit 3"], REQUEST),
    case("io_submit:delay_enter=20ms:when=1", 1, &["io_submit 3"], PTRACE),
    case("io_submit:delay_exit=20ms:when=1", 1, &["io_submit 3"], PTRACE),
];

/// Rules that a kernel that cannot count refuses, but for ptrace.
fn counts(rule: &str) -> bool {
    ["when=", "max=", "prob="].iter().any(|it| rule.contains(it))
}

/// What `aiotrace doctor` says.
pub fn doctor(aiotrace: &Path) -> String {
    let output = Command::new(aiotrace).arg("doctor").output().expect("aiotrace can be started");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs all under this aiotrace, of which this doctor tells.
pub fn run(aiotrace: &Path, doctor: &str) {
    let says = |name: &str| {
        let mut lines = doctor.lines().filter_map(|it| it.trim_start().strip_prefix(name));
        lines.next().map_or("", str::trim_start).to_owned()
    };
    let has = |mechanism: &str| says(mechanism).starts_with("yes");
    let can_count = says("counting in BPF").starts_with("yes");
    // Of several threads, the kernel may leave out some calls, and says so.
    let is_exact = |mechanism: &str| !says(mechanism).contains("skips programs");
    let all: Vec<&str> = MECHANISMS.into_iter().filter(|it| has(it)).collect();
    let exactly = |it: &&str| if is_exact(it) { (*it).to_owned() } else { format!("{it} roughly") };
    let with_care: Vec<String> = all.iter().map(exactly).collect();
    let counting = if can_count { "counting" } else { "not counting" };
    crate::say(&format!("mechanisms | {}, {counting}", with_care.join(", ")));
    let stacked = Stacked::mount();
    for mechanism in &all {
        let is_counted = can_count || *mechanism == "ptrace";
        let of_it = CASES.iter().filter(|it| it.by.contains(mechanism));
        let sets = sets(of_it.filter(|it| is_counted || !counts(it.rule)));
        let rules = |set: &[&Case]| set.iter().map(|it| it.rule).collect::<Vec<&str>>();
        for set in &sets {
            let got = receive(aiotrace, mechanism, &rules(set), &["receive"]);
            tell(mechanism, &rules(set).join(" "), &expected(set), &got);
        }
        if let Some(set) = sets.first().filter(|_| WHOLE.contains(mechanism)) {
            let got = receive(aiotrace, mechanism, &rules(set), &["receive-libaio"]);
            tell(mechanism, "the same through libaio", &expected(set), &got);
            let got = receive(aiotrace, mechanism, &rules(set), &["receive-in-child"]);
            tell(mechanism, "the same in a child", &expected(set), &got);
        }
        if let Some(stacked) =
            stacked.as_ref().filter(|_| is_counted && REQUEST.contains(mechanism))
        {
            for rule in ["io_submit:error=EAGAIN:when=1", "io_submit:accept=2"] {
                let of_it = CASES.iter().filter(|it| it.rule == rule && it.by.contains(mechanism));
                for case in of_it {
                    let got = receive(aiotrace, mechanism, &[rule], &["receive", &stacked.file()]);
                    tell(mechanism, &format!("{rule} on overlayfs"), &expected(&[case]), &got);
                }
            }
        }
        if *mechanism == "file_permission" && is_counted {
            // Missed; and the next call, which nothing was decided for, must not get it.
            let got =
                receive(aiotrace, mechanism, &["io_submit:error=EAGAIN:when=1"], &["receive-poll"]);
            tell(mechanism, "a request that passes by it", "io_submit 1; io_submit 1", &got);
        }
        if REQUEST.contains(mechanism) && is_counted && is_exact(mechanism) {
            let rule = "io_submit:error=EAGAIN:when=5+10";
            let got = receive(aiotrace, mechanism, &[rule], &["receive-threads"]);
            tell(mechanism, "16 threads", &exactly_every_tenth(&got), &got);
        }
    }
    for mechanism in all.iter().filter(|it| REQUEST.contains(it)) {
        let result = only_while_it_lives(aiotrace, mechanism).err();
        let result = result.map_or_else(|| "ok".to_owned(), |it| format!("WRONG: {it}"));
        crate::say(&format!("fault {mechanism} | only while aiotrace lives | {result}"));
    }
    // Without a name: the best one.
    let us = std::env::current_exe().expect("our path");
    for rule in ["io_setup:error=EAGAIN:when=1", "io_submit:accept=2", "complete:res=EIO:op=pwrite"]
    {
        tell_best(rule, &best(aiotrace, rule, &[us.as_os_str(), "receive".as_ref()], None));
    }
    if Path::new(FIO).exists() {
        let file = std::env::temp_dir().join(format!("fio-{}", std::process::id()));
        let mut name = OsString::from("--filename=");
        name.push(&file);
        let mut command: Vec<&OsStr> = vec![FIO.as_ref(), &name];
        command.extend(FIO_OPTIONS.map(OsStr::new));
        let preloaded = (!has_shared_memory()).then(|| us.with_file_name(SHARED_MEMORY));
        for rule in ["io_submit:error=EAGAIN:when=3", "complete:res=EIO:op=pread:when=3"] {
            tell_best(
                &format!("fio, {rule}"),
                &best(aiotrace, rule, &command, preloaded.as_deref()),
            );
        }
        let _ = std::fs::remove_file(&file);
    }
    tell_best("attach", &attached(aiotrace));
}

/// Stands in for shared memory (shm.rs).
const SHARED_MEMORY: &str = "libaio_shm.so";

/// Without it fio does not start.
fn has_shared_memory() -> bool {
    // SAFETY: has no pointers. A segment of no use to anyone but us, which is gone at once.
    unsafe {
        let id = libc::shmget(libc::IPC_PRIVATE, 4096, libc::IPC_CREAT | 0o600);
        id >= 0 && libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) == 0
    }
}

const FIO: &str = "/usr/bin/fio";
/// It forks, and its child makes the calls.
const FIO_OPTIONS: [&str; 8] = [
    "--name=x",
    "--size=64k",
    "--bs=4k",
    "--rw=randread",
    "--ioengine=libaio",
    "--iodepth=8",
    "--invalidate=0",
    "--minimal",
];

/// A file on overlayfs, which passes each request on to a file below: both are asked whether it is allowed. Mounted
/// where only we see it, and our children.
struct Stacked {
    root: String,
}

impl Stacked {
    fn mount() -> Option<Self> {
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !known.lines().any(|it| it.ends_with("\toverlay")) {
            return None;
        }
        let root = std::env::temp_dir().join(format!("overlay-{}", std::process::id()));
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir_all(root.join(name)).expect("a temporary directory");
        }
        std::fs::write(root.join("lower/file"), [0; 4096]).expect("a temporary file");
        let root = root.to_string_lossy().into_owned();
        let options = format!("lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work\0");
        let (merged, kind) = (format!("{root}/merged\0"), c"overlay".as_ptr());
        let none = std::ptr::null();
        let private = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: strings that end with a zero byte; the namespace is our own.
        let failed = unsafe {
            libc::unshare(libc::CLONE_NEWNS) != 0
                || libc::mount(none, c"/".as_ptr(), none, private, none.cast()) != 0
                || libc::mount(kind, merged.as_ptr().cast(), kind, 0, options.as_ptr().cast()) != 0
        };
        let us = Self { root };
        if failed {
            crate::say(&format!("overlayfs | WRONG: {}", std::io::Error::last_os_error()));
            return None;
        }
        Some(us)
    }

    fn file(&self) -> String {
        format!("{}/merged/file", self.root)
    }
}

impl Drop for Stacked {
    fn drop(&mut self) {
        // SAFETY: a path that ends with a zero byte.
        unsafe { libc::umount(format!("{}/merged\0", self.root).as_ptr().cast()) };
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Cases that can be tried in one run: each is about another line. (Where processors are emulated, the kernel
/// takes seconds to attach a program, and to take it away again.)
fn sets(cases: impl Iterator<Item = &'static Case>) -> Vec<Vec<&'static Case>> {
    let mut sets: Vec<Vec<&Case>> = Vec::new();
    for case in cases {
        match sets.iter_mut().find(|set| set.iter().all(|it| it.line != case.line)) {
            Some(set) => set.push(case),
            None => sets.push(vec![case]),
        }
    }
    sets
}

/// What `receive` says with all these.
fn expected(set: &[&Case]) -> String {
    let says = |(line, unharmed): (usize, &'static str)| {
        let case = set.iter().find(|it| it.line == line);
        case.map_or_else(|| vec![unharmed], |it| it.says.to_vec())
    };
    UNHARMED.into_iter().enumerate().flat_map(says).collect::<Vec<_>>().join("; ")
}

/// A running program gets faults while aiotrace is there and shows signs of life, and none else. (Under ptrace it
/// stands still while aiotrace does.)
fn only_while_it_lives(aiotrace: &Path, mechanism: &str) -> Result<(), &'static str> {
    let us = std::env::current_exe().expect("our path");
    let mut program = Command::new(us)
        .arg("submits")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut said = BufReader::new(program.stdout.take().expect("its output")).lines();
    let mut tracer = Command::new(aiotrace)
        .args(["attach", "-q", "-o", "/dev/null", "--mechanism", mechanism])
        .args(["--inject", "io_submit:error=EAGAIN", "-p", &program.id().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .expect("aiotrace can be started");
    let tell = |signal: i32| {
        // SAFETY: a process of ours.
        unsafe { libc::kill(tracer.id() as i32, signal) };
    };
    let mut until = |fails: bool| {
        // The program says ten lines a second: how many calls it made, and how many failed.
        let tallies = said.by_ref().map_while(Result::ok).take(600);
        let mut tallies = tallies.filter_map(|it| {
            let (calls, failed) = it.split_once(' ')?;
            Some((calls.parse::<u64>().ok()?, failed.parse::<u64>().ok()?))
        });
        let mut before = tallies.next();
        tallies.any(|now| {
            let last = before.replace(now).unwrap_or(now);
            let (calls, failed) = (now.0 - last.0, now.1 - last.1);
            calls > 0 && if fails { failed == calls } else { failed == 0 }
        })
    };
    let mut steps = || {
        until(true).then_some(()).ok_or("no faults")?;
        if mechanism != "ptrace" {
            tell(libc::SIGSTOP);
            until(false).then_some(()).ok_or("faults although aiotrace is stopped")?;
            tell(libc::SIGCONT);
            until(true).then_some(()).ok_or("no faults when it goes on")?;
        }
        tell(libc::SIGKILL);
        until(false).then_some(()).ok_or("faults although aiotrace was killed")
    };
    let result = steps();
    let _ = program.kill();
    let _ = program.wait();
    let _ = tracer.kill();
    let _ = tracer.wait();
    result
}

fn tell(mechanism: &str, what: &str, expected: &str, got: &str) {
    let result = if got == expected {
        "ok".to_owned()
    } else {
        format!("WRONG: {got:?} in the place of {expected:?}")
    };
    crate::say(&format!("fault {mechanism} | {what} | {result}"));
}

/// What the program says, in one line.
fn receive(aiotrace: &Path, mechanism: &str, rules: &[&str], program: &[&str]) -> String {
    let us = std::env::current_exe().expect("our path");
    let output = Command::new(aiotrace)
        .args(["run", "-f", "-q", "-o", "/dev/null", "--mechanism", mechanism])
        .args(rules.iter().flat_map(|it| ["--inject", it]))
        .arg("--")
        .arg(us)
        .args(program)
        .stdin(Stdio::null())
        .output()
        .expect("aiotrace can be started");
    if !output.status.success() {
        return format!("{} {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>().join("; ")
}

/// What `receive-threads` must say: with so many calls, the 5th, the 15th and so on failed.
fn exactly_every_tenth(says: &str) -> String {
    let calls: u64 = says.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0);
    let failed = if calls < 5 { 0 } else { (calls - 5) / 10 + 1 };
    format!("{calls} calls, {failed} failed")
}

/// What became of a fault by the mechanism that is taken without a name.
struct Best {
    /// What aiotrace wrote.
    text: String,
    /// How the program ended.
    status: String,
}

fn tell_best(what: &str, best: &Best) {
    let value = |name: &str| {
        let (_, rest) = best.text.split_once(&format!("\"{name}\":\""))?;
        rest.split('"').next()
    };
    let mechanism = value("mechanism").unwrap_or("none");
    let fault = best.text.lines().find(|line| line.contains("\"event\":\"fault\""));
    let verdict = fault.and_then(|line| line.split_once("\"verdict\":\"")?.1.split('"').next());
    // Where the kernel has skipped a program, which is told, there may be no fault.
    let is_missed = best.text.contains("\"effect\":\"missed\"") || !best.text.contains("none lost");
    let verdict = verdict.unwrap_or(if is_missed { "missed" } else { "none" });
    crate::say(&format!("best | {what} | {mechanism} | {verdict} | {}", best.status));
    if verdict == "none" || mechanism == "none" {
        crate::say(&best.text);
    }
}

/// What becomes of this command with this rule. `preloaded`: a library that it is given.
fn best(aiotrace: &Path, rule: &str, command: &[&OsStr], preloaded: Option<&Path>) -> Best {
    let file = std::env::temp_dir().join(format!("best-{}.json", std::process::id()));
    let output = Command::new(aiotrace)
        .args(["run", "-f", "--format", "json", "--inject", rule, "-o"])
        .arg(&file)
        .envs(preloaded.map(|it| ("LD_PRELOAD", it)))
        .arg("--")
        .args(command)
        .stdin(Stdio::null())
        .output()
        .expect("aiotrace can be started");
    let json = std::fs::read_to_string(&file).unwrap_or_default();
    let _ = std::fs::remove_file(&file);
    let text = json + &String::from_utf8_lossy(&output.stderr);
    Best { text, status: output.status.to_string() }
}

/// A running program gets faults for a second.
fn attached(aiotrace: &Path) -> Best {
    let us = std::env::current_exe().expect("our path");
    let mut program = Command::new(us)
        .arg("until-accepted")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the program can be started");
    let output = Command::new(aiotrace)
        .args(["attach", "-q", "--format", "json", "--inject", "io_submit:error=EAGAIN:for=1s"])
        .args(["-p", &program.id().to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("aiotrace can be started");
    if !output.status.success() {
        let _ = program.kill();
    }
    let status = program.wait().map_or_else(|error| error.to_string(), |it| it.to_string());
    let (json, messages) = (output.stdout, output.stderr);
    let text = [json, messages].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
    Best { text, status }
}
