//! short-io: a read or a write of a file moved less than it was asked for.

use super::Basis;
use crate::model::{Severity, Subject};

/// A read or write that moved less than it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortIo {
    /// The request.
    pub request: Subject,
    /// The bytes that it moved.
    pub res: i64,
}

impl Basis for ShortIo {
    const NAME: &'static str = "short-io";
    const SEVERITY: Severity = Severity::Info;
    const NUMBERS: &'static [&'static str] = &["res"];

    fn message(&self) -> String {
        format!("{} moved {} bytes", self.request.in_words(), self.res)
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![("res", self.res)]
    }
}
