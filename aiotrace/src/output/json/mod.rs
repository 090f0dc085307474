//! JSON Lines: one object per event, every field. docs/reference/json.md specifies it, [`format`] has its types.

mod conclusions;
mod faults;
mod format;

use std::{
    borrow::Cow,
    io::{self, Write},
};

use faults::{effect, faults};
pub use format::*;
use serde::Serialize;

use super::{
    Ended, Interval, Output, Start,
    counted::Rows,
    escape::{escape, escaped},
    lines::Lines,
    paths::Paths,
};
use crate::{
    event::{
        self, Args, Body, Call, Change, Entry, Event, ExitStatus, Why, errno_name, opcode_name,
    },
    model::{Finding, Report, Rules, Verdict},
    stacks::{Named, Symbolizer},
};

/// Writes JSON Lines.
pub struct Json<W> {
    lines: Lines<W>,
    paths: Paths,
    symbols: Symbolizer,
    rules: Rules,
}

impl<W: Write> Json<W> {
    /// Writes to `out`.
    pub fn new(out: W, paths: Paths) -> Self {
        let (lines, symbols) = (Lines::new(out), Symbolizer::none());
        Self { lines, paths, symbols, rules: Rules::default() }
    }

    /// Functions in stacks have the names that `symbols` finds.
    #[must_use]
    pub fn with_symbols(self, symbols: Symbolizer) -> Self {
        Self { symbols, ..self }
    }

