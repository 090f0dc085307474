//! blocking-submit: io_submit took long.

use super::Basis;
use crate::{
    event::{Args, Call, Event, Handle, Iocb, errno_name},
    model::{Doubt, Finding, Model, Severity, Subject, requests::Request},
    words::duration::in_words,
};

/// An io_submit that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockingSubmit {
    /// How long it took, nanoseconds.
    took: u64,
    /// What it returned; `None`: it has not returned.
    ret: Option<i64>,
    first: Option<Subject>,
    /// It was given more than one iocb.
    has_more: bool,
}

impl Basis for BlockingSubmit {
    const NAME: &'static str = "blocking-submit";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["took_ns", "accepted"];

    fn message(&self) -> String {
        let took = in_words(self.took);
        let mut text = match self.ret {
            None => format!("io_submit has not returned for {took}"),
            Some(1) => format!("io_submit took {took} for 1 request"),
            Some(ret @ 2..) => format!("io_submit took {took} for {ret} requests"),
            Some(ret) => {
                format!("io_submit took {took} and returned {}", errno_name(ret).unwrap_or("0"))
            }
        };
        if let Some(first) = self.first {
            text.push_str(if self.has_more { ", the first " } else { ": " });
            text.push_str(&first.in_words());
        }
        text
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        let accepted = self.ret.map(|it| ("accepted", it));
        [("took_ns", self.took as i64)].into_iter().chain(accepted).collect()
    }
}

impl Model {
    /// An io_submit took `took` nanoseconds.
    pub(in crate::model) fn slow(
        &mut self,
        event: &Event,
        call: &Call,
        ctx: Handle,
        iocbs: &[Option<Iocb>],
        took: u64,
    ) {
        let mut finding = self.blocking(event, (ctx, call.began(event)), iocbs, (took, Some(call.ret)));
        finding.stack.clone_from(&call.stack);
        self.find_blocking(finding);
    }

    /// The trace ends, and a thread is in a call that it entered at this time.
    pub(in crate::model) fn in_submit(&mut self, event: &Event, entered: u64, args: &Args) {
        let Args::Submit { ctx, iocbs, .. } = args else { return };
        let took = event.time.saturating_sub(entered);
        if took >= self.settings.thresholds.slow_submit {
            let finding = self.blocking(event, (*ctx, entered), iocbs, (took, None));
            self.find_blocking(finding);
        }
    }

    fn find_blocking(&mut self, finding: Finding) {
        let detail = finding.request.map_or(0, |it| u64::from(it.fd));
        self.find(finding, detail, 0);
    }

    fn blocking(
        &self,
        event: &Event,
        (ctx, began): (Handle, u64),
        iocbs: &[Option<Iocb>],
        (took, ret): (u64, Option<i64>),
    ) -> Finding {
        let of = |it: &Iocb| Subject::of(&Request::new(it, (0, 0), (0, 0))?);
        let first = iocbs.iter().flatten().find_map(of);
        let evidence = BlockingSubmit { took, ret, first, has_more: iocbs.len() > 1 };
        let mut finding = Finding::new(evidence, event.time, event.pid);
        finding.tid = Some(event.tid);
        finding.context = self.context_when((event.pid, ctx), began).map(|it| it.name);
        finding.request = first;
        finding.doubt = self.settings.stops.then_some(Doubt::Tracer);
        finding
    }
}
