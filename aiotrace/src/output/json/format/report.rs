//! The report, and its rows.

use std::collections::BTreeMap;

use super::{
    CallRow, ContextObject, CountedObject, Decimal, Hex, Name, PodObject,
    conclusions::{GOINGS, SEVERITIES, names},
    described::{line, part},
};

line! {
    /// `report`: the conclusions at the end of the trace, and whenever aiotrace got SIGUSR1.
    ReportLine at "When the trace ended, or SIGUSR1 came" {
        /// Events that reached aiotrace through the probes, including those that were not written.
        events: u64,
        /// Sum of `lost_by_cause`. If a cause other than `unanswered` is not 0, every conclusion from absence is
        /// unsure.
        lost: u64,
        /// Losses by cause, see below; every cause is there, also with 0.
        lost_by_cause: BTreeMap<Name, u64>,
        /// How long the probes were attached.
        attached_ns: Decimal,
        /// Why the trace ended: `targets_gone`, `time_over` (`--duration`), `signal` or `output_closed`. `asked`: a
        /// report was asked for, and the trace goes on. `recording_ends` (`aiotrace report`): the recording was cut
        /// short.
        reason: Name,
        /// What the trace cost from the attach to the end; in the report of a recording, the cost of the recorded
        /// trace. null if the recording was cut short.
        cost: Option<CostObject>,
        /// The findings, the worst first.
        findings: Vec<FindingRow>,
        /// Findings that were not kept, because there were more than 1,024.
        more_findings: u64,
        /// Contexts alive and ended, at most 256, those with most requests first.
        contexts: Vec<ContextRow>,
        /// All other contexts as one; its `id`, `ctx`, `pid` and `end` are those of one of them.
        other_contexts: Option<ContextRow>,
        /// Requests by process, descriptor and operation, those with most requests first, at most 1,024.
        requests: Vec<RequestRow>,
        /// Contexts and requests that were too many to follow; if it is not 0, conclusions that rest on them are
        /// unsure.
        evicted: u64,
        /// Threads that have been inside a call for a second or more; if `--timeout` ended the program, those that
        /// were then.
        waits: Vec<WaitRow>,
        /// Processes that live and have made no AIO call for five seconds.
        quiet: Vec<QuietRow>,
        /// Contexts that a process makes all the time with the same four innermost functions, none of which ended and
        /// the older half of which lies idle, when it is too early for context-growth.
        trends: Vec<TrendRow>,
        /// Who the processes are that were attached to or made AIO calls, at most 1,024. One that had ended before it
        /// was looked up has no names.
        processes: Vec<PersonRow>,
        /// How many more processes there were.
        more_processes: u64,
        /// What became of all contexts and requests, see below.
        sums: Box<SumsObject>,
        /// Sums that do not agree, in words: then aiotrace counted something wrong, and nothing in this report is
        /// sure. Otherwise empty, as it should be.
        disagreements: Vec<String>,
        /// The faults, by rule, call and what the program was given.
        faults: Vec<FaultRow>,
        /// The fault rules, including those that never acted.
        rules: Vec<RuleRow>,
        /// With `-c`: the counted calls; otherwise null.
        calls: Option<Vec<CallRow>>,
        /// Where calls are counted in the kernel (`-c`, `--only`, `--sample`): the numbers of requests; otherwise
        /// null. `contexts`, `other_contexts` and `requests` are empty then, because they need every call.
        counted: Option<CountedObject>,
    }
}

