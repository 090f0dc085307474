//! JSON Lines: one object per event, every field. docs/json.md specifies it.
//!
//! The types here are the format: what is written is made from them, and [`Line::parse`] reads it
//! back, refusing what it does not know.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Write},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{
    Ended, Output, Start,
    escape::{escape, escaped},
    paths::Paths,
    summary,
};
use crate::event::{
    self, Args, Body, Call, Change, Entry, Event, ExitStatus, Why, errno_name, opcode_name,
};

/// Lines are handed over in pieces of this size.
const BUFFER: usize = 64 << 10;

/// Version of the format, in every line.
pub const VERSION: u32 = 1;

/// A number as a hexadecimal string: an address, a handle, the program's own data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub u64);

/// A number of 64 bits as a decimal string: a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal(pub i64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = Vec::with_capacity(18);
        super::text::hex(&mut line, self.0);
        serializer.serialize_str(str::from_utf8(&line).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").ok_or_else(|| D::Error::custom("no 0x"))?;
        u64::from_str_radix(digits, 16).map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(itoa::Buffer::new().format(self.0))
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Self {
        Self(value as i64)
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self(value)
    }
}

type Name = Cow<'static, str>;

macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// [`VERSION`]
            pub v: u32,
            /// What the line is about.
            pub event: Name,
            /// When, nanoseconds of CLOCK_MONOTONIC.
            pub ts: Decimal,
            $($(#[$field_doc])* pub $field: $type,)*
        }
    };
}

/// `object!` with what every call has.
macro_rules! call {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        object! {
            $(#[$doc])*
            $name {
                /// Process.
                pid: u32,
                /// Thread.
                tid: u32,
                /// When the call was entered; null if that was not seen.
                entered: Option<Decimal>,
                /// `ts` - `entered`; null if the entry was not seen.
                duration_ns: Option<u64>,
                /// `seen`, `before_attach`, `denied` or `missed`.
                entry: Name,
                /// What the kernel returned.
                ret: i64,
                /// Name of the errno, null on success.
                errno: Option<Name>,
                /// Whether the result is a fault made by aiotrace.
                injected: bool,
                $($(#[$field_doc])* $field: $type,)*
                /// The ring when the call returned (io_destroy: when it was entered).
                ring: Option<Ring>,
                /// Completions new in the ring since the last look.
                new_in_ring: Vec<RingEntries>,
            }
        }
    };
}

object! {
    /// `start`: the first line.
    StartLine {
        /// Version of aiotrace.
        version: Name,
        /// Add to `ts` for nanoseconds since 1970 UTC.
        wall_offset_ns: Decimal,
        /// The probe set.
        probes: Name,
        /// What it cannot see.
        lacks: Vec<Name>,
    }
}

call! {
    /// `io_setup`
    SetupLine {
        /// Arguments.
        args: SetupArgs,
        /// What `*ctxp` holds after the call.
        handle: Option<Hex>,
    }
}

call! {
    /// `io_destroy`
    DestroyLine {
        /// Arguments.
        args: DestroyArgs,
    }
}

call! {
    /// `io_submit`
    SubmitLine {
        /// Arguments.
        args: SubmitArgs,
        /// The iocbs; null where the record of one was lost.
        iocbs: Vec<Option<IocbObject>>,
        /// iocbs beyond those listed.
        truncated: u64,
        /// The ring when the call was entered.
        ring_before: Option<Ring>,
    }
}

call! {
    /// `io_getevents` and `io_pgetevents`
    GeteventsLine {
        /// Arguments.
        args: GeteventsArgs,
        /// What the timeout holds.
        timeout: Option<Timeout>,
        /// io_pgetevents: what the signal set holds.
        sigset: Option<SigsetObject>,
        /// The events returned; null where one could not be read.
        events: Vec<Option<EventObject>>,
        /// Events beyond those listed.
        truncated: u64,
    }
}

call! {
    /// `io_cancel`
    CancelLine {
        /// Arguments.
        args: CancelArgs,
        /// The iocb; null if it could not be read.
        iocb: Option<IocbObject>,
    }
}

object! {
    /// `unfinished`: a call that has not returned.
    UnfinishedLine {
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
        /// Name of the call.
        call: Name,
        /// When it was entered, if known.
        entered: Option<Decimal>,
        /// How long ago that is.
        age_ns: Option<u64>,
        /// `blocked_at_attach` or `trace_ends`.
        why: Name,
        /// Its arguments.
        args: AnyArgs,
        /// io_submit: its iocbs.
        iocbs: Option<Vec<Option<IocbObject>>>,
    }
}

object! {
    /// `process`: a process changed.
    ProcessLine {
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
        /// `attached`, `seen`, `fork`, `exec` or `exit`.
        change: Name,
        /// Name of the process, escaped.
        name: String,
        /// Name of the thread, escaped.
        thread_name: String,
        /// When the process started, nanoseconds of CLOCK_BOOTTIME.
        started: Option<Decimal>,
        /// Equal for processes that share an address space.
        space: Option<Hex>,
        /// fork: the child.
        child: Option<u32>,
        /// fork: whether the child is traced.
        followed: Option<bool>,
        /// exec: the path as given, escaped.
        path: Option<String>,
        /// exit: the status given to exit.
        exit_code: Option<i32>,
        /// exit: the signal that killed it.
        signal: Option<String>,
    }
}

object! {
    /// `lost`: records of a thread that never reached us.
    LostLine {
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
        /// How many.
        records: u64,
    }
}

object! {
    /// `report`: the last line.
    ReportLine {
        /// Events that reached us.
        events: u64,
        /// All that was lost.
        lost: u64,
        /// The same by cause.
        lost_by_cause: BTreeMap<Name, u64>,
        /// How long the probes were attached.
        attached_ns: Decimal,
        /// Why it ended: `targets_gone`, `time_over`, `signal` or `output_closed`.
        reason: Name,
        /// With `-c`: the calls, by process and name.
        calls: Option<Vec<summary::Row>>,
    }
}

/// A plain part of a line.
macro_rules! part {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "the names are those of the manual; docs/json.md tells more")]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
    };
}

