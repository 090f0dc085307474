//! Faults and verdicts in JSON.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use super::{
    CompletionLine, FaultLine, FaultObject, FaultRow, FaultsObject, Hex, Json, ProcessCount,
    RuleObject, RuleRow, SynchronousLine, VERSION,
    conclusions::{context, subject},
    readable,
};
use crate::{
    event::{Changed, Effect, Event, ExitStatus, Fault, Synchronous, errno_name},
    model::{Going, Verdict, verdict},
    output::{self, escape::escaped},
};

impl<W: Write> Json<W> {
    /// Writes a completion whose result a fault rule has changed.
    pub(super) fn changed(&mut self, event: &Event, changed: &Changed) -> io::Result<()> {
        let own = changed.event;
        let is_done = changed.fault.effect.is_made();
        let res = if is_done { changed.res } else { own.res };
        self.write(&CompletionLine {
            v: VERSION,
            event: "completion".into(),
            ts: event.time.into(),
            pid: event.pid,
            ctx: Hex(changed.ctx.0),
            since: None,
            data: Some(Hex(own.data)),
            obj: Some(Hex(own.obj)),
            res: Some(res),
            errno: errno_name(res).map(Cow::from),
            res2: Some(own.res2),
            injected: is_done,
            was: Some(own.res),
            fault: Some(fault(changed.fault)),
            discarded: false,
        })
    }

    pub(super) fn verdict_line(&mut self, it: &Verdict) -> io::Result<()> {
        let mut first = it.first.map(|first| subject(&mut self.paths, it.pid, it.time, &first));
        if let (Some(first), Some(path)) = (&mut first, &it.path) {
            first.path_now = Some(escaped(path));
        }
        self.write(&FaultLine {
            v: VERSION,
            event: "fault".into(),
            ts: it.time.into(),
            pid: it.pid,
            tid: it.tid,
            rule: it.fault.rule,
            call: it.cause.name().into(),
            ret: it.ret,
            errno: errno_name(it.ret).map(Cow::from),
            verdict: it.outcome.text().into(),
            sequel: it.half.text().into(),
            process: it.going.map(|it| it.text().into()),
            process_after_ns: it.later,
            why: it.doubt.map(|it| it.text().into()),
            anew: it.anew,
            succeeded: it.succeeded,
            next_fault: it.next_fault,
            retries: it.retries,
            after_ns: it.after,
            done: it.done.map_or(0, |it| it.1),
            done_by: it.done.map(|it| it.0.name().into()),
            lost: it.lost,
            request: first,
            context: it.context.map(context),
            exit_code: it.exit().and_then(exit_code),
            signal: it.exit().and_then(killed_by),
            message: it.message(),
        })
    }

    pub(super) fn synchronous(&mut self, event: &Event, it: &Synchronous) -> io::Result<()> {
        let path_now = self.paths.now(event.pid, it.fd, event.time).map(escaped);
        self.write(&SynchronousLine {
            v: VERSION,
            event: "synchronous".into(),
            ts: event.time.into(),
            pid: event.pid,
            tid: event.tid,
            entered: it.entered.map(Into::into),
            call: it.call.name().into(),
            fd: it.fd,
            path_now,
            offset: it.offset,
            memory: it.memory.map(|it| Hex(it.0)),
            count: it.count,
            ret: it.ret,
            errno: errno_name(it.ret).map(Cow::from),
        })
    }
}

fn exit_code(status: ExitStatus) -> Option<i32> {
    match status {
        ExitStatus::Code(code) => Some(code),
        ExitStatus::Signal(_) => None,
    }
}

fn killed_by(status: ExitStatus) -> Option<String> {
    match status {
        ExitStatus::Code(_) => None,
        ExitStatus::Signal(number) => Some(output::text::signal(number)),
    }
}

/// The name of the effect that a rule had.
pub(super) fn effect(fault: Fault) -> &'static str {
    match fault.effect {
        Effect::Done => "done",
        Effect::Unsure => "unsure",
        Effect::WouldBe => "dry_run",
        Effect::Missed => "missed",
    }
}

fn fault(it: Fault) -> FaultObject {
    FaultObject { rule: it.rule, effect: effect(it).into() }
}

/// The rules of a trace.
pub(super) fn faults(it: &output::Faults) -> FaultsObject {
    let rules = (1..).zip(&it.rules).map(|(rule, it)| RuleObject {
        rule,
        text: escaped(it.text.as_bytes()),
        mechanism: readable(&it.mechanism),
    });
    FaultsObject { seed: it.seed.to_string(), dry_run: it.dry_run, rules: rules.collect() }
}

/// A rule, for the report.
pub(super) fn rule(it: &verdict::RuleRow) -> RuleRow {
    RuleRow {
        rule: it.rule,
        text: escaped(it.text.as_bytes()),
        asked: it.asked,
        described: it.described,
        acted: it.acted,
        why: it.why.clone(),
    }
}

/// The faults of one kind, for the report.
pub(super) fn row(it: &verdict::FaultRow) -> FaultRow {
    FaultRow {
        rule: it.rule,
        call: it.cause.name().into(),
        ret: it.ret,
        errno: it.ret.and_then(errno_name).map(Cow::from),
        made: it.made,
        delayed: it.delayed,
        dry_run: it.dry_run,
        missed: it.missed,
        not_followed: it.not_followed,
        verdicts: it.outcomes.iter().map(|(it, count)| (it.text().into(), *count)).collect(),
        sequels: it.halves.iter().map(|(it, count)| (it.text().into(), *count)).collect(),
        processes: it.goings.iter().map(|(it, count)| process(*it, *count)).collect(),
        within_ns: it.within,
        in_vain: it.in_vain,
        lost: it.lost,
        silent: it.silent,
        message: it.in_words(),
    }
}

fn process(going: Going, faults: u64) -> ProcessCount {
    let status = if let Going::Ended(status) = going { Some(status) } else { None };
    ProcessCount {
        process: going.text().into(),
        exit_code: status.and_then(exit_code),
        signal: status.and_then(killed_by),
        faults,
    }
}
