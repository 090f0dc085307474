//! The lines of findings and of verdicts.

use std::collections::BTreeMap;

use super::{
    Decimal, FunctionObject, Hex, Name,
    described::{line, part},
};
use crate::model::{self, Outcome};

/// The severities of findings.
pub(super) const SEVERITIES: [&str; 3] = ["error", "warning", "info"];
/// The first halves of verdicts.
const SEQUELS: [&str; 7] = ["retried", "done", "gave_up", "lost", "leaked", "open", "unsure"];
/// Their second halves.
pub(super) const GOINGS: [&str; 6] = ["running", "hung", "timed_out", "exec", "exited", "died"];

/// The names of findings.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    model::Name::ALL.iter().map(|it| it.text())
}

line! {
    /// `finding`: a conclusion about the program.
    FindingLine at "When it happened, or was found" {
        /// The process.
        pid: u32,
        /// The thread whose call shows it; null if no single call does.
        tid: Option<u32>,
        /// Its stable name.
        name: Name = names(),
        /// How bad it is.
        severity: Name = SEVERITIES,
        /// Something was lost, or cannot be seen, that might show it to be otherwise. Then it is no `error`.
        unsure: bool,
        /// What, in words ([the reasons](findings/README.md#unsure)); null if it is certain.
        why: Option<Name>,
        /// In words, for people: it may change without a new version.
        message: String,
        /// The context, if it is about one.
        context: Option<ContextObject>,
        /// The numbers of the message, by name; the page of the finding describes them. Those with `_ns` are
        /// nanoseconds.
        evidence: BTreeMap<Name, i64>,
        /// The request, if it is about one.
        request: Option<SubjectObject>,
        /// setup-denied: who holds fs.aio-nr, at most ten processes, the one with most first. Else empty.
        holders: Vec<HolderObject>,
        /// Where the context was made, as in io_setup; of refused-calls and blocking-submit, where the call was made (of
        /// io_submit only with `--stacks`); null if that was not seen.
        stack: Option<Vec<FunctionObject>>,
    }
}

line! {
    /// `fault`: what the program made of a fault.
    FaultLine at "When the program got the fault" {
        /// The process.
        pid: u32,
        /// The thread.
        tid: u32,
        /// From 1, as in `start`.`faults`.
        rule: u32,
        /// Name of the call, or `complete`.
        call: Name,
        /// What the program got: a negative errno; of a short io_submit, how many it took; with `complete`, the result.
        ret: i64,
        /// Name of the errno in `ret`.
        errno: Option<Name>,
        /// The worse of its two halves: `retried`, `done`, `gave_up`, `lost`, `reported`, `leaked`, `hung`, `exited`,
        /// `died`, `undecided` or `unsure`.
        verdict: Name = Outcome::ALL.map(Outcome::text),
        /// The first half: `retried`, `done`, `gave_up`, `lost`, `leaked`, `open` or `unsure`.
        sequel: Name = SEQUELS,
        /// The second half: `running`, `hung`, `timed_out` (`--timeout` ended it), `exec`, `exited` or `died`. null with
        /// `next_fault`.
        process: Option<Name> = GOINGS,
        /// From the fault to the end of the process, or to `--timeout`.
        process_after_ns: Option<u64>,
        /// Why `sequel` is `unsure`, in words.
        why: Option<Name>,
        /// There was another verdict on this fault before.
        anew: bool,
        /// `retried`: with success. The kernel accepted it; with `complete`, it completed without an error.
        succeeded: bool,
        /// `retried`: the retry met a fault itself, whose own verdict tells how it goes on.
        next_fault: bool,
        /// How often it was tried again.
        retries: u64,
        /// From the fault to the first retry, or to the first request that a synchronous call did; null if there was
        /// none.
        after_ns: Option<u64>,
        /// Requests that synchronous calls did.
        done: u64,
        /// The last of these calls: `pwrite`, `pread`, ...
        done_by: Option<Name>,
        /// Requests that were not done, as far as known.
        lost: u64,
        /// The first of these; with `complete`, the request that it was. null if there is none, or it could not be read.
        request: Option<SubjectObject>,
        /// null for io_setup, or if it is not known.
        context: Option<ContextObject>,
        /// The status that the process exited with, with `process` `exited`.
        exit_code: Option<i32>,
        /// The signal that killed it, with `process` `died`.
        signal: Option<String>,
        /// In words, for people: it may change without a new version.
        message: String,
    }
}

part! {
    /// A context.
    "context" ContextObject {
        /// Of the context in this trace, from 1, never used again; 0 for one that was destroyed before
        /// (use-after-destroy).
        id: u64,
        /// Its handle, which may be used again.
        ctx: Hex,
    }
}
part! {
    /// The request that a finding or a verdict is about.
    "request" SubjectObject {
        /// The iocb's address.
        iocb: Hex,
        /// As in [iocb](#iocb), and so what follows.
        opcode: u16,
        /// Its name; null if it has none.
        op: Option<Name>,
        /// The descriptor.
        fd: i32,
        /// What the descriptor points to now; null if it cannot be looked up.
        path_now: Option<String>,
        /// Where in the file.
        offset: i64,
        /// Bytes, or iovecs.
        nbytes: u64,
    }
}
part! {
    /// A process that holds contexts.
    "" HolderObject {
        pid: u32,
        name: String,
        contexts: u64,
        /// what they take from fs.aio-nr
        charge: u64,
    }
}
