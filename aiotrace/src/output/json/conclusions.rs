//! Findings and the report in JSON.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use super::{
    ContextObject, ContextRow, CostObject, CountedObject, FindingLine, FindingRow, FunctionObject,
    Hex, HolderObject, IntervalLine, Json, Percentiles, PersonRow, PodObject, QuietRow, ReportLine,
    RequestRow, SubjectObject, SumsObject, TrendRow, VERSION, WaitRow,
    faults::{row, rule},
    readable,
};
use crate::{
    event::opcode_name,
    model::{
        Bound, ContextRef, Finding, Report, Subject, Wait, latency, report,
        sums::{Disagreement, Sums},
    },
    output::{
        Ended, Interval,
        counted::{self, Rows},
        escape::escaped,
        paths::Paths,
        people::Person,
    },
    stacks::Named,
};

impl<W: Write> Json<W> {
    pub(super) fn finding_line(&mut self, finding: &Finding) -> io::Result<()> {
        let about = finding.request;
        let request = about.map(|it| subject(&mut self.paths, finding.pid, finding.time, &it));
        let holders = finding.holders.iter().map(|it| HolderObject {
            pid: it.pid,
            name: escaped(&it.name),
            contexts: it.contexts,
            charge: it.charge,
        });
        let line = FindingLine {
            v: VERSION,
            event: "finding".into(),
            ts: finding.time.into(),
            pid: finding.pid,
            tid: finding.tid,
            name: finding.name.text().into(),
            severity: finding.severity.text().into(),
            unsure: finding.doubt.is_some(),
            why: finding.doubt.map(|it| it.text().into()),
            message: finding.message(),
            context: finding.context.map(context),
            evidence: finding.numbers().into_iter().map(|(name, it)| (name.into(), it)).collect(),
            request,
            holders: holders.collect(),
            stack: finding.stack.as_ref().map(|stack| {
                self.symbols.describe(finding.pid, stack).iter().map(function).collect()
            }),
        };
        self.write(&line)
    }

    /// Writes the report; `rows` are the counted calls, with `-c`.
    pub(super) fn report_line(
        &mut self,
        end: &Ended,
        report: &Report,
        rows: Option<&Rows>,
    ) -> io::Result<()> {
        let causes = end.losses.by_cause();
        let findings = report.findings.iter().map(|it| FindingRow {
            name: it.name.text().into(),
            severity: it.severity.text().into(),
            unsure: it.doubt.is_some(),
            why: it.doubt.map(|it| it.text().into()),
            pid: it.pid,
            context: it.context.map(context),
            count: it.count,
            first_ts: it.time.into(),
            last_ts: (it.last >= it.time).then_some(it.last.into()),
            message: it.message(),
        });
        let requests = report.kinds.iter().map(|it| RequestRow {
            pid: it.pid,
            process: escaped(&it.process),
            fd: it.fd as i32,
            opcode: it.opcode.0,
            op: opcode_name(it.opcode).map(Cow::from),
            requests: it.done.requests,
            bytes: it.done.bytes,
            failed: it.done.failed,
            made_to_fail: it.done.made_to_fail,
            refused: it.refused,
            submit_ns: it.submit.map(percentiles),
            complete_ns: it.complete.map(percentiles),
        });
        let line = ReportLine {
            v: VERSION,
            event: "report".into(),
            ts: end.time.into(),
            events: end.events,
            lost: end.losses.total(),
            lost_by_cause: causes.map(|(count, name, _)| (name.into(), count)).collect(),
            attached_ns: (end.attached.as_nanos() as u64).into(),
            reason: readable(end.reason.text()),
            cost: end.cost.map(|it| CostObject {
                cpu_ns: (it.cpu.as_nanos() as u64).into(),
                memory_bytes: it.memory,
                record_bytes: it.record_bytes,
                probe_runs: it.probes.map(|it| it.count),
                probe_ns: it.probes.map(|it| it.time_ns.into()),
            }),
            findings: findings.collect(),
            more_findings: report.more_findings,
            contexts: report.contexts.iter().map(context_row).collect(),
            other_contexts: report.others.as_ref().map(context_row),
            requests: requests.collect(),
            evicted: report.evicted,
            waits: report.waits.iter().map(wait).collect(),
            quiet: report.quiet.iter().map(quiet).collect(),
            trends: report.trends.iter().map(trend).collect(),
            processes: self.people.all.iter().map(person).collect(),
            more_processes: self.people.more,
            sums: Box::new(sums(&report.sums)),
            disagreements: report.disagreements.iter().map(Disagreement::in_words).collect(),
            faults: report.faults.iter().map(row).collect(),
            rules: report.rules.iter().map(rule).collect(),
            calls: rows.map(|it| it.calls.clone()),
            counted: report.counted.as_deref().map(|counts| {
                let name = |pid| counted::name_of(&counts.names, pid);
                CountedObject {
                    calls: counts.counted.total(),
                    shown: counts.shown,
                    contexts: counted::contexts(&counts.counted, &name),
                    results: counted::results(&counts.counted, &name),
                }
            }),
        };
        self.write(&line)
    }