part! {
    /// What a trace cost.
    "cost" CostObject {
        /// Processor time that aiotrace took.
        cpu_ns: Decimal,
        /// The most memory that aiotrace had.
        memory_bytes: u64,
        /// Bytes of records that came from the probes.
        record_bytes: u64,
        /// How often the probes ran, on all processors; null unless `sysctl kernel.bpf_stats_enabled=1`.
        probe_runs: Option<u64>,
        /// How long they ran; null unless `sysctl kernel.bpf_stats_enabled=1`.
        probe_ns: Option<Decimal>,
    }
}
part! {
    /// Who a process is.
    "process in the report" PersonRow {
        /// The process.
        pid: u32,
        /// Name of the process.
        process: String,
        /// As in [process in ls](#process-in-ls); so are the next three fields.
        unit: Option<String>,
        /// What made the container, and the beginning of its id.
        container: Option<String>,
        /// The name of the container.
        container_name: Option<String>,
        /// The pod.
        pod: Option<PodObject>,
    }
}
part! {
    /// A finding in the report.
    "finding in the report" FindingRow {
        /// As in [finding](#finding); so are the next five fields.
        name: Name = names(),
        /// How bad it is.
        severity: Name = SEVERITIES,
        /// The finding may be wrong.
        unsure: bool,
        /// Why it is unsure, in words; null if it is certain.
        why: Option<Name>,
        /// The process.
        pid: u32,
        /// The context that the finding is about, if it is about one.
        context: Option<ContextObject>,
        /// How often it was found so far.
        count: u64,
        /// When it was found first.
        first_ts: Decimal,
        /// When it was found last; null if that is unknown (counted calls).
        last_ts: Option<Decimal>,
        /// The finding in words, for people.
        message: String,
    }
}
part! {
    /// A context in the report.
    "context in the report" ContextRow {
        /// Number of the context in this trace, from 1, never used again.
        id: u64,
        /// The context's handle; the last one if the ring was moved.
        ctx: Hex,
        /// 1; in `other_contexts` the number of contexts.
        contexts: u64,
        /// The process that used it last.
        pid: u32,
        /// The name of the process.
        process: String,
        /// The context existed before the attach.
        adopted: bool,
        /// The time from when the context became known to its end, or to `ts`.
        lifetime_ns: u64,
        /// How the context ended: `destroyed`, `exit`, `exec`, or `leaked`: its ring was unmapped; null: it is alive. In
        /// `other_contexts` also `several`: not all ended in the same way, or some are alive.
        end: Option<Name> = ["destroyed", "exit", "exec", "leaked", "several"],
        /// What io_setup was asked for, which is the context's charge.
        asked: Option<u64>,
        /// The most requests in flight at a time.
        peak_in_flight: u64,
        /// `peak_in_flight` is a bound, there were as many or fewer: requests completed before their io_submit returned,
        /// each before the next one or not.
        peak_at_most: bool,
        /// `peak_in_flight` is a bound, there were as many or more: requests were in flight at the attach, or that is
        /// unknown.
        peak_at_least: bool,
        /// Requests in flight now, or at its end.
        in_flight: u64,
        /// Requests that completed with an unknown result, because the ring could not be read: they are not in
        /// `in_flight`, `requests`, `failed` or any latency.
        unknown: u64,
        /// Unreaped completions, now or at the end of the context. null: the context ended with its process, which
        /// may have reaped them without a call.
        unreaped: Option<u64>,
        /// Requests completed.
        requests: u64,
        /// The bytes that these requests moved.
        bytes: u64,
        /// How many of these requests had a negative `res` from the kernel.
        failed: u64,
        /// How many others got one from a fault rule.
        made_to_fail: u64,
        /// The time from the entry of io_submit to the completion (without exact completion times: until it was
        /// seen). Requests that were reaped before they were seen to complete are left out. null if there is none.
        complete_ns: Option<Percentiles>,
        /// The time from the completion until it was seen to be reaped; always an upper bound.
        reap_ns: Option<Percentiles>,
        /// No record about the context was lost.
        sure: bool,
        /// Why the row is unsure, in words; null if it is not.
        why: Option<Name>,
    }
}
part! {
    /// Requests of one kind in the report.
    "requests in the report" RequestRow {
        /// The process.
        pid: u32,
        /// Name of the process.
        process: String,
        /// The descriptor; the lines of the calls say what it points to (`path_now`).
        fd: i32,
        /// As in [iocb](#iocb).
        opcode: u16,
        /// Name of the opcode; null if it has none.
        op: Option<Name>,
        /// Requests completed.
        requests: u64,
        /// The bytes that these requests moved.
        bytes: u64,
        /// How many of these requests had a negative `res` from the kernel.
        failed: u64,
        /// How many others got one from a fault rule.
        made_to_fail: u64,
        /// Requests given to io_submit that it did not accept, without those that a fault rule refused.
        refused: u64,
        /// How long the io_submit took that the request was in; `at_most` is false.
        submit_ns: Option<Percentiles>,
        /// As in [context in the report](#context-in-the-report).
        complete_ns: Option<Percentiles>,
    }
}
part! {
    /// Durations in nanoseconds.
    "percentiles" Percentiles {
        /// Half of the durations are no longer; to about 6 %.
        p50: u64,
        /// One in a hundred is longer; to about 6 %.
        p99: u64,
        /// None is longer; exact.
        max: u64,
        /// The durations are upper bounds (each completion is only known to lie between two looks at the ring).
        at_most: bool,
    }
}
part! {
    /// Contexts and requests, each counted in more than one way.
    "" SumsObject {
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
    /// Threads that wait in a call.
    "wait" WaitRow {
        /// The process.
        pid: u32,
        /// Name of the process.
        process: String,
        /// One of the threads.
        tid: u32,
        /// How many threads wait for the same.
        threads: u64,
        /// Name of the call; `exit`: the thread is in exit and waits for requests.
        call: Name,
        /// How long the thread has waited.
        age_ns: u64,
        /// The thread was already in the call when aiotrace attached, so it has waited longer.
        before_attach: bool,
        /// The wait in words, for people.
        message: String,
    }
}
part! {
    /// A process that has made no AIO call for a while.
    "quiet process" QuietRow {
        /// The process.
        pid: u32,
        /// Name of the process.
        process: String,
        /// When its last call returned; null: it made no call since the attach.
        last_call_ts: Option<Decimal>,
        /// How long ago that was; without a call, how long ago the attach was.
        age_ns: u64,
        /// The process's requests in flight, with those from before the attach; null if the number is unknown for one
        /// of its contexts.
        in_flight: Option<u64>,
        /// Upper bound of the requests in flight, where completions are seen only at the next look.
        in_flight_at_most: Option<u64>,
    }
}
part! {
    /// Contexts that a process makes again and again.
    "trend" TrendRow {
        /// The process.
        pid: u32,
        /// Name of the process.
        process: String,
        /// How many contexts it made.
        made: u64,
        /// The time in which it made them.
        within_ns: u64,
        /// How many of the older ones are not used.
        unused: u64,
        /// How long they have not been used.
        unused_ns: u64,
    }
}
part! {
    /// Faults of one kind in the report.
    "faults in the report" FaultRow {
        /// As in [fault](#fault).
        rule: u32,
        /// As in [fault](#fault).
        call: Name,
        /// As in [fault](#fault), but 0 for every short io_submit; null: the program got the kernel's own answer,
        /// because the call was only delayed or no fault was made.
        ret: Option<i64>,
        /// Name of the errno in `ret`.
        errno: Option<Name>,
        /// Faults that the program got.
        made: u64,
        /// Calls that were delayed.
        delayed: u64,
        /// Faults that would have been made without `--dry-run`.
        dry_run: u64,
        /// Faults that the mechanism could not deliver.
        missed: u64,
        /// How many of `made` get no verdict: more than 4,096 faults were open at a time, or the program got nothing
        /// that it has to react to.
        not_followed: u64,
        /// Number of faults by `verdict`, each fault once. The rest of `made` is not decided yet.
        verdicts: BTreeMap<Name, u64>,
        /// Number of faults by `sequel`.
        sequels: BTreeMap<Name, u64>,
        /// Number of faults by the second half of the verdict.
        processes: Vec<ProcessCount>,
        /// The longest time from a fault to its first retry.
        within_ns: Option<u64>,
        /// How many of the `retried` never succeeded.
        in_vain: u64,
        /// The sum of `lost` of the verdicts.
        lost: u64,
        /// How many of the verdicts `lost` are about a process that exited with status 0.
        silent: u64,
        /// The row in words, for people.
        message: String,
    }
}
part! {
    /// The number of faults whose process went on like this.
    "" ProcessCount {
        process: Name = GOINGS,
        exit_code: Option<i32>,
        signal: Option<String>,
        /// how many
        faults: u64,
    }
}
part! {
    /// A fault rule in the report, also if it never acted.
    "rule in the report" RuleRow {
        /// As in `start`.`faults`.
        rule: u32,
        /// As in `start`.`faults`.
        text: String,
        /// Calls (or completions) of the kind that the rule is about.
        asked: u64,
        /// How many of these have a request that `op=` and `fd=` describe.
        described: u64,
        /// How often the rule acted, or would have (`--dry-run`).
        acted: u64,
        /// Why the rule never acted, in words, if that is known.
        why: Option<String>,
    }
}
