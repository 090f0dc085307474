//! Explains names: an errno of an AIO call or of a completion, a finding, a verdict.

pub mod calls;
pub mod findings;
pub mod results;
pub mod verdicts;
