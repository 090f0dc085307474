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

use super::{Ended, Output, Start, escape::escaped, paths::Paths, summary, text};
use crate::event::{
    self, Address, Args, Body, Call, Change, Entry, Event, ExitStatus, Handle, Why, errno_name,
    opcode_name,
};

/// Version of the format, in every line.
pub const VERSION: u32 = 1;

/// A number as a hexadecimal string: an address, a handle, the program's own data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub u64);

/// A number of 64 bits as a decimal string: times and positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal(pub i128);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = Vec::with_capacity(18);
        text::hex(&mut line, self.0);
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
        Self(value.into())
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self(value.into())
    }
}

impl From<Handle> for Hex {
    fn from(handle: Handle) -> Self {
        Self(handle.0)
    }
}

impl From<Address> for Hex {
    fn from(address: Address) -> Self {
        Self(address.0)
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
        /// `blocked_at_attach`, `trace_ends` or `thread_died`.
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
#[derive(Clone, Debug, PartialEq)]
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
        Ok(match head.event.as_str() {
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
        })
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
        self.line.clear();
        serde_json::to_writer(&mut self.line, object)?;
        self.line.push(b'\n');
        self.out.write_all(&self.line)
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
            calls,
        })
    }

    fn call(&mut self, event: &Event, call: &Call) -> io::Result<()> {
        macro_rules! line {
            ($type:ident { $($field:ident: $value:expr,)* }) => {
                $type {
                    v: VERSION,
                    event: call.args.syscall().name().into(),
                    ts: event.time.into(),
                    pid: event.pid,
                    tid: event.tid,
                    entered: call.entered.map(Decimal::from),
                    duration_ns: call.entered.map(|it| event.time.saturating_sub(it)),
                    entry: entry(call.entry).into(),
                    ret: call.ret,
                    errno: errno_name(call.ret).map(Cow::from),
                    injected: false,
                    ring: call.ring.map(ring),
                    new_in_ring: call.new_in_ring.iter().map(entries).collect(),
                    $($field: $value,)*
                }
            };
        }
        match (&call.args, any_args(&call.args)) {
            (Args::Setup { stored, .. }, AnyArgs::Setup(args)) => {
                self.write(&line!(SetupLine { args: args, handle: stored.map(Hex::from), }))
            }
            (Args::Destroy { .. }, AnyArgs::Destroy(args)) => {
                self.write(&line!(DestroyLine { args: args, }))
            }
            (Args::Submit { iocbs, truncated, .. }, AnyArgs::Submit(args)) => {
                let iocbs = self.iocbs(event, iocbs);
                self.write(&line!(SubmitLine {
                    args: args,
                    iocbs: iocbs,
                    truncated: *truncated,
                    ring_before: call.ring_before.map(ring),
                }))
            }
            (
                Args::Getevents { timeout_value, sigset_value, list, truncated, .. },
                AnyArgs::Getevents(args),
            ) => self.write(&line!(GeteventsLine {
                args: args,
                timeout: timeout_value.map(|it| Timeout { tv_sec: it.sec, tv_nsec: it.nsec }),
                sigset: sigset_value.map(|it| SigsetObject {
                    sigmask: it.address.into(),
                    sigsetsize: it.size,
                    mask: it.mask.map(Hex),
                }),
                events: list.iter().map(|it| it.as_ref().map(io_event)).collect(),
                truncated: *truncated,
            })),
            (Args::Cancel { iocb, value, .. }, AnyArgs::Cancel(args)) => {
                let known =
                    event::Iocb { address: Some(*iocb), value: *value, read_late: false };
                let iocb = value.map(|_| self.iocb(event, &known));
                self.write(&line!(CancelLine { args: args, iocb: iocb, }))
            }
            _ => unreachable!("any_args keeps the kind of call"),
        }
    }

    fn iocbs(
        &mut self,
        event: &Event,
        iocbs: &[Option<event::Iocb>],
    ) -> Vec<Option<IocbObject>> {
        iocbs.iter().map(|it| it.as_ref().map(|it| self.iocb(event, it))).collect()
    }

    fn iocb(&mut self, event: &Event, iocb: &event::Iocb) -> IocbObject {
        let read = match (iocb.value, iocb.read_late) {
            (None, _) => "no",
            (Some(_), true) => "late",
            (Some(_), false) => "yes",
        };
        let value = iocb.value;
        let path = value.and_then(|it| self.paths.now(event.pid, it.fildes, event.time));
        IocbObject {
            address: iocb.address.map(Hex::from),
            read: read.into(),
            data: value.map(|it| Hex(it.data)),
            key: value.map(|it| it.key),
            rw_flags: value.map(|it| it.rw_flags),
            opcode: value.map(|it| it.opcode),
            op: value.and_then(|it| opcode_name(it.opcode)).map(Cow::from),
            reqprio: value.map(|it| it.reqprio),
            fd: value.map(|it| it.fildes as i32),
            path_now: path.map(escaped),
            buf: value.map(|it| Hex(it.buf)),
            nbytes: value.map(|it| it.nbytes),
            offset: value.map(|it| it.offset),
            reserved2: value.map(|it| Hex(it.reserved2)),
            flags: value.map(|it| it.flags),
            resfd: value.map(|it| it.resfd as i32),
        }
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
                Some(ExitStatus::Signal(number)) => Some(text::signal(number)),
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
            Body::Unfinished(call) => {
                let iocbs = match &call.args {
                    Args::Submit { iocbs, .. } => Some(self.iocbs(event, iocbs)),
                    _ => None,
                };
                self.write(&UnfinishedLine {
                    v: VERSION,
                    event: "unfinished".into(),
                    ts: event.time.into(),
                    pid: event.pid,
                    tid: event.tid,
                    call: call.args.syscall().name().into(),
                    entered: call.entered.map(Decimal::from),
                    age_ns: call.entered.map(|it| event.time.saturating_sub(it)),
                    why: match call.why {
                        Why::BlockedAtAttach => "blocked_at_attach",
                        Why::TraceEnds => "trace_ends",
                        Why::ThreadDied => "thread_died",
                    }
                    .into(),
                    args: any_args(&call.args),
                    iocbs,
                })
            }
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

fn any_args(args: &Args) -> AnyArgs {
    match args {
        Args::Setup { nr_events, ctxp, .. } => {
            AnyArgs::Setup(SetupArgs { nr_events: *nr_events, ctxp: (*ctxp).into() })
        }
        Args::Destroy { ctx } => AnyArgs::Destroy(DestroyArgs { ctx: (*ctx).into() }),
        Args::Submit { ctx, nr, iocbpp, .. } => AnyArgs::Submit(SubmitArgs {
            ctx: (*ctx).into(),
            nr: *nr,
            iocbpp: (*iocbpp).into(),
        }),
        Args::Getevents { syscall, ctx, min_nr, nr, events, timeout, sigset, .. } => {
            AnyArgs::Getevents(GeteventsArgs {
                ctx: (*ctx).into(),
                min_nr: *min_nr,
                nr: *nr,
                events: (*events).into(),
                timeout: (*timeout).into(),
                sigset: (*syscall == event::Syscall::Pgetevents).then(|| (*sigset).into()),
            })
        }
        Args::Cancel { ctx, iocb, result, .. } => AnyArgs::Cancel(CancelArgs {
            ctx: (*ctx).into(),
            iocb: (*iocb).into(),
            result: (*result).into(),
        }),
    }
}

fn ring(ring: event::Ring) -> Ring {
    Ring { head: ring.head, tail: ring.tail, nr: ring.nr }
}

fn entries(entries: &event::RingEntries) -> RingEntries {
    RingEntries {
        ctx: entries.ctx.into(),
        first: entries.first,
        count: entries.count,
        beyond: entries.beyond,
        entries: entries.list.as_ref().map(|list| list.iter().map(io_event).collect()),
    }
}

fn io_event(event: &event::IoEvent) -> EventObject {
    EventObject {
        data: Hex(event.data),
        obj: Hex(event.obj),
        res: event.res,
        errno: errno_name(event.res).map(Cow::from),
        res2: event.res2,
    }
}
