//! The report, and its rows.

use std::collections::BTreeMap;

use super::{
    CallRow, ContextObject, CountedObject, Decimal, Hex, Name,
    conclusions::{GOINGS, SEVERITIES, names},
    described::{line, part},
};

line! {
    /// `report`: what is known at the end, and whenever aiotrace got SIGUSR1.
    ReportLine at "When the trace ended, or SIGUSR1 came" {
        /// Events that reached aiotrace through the probes, also those not written.
        events: u64,
        /// Sum of `lost_by_cause`. If a cause other than `unanswered` is not 0, any conclusion from absence is unsure.
        lost: u64,
        /// See below; every cause is there, also with 0.
        lost_by_cause: BTreeMap<Name, u64>,
        /// How long the probes were attached.
        attached_ns: Decimal,
        /// Why the trace ended: `targets_gone`, `time_over` (`--duration`), `signal` or `output_closed`; `asked`: it goes
        /// on; `recording_ends` (`aiotrace report`): the recording was cut short.
        reason: Name,
        /// What the trace cost from the attach to the end. Null when a recording ends too early; a recording tells the
        /// cost of the trace.
        cost: Option<CostObject>,
        /// Those told, the worst first.
        findings: Vec<FindingRow>,
        /// Findings that were not kept, because there were more than 1,024.
        more_findings: u64,
        /// Contexts alive and ended, at most 256, those with most requests first.
        contexts: Vec<ContextRow>,
        /// All other contexts as one; its `id`, `ctx`, `pid` and `end` are those of one of them.
        other_contexts: Option<ContextRow>,
        /// By process, descriptor and operation, most first, at most 1,024.
        requests: Vec<RequestRow>,
        /// Contexts and requests that were too many to follow; if it is not 0, what rests on them is unsure.
        evicted: u64,
        /// Threads that have been inside a call for a second or more.
        waits: Vec<WaitRow>,
        /// Processes that live and have made no AIO call for five seconds.
        quiet: Vec<QuietRow>,
        /// Contexts with the same four innermost frames that are made all the time, of which none ended and the older half
        /// lies idle, too early to be context-growth.
        trends: Vec<TrendRow>,
        /// What became of all contexts and requests: see below.
        sums: Box<SumsObject>,
        /// Where the sums do not agree, in words: then aiotrace counted something wrong, and nothing in this report is
        /// sure. Empty, as it should be.
        disagreements: Vec<String>,
        /// By rule, call and what was given.
        faults: Vec<FaultRow>,
        /// The fault rules, also those that never acted.
        rules: Vec<RuleRow>,
        /// With `-c`; else null.
        calls: Option<Vec<CallRow>>,
        /// Where calls are counted in the kernel (`-c`, `--only`, `--sample`); else null. `contexts`, `other_contexts` and
        /// `requests` are empty then: they are made of calls that are told one by one.
        counted: Option<CountedObject>,
    }
}

