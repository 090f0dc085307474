//! short-io: a read or a write of a file moved less than it was asked for.

use super::Basis;
use crate::model::{Severity, Subject};

/// A request that moved less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortIo {
    /// Which.
    pub request: Subject,
    /// What it moved, bytes.
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