    fn write(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.lines.line, object)?;
        self.lines.end()
    }

    /// Calls are almost all there is, so their lines are put together by hand: serde_json takes
    /// three times as long. That what is written is what is specified is tested by reading it back.
    fn call(&mut self, event: &Event, call: &Call) -> io::Result<()> {
        let Self { lines: Lines { line, .. }, paths, symbols, rules } = self;
        head(line, event, call, rules.injected(call));
        arguments(line, &call.args);
        match &call.args {
            Args::Setup { stored, .. } => {
                put(line, ",\"handle\":");
                optional(line, stored.as_ref(), |line, handle| hex(line, handle.0));
                stack(line, symbols, call.stack.as_ref());
            }
            Args::Destroy { .. } => (),
            Args::Submit { iocbs: list, truncated, .. } => {
                put(line, ",\"iocbs\":");
                iocbs(line, paths, event, list);
                number(line, ",\"truncated\":", *truncated);
                put(line, ",\"ring_before\":");
                optional(line, call.ring_before.as_ref(), ring);
                if call.stack.is_some() {
                    stack(line, symbols, call.stack.as_ref());
                }
            }
            Args::Getevents {
                timeout_value,
                sigset_value,
                list: events,
                truncated,
                changed,
                ..
            } => {
                put(line, ",\"timeout\":");
                optional(line, timeout_value.as_ref(), |line, it| {
                    number(line, "{\"tv_sec\":", it.sec);
                    number(line, ",\"tv_nsec\":", it.nsec);
                    line.push(b'}');
                });
                put(line, ",\"sigset\":");
                optional(line, sigset_value.as_ref(), |line, it| {
                    put(line, "{\"sigmask\":");
                    hex(line, it.address.0);
                    number(line, ",\"sigsetsize\":", it.size);
                    put(line, ",\"mask\":");
                    optional(line, it.mask.as_ref(), |line, mask| hex(line, *mask));
                    line.push(b'}');
                });
                put(line, ",\"events\":");
                let mut index = 0;
                list(line, events, |line, it| {
                    let is_injected = changed.contains(&index);
                    optional(line, it.as_ref(), |line, it| io_event(line, it, is_injected));
                    index += 1;
                });
                number(line, ",\"truncated\":", *truncated);
            }
            Args::Cancel { iocb: address, value, .. } => {
                put(line, ",\"iocb\":");
                let known =
                    event::Iocb { address: Some(*address), value: *value, read_late: false };
                let known = value.map(|_| known);
                optional(line, known.as_ref(), |line, it| iocb(line, paths, event, it));
            }
        }
        put(line, ",\"ring\":");
        optional(line, call.ring.as_ref(), ring);
        if call.compat {
            put(line, ",\"abi\":\"i386\"");
        }
        put(line, "}");
        self.lines.end()
    }

    /// As many as calls, so by hand too.
    fn completion(&mut self, event: &Event, completion: &event::Completion) -> io::Result<()> {
        let Self { lines: Lines { line, .. }, .. } = self;
        number(line, "{\"v\":", VERSION);
        put(line, ",\"event\":\"completion\",\"ts\":");
        decimal(line, event.time);
        number(line, ",\"pid\":", event.pid);
        put(line, ",\"ctx\":");
        hex(line, completion.ctx.0);
        put(line, ",\"since\":");
        optional(line, completion.since.as_ref(), |line, since| decimal(line, *since));
        put(line, ",\"data\":");
        match &completion.event {
            Some(it) => io_event_fields(line, it),
            None => put(line, "null,\"obj\":null,\"res\":null,\"errno\":null,\"res2\":null"),
        }
        put(line, ",\"injected\":false,\"was\":null,\"fault\":null,\"discarded\":");
        put(line, if completion.discarded { "true}" } else { "false}" });
        self.lines.end()
    }

    fn unfinished(&mut self, event: &Event, call: &event::Unfinished) -> io::Result<()> {
        let Self { lines: Lines { line, .. }, paths, .. } = self;
        begin(line, event, "unfinished");
        text(line, ",\"call\":", call.args.syscall().name());
        put(line, ",\"entered\":");
        optional(line, call.entered.as_ref(), |line, it| decimal(line, *it));
        put(line, ",\"age_ns\":");
        let age = call.entered.map(|it| event.time.saturating_sub(it));
        optional(line, age.as_ref(), |line, it| number(line, "", *it));
        let why = match call.why {
            Why::BlockedAtAttach => "blocked_at_attach",
            Why::TraceEnds => "trace_ends",
        };
        text(line, ",\"why\":", why);
        arguments(line, &call.args);
        put(line, ",\"iocbs\":");
        match &call.args {
            Args::Submit { iocbs: list, .. } => iocbs(line, paths, event, list),
            _ => put(line, "null"),
        }
        put(line, "}");
        self.lines.end()
    }

    fn process(&mut self, event: &Event, process: &event::Process) -> io::Result<()> {
        let (change, mut child, mut path, mut exit) = (&process.change, None, None, None);
        let name = match change {
            Change::Attached => "attached",
            Change::Seen => "seen",
            Change::ExitWaits => "exit_waits",
            Change::Fork { child: pid, followed } => {
                child = Some((*pid, *followed));
                "fork"
            }
            Change::Exec { path: given } => {
                path = Some(escaped(given));
                self.paths.forget(event.pid);
                "exec"
            }
            Change::Exit { status } => {
                exit = Some(*status);
                self.paths.forget(event.pid);
                "exit"
            }
        };
        self.write(&ProcessLine {
            v: VERSION,
            event: "process".into(),
            ts: event.time.into(),
            pid: event.pid,
            tid: event.tid,
            change: name.into(),
            name: escaped(&process.name),
            thread_name: escaped(&process.thread_name),
            started: process.started.map(Decimal::from),
            space: process.space.map(Hex),
            child: child.map(|(pid, _)| pid),
            followed: child.map(|(_, followed)| followed),
            path,
            exit_code: match exit {
                Some(ExitStatus::Code(code)) => Some(code),
                _ => None,
            },
            signal: match exit {
                Some(ExitStatus::Signal(number)) => Some(super::text::signal(number)),
                _ => None,
            },
        })
    }
}

