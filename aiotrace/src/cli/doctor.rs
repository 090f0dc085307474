//! `aiotrace doctor`: says what this machine allows, and for each "no" why and what to do.

use clap::Args;

use super::print;
use crate::{failure::Result, inventory::doctor};

/// Show what this machine allows, and for each "no" why and what to do
///
/// Kernel, permissions, which probes load, which faults can be made. Exit status 0 if tracing works,
/// 1 if not.
#[derive(Debug, Args)]
pub struct Options {}

/// Runs the command.
pub fn run(_options: Options) -> Result<u8> {
    let (text, works) = doctor::examine();
    print(&text)?;
    Ok(u8::from(!works))
}