part! {
    /// Arguments of io_setup.
    SetupArgs { nr_events: u32, ctxp: Hex, }
}
part! {
    /// Arguments of io_destroy.
    DestroyArgs { ctx: Hex, }
}
part! {
    /// Arguments of io_submit.
    SubmitArgs { ctx: Hex, nr: i64, iocbpp: Hex, }
}
part! {
    /// Arguments of io_getevents and io_pgetevents (which alone has `sigset`).
    GeteventsArgs {
        ctx: Hex,
        min_nr: i64,
        nr: i64,
        events: Hex,
        timeout: Hex,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sigset: Option<Hex>,
    }
}
part! {
    /// Arguments of io_cancel.
    CancelArgs { ctx: Hex, iocb: Hex, result: Hex, }
}
part! {
    /// `struct timespec`
    Timeout { tv_sec: i64, tv_nsec: i64, }
}
part! {
    /// The signal set of io_pgetevents.
    SigsetObject { sigmask: Hex, sigsetsize: u64, mask: Option<Hex>, }
}
part! {
    /// An iocb. `read` is `yes`, `late` or `no`; in the last case the fields are null.
    IocbObject {
        address: Option<Hex>,
        read: Name,
        data: Option<Hex>,
        key: Option<u32>,
        rw_flags: Option<u32>,
        opcode: Option<u16>,
        op: Option<Name>,
        reqprio: Option<i16>,
        fd: Option<i32>,
        path_now: Option<String>,
        buf: Option<Hex>,
        nbytes: Option<u64>,
        offset: Option<i64>,
        reserved2: Option<Hex>,
        flags: Option<u32>,
        resfd: Option<i32>,
    }
}
part! {
    /// An io_event.
    EventObject { data: Hex, obj: Hex, res: i64, errno: Option<Name>, res2: i64, }
}
part! {
    /// A ring at one moment.
    Ring { head: u32, tail: u32, nr: u32, }
}
part! {
    /// Entries of a ring; `entries` is null if they could not be read.
    RingEntries {
        ctx: Hex,
        first: u32,
        count: u32,
        beyond: u32,
        entries: Option<Vec<EventObject>>,
    }
}

/// Arguments of any call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each is named after its call")]
pub enum AnyArgs {
    Setup(SetupArgs),
    Submit(SubmitArgs),
    Getevents(GeteventsArgs),
    Cancel(CancelArgs),
    Destroy(DestroyArgs),
}

/// Any line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each is documented at its type")]
pub enum Line {
    Start(StartLine),
    Setup(SetupLine),
    Destroy(DestroyLine),
    Submit(SubmitLine),
    Getevents(GeteventsLine),
    Cancel(CancelLine),
    Unfinished(UnfinishedLine),
    Process(ProcessLine),
    Lost(LostLine),
    Report(ReportLine),
}

impl Line {
    /// Reads one line back.
    ///
    /// # Errors
    /// If it is not JSON, has an unknown event or version, or lacks or exceeds the fields it has
    /// to have.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Head {
            v: u32,
            event: String,
        }
        let head: Head = serde_json::from_str(line)?;
        if head.v != VERSION {
            return Err(serde_json::Error::custom(format!("version {}", head.v)));
        }
        let parsed = match head.event.as_str() {
            "start" => Self::Start(serde_json::from_str(line)?),
            "io_setup" => Self::Setup(serde_json::from_str(line)?),
            "io_destroy" => Self::Destroy(serde_json::from_str(line)?),
            "io_submit" => Self::Submit(serde_json::from_str(line)?),
            "io_getevents" | "io_pgetevents" => Self::Getevents(serde_json::from_str(line)?),
            "io_cancel" => Self::Cancel(serde_json::from_str(line)?),
            "unfinished" => Self::Unfinished(serde_json::from_str(line)?),
            "process" => Self::Process(serde_json::from_str(line)?),
            "lost" => Self::Lost(serde_json::from_str(line)?),
            "report" => Self::Report(serde_json::from_str(line)?),
            other => return Err(serde_json::Error::custom(format!("unknown event {other}"))),
        };
        // serde takes a field that is not there for null.
        let (given, known): (serde_json::Value, _) =
            (serde_json::from_str(line)?, serde_json::to_value(&parsed)?);
        if given != known {
            return Err(serde_json::Error::custom("a field is missing, or has another form"));
        }
        Ok(parsed)
    }
}

