//! inline-completion: requests to a file are complete when io_submit returns. `inline` of [`crate::model`] finds it.

use super::Basis;
use crate::{model::Severity, words::number::thousands};

/// The io_submit calls for a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineCompletion {
    /// The descriptor.
    pub fd: u32,
    /// Number of calls.
    pub calls: u64,
    /// How many of them returned with their last request completed.
    pub inline: u64,
    /// How many of these requests were writes beyond the end of the file.
    pub extending: u64,
    /// The reason.
    pub cause: String,
}

impl Basis for InlineCompletion {
    const NAME: &'static str = "inline-completion";
    const SEVERITY: Severity = Severity::Info;
    const NUMBERS: &'static [&'static str] = &["fd", "calls", "inline", "extending"];

    fn message(&self) -> String {
        let Self { calls, inline, cause, .. } = self;
        let fd = self.fd as i32;
        let [inline, calls] = [*inline, *calls].map(thousands);
        format!(
            "{inline} of {calls} io_submit calls for fd {fd} returned with their last request completed: {cause}"
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![
            ("fd", i64::from(self.fd)),
            ("calls", self.calls as i64),
            ("inline", self.inline as i64),
            ("extending", self.extending as i64),
        ]
    }
}
