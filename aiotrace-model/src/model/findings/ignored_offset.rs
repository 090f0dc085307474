//! ignored-offset: a write went to the end of its file, and not to its offset. The `appends` of [`crate::model`] find
//! it.

use super::{Basis, plural};
use crate::model::{Severity, Subject};

/// Writes that went to the end of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredOffset {
    /// The write with the smallest offset.
    pub request: Subject,
    /// The write has RWF_APPEND; otherwise its file is open with O_APPEND.
    pub by_flag: bool,
    /// The size of the file before these writes.
    pub size: u64,
    /// By how much the file has grown.
    pub grown: u64,
    /// How many of the writes had offsets before that size.
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
