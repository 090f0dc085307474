//! inline-completion: requests to a file are complete when io_submit returns. How that is found is in
//! [`crate::model`]'s `inline`.

use super::Basis;
use crate::model::Severity;

/// io_submit calls for a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineCompletion {
    /// The descriptor.
    pub fd: u32,
    /// So many.
    pub calls: u64,
    /// Of these, those whose last request was complete.
    pub inline: u64,
    /// Of these, writes beyond the end of the file.
    pub extending: u64,
    /// Why.
    pub cause: String,
}

impl Basis for InlineCompletion {
    const NAME: &'static str = "inline-completion";
    const SEVERITY: Severity = Severity::Info;
    const NUMBERS: &'static [&'static str] = &["fd", "calls", "inline", "extending"];

    fn message(&self) -> String {
        let Self { calls, inline, cause, .. } = self;
        let fd = self.fd as i32;
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
