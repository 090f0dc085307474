//! The lines of findings and of verdicts.

use std::collections::BTreeMap;

use super::{
    Decimal, FunctionObject, Hex, Name,
    described::{line, part},
};
use crate::model::{self, Outcome};

/// The severities of findings.
pub(super) const SEVERITIES: [&str; 3] = ["error", "warning", "info"];
/// The first halves of verdicts: what became of the requests.
const SEQUELS: [&str; 7] = ["retried", "done", "gave_up", "lost", "leaked", "open", "unsure"];
/// The second halves of verdicts: how the process went on.
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
        /// The stable name of the finding.
        name: Name = names(),
        /// How bad it is.
        severity: Name = SEVERITIES,
        /// Records were lost, or something cannot be seen, that might contradict the finding. Then its severity is
        /// never `error`.
        unsure: bool,
        /// Why it is unsure, in words ([the reasons](findings/README.md#unsure)); null if it is certain.
        why: Option<Name>,
        /// The finding in words, for people: the wording may change without a new version.
        message: String,
        /// The context that the finding is about, if it is about one.
        context: Option<ContextObject>,
        /// The numbers of the message, by name; the page of the finding describes them. Those with `_ns` are
        /// nanoseconds.
        evidence: BTreeMap<Name, i64>,
        /// The request that the finding is about, if it is about one.
        request: Option<SubjectObject>,
        /// setup-denied: the processes that hold fs.aio-nr, at most ten, the one that holds most first. Empty for the
        /// other findings.
        holders: Vec<HolderObject>,
        /// Where the context was made, as in io_setup; for refused-calls and blocking-submit, where the call was made
        /// (for io_submit only with `--stacks`); null if that was not seen.
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
        /// The number of the rule, from 1, as in `start`.`faults`.
        rule: u32,
        /// Name of the call, or `complete`.
        call: Name,
        /// What the program got: a negative errno; for a short io_submit, how many iocbs it accepted; with
        /// `complete`, the result.
        ret: i64,
        /// Name of the errno in `ret`.
        errno: Option<Name>,
        /// The worse of its two halves: `retried`, `done`, `gave_up`, `lost`, `reported`, `leaked`, `hung`, `exited`,
        /// `died`, `undecided` or `unsure`.
        verdict: Name = Outcome::ALL.map(Outcome::text),
        /// The first half: `retried`, `done`, `gave_up`, `lost`, `leaked`, `open` or `unsure`.
        sequel: Name = SEQUELS,
        /// The second half: `running`, `hung`, `timed_out` (`--timeout` ended it), `exec`, `exited` or `died`. null
        /// with `next_fault`.
        process: Option<Name> = GOINGS,
        /// The time from the fault to the end of the process, or to `--timeout`.
        process_after_ns: Option<u64>,
        /// Why `sequel` is `unsure`, in words.
        why: Option<Name>,
        /// There was an earlier verdict on this fault, which this one replaces.
        anew: bool,
        /// With `retried`: a retry succeeded. The kernel accepted it; with `complete`, it completed without an error.
        succeeded: bool,
        /// With `retried`: the retry met a fault itself, whose own verdict says how it went on.
        next_fault: bool,
        /// How often the request was tried again.
        retries: u64,
        /// The time from the fault to the first retry, or to the first request that a synchronous call did; null if
        /// there was none.
        after_ns: Option<u64>,
        /// How many requests were done by synchronous calls.
        done: u64,
        /// The last of these calls: `pwrite`, `pread`, ...
        done_by: Option<Name>,
        /// How many requests were not done, as far as known.
        lost: u64,
        /// The first request that was not done; with `complete`, the request whose completion got the fault. null if
        /// there is none, or it could not be read.
        request: Option<SubjectObject>,
        /// The context of the call; null for io_setup, or if it is unknown.
        context: Option<ContextObject>,
        /// The status that the process exited with, with `process` `exited`.
        exit_code: Option<i32>,
        /// The signal that killed it, with `process` `died`.
        signal: Option<String>,
        /// The verdict in words, for people: the wording may change without a new version.
        message: String,
    }
}

part! {
    /// A context.
    "context" ContextObject {
        /// Number of the context in this trace, from 1, never used again; 0 for a context that was destroyed before
        /// the trace began (use-after-destroy).
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
        /// As in [iocb](#iocb); so are the fields below.
        opcode: u16,
        /// Name of the opcode; null if it has none.
        op: Option<Name>,
        /// The descriptor.
        fd: i32,
        /// What the descriptor points to when the line is written (in a verdict: when it was looked up for the
        /// fault); null if it cannot be looked up.
        path_now: Option<String>,
        /// The offset in the file.
        offset: i64,
        /// The length in bytes, or the number of iovecs.
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
