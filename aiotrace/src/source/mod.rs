//! Where events come from.

pub mod backlog;
pub mod bpf;
pub mod collector;
pub mod ptrace;
pub mod recording;

pub use aiotrace_model::trace::{Losses, ProbeRuns};
