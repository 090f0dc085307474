//! The format: what is written is of these types, and [`Line::parse`] reads it back, refusing what
//! it does not know and what is missing.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::output::text;

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
                /// The rule that acted, or would have.
                fault: Option<FaultObject>,
                $($(#[$field_doc])* $field: $type,)*
                /// The ring when the call returned (io_destroy: when it was entered).
                ring: Option<Ring>,
                /// `i386` for a 32-bit call; else it is not there.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                abi: Option<Name>,
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
        /// The faults that were asked for.
        faults: Option<FaultsObject>,
    }
}

call! {
    /// `io_setup`
    SetupLine {
        /// Arguments.
        args: SetupArgs,
        /// What `*ctxp` holds after the call.
        handle: Option<Hex>,
        /// Where in the program it was made, the innermost function first.
        stack: Option<Vec<FunctionObject>>,
        /// Whether the outer functions are not known.
        stack_truncated: bool,
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
        /// As in [`SetupLine`], only with `--stacks`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack: Option<Vec<FunctionObject>>,
        /// As in [`SetupLine`], only with `--stacks`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack_truncated: Option<bool>,
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
    /// `completion`: a request completed.
    CompletionLine {
        /// Process.
        pid: u32,
        /// The context.
        ctx: Hex,
        /// null: it happened at `ts`. Else between this and `ts`; 0 if not known.
        since: Option<Decimal>,
        /// `aio_data` of the iocb; null if the entry could not be read, as for the following.
        data: Option<Hex>,
        /// The iocb's address.
        obj: Option<Hex>,
        /// Result: a count, or a negative errno.
        res: Option<i64>,
        /// Name of the errno, null on success.
        errno: Option<Name>,
        /// Second result.
        res2: Option<i64>,
        /// Whether the result is a fault made by aiotrace.
        injected: bool,
        /// If a rule acted, or would have: what the kernel gave.
        was: Option<i64>,
        /// That rule.
        fault: Option<FaultObject>,
        /// Its context had ended: no ring takes it.
        discarded: bool,
    }
}

object! {
    /// `refused`: io_submit refused an iocb. Stands before the line of its call.
    RefusedLine {
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
        /// The context.
        ctx: Hex,
        /// Which of the call's iocbs, from 0.
        index: u64,
        /// Its address, if known.
        iocb: Option<Hex>,
        /// The negative errno.
        ret: i64,
        /// Its name.
        errno: Option<Name>,
    }
}

object! {
    /// `context_gone`: a context ended.
    ContextGoneLine {
        /// Process.
        pid: u32,
        /// The context.
        ctx: Hex,
        /// `destroy`, `exit` or `exec`.
        how: Name,
        /// Requests accepted and not completed; null if not all of them were seen.
        in_flight: Option<u64>,
    }
}

object! {
    /// `context_moved`: a ring was moved with mremap(2).
    ContextMovedLine {
        /// Process.
        pid: u32,
        /// The handle until then.
        from: Hex,
        /// The handle from then on.
        to: Hex,
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
    /// `synchronous`: a call that reads, writes or syncs a file without AIO, while those are watched.
    SynchronousLine {
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
        /// When it was entered, if that was seen.
        entered: Option<Decimal>,
        /// Its name.
        call: Name,
        /// Descriptor.
        fd: u32,
        /// What it points to now.
        path_now: Option<String>,
        /// Where in the file, if that is known.
        offset: Option<i64>,
        /// Bytes asked for, or iovecs.
        count: u64,
        /// Bytes moved, or a negative errno.
        ret: i64,
        /// Name of the errno.
        errno: Option<Name>,
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
    /// `report`: what is known at the end, or when SIGUSR1 asked.
    ReportLine {
        /// Events that reached us.
        events: u64,
        /// All that was lost.
        lost: u64,
        /// The same by cause.
        lost_by_cause: BTreeMap<Name, u64>,
        /// How long the probes were attached.
        attached_ns: Decimal,
        /// Why it ended: `targets_gone`, `time_over`, `signal` or `output_closed`; or `asked`: it goes on.
        reason: Name,
        /// What the trace cost; null when a recording ends too early.
        cost: Option<CostObject>,
        /// What was found, the worst first.
        findings: Vec<FindingRow>,
        /// Findings not told one by one.
        more_findings: u64,
        /// Contexts, those with most requests first.
        contexts: Vec<ContextRow>,
        /// Those that are too many to be told one by one, as one.
        other_contexts: Option<ContextRow>,
        /// Requests by process, descriptor and operation.
        requests: Vec<RequestRow>,
        /// Contexts and requests that were too many to follow.
        evicted: u64,
        /// Threads that wait in a call.
        waits: Vec<WaitRow>,
        /// Processes that live and have made no AIO call for a while.
        quiet: Vec<QuietRow>,
        /// Contexts that are made again and again, too early to be context-growth.
        trends: Vec<TrendRow>,
        /// What became of all contexts and requests.
        sums: Box<SumsObject>,
        /// Where the sums do not agree: then nothing in the report is sure.
        disagreements: Vec<String>,
        /// Faults, by rule, call and what was given.
        faults: Vec<FaultRow>,
        /// The fault rules, also those that never acted.
        rules: Vec<RuleRow>,
        /// With `-c`: the calls, by process and name.
        calls: Option<Vec<CallRow>>,
        /// Where calls are counted in the kernel: what there is of requests then.
        counted: Option<CountedObject>,
    }
}

/// What was counted in the kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountedObject {
    /// Calls that returned.
    pub calls: u64,
    /// Of these, with a line of their own; null with `-c`.
    pub shown: Option<u64>,
    /// Requests by context.
    pub contexts: Vec<CountedContextRow>,
    /// What requests resulted in, where it was an error.
    pub results: Vec<ResultRow>,
}

object! {
    /// `interval`: what was counted since the last one.
    IntervalLine {
        /// Its length.
        interval_ns: u64,
        /// As in the report.
        calls: Vec<CallRow>,
        /// As in the report.
        contexts: Vec<CountedContextRow>,
        /// As in the report.
        results: Vec<ResultRow>,
    }
}

object! {
    /// `finding`: a conclusion.
    FindingLine {
        /// Process.
        pid: u32,
        /// Thread, if one is to blame.
        tid: Option<u32>,
        /// Its stable name.
        name: Name,
        /// `error`, `warning` or `info`.
        severity: Name,
        /// Something was lost that might show it to be otherwise.
        unsure: bool,
        /// What: null if it is certain.
        why: Option<Name>,
        /// In words.
        message: String,
        /// The context, if it is about one.
        context: Option<ContextObject>,
        /// The numbers in the message, by name.
        evidence: BTreeMap<Name, i64>,
        /// The request, if it is about one.
        request: Option<SubjectObject>,
        /// Who holds fs.aio-nr, if it is about that.
        holders: Vec<HolderObject>,
        /// Where the context was made, if it is about one and that was seen.
        stack: Option<Vec<FunctionObject>>,
    }
}

object! {
    /// `fault`: what a program made of a fault.
    FaultLine {
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
        /// The rule, from 1.
        rule: u32,
        /// Name of the call, or `complete`.
        call: Name,
        /// What the program got.
        ret: i64,
        /// Name of the errno.
        errno: Option<Name>,
        /// `retried`, `done`, `gave_up`, `lost`, `reported`, `leaked`, `hung`, `exited`, `died`, `undecided` or
        /// `unsure`.
        verdict: Name,
        /// Its first half: `retried`, `done`, `gave_up`, `lost`, `leaked`, `open` or `unsure`.
        sequel: Name,
        /// Its second half: `running`, `hung`, `timed_out`, `exec`, `exited` or `died`.
        process: Option<Name>,
        /// How long after the fault the process ended.
        process_after_ns: Option<u64>,
        /// Why the first half is unsure.
        why: Option<Name>,
        /// Another one on the same fault came before.
        anew: bool,
        /// A retry succeeded.
        succeeded: bool,
        /// A retry met a fault.
        next_fault: bool,
        /// How often it was tried again.
        retries: u64,
        /// How long after the fault for the first time.
        after_ns: Option<u64>,
        /// Requests that synchronous calls did.
        done: u64,
        /// The last of these calls.
        done_by: Option<Name>,
        /// Requests that were not done.
        lost: u64,
        /// The first of those, or the one that completed.
        request: Option<SubjectObject>,
        /// The context, if known.
        context: Option<ContextObject>,
        /// What the process exited with, if it did.
        exit_code: Option<i32>,
        /// What killed it, if something did.
        signal: Option<String>,
        /// In words.
        message: String,
    }
}

object! {
    /// `context_adopted`: a context that existed before the attach.
    ContextAdoptedLine {
        /// Process.
        pid: u32,
        /// The context.
        ctx: Hex,
        /// What it takes from fs.aio-nr; null if that cannot be read.
        charge: Option<u32>,
        /// Its requests in flight; null if that cannot be read.
        in_flight: Option<u32>,
        /// Its ring; null if that cannot be read.
        ring: Option<Ring>,
    }
}

/// A plain part of a line.
macro_rules! part {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(missing_docs, reason = "the names are those of the manual; docs/reference/json.md tells more")]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
    };
}