impl<W: Write> Output for Json<W> {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.rules = Rules::of(start.faults.as_ref());
        self.write(&StartLine {
            v: VERSION,
            event: "start".into(),
            ts: start.clock.start.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            wall_offset_ns: start.clock.to_wall.into(),
            probes: readable(start.probes.text()),
            lacks: start.lacks.iter().map(|it| readable(it)).collect(),
            faults: start.faults.as_ref().map(faults),
        })
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match &event.body {
            Body::Call(call) => self.call(event, call),
            Body::Unfinished(call) => self.unfinished(event, call),
            Body::Completion(completion) => self.completion(event, completion),
            Body::Changed(changed) => self.changed(event, changed),
            Body::Refused(refused) => self.write(&RefusedLine {
                v: VERSION,
                event: "refused".into(),
                ts: event.time.into(),
                pid: event.pid,
                tid: event.tid,
                ctx: Hex(refused.ctx.0),
                index: refused.index,
                iocb: refused.iocb.map(|it| Hex(it.0)),
                ret: refused.ret,
                errno: errno_name(refused.ret).map(Cow::from),
            }),
            Body::ContextGone(gone) => self.write(&ContextGoneLine {
                v: VERSION,
                event: "context_gone".into(),
                ts: event.time.into(),
                pid: event.pid,
                ctx: Hex(gone.ctx.0),
                how: match gone.how {
                    event::How::Destroy => "destroy",
                    event::How::Exit => "exit",
                    event::How::Exec => "exec",
                }
                .into(),
                in_flight: gone.in_flight,
            }),
            Body::ContextMoved(moved) => self.write(&ContextMovedLine {
                v: VERSION,
                event: "context_moved".into(),
                ts: event.time.into(),
                pid: event.pid,
                from: Hex(moved.from.0),
                to: Hex(moved.to.0),
            }),
            Body::ContextAdopted(adopted) => self.write(&ContextAdoptedLine {
                v: VERSION,
                event: "context_adopted".into(),
                ts: event.time.into(),
                pid: event.pid,
                ctx: Hex(adopted.ctx.0),
                charge: adopted.charge,
                in_flight: adopted.in_flight,
                ring: adopted.ring.map(|it| Ring { head: it.head, tail: it.tail, nr: it.nr }),
            }),
            // The model asked for it.
            Body::Looked(_) | Body::Behind(_) => Ok(()),
            Body::Process(process) => self.process(event, process),
            Body::Synchronous(call) => self.synchronous(event, call),
            Body::Lost { records } => self.write(&LostLine {
                v: VERSION,
                event: "lost".into(),
                ts: event.time.into(),
                pid: event.pid,
                tid: event.tid,
                records: *records,
            }),
        }
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.finding_line(finding)
    }

    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        self.verdict_line(verdict)
    }

    fn interval(&mut self, interval: &Interval) -> io::Result<()> {
        self.interval_line(interval)
    }

    fn report(&mut self, end: &Ended, report: &Report, rows: Option<&Rows>) -> io::Result<()> {
        self.report_line(end, report, rows)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

/// A word of ours, unless somebody else has made the recording.
fn readable(text: &str) -> Cow<'static, str> {
    escaped(text.as_bytes()).into()
}

fn entry(entry: Entry) -> &'static str {
    match entry {
        Entry::Seen => "seen",
        Entry::BeforeAttach => "before_attach",
        Entry::Denied => "denied",
        Entry::Missed => "missed",
    }
}

fn put(line: &mut Vec<u8>, literal: &str) {
    line.extend_from_slice(literal.as_bytes());
}

fn number(line: &mut Vec<u8>, key: &str, value: impl itoa::Integer) {
    put(line, key);
    put(line, itoa::Buffer::new().format(value));
}

/// `value` must need no escaping.
fn text(line: &mut Vec<u8>, key: &str, value: &str) {
    put(line, key);
    line.push(b'"');
    put(line, value);
    line.push(b'"');
}

fn hex(line: &mut Vec<u8>, value: u64) {
    line.push(b'"');
    super::text::hex(line, value);
    line.push(b'"');
}

fn decimal(line: &mut Vec<u8>, value: u64) {
    text(line, "", itoa::Buffer::new().format(value));
}

