//! `aiotrace report`: shows a recorded trace.

use std::path::PathBuf;

use clap::Args;

use super::options::{FailOn, View};
use crate::{failure::Result, trace::replay};

/// Show a recorded trace as it was shown live: calls, findings and the report
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    view: View,
    /// End with status 1 if there is a finding of this severity, or a worse one
    #[arg(long, value_enum, value_name = "SEVERITY")]
    fail_on: Option<FailOn>,
    /// A recording, made with `--record FILE`; `-` is standard input
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let Options { view, fail_on, file } = options;
    let failed = replay::tell(&file, &view.settings(), fail_on.map(Into::into))?;
    Ok(u8::from(failed))
}
