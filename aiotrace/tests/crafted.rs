//! Recordings that no trace has written: somebody made them to use up memory, or to write to the terminal of their
//! readers. The tests need no root.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use aiotrace::{
    bounded::{FRAMES, FUNCTION_NAMES, FUNCTIONS, NAME, PATH},
    event::{
        Address, Adopted, Args, Body, Call, Change, Entry, Event, Handle, Holder, Iocb, Limit,
        Looked, Process, Ring, Stack,
    },
    model::{Settings, Thresholds},
    output::{Ended, FaultRule, Faults, Start, clock::Clock, escape::must_be_escaped},
    source::{
        Losses,
        recording::{Item, Writer},
    },
    stacks::{Frame, Module, ModuleId, Place, child::Function},
    trace::Machine,
};
use aiotrace_common::{abi, record::ITEMS_PER_CALL};
use nix::sys::resource::{UsageWho, getrusage};

const MIB: u64 = 1 << 20;
const ITEMS: u64 = ITEMS_PER_CALL as u64;

/// A recording that a test makes.
struct Crafted(Writer<Vec<u8>>);

impl Crafted {
    /// Begins a recording with this text in place of every word of ours.
    fn begin(word: &'static str) -> Self {
        let mut crafted = Self(Writer::new(Vec::new()).unwrap());
        let clock = Clock { start: 1, to_wall: 0, to_boot: 0 };
        let rule = FaultRule { text: format!("io_submit:error={word}"), mechanism: word.into() };
        let faults = Some(Faults { seed: 1, dry_run: false, rules: vec![rule] });
        let machine = Machine {
            arch: word.into(),
            page_size: u64::MAX,
            kernel: Some(word.to_owned()),
            host: Some(word.to_owned()),
            boot_id: Some(word.to_owned()),
        };
        let lacks = vec![word.into()];
        let start = Start { clock, machine, probes: word.into(), lacks, faults };
        let settings = Settings {
            thresholds: Thresholds::default(),
            exact_completions: true,
            every_call: true,
            synchronous: true,
            stops: false,
        };
        crafted.item(Item::Start(start, settings));
        crafted
    }

    fn item(&mut self, item: Item<&Event>) {
        self.0.item(&item).unwrap();
    }

    fn event(&mut self, time: u64, pid: u32, body: Body) {
        self.item(Item::Event(&Event { time, pid, tid: pid, body }));
    }

    fn report(self, options: &[&str]) -> Output {
        self.shown(&[&["report"], options].concat())
    }

    /// Shows it by this command.
    fn shown(mut self, command: &[&str]) -> Output {
        self.0.flush().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.0.into_inner()).unwrap();
        Command::new(env!("CARGO_BIN_EXE_aiotrace"))
            .args(command)
            .arg(file.path())
            .output()
            .unwrap()
    }
}

fn call(ret: i64, args: Args, stack: Option<Stack>) -> Body {
    Body::Call(Call {
        entered: Some(1),
        entry: Entry::Seen,
        ret,
        args,
        ring: None,
        ring_before: None,
        compat: false,
        stack,
        fault: None,
    })
}

fn setup(ret: i64, stack: Option<Stack>) -> Body {
    let stored = Some(Handle(0x7000));
    call(ret, Args::Setup { nr_events: 8, ctxp: Address(1), stored }, stack)
}

fn stack(frames: usize, path: &[u8]) -> Stack {
    let module = Arc::new(Module::new(ModuleId(0), path));
    let frame =
        |offset| Frame { address: 7, place: Some(Place { module: Arc::clone(&module), offset }) };
    Stack { frames: (0..frames as u64).map(frame).collect(), truncated: false }
}

/// An io_submit whose requests follow one another in a file.
fn submit(first: u64, count: u64, ret: i64) -> Body {
    let iocb = |index: u64| {
        let (offset, nbytes) = (index as i64 * 512, 512);
        let value = abi::Iocb { offset, nbytes, ..abi::Iocb::default() };
        Some(Iocb {
            address: Some(Address(index)),
            value: Some(value),
            read_late: false,
            vectors: None,
        })
    };
    let iocbs = (first..first + count).map(iocb).collect();
    let (ctx, nr, iocbpp) = (Handle(0x7000), count as i64, Address(1));
    call(ret, Args::Submit { ctx, nr, iocbpp, iocbs, truncated: 0 }, None)
}

fn process(name: &[u8], change: Change) -> Body {
    let (name, thread_name) = (name.to_vec(), name.to_vec());
    Body::Process(Process { name, thread_name, started: None, space: None, change })
}

fn function(name: &str) -> Function {
    Function { function: Some(name.into()), file: Some(name.into()), line: Some(1), symbol: None }
}

fn functions(functions: Vec<Function>) -> Item<&'static Event> {
    Item::Functions { module: 1, offset: 1, functions }
}

fn ended(reason: &'static str) -> Ended {
    Ended {
        time: 9,
        events: 1,
        losses: Losses::default(),
        attached: Duration::from_secs(1),
        reason: reason.into(),
        cost: None,
    }
}

/// The most memory that any of our children took so far.
fn most_memory() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    (usage.max_rss() as u64) << 10
}