part! {
    /// What a trace cost, from the attach to the end: time of the processors and most memory that aiotrace took,
    /// bytes of records, and how often the probes ran and for how long; null unless
    /// `kernel.bpf_stats_enabled` is 1.
    CostObject {
        cpu_ns: Decimal,
        memory_bytes: u64,
        record_bytes: u64,
        probe_runs: Option<u64>,
        probe_ns: Option<Decimal>,
    }
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
    EventObject { data: Hex, obj: Hex, res: i64, errno: Option<Name>, res2: i64, injected: bool, }
}
part! {
    /// A context: `id` is never used again, the handle may be.
    ContextObject { id: u64, ctx: Hex, }
}
part! {
    /// The request that a finding is about.
    SubjectObject {
        iocb: Hex,
        opcode: u16,
        op: Option<Name>,
        fd: i32,
        path_now: Option<String>,
        offset: i64,
        nbytes: u64,
    }
}
part! {
    /// A rule and what became of its fault: `done`, `unsure`, `dry_run` or `missed`.
    FaultObject { rule: u32, effect: Name, }
}
part! {
    /// The faults of a trace.
    FaultsObject { seed: String, dry_run: bool, rules: Vec<RuleObject>, }
}
part! {
    /// A fault rule.
    RuleObject { rule: u32, text: String, mechanism: Name, }
}
part! {
    /// A fault rule in the report.
    RuleRow {
        rule: u32,
        text: String,
        asked: u64,
        described: u64,
        acted: u64,
        why: Option<String>,
    }
}
part! {
    /// How many faults whose process went on like this.
    ProcessCount { process: Name, exit_code: Option<i32>, signal: Option<String>, faults: u64, }
}
part! {
    /// Faults of one kind in the report.
    FaultRow {
        rule: u32,
        call: Name,
        ret: Option<i64>,
        errno: Option<Name>,
        made: u64,
        delayed: u64,
        dry_run: u64,
        missed: u64,
        not_followed: u64,
        verdicts: BTreeMap<Name, u64>,
        sequels: BTreeMap<Name, u64>,
        processes: Vec<ProcessCount>,
        within_ns: Option<u64>,
        in_vain: u64,
        lost: u64,
        silent: u64,
        message: String,
    }
}
part! {
    /// A process that holds contexts.
    HolderObject { pid: u32, name: String, contexts: u64, charge: u64, }
}
part! {
    /// Threads that wait in a call.
    WaitRow {
        pid: u32,
        process: String,
        tid: u32,
        threads: u64,
        call: Name,
        age_ns: u64,
        before_attach: bool,
        message: String,
    }
}
part! {
    /// A process that has made no AIO call for a while.
    QuietRow {
        pid: u32,
        process: String,
        last_call_ts: Option<Decimal>,
        age_ns: u64,
        in_flight: Option<u64>,
        in_flight_at_most: Option<u64>,
    }
}
part! {
    /// Contexts that a process makes again and again.
    TrendRow {
        pid: u32,
        process: String,
        made: u64,
        within_ns: u64,
        unused: u64,
        unused_ns: u64,
    }
}
part! {
    /// A finding in the report.
    FindingRow {
        name: Name,
        severity: Name,
        unsure: bool,
        why: Option<Name>,
        pid: u32,
        context: Option<ContextObject>,
        count: u64,
        first_ts: Decimal,
        last_ts: Option<Decimal>,
        message: String,
    }
}
part! {
    /// A context in the report.
    ContextRow {
        id: u64,
        ctx: Hex,
        contexts: u64,
        pid: u32,
        process: String,
        adopted: bool,
        lifetime_ns: u64,
        end: Option<Name>,
        asked: Option<u64>,
        peak_in_flight: u64,
        in_flight: u64,
        unknown: u64,
        unreaped: Option<u64>,
        requests: u64,
        bytes: u64,
        failed: u64,
        complete_ns: Option<Percentiles>,
        reap_ns: Option<Percentiles>,
        sure: bool,
        why: Option<Name>,
    }
}
part! {
    /// Requests of one kind in the report.
    RequestRow {
        pid: u32,
        process: String,
        fd: i32,
        opcode: u16,
        op: Option<Name>,
        requests: u64,
        bytes: u64,
        failed: u64,
        refused: u64,
        submit_ns: Option<Percentiles>,
        complete_ns: Option<Percentiles>,
    }
}
part! {
    /// Contexts and requests, counted in more than one way.
    SumsObject {
        contexts: u64,
        alive: u64,
        ended: u64,
        submitted: u64,
        accepted: u64,
        refused: u64,
        before: u64,
        completed: u64,
        unknown: u64,
        in_flight: u64,
        discarded: u64,
        found: u64,
        reaped: u64,
        unreaped: u64,
        discarded_unreaped: u64,
        unknown_unreaped: u64,
    }
}
part! {
    /// Durations in nanoseconds.
    Percentiles { p50: u64, p99: u64, max: u64, at_most: bool, }
}
part! {
    /// A function in a stack. Its name and file are escaped.
    FunctionObject {
        address: Hex,
        module: Option<String>,
        offset: Option<Hex>,
        function: Option<String>,
        file: Option<String>,
        line: Option<u32>,
        inlined: bool,
    }
}
part! {
    /// A ring at one moment.
    Ring { head: u32, tail: u32, nr: u32, }
}
part! {
    /// One call in one process.
    CallRow {
        /// Process; 0 for all that are not counted one by one.
        pid: u32,
        /// Its name, escaped.
        name: String,
        /// The call.
        call: Name,
        /// How many calls returned.
        calls: u64,
        /// Of these, how many with an error of the kernel's, by name of the errno.
        errors: BTreeMap<Name, u64>,
        /// Of these, how many whose answer is a fault, by name of the errno; `short`: a short io_submit.
        injected: BTreeMap<Name, u64>,
        /// Durations of calls whose beginning was seen; null if there is none.
        duration_ns: Option<DurationsObject>,
    }
}
part! {
    /// Durations in nanoseconds.
    DurationsObject { min: u64, avg: u64, p50: u64, p99: u64, max: u64, }
}
part! {
    /// The requests of a context, counted.
    CountedContextRow {
        /// Process; 0 for all contexts that are not counted one by one.
        pid: u32,
        /// Its name, escaped.
        name: String,
        /// The handle. One that was given again is the same.
        ctx: Hex,
        /// Requests accepted.
        requests: u64,
        /// The same by operation; null without `--requests`.
        ops: Option<BTreeMap<Name, OpRow>>,
        /// Events that io_getevents gave.
        reaped: u64,
        /// Of these, with `res` < 0; null without `--requests`.
        failed: Option<u64>,
        /// The sum of the others' `res`; null without `--requests`, and if polls are among them.
        bytes: Option<u64>,
    }
}
part! {
    /// Requests of one operation.
    OpRow {
        /// How many.
        requests: u64,
        /// Bytes that they asked for; null where iovecs, or nothing, are counted.
        asked: Option<u64>,
        /// How many were reaped by io_getevents and have a latency.
        timed: u64,
        /// From the entry of io_submit to the return of that io_getevents; null if there is none.
        latency_ns: Option<DurationsObject>,
    }
}
part! {
    /// What requests resulted in.
    ResultRow {
        /// Process.
        pid: u32,
        /// Its name, escaped.
        name: String,
        /// Negative results of events that io_getevents gave, by name of the errno.
        errors: BTreeMap<Name, u64>,
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
#[expect(
    clippy::large_enum_variant,
    reason = "read in tests, and by whoever reads one line at a time"
)]
pub enum Line {
    Start(StartLine),
    Setup(SetupLine),
    Destroy(DestroyLine),
    Submit(SubmitLine),
    Getevents(GeteventsLine),
    Cancel(CancelLine),
    Unfinished(UnfinishedLine),
    Completion(CompletionLine),
    Refused(RefusedLine),
    ContextGone(ContextGoneLine),
    ContextMoved(ContextMovedLine),
    ContextAdopted(ContextAdoptedLine),
    Finding(FindingLine),
    Fault(FaultLine),
    Process(ProcessLine),
    Synchronous(SynchronousLine),
    Lost(LostLine),
    Interval(IntervalLine),
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
            "completion" => Self::Completion(serde_json::from_str(line)?),
            "refused" => Self::Refused(serde_json::from_str(line)?),
            "context_gone" => Self::ContextGone(serde_json::from_str(line)?),
            "context_moved" => Self::ContextMoved(serde_json::from_str(line)?),
            "context_adopted" => Self::ContextAdopted(serde_json::from_str(line)?),
            "fault" => Self::Fault(serde_json::from_str(line)?),
            "finding" => Self::Finding(serde_json::from_str(line)?),
            "process" => Self::Process(serde_json::from_str(line)?),
            "synchronous" => Self::Synchronous(serde_json::from_str(line)?),
            "lost" => Self::Lost(serde_json::from_str(line)?),
            "interval" => Self::Interval(serde_json::from_str(line)?),
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