fn optional<T>(line: &mut Vec<u8>, value: Option<&T>, write: impl FnOnce(&mut Vec<u8>, &T)) {
    match value {
        Some(value) => write(line, value),
        None => put(line, "null"),
    }
}

fn list<T>(line: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    line.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        write(line, item);
    }
    line.push(b']');
}

fn begin(line: &mut Vec<u8>, event: &Event, name: &str) {
    number(line, "{\"v\":", VERSION);
    text(line, ",\"event\":", name);
    put(line, ",\"ts\":");
    decimal(line, event.time);
    number(line, ",\"pid\":", event.pid);
    number(line, ",\"tid\":", event.tid);
}

fn head(line: &mut Vec<u8>, event: &Event, call: &Call, is_injected: bool) {
    begin(line, event, call.args.syscall().name());
    match call.entered {
        Some(entered) => {
            put(line, ",\"entered\":");
            decimal(line, entered);
            number(line, ",\"duration_ns\":", event.time.saturating_sub(entered));
        }
        None => put(line, ",\"entered\":null,\"duration_ns\":null"),
    }
    text(line, ",\"entry\":", entry(call.entry));
    number(line, ",\"ret\":", call.ret);
    errno(line, call.ret);
    put(line, if is_injected { ",\"injected\":true" } else { ",\"injected\":false" });
    put(line, ",\"fault\":");
    optional(line, call.fault.as_ref(), |line, fault| {
        number(line, "{\"rule\":", fault.rule);
        text(line, ",\"effect\":", effect(*fault));
        line.push(b'}');
    });
}

fn errno(line: &mut Vec<u8>, ret: i64) {
    match errno_name(ret) {
        Some(name) => text(line, ",\"errno\":", name),
        None => put(line, ",\"errno\":null"),
    }
}

fn arguments(line: &mut Vec<u8>, args: &Args) {
    let address = |line: &mut Vec<u8>, key: &str, value: u64| {
        put(line, key);
        hex(line, value);
    };
    put(line, ",\"args\":");
    match args {
        Args::Setup { nr_events, ctxp, .. } => {
            number(line, "{\"nr_events\":", *nr_events);
            address(line, ",\"ctxp\":", ctxp.0);
        }
        Args::Destroy { ctx } => address(line, "{\"ctx\":", ctx.0),
        Args::Submit { ctx, nr, iocbpp, .. } => {
            address(line, "{\"ctx\":", ctx.0);
            number(line, ",\"nr\":", *nr);
            address(line, ",\"iocbpp\":", iocbpp.0);
        }
        Args::Getevents { syscall, ctx, min_nr, nr, events, timeout, sigset, .. } => {
            address(line, "{\"ctx\":", ctx.0);
            number(line, ",\"min_nr\":", *min_nr);
            number(line, ",\"nr\":", *nr);
            address(line, ",\"events\":", events.0);
            address(line, ",\"timeout\":", timeout.0);
            if *syscall == event::Syscall::Pgetevents {
                address(line, ",\"sigset\":", sigset.0);
            }
        }
        Args::Cancel { ctx, iocb, result, .. } => {
            address(line, "{\"ctx\":", ctx.0);
            address(line, ",\"iocb\":", iocb.0);
            address(line, ",\"result\":", result.0);
        }
    }
    line.push(b'}');
}

fn iocbs(line: &mut Vec<u8>, paths: &mut Paths, event: &Event, items: &[Option<event::Iocb>]) {
    list(line, items, |line, it| {
        optional(line, it.as_ref(), |line, it| iocb(line, paths, event, it));
    });
}