#[test]
fn what_is_longer_than_a_trace_writes_is_refused() {
    let event = |body| {
        let mut crafted = Crafted::begin("kprobes");
        crafted.event(2, 1, body);
        crafted
    };
    let item = |item| {
        let mut crafted = Crafted::begin("kprobes");
        crafted.item(item);
        crafted
    };
    let path = |length| Some(vec![b'x'; length]);
    for (allowed, refused) in [
        (event(submit(0, ITEMS, 1)), event(submit(0, ITEMS + 1, 1))),
        (
            event(setup(0, Some(stack(FRAMES, b"p")))),
            event(setup(0, Some(stack(FRAMES + 1, b"p")))),
        ),
        (
            event(process(&[b'x'; NAME], Change::Attached)),
            event(process(&[b'x'; NAME + 1], Change::Attached)),
        ),
        (
            item(Item::Path { pid: 1, fd: 1, path: path(PATH) }),
            item(Item::Path { pid: 1, fd: 1, path: path(PATH + 1) }),
        ),
        (
            item(functions(vec![function("f"); FUNCTIONS])),
            item(functions(vec![function("f"); FUNCTIONS + 1])),
        ),
        (
            item(functions(vec![function(&"f".repeat(FUNCTION_NAMES / 4)); 2])),
            item(functions(vec![function(&"f".repeat(FUNCTION_NAMES / 4)); 3])),
        ),
    ] {
        let text = |it: Output| String::from_utf8(it.stderr).unwrap();
        let allowed = text(allowed.report(&["-q"]));
        assert!(allowed.contains("the recording ends early"), "{allowed}");
        let refused = text(refused.report(&["-q"]));
        assert!(refused.contains("damaged: item 2 of the chunk at byte 12 "), "{refused}");
    }
}

#[test]
fn a_recording_cannot_take_memory_without_end() {
    // Places with functions, none of which is used.
    let mut places = Crafted::begin("kprobes");
    for offset in 0..30_000 {
        let functions = vec![function(&"f".repeat(FUNCTION_NAMES / 8)); 4];
        places.item(Item::Functions { module: 1, offset, functions });
    }
    assert_eq!(places.report(&["-q"]).status.code(), Some(0));
    for command in [&["report", "-q"][..], &["top", "-b"]] {
        let output = requests_without_end().shown(command);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.contains("takes more than 400 MiB of memory, which no trace does"),
            "{command:?}: {text}"
        );
        assert!(most_memory() < 512 * MIB, "{command:?}: {} MiB", most_memory() / MIB);
    }
}

/// Each of these processes leaves thousands of requests to be submitted again.
fn requests_without_end() -> Crafted {
    let mut processes = Crafted::begin("kprobes");
    for pid in 1..1200 {
        processes.event(2, pid, process(b"p", Change::Attached));
        let ring = Some(Ring { head: 0, tail: 0, nr: 8192 });
        let adopted = Adopted { ctx: Handle(0x7000), ring, charge: None, in_flight: None };
        processes.event(3, pid, Body::ContextAdopted(adopted));
        for time in 0..3 {
            processes.event(4 + time, pid, submit(time * 1025, 1025, 1));
        }
    }
    processes
}

/// Characters that a terminal obeys, and a line that looks like ours.
const EVIL: &str = "\x1b]0;owned\x07\x1b[2J\r\n=== no findings ===\u{202e}\u{9b}31m";

/// A recording that has [`EVIL`] in place of each of its strings.
fn evil() -> Crafted {
    let mut crafted = Crafted::begin(EVIL);
    let name = EVIL.as_bytes();
    let pid = 7;
    for (fd, path) in [(0, name), (3, b"\x1b[7m")] {
        crafted.item(Item::Path { pid, fd, path: Some(path.to_vec()) });
    }
    crafted.event(2, pid, process(name, Change::Attached));
    crafted.event(2, pid, process(name, Change::Exec { path: name.to_vec() }));
    let stack = stack(2, name);
    let module = stack.frames[0].place.as_ref().unwrap().module.id.0;
    for offset in 0..2 {
        let functions = vec![function(EVIL)];
        crafted.item(Item::Functions { module, offset, functions });
    }
    crafted.event(3, pid, setup(0, Some(stack.clone())));
    crafted.event(4, pid, submit(0, 8, 1));
    let path = Some(name.to_vec());
    crafted.event(4, pid, Body::Looked(Looked::Path { fd: 0, path }));
    // For EAGAIN, the output says who holds the limit.
    crafted.event(5, pid, setup(-11, Some(stack)));
    let holder = Holder { pid, name: name.to_vec(), contexts: 1, charge: 8 };
    let limit = Limit { used: 8, limit: 8, holders: vec![holder] };
    crafted.event(6, 0, Body::Looked(Looked::Limit(limit)));
    crafted.event(7, pid, process(name, Change::Fork { child: 8, followed: true }));
    crafted.item(Item::Report(ended(EVIL)));
    crafted.item(Item::End(ended(EVIL)));
    crafted
}

#[test]
fn nothing_of_a_recording_reaches_a_terminal_as_it_is() {
    for options in [
        &["report", "--color", "never"][..],
        &["report", "--color", "never", "-v"],
        &["report", "--color", "never", "-q"],
        &["report", "-c"],
        &["report", "-c", "-v"],
        &["report", "--format", "json"],
        &["report", "--format", "json", "-q"],
        &["report", "--format", "json", "-c"],
        &["top", "-b"],
    ] {
        let output = evil().shown(options);
        assert_eq!(output.status.code(), Some(0), "{options:?}");
        let all = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(all).unwrap();
        let raw = text.chars().find(|it| *it != '\n' && must_be_escaped(*it));
        assert_eq!(raw, None, "{options:?}: {text:?}");
        assert!(!text.contains("\n=== no findings ===\\x"), "{options:?}: {text}");
        assert!(
            text.contains("\\x1b]0;owned\\x07") || text.contains("\\\\x1b]0;owned"),
            "{options:?}: {text}"
        );
    }
}
