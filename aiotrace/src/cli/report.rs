//! `aiotrace report`: shows a recorded trace.

use std::path::PathBuf;

use clap::Args;

use super::options::{FailOn, View};
use crate::{
    failure::{Failure, Result},
    output::Traced,
    trace::{replay, tables},
};

/// Show a recorded trace as it was shown live: calls, findings and the report
///
/// With `--format parquet -o DIRECTORY`, it writes the tables of any number of recordings. One that is damaged is said,
/// and left out, and the status is then 1.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    view: View,
    /// End with status 1 if there is a finding of this severity, or a worse one
    #[arg(long, value_enum, value_name = "SEVERITY")]
    fail_on: Option<FailOn>,
    /// A recording, made with `--record FILE`; `-` is standard input
    #[arg(required = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let Options { view, fail_on, files } = options;
    let view = view.settings();
    let fail_on = fail_on.map(Into::into);
    if view.format == Traced::Parquet {
        return Ok(u8::from(!tables::write(&files, &view, fail_on)?));
    }
    let [file] = &files[..] else {
        let failure = Failure::new(format!("{} recordings at a time", files.len()));
        return Err(failure.with_hint("only --format parquet -o DIRECTORY takes several"));
    };
    let failed = replay::tell(file, &view, fail_on)?;
    Ok(u8::from(failed))
}