fn iocb(line: &mut Vec<u8>, paths: &mut Paths, event: &Event, it: &event::Iocb) {
    put(line, "{\"address\":");
    optional(line, it.address.as_ref(), |line, address| hex(line, address.0));
    let Some(value) = it.value else {
        put(
            line,
            ",\"read\":\"no\",\"data\":null,\"key\":null,\"rw_flags\":null,\"opcode\":null,\
             \"op\":null,\"reqprio\":null,\"fd\":null,\"path_now\":null,\"buf\":null,\
             \"nbytes\":null,\"offset\":null,\"reserved2\":null,\"flags\":null,\"resfd\":null}",
        );
        return;
    };
    text(line, ",\"read\":", if it.read_late { "late" } else { "yes" });
    put(line, ",\"data\":");
    hex(line, value.data);
    number(line, ",\"key\":", value.key);
    number(line, ",\"rw_flags\":", value.rw_flags);
    number(line, ",\"opcode\":", value.opcode);
    match opcode_name(value.opcode) {
        Some(name) => text(line, ",\"op\":", name),
        None => put(line, ",\"op\":null"),
    }
    number(line, ",\"reqprio\":", value.reqprio);
    number(line, ",\"fd\":", value.fildes as i32);
    put(line, ",\"path_now\":");
    match paths.now(event.pid, value.fildes, event.time) {
        Some(path) => string(line, path),
        None => put(line, "null"),
    }
    put(line, ",\"buf\":");
    hex(line, value.buf);
    number(line, ",\"nbytes\":", value.nbytes);
    number(line, ",\"offset\":", value.offset);
    put(line, ",\"reserved2\":");
    hex(line, value.reserved2);
    number(line, ",\"flags\":", value.flags);
    number(line, ",\"resfd\":", value.resfd as i32);
    line.push(b'}');
}

/// Bytes of the target: made readable as in text, then a JSON string.
fn string(line: &mut Vec<u8>, bytes: &[u8]) {
    line.push(b'"');
    let from = line.len();
    escape(line, bytes);
    if line[from..].iter().any(|byte| matches!(byte, b'"' | b'\\')) {
        let readable = line.split_off(from);
        for byte in readable {
            if matches!(byte, b'"' | b'\\') {
                line.push(b'\\');
            }
            line.push(byte);
        }
    }
    line.push(b'"');
}

fn ring(line: &mut Vec<u8>, ring: &event::Ring) {
    number(line, "{\"head\":", ring.head);
    number(line, ",\"tail\":", ring.tail);
    number(line, ",\"nr\":", ring.nr);
    line.push(b'}');
}

fn stack(line: &mut Vec<u8>, symbols: &Symbolizer, stack: Option<&event::Stack>) {
    put(line, ",\"stack\":");
    optional(line, stack, |line, stack| list(line, &symbols.describe(stack), function));
    let is_truncated = stack.is_some_and(|it| it.truncated);
    put(line, ",\"stack_truncated\":");
    put(line, if is_truncated { "true" } else { "false" });
}

fn function(line: &mut Vec<u8>, named: &Named) {
    put(line, "{\"address\":");
    hex(line, named.address);
    put(line, ",\"module\":");
    optional(line, named.module.as_ref(), |line, it| string(line, &it.path));
    put(line, ",\"offset\":");
    optional(line, named.offset.as_ref(), |line, it| hex(line, *it));
    put(line, ",\"function\":");
    optional(line, named.function.as_ref(), |line, it| string(line, it.as_bytes()));
    put(line, ",\"file\":");
    optional(line, named.file.as_ref(), |line, it| string(line, it.as_bytes()));
    put(line, ",\"line\":");
    optional(line, named.line.as_ref(), |line, it| number(line, "", *it));
    put(line, ",\"inlined\":");
    put(line, if named.inlined { "true}" } else { "false}" });
}

fn io_event(line: &mut Vec<u8>, event: &event::IoEvent, is_injected: bool) {
    put(line, "{\"data\":");
    io_event_fields(line, event);
    put(line, if is_injected { ",\"injected\":true}" } else { ",\"injected\":false}" });
}

/// From the value of `data` on.
fn io_event_fields(line: &mut Vec<u8>, event: &event::IoEvent) {
    hex(line, event.data);
    put(line, ",\"obj\":");
    hex(line, event.obj);
    number(line, ",\"res\":", event.res);
    errno(line, event.res);
    number(line, ",\"res2\":", event.res2);
}
