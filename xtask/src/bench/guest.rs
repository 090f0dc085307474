//! In a virtual machine.

use anyhow::Result;

/// Runs it.
pub fn run(_: &[String], _: bool) -> Result<()> {
    Ok(())
}
