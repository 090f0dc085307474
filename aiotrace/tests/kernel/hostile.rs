//! Targets that try to harm whoever traces them (programs/src/attacks.rs): with files that they have mapped as code,
//! and with rings; and what becomes of a trace when aiotrace is killed. The targets have no privilege: they run as
//! nobody, with files in directories of nobody.

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::{FileExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use aiotrace::output::json::{FunctionObject, Line};
use nix::sys::{
    inotify::{AddWatchFlags, InitFlags, Inotify},
    stat::Mode,
};
use object::{Object as _, ObjectSection as _};
use tempfile::TempDir;

use super::{
    bombs,
    harness::{Need, cannot_run},
    machine, processes,
    support::{Attached, NOBODY, Program, Trace, aiotrace, as_nobody, await_that, parse, programs},
};

/// Both sources are tried.
pub(super) const SOURCES: [&[&str]; 2] = [&[], &["--source", "ptrace"]];

/// A directory that belongs to the user of the targets.
pub(super) fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    directory
}

/// A copy of the workloads' program, to be mapped by a target.
pub(super) fn copy(directory: &Path) -> PathBuf {
    copy_as(directory, "x")
}

fn copy_as(directory: &Path, name: &str) -> PathBuf {
    let file = directory.join(name);
    std::fs::copy(programs(), &file).unwrap();
    chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    file
}

/// How many stacks have a function in this file.
pub(super) fn with_file(trace: &Trace, file: &Path) -> usize {
    let is_there = |it: &FunctionObject| it.module.as_deref() == file.to_str();
    trace.setups().iter().filter(|it| it.stack.iter().flatten().any(is_there)).count()
}

/// Traces a target that makes calls from code in this file, until it ends.
fn traced(source: &[&str], how: &str, file: &Path) -> Trace {
    let mut target = Program::ready_as_nobody(&["attack", how, file.to_str().unwrap()]);
    let pid = target.pid().to_string();
    let attached = Attached::new(&[source, &["--stacks", "-p", &pid]].concat());
    target.go_on();
    assert!(target.child.wait().unwrap().success());
    attached.end()
}

/// The target maps a file of its own as code, and cuts it short after aiotrace has read it: a tracer that reads it
/// through a mapping dies of SIGBUS.
fn a_file_that_is_cut_short_does_no_harm() {
    for source in SOURCES {
        let directory = directory();
        let file = copy(directory.path());
        let mut target = Program::ready_as_nobody(&["attack", "cut-short", file.to_str().unwrap()]);
        let pid = target.pid().to_string();
        let attached = Attached::new(&[source, &["--stacks", "-p", &pid]].concat());
        target.go_on();
        assert_eq!(target.line(), "ready");
        target.go_on();
        assert!(target.child.wait().unwrap().success());
        let trace = attached.end();
        assert_eq!(trace.setups().len(), 16, "{source:?}: {}", trace.stderr);
        let of_file = with_file(&trace, &file);
        assert!(of_file >= 8, "{source:?}: {of_file} stacks with the file");
    }
}

/// An open of a file with a lease waits for the lease's owner, up to 45 s, unless the open is told not to wait.
fn a_file_with_a_lease_does_not_hold_us_up() {
    let directory = directory();
    let begin = Instant::now();
    let trace = traced(&[], "lease", &copy(directory.path()));
    assert_eq!(trace.setups().len(), 8, "{}", trace.stderr);
    assert!(begin.elapsed().as_secs() < 40, "{:?}", begin.elapsed());
}

