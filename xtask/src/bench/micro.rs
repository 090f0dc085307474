//! `cargo bench`: what is done with events once they are in user space.

use anyhow::Result;

/// Runs it; gives what it said.
pub fn run() -> Result<String> {
    Ok(String::new())
}
