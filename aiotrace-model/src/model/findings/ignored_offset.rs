//! ignored-offset: a write went to the end of its file, and not to its offset. How that is found is in
//! [`crate::model`]'s `appends`.

use super::{Basis, plural};
use crate::model::{Severity, Subject};

/// Writes to the end of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredOffset {
    /// The one that asked for the first place in the file.
    pub request: Subject,
    /// It has RWF_APPEND; else its file is open with O_APPEND.
    pub by_flag: bool,
    /// Where the file ended before them.
    pub size: u64,
    /// By how much the file has become longer.
    pub grown: u64,
    /// How many of them asked for places before that.
    pub writes: u64,
}

impl Basis for IgnoredOffset {
    const NAME: &'static str = "ignored-offset";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["size", "grown", "writes"];

    fn message(&self) -> String {
        let Self { request, size, grown, writes, .. } = self;
        let why =
            if self.by_flag { "the request has RWF_APPEND" } else { "the file is open with O_APPEND" };
        format!(
            "{} was written to the end of the file and not at its offset, as {why}: the file ended at {size} or \
             behind that ({writes} write{} before its end; it has grown by {grown} bytes meanwhile)",
            request.in_words(),
            plural(*writes)
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![
            ("size", self.size as i64),
            ("grown", self.grown as i64),
            ("writes", self.writes as i64),
        ]
    }
}