/// A second look-up of a mapped file by its path would open whatever is there by then: here a FIFO, which would block
/// for ever.
fn a_path_that_becomes_a_fifo_is_not_opened() {
    for source in SOURCES {
        let directory = directory();
        let file = copy(directory.path());
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        let fifo = directory.path().join("x.fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        watch.add_watch(&fifo, AddWatchFlags::IN_OPEN).unwrap();
        let trace = traced(source, "race", &file);
        assert_eq!(trace.setups().len(), 8, "{source:?}: {}", trace.stderr);
        // The kernel says where the file is at the moment.
        let files = ["x", "x.aside"].map(|it| with_file(&trace, &directory.path().join(it)));
        let read = files.iter().sum::<usize>();
        assert_eq!(read, 8, "{source:?}: the file itself is read all the same");
        assert!(watch.read_events().is_err(), "{source:?}: the FIFO was opened");
    }
}

/// The file itself says where its debug information is, but its directory is not searched.
fn a_debug_link_to_a_fifo_is_not_followed() {
    for source in SOURCES {
        let directory = directory();
        let file = copy(directory.path());
        link_to(&file, b"fifo\0");
        let fifos = [directory.path().join("fifo"), directory.path().join(".debug/fifo")];
        std::fs::create_dir(directory.path().join(".debug")).unwrap();
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        for fifo in &fifos {
            nix::unistd::mkfifo(fifo, Mode::S_IRWXU).unwrap();
            watch.add_watch(fifo, AddWatchFlags::IN_OPEN).unwrap();
        }
        let trace = traced(source, "plain", &file);
        assert_eq!(with_file(&trace, &file), 8, "{source:?}: {}", trace.stderr);
        assert!(watch.read_events().is_err(), "{source:?}: a FIFO was opened");
    }
}

/// Turns a note that nobody needs into a section that names a debug file.
fn link_to(file: &Path, name: &[u8]) {
    const NOTE: &[u8] = b".note.ABI-tag\0";
    let mut bytes = std::fs::read(file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let (at, size) = elf.section_by_name(".note.ABI-tag").unwrap().file_range().unwrap();
    assert!(name.len() as u64 <= size);
    let of_names = bytes.windows(NOTE.len()).rposition(|it| it == NOTE).unwrap();
    bytes[of_names..][..15].copy_from_slice(b".gnu_debuglink\0");
    bytes[at as usize..][..name.len()].copy_from_slice(name);
    std::fs::write(file, bytes).unwrap();
    let bytes = std::fs::read(file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    assert_eq!(elf.gnu_debuglink().unwrap().unwrap().0, &name[..name.len() - 1]);
}

/// A file claims to have 16 GiB of symbols, and gets no names; the other files get theirs.
fn a_file_that_is_too_much_for_the_child_costs_its_own_names_only() {
    let directory = directory();
    let file = copy(directory.path());
    let length = std::fs::metadata(&file).unwrap().len().next_multiple_of(4096);
    let symbols = File::options().read(true).write(true).open(&file).unwrap();
    let mut head = [0; 64];
    symbols.read_exact_at(&mut head, 0).unwrap();
    let sections = u64::from_le_bytes(head[40..48].try_into().unwrap());
    let count = u64::from(u16::from_le_bytes(head[60..62].try_into().unwrap()));
    let is_symbols = |at: &u64| {
        let mut kind = [0; 4];
        symbols.read_exact_at(&mut kind, at + 4).unwrap();
        u32::from_le_bytes(kind) == object::elf::SHT_SYMTAB
    };
    let at = (0..count).map(|it| sections + 64 * it).find(is_symbols).expect("it has symbols");
    symbols
        .write_all_at(&[length.to_le_bytes(), (16u64 << 30).to_le_bytes()].concat(), at + 24)
        .unwrap();
    symbols.set_len(length + (16 << 30)).unwrap();
    let trace = traced(&[], "plain", &file);
    assert_eq!(with_file(&trace, &file), 8, "{}", trace.stderr);
    let names = |setup: &&aiotrace::output::json::SetupLine| {
        let all = setup.stack.iter().flatten().filter_map(|it| it.function.as_deref());
        all.filter(|it| *it == "setup_with_false_return").count()
    };
    let named = trace.setups().iter().filter(|it| names(it) > 0).count();
    assert_eq!(named, 8, "of the other file: {}", trace.stderr);
}

/// Three files kill the child that reads symbols, one after the other, and a fourth one would keep it reading for
/// minutes. Each loses only its own names, and aiotrace says which file it was. An honest file that comes after them
/// gets its names.
fn files_that_kill_or_stall_the_child_cost_their_own_names_only() {
    // The child is the same for both.
    let sources = if machine::runs_everything() { &SOURCES[..] } else { &SOURCES[..1] };
    for source in sources {
        let directory = directory();
        let kinds = ["kills-1", "kills-2", "kills-3", "stalls", "honest"];
        let files = kinds.map(|it| copy_as(directory.path(), it));
        let [kill @ .., stall, honest] = &files;
        kill.iter().for_each(|it| bombs::write(it, bombs::MUCH_MEMORY));
        bombs::write(stall, bombs::MUCH_TIME);
        let mut targets = files
            .each_ref()
            .map(|it| Program::ready_as_nobody(&["attack", "stay", it.to_str().unwrap()]));
        let pids = targets.each_ref().map(|it| it.pid().to_string());
        let each = pids.iter().flat_map(|it| ["-p", it]);
        let options: Vec<&str> = source.iter().copied().chain(["--stacks"]).chain(each).collect();
        let mut attached = Attached::new(&options);
        for target in &mut targets {
            target.go_on();
            for _ in 0..8 {
                attached.await_line(|it| matches!(it, Line::Setup(_)));
            }
            assert_eq!(target.line(), "ready");
            target.go_on();
            assert!(target.child.wait().unwrap().success());
        }
        let trace = attached.end();
        let said = |file: &Path| {
            let begin = format!("no names of the functions in {}: ", file.display());
            let said = trace.stderr.lines().filter_map(|it| Some(it.split_once(&begin)?.1));
            said.collect::<Vec<_>>()
        };
        for file in kill {
            // On a slow machine the child's time is over before its memory is.
            let ends = ["the child that reads them was killed", "no answer within 5s"];
            let said = said(file);
            assert!(ends.iter().any(|it| said == [*it]), "{said:?}: {}", trace.stderr);
        }
        assert_eq!(said(stall), ["no answer within 5s"], "{}", trace.stderr);
        assert_eq!(said(honest), [""; 0], "{}", trace.stderr);
        for file in &files {
            assert_eq!(with_file(&trace, file), 8, "{source:?}: {}", file.display());
        }
        let functions = trace.setups().into_iter().flat_map(|it| it.stack.iter().flatten());
        let of_honest = functions.filter(|it| it.module.as_deref() == honest.to_str());
        let named = of_honest.filter(|it| it.function.is_some()).count();
        assert!(named > 0, "{source:?}: {}", trace.stderr);
    }
}

/// When aiotrace is killed with -9, the child that reads symbols ends, too.
fn the_child_that_reads_symbols_ends_with_us() {
    let directory = directory();
    let file = copy(directory.path());
    let mut target = Program::ready_as_nobody(&["attack", "cut-short", file.to_str().unwrap()]);
    let mut attached = Attached::new(&["--stacks", "-p", &target.pid().to_string()]);
    target.go_on();
    attached.await_line(|line| matches!(line, Line::Setup(_)));
    let child = processes::children_of(attached.child.id());
    assert!(!child.is_empty(), "a child reads the symbols");
    attached.signal(libc::SIGKILL);
    attached.child.wait().unwrap();
    for pid in child {
        await_that("the child has ended", || !aiotrace::proc::is_alive(pid));
    }
    target.kill();
}

/// There are more threads than the probes have slots for: each call is shown once, or counted once as lost.
fn calls_of_more_threads_than_there_are_slots_are_counted_once() {
    // There are two processes, because one cannot map so many stacks (vm.max_map_count).
    const THREADS: u64 = 9000;
    const ALL: u64 = 2 * THREADS;
    let Some(mut first) = many_threads(THREADS) else { return };
    let Some(mut second) = many_threads(THREADS) else { return };
    let pids = [&first, &second].map(|it| it.pid().to_string());
    let mut attached = Attached::new(&["-p", &pids[0], "-p", &pids[1]]);
    // The threads of the first process have slots, and keep them.
    first.go_on();
    for _ in 0..THREADS {
        attached.await_line(|it| matches!(it, Line::Destroy(_)));
    }
    second.go_on();
    for target in [&mut first, &mut second] {
        assert_eq!(target.line(), format!("{THREADS} calls"));
        target.go_on();
        assert!(target.child.wait().unwrap().success());
    }
    let trace = attached.end();
    let (told, report) = (trace.destroys().len() as u64, trace.report());
    // The rest are looks that had no answer in time, which are no calls.
    let lost = report.lost - report.lost_by_cause["unanswered"];
    assert_eq!(told + lost, ALL, "{told} told, {report:?}");
    assert!(lost > 0, "there were enough slots: {report:?}");
}

/// What page tables a process has, in KiB.
fn page_tables(pid: u32) -> u64 {
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap();
    let text = aiotrace::proc::status_field(&status, "VmPTE").unwrap();
    text.trim_end_matches(" kB").parse().unwrap()
}

/// To read memory that was never touched would make page tables for it: 64 GiB have 128 MiB of them. That a handle is
/// nowhere in it is certain all the same.
fn memory_that_is_only_reserved_is_not_scanned() {
    let target = Program::ready_as_nobody(&["attack", "reserve", "64"]);
    let (pid, before) = (target.pid(), page_tables(target.pid()));
    let trace = scanned(pid);
    let found: Vec<_> = trace.findings().iter().map(|it| it.name.clone()).collect();
    assert_eq!(found, ["context-leak"]);
    let after = page_tables(pid);
    assert!(after < before + 1024, "{before} KiB of page tables, {after} KiB after the scan");
}

/// A trace that looks for handles, for a second.
fn scanned(pid: u32) -> Trace {
    let pid = pid.to_string();
    Attached::new(&["--scan", "--idle-after", "100ms", "--duration", "1", "-p", &pid]).end()
}

/// To look up which of 40 TiB is present would take 40 s. The scan is given up, and nothing is concluded.
fn a_scan_that_takes_too_long_is_given_up() {
    let target = Program::ready_as_nobody(&["attack", "reserve", "40960"]);
    let start = Instant::now();
    let trace = scanned(target.pid());
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    assert!(trace.findings().is_empty(), "{:?}", trace.findings());
    assert_eq!(trace.report().contexts.len(), 1);
}

/// Starts a program with this many threads; `None`: a limit of the user or of the machine is too low.
fn many_threads(count: u64) -> Option<Program> {
    let most = std::fs::read_to_string("/proc/sys/kernel/threads-max").unwrap();
    if most.trim().parse::<u64>().unwrap() < count + 4096 {
        cannot_run("too few threads (kernel.threads-max)");
        return None;
    }
    Some(Program::ready(&["one-call-each", &count.to_string()]))
}

/// aiotrace attaches by ptrace to thousands of threads: all of them are stopped, and go on.
fn thousands_of_threads_are_attached_to_and_go_on() {
    const THREADS: u64 = 5000;
    let Some(mut target) = many_threads(THREADS) else { return };
    let pid = target.pid().to_string();
    let attached = Attached::new(&["--source", "ptrace", "-p", &pid]);
    target.go_on();
    assert_eq!(target.line(), format!("{THREADS} calls"));
    target.go_on();
    assert!(target.child.wait().unwrap().success());
    let trace = attached.end();
    let calls = trace.destroys().len() as u64;
    assert_eq!(calls + trace.report().lost, THREADS, "{}", trace.stderr);
    assert!(!trace.stderr.contains("let be"), "all of them stop: {}", trace.stderr);
}

/// A target begins a program at the moment of the attach. PTRACE_SEIZE would then wait for threads that wait for us,
/// while other targets stand still.
fn a_target_that_begins_a_program_when_it_is_traced_holds_nobody_up() {
    let mut innocent = Program::ready(&["heartbeat"]);
    for _ in 0..4 {
        let mut target = Program::ready_as_nobody(&["attack", "exec", "400"]);
        let pids = format!("{},{}", innocent.pid(), target.pid());
        let arguments = ["attach", "-q", "--source", "ptrace", "--duration", "0.3", "-p", &pids];
        let output = aiotrace().args(arguments).output().unwrap();
        // If the file of the program is slow, the process is said to hang.
        let said = String::from_utf8(output.stderr).unwrap();
        let is_refused = said.contains("does not answer: perhaps it hangs");
        assert!(output.status.success() || is_refused, "{said}");
        target.kill();
    }
    innocent.go_on();
    let held_up: u64 = innocent.line().parse().unwrap();
    // Without the limit it would be held up for ever.
    assert!(held_up < 10_000, "held up for {held_up} ms");
}

/// The kernel reports the newest thread first, so the stops of a process that makes threads without end would come
/// before all others.
fn a_storm_of_threads_does_not_hold_up_another_target() {
    let mut innocent = Program::ready(&["submits"]);
    let mut storm = Program::ready_as_nobody(&["attack", "storm", "64"]);
    let pids = format!("{},{}", innocent.pid(), storm.pid());
    let mut attached = Attached::new(&["--source", "ptrace", "-p", &pids]);
    storm.go_on();
    // How many calls the storm makes while the other target makes none.
    let (mut made, mut between, mut most) = (0, 0, 0);
    let begun = Instant::now();
    while made < 100 || begun.elapsed() < Duration::from_secs(3) {
        match attached.next() {
            Some(Line::Destroy(_)) => (made, between) = (made + 1, between + 1),
            Some(Line::Submit(_)) => between = 0,
            Some(_) => (),
            None => panic!("the trace ended: {}", attached.end().stderr),
        }
        most = most.max(between);
    }
    attached.signal(libc::SIGINT);
    let trace = attached.end();
    storm.kill();
    innocent.kill();
    assert!(trace.status.success(), "{}", trace.stderr);
    // Without turns, 500 calls and more came in between.
    assert!(most < 150, "{most} of {made}; {}", trace.stderr);
}

/// How many processes `ls --proc` reports as not looked at.
fn not_looked_at() -> u64 {
    let output = aiotrace().args(["ls", "--proc", "--format", "json"]).output().unwrap();
    let listing: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    listing["unknown"].as_u64().unwrap()
}

/// A file in /proc has 300 MB, because of long paths: it is not read whole, and aiotrace says what it does not know.
fn long_lines_in_proc_take_no_memory() {
    const MOST: u64 = 128 << 20;
    for source in SOURCES {
        let (directory, before) = (directory(), not_looked_at());
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let path = directory.path().to_str().unwrap();
        let mut target = Program::ready_as_nobody(&["attack", "maps", path]);
        let pid = target.pid().to_string();
        let attached = Attached::new(&[source, &["-v", "-p", &pid]].concat());
        target.go_on();
        assert_eq!(not_looked_at(), before + 1, "{source:?}");
        target.go_on();
        assert!(target.child.wait().unwrap().success());
        let trace = attached.end();
        assert!(trace.status.success(), "{source:?}: {}", trace.stderr);
        assert_eq!(trace.destroys().len(), 1);
        let memory = trace.report().cost.as_ref().unwrap().memory_bytes;
        assert!(memory < MOST, "{source:?}: {memory}");
    }
}

/// Headers of rings that no kernel writes: sizes, tails and magic numbers at random; and calls with these rings.
fn a_hostile_ring_header_ends_no_trace() {
    for source in SOURCES {
        let mut target = Program::ready_as_nobody(&["attack", "rings", "3000"]);
        let pid = target.pid().to_string();
        let attached = Attached::new(&[source, &["-q", "-p", &pid]].concat());
        target.go_on();
        let calls: u64 = target.line().parse().unwrap();
        assert!(target.child.wait().unwrap().success());
        let trace = attached.end();
        assert_eq!(trace.status.code(), Some(0), "{source:?}: {}", trace.stderr);
        let report = trace.report();
        assert!(report.events + report.lost >= calls, "{source:?}: {calls} calls; {report:?}");
    }
}

/// A ring claims to have very many entries, half of them new: no memory is taken for them.
fn a_ring_of_a_false_size_takes_no_memory() {
    for source in SOURCES {
        let mut target = Program::ready_as_nobody(&["attack", "size", &u32::MAX.to_string()]);
        let pid = target.pid().to_string();
        let attached = Attached::new(&[source, &["-q", "-p", &pid]].concat());
        target.go_on();
        assert!(target.child.wait().unwrap().success());
        let trace = attached.end();
        assert_eq!(trace.status.code(), Some(0), "{source:?}: {}", trace.stderr);
    }
}

/// At each call the ring claims that half of it is new, although nothing was submitted.
fn a_hostile_ring_header_costs_no_more_than_two_records_a_call() {
    const CALLS: u64 = 100;
    /// Entries of a record; and entries of a ring for 8,000 requests, with those that the kernel adds.
    const ENTRIES: u64 = 128;
    const RING: u64 = 16_384;
    for source in SOURCES {
        let mut target = Program::ready_as_nobody(&["attack", "tails", &CALLS.to_string()]);
        let attached = Attached::new(&[source, &["-p", &target.pid().to_string()]].concat());
        target.go_on();
        assert!(target.child.wait().unwrap().success());
        let trace = attached.end();
        assert_eq!(trace.getevents().len() as u64, 2 * CALLS, "{source:?}: {}", trace.stderr);
        // All entries of a ring that existed at the attach may have been in flight, once. The end of the context
        // shows what is left.
        let most = 2 * CALLS * 2 * ENTRIES + 3 * RING;
        let told = trace.completions().len() as u64;
        assert!(told <= most, "{source:?}: {told} entries told");
    }
}

/// The same attacks on the trace of a plain user, who may not look into /proc/PID/map_files.
fn a_trace_without_privilege_stands_them_too() {
    let attacks: [(&str, usize); 6] =
        [("plain", 8), ("lease", 8), ("race", 8), ("cut-short", 16), ("rings", 0), ("tails", 2)];
    for (how, setups) in attacks {
        let directory = directory();
        let file = copy(directory.path());
        let fifo = directory.path().join("x.fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        watch.add_watch(&fifo, AddWatchFlags::IN_OPEN).unwrap();
        let trace = directory.path().join("trace");
        let argument = if matches!(how, "rings" | "tails") { Path::new("100") } else { &file };
        let mut child = as_nobody(&mut aiotrace())
            .args(["run", "--source", "ptrace", "--stacks", "--format", "json", "-o"])
            .arg(&trace)
            .arg("--")
            .arg(programs())
            .args(["attack", how])
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"\n\n").unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{how}: {stderr}");
        let lines = parse(&std::fs::read_to_string(&trace).unwrap());
        let made = lines.iter().filter(|it| matches!(it, Line::Setup(_))).count();
        assert!(made == setups || how == "rings", "{how}: {made} contexts: {stderr}");
        assert!(watch.read_events().is_err(), "{how}: the FIFO was opened");
    }
}

/// Whenever aiotrace is killed, the target goes on unchanged: it has no tracer, nothing is stopped, and nothing
/// fails.
fn killed_at_any_moment_it_leaves_nothing_behind() {
    const WAYS: [&[&str]; 6] = [
        &["-q"],
        &["--stacks", "-o", "/dev/null"],
        &["-c"],
        &["--source", "ptrace", "-q"],
        &["-q", "--inject", "io_getevents:error=EINTR:when=1000000"],
        &[
            "--source",
            "ptrace",
            "-q",
            "--inject",
            "io_submit:error=EAGAIN:when=1000000",
            "--inject",
            "io_getevents:error=EINTR:when=1000000",
            "--inject",
            "complete:res=EIO:when=1000000",
        ],
    ];
    let kills = if machine::runs_everything() { 100 } else { 20 };
    let mut target = Program::ready_as_nobody(&["submits"]);
    let pid = target.pid();
    let mut random = u64::from(pid) << 16 | 1;
    for round in 0..kills {
        let options = WAYS[round % WAYS.len()];
        let mut child = aiotrace()
            .args(["attach", "-p", &pid.to_string()])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        std::thread::sleep(Duration::from_millis(random % 400));
        let helpers = processes::children_of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        await_that("nobody traces it", || {
            let tids = aiotrace::proc::threads(pid);
            tids.into_iter().all(|tid| aiotrace::errand::tracer_of(tid).is_none_or(|it| it == 0))
        });
        for tid in aiotrace::proc::threads(pid) {
            let state = aiotrace::proc::thread_state(pid, tid);
            assert!(!matches!(state, Some(b't' | b'T')), "{options:?}: thread {tid} is stopped");
        }
        for helper in helpers {
            await_that("its helpers have ended", || !aiotrace::proc::is_alive(helper));
        }
    }
    // The lines from here on were written after the last kill.
    target.line();
    let line = target.line();
    assert!(line.ends_with(" 0"), "calls and failures: {line}");
}

const NO_LEASES: Need = Need::Native("the smallest guest has no leases");
const NO_INOTIFY: Need = Need::Native("the smallest guest has no inotify");

tests![
    a_file_that_is_cut_short_does_no_harm if Need::LONG,
    a_file_with_a_lease_does_not_hold_us_up if NO_LEASES,
    a_path_that_becomes_a_fifo_is_not_opened if NO_INOTIFY,
    a_debug_link_to_a_fifo_is_not_followed if NO_INOTIFY,
    a_file_that_is_too_much_for_the_child_costs_its_own_names_only if Need::SAME,
    files_that_kill_or_stall_the_child_cost_their_own_names_only if Need::LONG,
    the_child_that_reads_symbols_ends_with_us if Need::LONG,
    a_hostile_ring_header_costs_no_more_than_two_records_a_call if Need::LONG,
    a_trace_without_privilege_stands_them_too if NO_INOTIFY,
    a_hostile_ring_header_ends_no_trace if Need::LONG,
    a_target_that_begins_a_program_when_it_is_traced_holds_nobody_up if Need::LONG,
    a_storm_of_threads_does_not_hold_up_another_target if Need::LONG,
    long_lines_in_proc_take_no_memory if Need::LONG,
    calls_of_more_threads_than_there_are_slots_are_counted_once
        if Need::Native("a guest has no memory for so many threads"),
    memory_that_is_only_reserved_is_not_scanned if Need::LONG,
    a_scan_that_takes_too_long_is_given_up if Need::LONG,
    thousands_of_threads_are_attached_to_and_go_on if Need::LONG,
    a_ring_of_a_false_size_takes_no_memory if Need::LONG,
    killed_at_any_moment_it_leaves_nothing_behind if Need::LONG,
];
