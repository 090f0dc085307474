//! iocb-reused-in-flight: an iocb was submitted again before its request completed.

use super::Basis;
use crate::{
    model::{Finding, Model, Severity, requests::Match},
    words::duration::in_words,
};

/// An iocb that was in flight twice at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IocbReusedInFlight {
    iocb: u64,
    /// The time from the second io_submit to the first completion, nanoseconds.
    before: u64,
    /// This time is a lower bound.
    at_least: bool,
}

impl Basis for IocbReusedInFlight {
    const NAME: &'static str = "iocb-reused-in-flight";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["before_ns"];

    fn message(&self) -> String {
        let early = in_words(self.before);
        let least = if self.at_least { "at least " } else { "" };
        format!("the iocb at {:#x} was submitted again {least}{early} before it completed", self.iocb)
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![("before_ns", self.before as i64)]
    }
}

impl Model {
    /// Finds out whether the request that completed was in flight when its iocb was submitted again.
    pub(in crate::model) fn reused(&mut self, found: &Match, new: impl FnOnce(IocbReusedInFlight) -> Finding) {
        let Match { request, completed, again } = found;
        // (A completion that came late may have bounds that say nothing.)
        let is_known = completed.after <= completed.time;
        let Some(again) = again.filter(|again| is_known && completed.after > *again) else { return };
        let finding = new(IocbReusedInFlight {
            iocb: request.iocb,
            before: completed.after - again,
            at_least: completed.is_bound(),
        });
        let detail = finding.context.map_or(0, |it| it.id.0);
        self.find(finding, detail, 0);
    }
}