    /// Writes what was counted in an interval.
    pub(super) fn interval_line(&mut self, it: &Interval) -> io::Result<()> {
        let line = IntervalLine {
            v: VERSION,
            event: "interval".into(),
            ts: it.until.into(),
            interval_ns: it.until.saturating_sub(it.from),
            calls: it.rows.calls.clone(),
            contexts: it.rows.contexts.clone(),
            results: it.rows.results.clone(),
        };
        self.write(&line)?;
        self.lines.flush()
    }
}

fn function(it: &Named) -> FunctionObject {
    FunctionObject {
        address: Hex(it.address),
        module: it.module.as_ref().map(|module| escaped(&module.path)),
        offset: it.offset.map(Hex),
        function: it.function.as_ref().map(|name| escaped(name.as_bytes())),
        file: it.file.as_ref().map(|file| escaped(file.as_bytes())),
        line: it.line,
        inlined: it.inlined,
    }
}

pub(super) fn subject(paths: &mut Paths, pid: u32, time: u64, it: &Subject) -> SubjectObject {
    SubjectObject {
        iocb: Hex(it.iocb),
        opcode: it.opcode.0,
        op: opcode_name(it.opcode).map(Cow::from),
        fd: it.fd as i32,
        path_now: paths.now(pid, it.fd, time).map(escaped),
        offset: it.offset,
        nbytes: it.nbytes,
    }
}

pub(super) fn context(it: ContextRef) -> ContextObject {
    ContextObject { id: it.id.0, ctx: Hex(it.handle.0) }
}

fn wait(it: &Wait) -> WaitRow {
    WaitRow {
        pid: it.pid,
        process: escaped(&it.process),
        tid: it.tid,
        threads: it.threads,
        call: it.call.into(),
        age_ns: it.age,
        before_attach: it.is_older,
        message: it.message.clone(),
    }
}

fn quiet(it: &report::Quiet) -> QuietRow {
    QuietRow {
        pid: it.pid,
        process: escaped(&it.process),
        last_call_ts: it.last_call.map(Into::into),
        age_ns: it.age,
        in_flight: it.in_flight.filter(|count| !it.is_at_most || *count == 0),
        in_flight_at_most: it.in_flight,
    }
}

fn trend(it: &report::Trend) -> TrendRow {
    TrendRow {
        pid: it.pid,
        process: escaped(&it.process),
        made: it.made,
        within_ns: it.within,
        unused: it.unused,
        unused_ns: it.unused_for,
    }
}

fn percentiles(it: latency::Percentiles) -> Percentiles {
    Percentiles { p50: it.p50, p99: it.p99, max: it.max, at_most: it.at_most }
}

fn sums(it: &Sums) -> SumsObject {
    SumsObject {
        contexts: it.contexts,
        alive: it.alive,
        ended: it.ended,
        submitted: it.submitted,
        accepted: it.accepted,
        refused: it.refused,
        before: it.before,
        completed: it.completed,
        unknown: it.unknown,
        in_flight: it.in_flight,
        discarded: it.discarded,
        found: it.found,
        reaped: it.reaped,
        unreaped: it.unreaped,
        discarded_unreaped: it.discarded_unreaped,
        unknown_unreaped: it.unknown_unreaped,
    }
}

fn person(it: &Person) -> PersonRow {
    let text = |it: &str| escaped(it.as_bytes());
    let container = it.who.container.as_ref();
    PersonRow {
        pid: it.pid,
        process: escaped(&it.process),
        unit: it.who.unit.as_deref().map(text),
        container: container.map(|it| text(&it.short())),
        container_name: container.and_then(|it| it.name.as_deref()).map(text),
        pod: it.who.pod.as_ref().map(PodObject::of),
    }
}

fn context_row(it: &report::Row) -> ContextRow {
    ContextRow {
        id: it.context.id.0,
        ctx: Hex(it.context.handle.0),
        contexts: it.contexts,
        pid: it.pid,
        process: escaped(&it.process),
        adopted: it.adopted,
        lifetime_ns: it.lifetime,
        end: it.end_text().map(Into::into),
        asked: it.asked,
        peak_in_flight: it.peak.number(),
        peak_at_most: it.peak.bound() == Bound::AtMost,
        peak_at_least: it.peak.bound() == Bound::AtLeast,
        in_flight: it.in_flight,
        unknown: it.unknown,
        unreaped: it.unreaped,
        requests: it.done.requests,
        bytes: it.done.bytes,
        failed: it.done.failed,
        made_to_fail: it.done.made_to_fail,
        complete_ns: it.complete.map(percentiles),
        reap_ns: it.reap.map(percentiles),
        sure: it.doubt.is_none(),
        why: it.doubt.map(|it| it.text().into()),
    }
}
