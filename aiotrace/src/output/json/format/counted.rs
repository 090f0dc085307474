//! What was counted: the line of `--interval`, and parts of the report.

use std::collections::BTreeMap;

use super::{
    Decimal, Hex, Name,
    described::{line, part},
};

line! {
    /// `interval`: what was counted since the last one, or since the start.
    IntervalLine at "When it ended" {
        /// Length of the interval.
        interval_ns: u64,
        /// Calls that returned.
        calls: Vec<CallRow>,
        /// As in `counted` of `report`.
        contexts: Vec<CountedContextRow>,
        /// As in `counted` of `report`.
        results: Vec<ResultRow>,
    }
}

part! {
    /// The numbers of requests, where calls are counted in the kernel.
    "counted calls" CountedObject {
        /// How many calls returned.
        calls: u64,
        /// How many of these calls have a line (`--only`, `--sample`); null with `-c`.
        shown: Option<u64>,
        /// The contexts by process and handle, those with most requests first.
        contexts: Vec<CountedContextRow>,
        /// With `--requests`: the errors that requests resulted in, as io_getevents returned them.
        results: Vec<ResultRow>,
    }
}
part! {
    /// One call of one process.
    "calls of a process" CallRow {
        /// The process; 0 for all processes beyond the first 256 together.
        pid: u32,
        /// Name of the process; `"?"` if it is unknown.
        name: String,
        /// Name of the call.
        call: Name,
        /// How many of these calls returned.
        calls: u64,
        /// How many of these calls returned an error of the kernel's, by the name of the errno (by its number if it
        /// has no name). An io_cancel that worked is here as `EINPROGRESS`. If there was no room left to count an
        /// error by its name (more than 4,096 kinds by process, call and errno), its name is `"?"`.
        errors: BTreeMap<Name, u64>,
        /// How many of these calls returned a fault, by the name of the errno; `short`: a short io_submit.
        injected: BTreeMap<Name, u64>,
        /// How long the calls took, in nanoseconds: `p50` and `p99` to about 1 %, the others exactly. Counted in the
        /// kernel: `p50` and `p99` to about 6 %, and in an `interval` `min` and `max` to 12 %. null if the beginning
        /// of no call was seen.
        duration_ns: Option<DurationsObject>,
    }
}
part! {
    /// Durations in nanoseconds.
    "" DurationsObject { min: u64, avg: u64, p50: u64, p99: u64, max: u64, }
}
part! {
    /// A context, and the number of its requests.
    "counted context" CountedContextRow {
        /// The process; 0 for all contexts that are not counted one by one: those beyond 4,095 at a time, ended ones
        /// beyond 256, and those of processes beyond 256.
        pid: u32,
        /// Name of the process; `"?"` if it is unknown.
        name: String,
        /// The handle. A context that was given the handle of an earlier one is counted with it.
        ctx: Hex,
        /// Requests that were accepted.
        requests: u64,
        /// With `--requests`: by operation (`unread`: the iocb could not be read when io_submit returned, or it came
        /// after the 4,096th of its call).
        ops: Option<BTreeMap<Name, OpRow>>,
        /// Events that io_getevents and io_pgetevents returned; completions that the program takes out of the ring by
        /// itself are not counted.
        reaped: u64,
        /// With `--requests`: of the `reaped`, those whose result is an error.
        failed: Option<u64>,
        /// With `--requests`: the sum of the other results; null if polls, whose results are masks, are among them, or
        /// some could not be read.
        bytes: Option<u64>,
    }
}
part! {
    /// Requests of one operation.
    "counted operation" OpRow {
        /// How many requests of this operation were accepted.
        requests: u64,
        /// The sum of the bytes asked for, for `pread` and `pwrite`; null for the others.
        asked: Option<u64>,
        /// How many requests were reaped by io_getevents and have a latency. Those have none that the program takes
        /// out of the ring by itself, that were submitted before the attach, or for whose operation there was no row.
        timed: u64,
        /// The time from the entry of io_submit to the return of that io_getevents, in nanoseconds. All but `avg` are
        /// as exact as their bucket: an eighth. null if there is none.
        latency_ns: Option<DurationsObject>,
    }
}
part! {
    /// The errors that the requests of a process resulted in.
    "" ResultRow {
        pid: u32,
        name: String,
        /// by name of the errno
        errors: BTreeMap<Name, u64>,
    }
}
