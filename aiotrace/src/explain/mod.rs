//! Explains names: an errno of an AIO call or of a completion, a finding, a verdict.

/// The document on the JSON Lines of `--format json`.
pub const JSON: &str = include_str!("../../docs/reference/json.md");

pub mod calls;
pub mod findings;
pub mod results;
pub mod verdicts;
