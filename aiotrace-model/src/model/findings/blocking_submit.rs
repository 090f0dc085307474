//! blocking-submit: io_submit took long.

use super::Basis;
use crate::{
    event::{Call, Event, Handle, Iocb, errno_name},
    model::{Finding, Model, Severity, Subject, requests::Request},
    words::duration::in_words,
};

/// An io_submit that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockingSubmit {
    /// How long it took, nanoseconds.
    took: u64,
    /// What it returned.
    ret: i64,
    first: Option<Subject>,
    /// It was given more than one iocb.
    has_more: bool,
}

impl Basis for BlockingSubmit {
    const NAME: &'static str = "blocking-submit";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["took_ns", "accepted"];

    fn message(&self) -> String {
        let mut text = format!("io_submit took {}", in_words(self.took));
        text.push_str(&match self.ret {
            1 => " for 1 request".to_owned(),
            ret @ 2.. => format!(" for {ret} requests"),
            ret => format!(" and returned {}", errno_name(ret).unwrap_or("0")),
        });
        if let Some(first) = self.first {
            text.push_str(if self.has_more { ", the first " } else { ": " });
            text.push_str(&first.in_words());
        }
        text
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![("took_ns", self.took as i64), ("accepted", self.ret)]
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
        let of = |it: &Iocb| Subject::of(&Request::new(it, (0, 0), (0, 0))?);
        let first = iocbs.iter().flatten().find_map(of);
        let (ret, has_more) = (call.ret, iocbs.len() > 1);
        let evidence = BlockingSubmit { took, ret, first, has_more };
        let mut finding = Finding::new(evidence, event.time, event.pid);
        finding.tid = Some(event.tid);
        finding.context = self.context_when((event.pid, ctx), call.began(event)).map(|it| it.name);
        finding.request = first;
        finding.stack.clone_from(&call.stack);
        let detail = first.map_or(0, |it| u64::from(it.fd));
        self.find(finding, detail, 0);
    }
}
