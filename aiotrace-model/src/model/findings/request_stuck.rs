//! request-stuck: a request to a file or a disk is in flight for long.

use super::Basis;
use crate::{
    model::{ContextRef, Finding, Model, Needs, Severity, Subject},
    words::duration::in_words,
};

/// A request that has been in flight for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestStuck {
    request: Subject,
    /// Time since its io_submit was entered, nanoseconds.
    age: u64,
}

impl Basis for RequestStuck {
    const NAME: &'static str = "request-stuck";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["age_ns"];

    fn message(&self) -> String {
        format!("{} is in flight for {}", self.request.in_words(), in_words(self.age))
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![("age_ns", self.age as i64)]
    }
}

impl Model {
    /// The oldest request of a context has been in flight since `entered`; the model looks up what its file is.
    pub(in crate::model) fn is_stuck(
        &mut self,
        (context, pid): (ContextRef, u32),
        request: Subject,
        entered: u64,
    ) {
        let age = self.now.saturating_sub(entered);
        let mut finding = Finding::new(RequestStuck { request, age }, self.now, pid);
        finding.context = Some(context);
        finding.request = Some(request);
        let needs = Needs::Storage { fd: request.fd, beyond: None };
        self.find_once_if(needs, finding, context.id.0, request.iocb ^ entered);
    }
}