part! {
    /// What a trace cost.
    "cost" CostObject {
        /// Time of the processors that aiotrace took.
        cpu_ns: Decimal,
        /// The most memory that aiotrace took.
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
    /// A finding in the report.
    "finding in the report" FindingRow {
        /// As in [finding](#finding), and so are the next five.
        name: Name = names(),
        /// How bad it is.
        severity: Name = SEVERITIES,
        /// It may be otherwise.
        unsure: bool,
        /// Why, in words; null if it is certain.
        why: Option<Name>,
        /// The process.
        pid: u32,
        /// The context, if it is about one.
        context: Option<ContextObject>,
        /// How often so far.
        count: u64,
        /// When first.
        first_ts: Decimal,
        /// When last; null if that is not known (counted calls).
        last_ts: Option<Decimal>,
        /// In words, for people.
        message: String,
    }
}
part! {
    /// A context in the report.
    "context in the report" ContextRow {
        /// Of the context in this trace, from 1, never used again.
        id: u64,
        /// Its handle, the last one if it was moved.
        ctx: Hex,
        /// 1; in `other_contexts` how many.
        contexts: u64,
        /// The process that used it last.
        pid: u32,
        /// The name of the process.
        process: String,
        /// It existed before the attach.
        adopted: bool,
        /// From when it became known to its end, or to `ts`.
        lifetime_ns: u64,
        /// `destroyed`, `exit`, `exec`, or `leaked`: its ring was unmapped; null: it is alive.
        end: Option<Name> = ["destroyed", "exit", "exec", "leaked"],
        /// What io_setup was asked for, which is what it takes from fs.aio-nr.
        asked: Option<u64>,
        /// Most requests in flight at a time.
        peak_in_flight: u64,
        /// `peak_in_flight` is a bound, there were as many or fewer: requests completed before their io_submit returned,
        /// each before the next one or not.
        peak_at_most: bool,
        /// Requests in flight now, or at its end.
        in_flight: u64,
        /// Requests that completed, and it is not known with what result, because the ring could not be read: they are
        /// not in `in_flight`, `requests`, `failed` or any latency.
        unknown: u64,
        /// Completions in the ring, now or at its end. null: it ended with its process, which may have reaped them
        /// without a call.
        unreaped: Option<u64>,
        /// Requests completed.
        requests: u64,
        /// Bytes of these.
        bytes: u64,
        /// How many of these with a negative `res`.
        failed: u64,
        /// From the entry of io_submit to the completion (without exact completion times: until it was seen). What was
        /// reaped before it was seen to complete is not in it. null if there is none.
        complete_ns: Option<Percentiles>,
        /// From the completion until it was seen to be reaped; always a bound.
        reap_ns: Option<Percentiles>,
        /// Nothing of it was lost.
        sure: bool,
        /// If it is not sure: why, in words.
        why: Option<Name>,
    }
}
part! {
    /// Requests of one kind in the report.
    "requests in the report" RequestRow {
        /// The process.
        pid: u32,
        /// Its name.
        process: String,
        /// The descriptor; what it points to is in the lines of the calls (`path_now`).
        fd: i32,
        /// As in [iocb](#iocb).
        opcode: u16,
        /// Its name; null if it has none.
        op: Option<Name>,
        /// Requests completed.
        requests: u64,
        /// Bytes of these.
        bytes: u64,
        /// How many of these with a negative `res`.
        failed: u64,
        /// Requests given to io_submit that it did not accept, but for those that a fault rule refused.
        refused: u64,
        /// How long the io_submit took that it was in; `at_most` is false.
        submit_ns: Option<Percentiles>,
        /// As in [context in the report](#context-in-the-report).
        complete_ns: Option<Percentiles>,
    }
}
part! {
    /// Durations in nanoseconds.
    "percentiles" Percentiles {
        /// Half took no longer; to about 6 %.
        p50: u64,
        /// One in a hundred took longer; to about 6 %.
        p99: u64,
        /// None took longer, exactly.
        max: u64,
        /// These are bounds, it took so long or less (the completion is only known to lie between two looks at the
        /// ring).
        at_most: bool,
    }
}
part! {
    /// Contexts and requests, counted in more than one way.
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
        /// Its name.
        process: String,
        /// One of the threads.
        tid: u32,
        /// So many wait for the same.
        threads: u64,
        /// `exit`: in exit, waiting for requests.
        call: Name,
        /// For so long.
        age_ns: u64,
        /// It was found there, so it is longer.
        before_attach: bool,
        /// In words, for people.
        message: String,
    }
}
part! {
    /// A process that has made no AIO call for a while.
    "quiet process" QuietRow {
        /// The process.
        pid: u32,
        /// Its name.
        process: String,
        /// null: no call since the attach.
        last_call_ts: Option<Decimal>,
        /// How long ago that was, or the attach.
        age_ns: u64,
        /// Its requests in flight, also those from before the attach, if that is known of all its contexts.
        in_flight: Option<u64>,
        /// Likewise, where completions are seen at the next look only.
        in_flight_at_most: Option<u64>,
    }
}
part! {
    /// Contexts that a process makes again and again.
    "trend" TrendRow {
        /// The process.
        pid: u32,
        /// Its name.
        process: String,
        /// How many it made.
        made: u64,
        /// In this time.
        within_ns: u64,
        /// How many of the older ones are not used.
        unused: u64,
        /// For how long.
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
        /// As in [fault](#fault), but 0 for every short io_submit; null: the kernel's own answer, because the call was
        /// only delayed or no fault was made.
        ret: Option<i64>,
        /// Name of the errno in `ret`.
        errno: Option<Name>,
        /// Faults that the program got.
        made: u64,
        /// Calls that were delayed.
        delayed: u64,
        /// Faults that would have been made, but for `--dry-run`.
        dry_run: u64,
        /// Faults that the mechanism could not bring about.
        missed: u64,
        /// Of `made`, those that get no verdict: more than 4,096 were open at a time, or the program got nothing that it
        /// has to do anything about.
        not_followed: u64,
        /// By `verdict`, each fault once. What is missing from `made` is not decided yet.
        verdicts: BTreeMap<Name, u64>,
        /// The same by `sequel`.
        sequels: BTreeMap<Name, u64>,
        /// The same by the second half.
        processes: Vec<ProcessCount>,
        /// The first retry came after this time at most.
        within_ns: Option<u64>,
        /// Of the `retried`, those that never succeeded.
        in_vain: u64,
        /// The sum of `lost` of the verdicts.
        lost: u64,
        /// Of the verdicts `lost`, those after which the process exited with status 0.
        silent: u64,
        /// In words, for people.
        message: String,
    }
}
part! {
    /// How many faults whose process went on like this.
    "" ProcessCount {
        process: Name = GOINGS,
        exit_code: Option<i32>,
        signal: Option<String>,
        /// how many
        faults: u64,
    }
}
part! {
    /// A fault rule in the report, also one that never acted.
    "rule in the report" RuleRow {
        /// As in `start`.`faults`.
        rule: u32,
        /// As in `start`.`faults`.
        text: String,
        /// Calls (or completions) of the kind that it is about.
        asked: u64,
        /// Of these, those about a request as `op=` and `fd=` have it.
        described: u64,
        /// How often it acted, or would have (`--dry-run`).
        acted: u64,
        /// Why it never did, in words, if that is known.
        why: Option<String>,
    }
}