/// Writes JSON Lines.
pub struct Json<W> {
    out: W,
    line: Vec<u8>,
    paths: Paths,
}

impl<W: Write> Json<W> {
    /// Writes to `out`.
    pub fn new(out: W, paths: Paths) -> Self {
        Self { out, line: Vec::new(), paths }
    }

    fn write(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.line, object)?;
        self.line.push(b'\n');
        self.finish_line()
    }

    /// Lines gather in the buffer; see [`Output::flush`].
    fn finish_line(&mut self) -> io::Result<()> {
        if self.line.len() < BUFFER {
            return Ok(());
        }
        self.hand_over()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let result = self.out.write_all(&self.line);
        self.line.clear();
        result
    }

    /// The last line, with a summary or without.
    pub(super) fn report(
        &mut self,
        end: &Ended,
        calls: Option<Vec<summary::Row>>,
    ) -> io::Result<()> {
        let causes = end.losses.by_cause();
        self.write(&ReportLine {
            v: VERSION,
            event: "report".into(),
            ts: end.time.into(),
            events: end.events,
            lost: end.losses.total(),
            lost_by_cause: causes.map(|(count, name, _)| (name.into(), count)).collect(),
            attached_ns: (end.attached.as_nanos() as u64).into(),
            reason: end.reason.into(),
            calls,
        })
    }

    /// Calls are almost all there is, so their lines are put together by hand: serde_json takes
    /// three times as long. That what is written is what is specified is tested by reading it back.
    fn call(&mut self, event: &Event, call: &Call) -> io::Result<()> {
        let Self { line, paths, .. } = self;
        head(line, event, call);
        arguments(line, &call.args);
        match &call.args {
            Args::Setup { stored, .. } => {
                put(line, ",\"handle\":");
                optional(line, stored.as_ref(), |line, handle| hex(line, handle.0));
            }
            Args::Destroy { .. } => (),
            Args::Submit { iocbs: list, truncated, .. } => {
                put(line, ",\"iocbs\":");
                iocbs(line, paths, event, list);
                number(line, ",\"truncated\":", *truncated);
                put(line, ",\"ring_before\":");
                optional(line, call.ring_before.as_ref(), ring);
            }
            Args::Getevents { timeout_value, sigset_value, list: events, truncated, .. } => {
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
                list(line, events, |line, it| optional(line, it.as_ref(), io_event));
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
        put(line, ",\"new_in_ring\":");
        list(line, &call.new_in_ring, entries);
        put(line, "}\n");
        self.finish_line()
    }

    fn unfinished(&mut self, event: &Event, call: &event::Unfinished) -> io::Result<()> {
        let Self { line, paths, .. } = self;
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
        put(line, "}\n");
        self.finish_line()
    }

    fn process(&mut self, event: &Event, process: &event::Process) -> io::Result<()> {
        let (change, mut child, mut path, mut exit) = (&process.change, None, None, None);
        let name = match change {
            Change::Attached => "attached",
            Change::Seen => "seen",
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
        self.write(&StartLine {
            v: VERSION,
            event: "start".into(),
            ts: start.clock.start.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            wall_offset_ns: start.clock.to_wall.into(),
            probes: start.probes.into(),
            lacks: start.lacks.iter().map(|it| Cow::from(*it)).collect(),
        })
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match &event.body {
            Body::Call(call) => self.call(event, call),
            Body::Unfinished(call) => self.unfinished(event, call),
            Body::Process(process) => self.process(event, process),
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

    fn thinned(&mut self, _hidden: u64) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, end: &Ended) -> io::Result<()> {
        self.report(end, None)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()?;
        self.out.flush()
    }
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

fn head(line: &mut Vec<u8>, event: &Event, call: &Call) {
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
    put(line, ",\"injected\":false");
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

fn entries(line: &mut Vec<u8>, entries: &event::RingEntries) {
    put(line, "{\"ctx\":");
    hex(line, entries.ctx.0);
    number(line, ",\"first\":", entries.first);
    number(line, ",\"count\":", entries.count);
    number(line, ",\"beyond\":", entries.beyond);
    put(line, ",\"entries\":");
    optional(line, entries.list.as_ref(), |line, items| list(line, items, io_event));
    line.push(b'}');
}

fn io_event(line: &mut Vec<u8>, event: &event::IoEvent) {
    put(line, "{\"data\":");
    hex(line, event.data);
    put(line, ",\"obj\":");
    hex(line, event.obj);
    number(line, ",\"res\":", event.res);
    errno(line, event.res);
    number(line, ",\"res2\":", event.res2);
    line.push(b'}');
}
