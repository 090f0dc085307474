//! Writes the tables of recordings: `--format parquet`.

use std::path::{Path, PathBuf};

use super::{
    replay::{Told, tell_to},
    view::{Opened, View},
};
use crate::{
    failure::{Context as _, Failure, Result},
    model::Severity,
    output::{
        escape::escaped,
        parquet::{Parquet, Staged},
    },
    words::number::thousands,
};

/// Writes the tables of recordings into the directory of `view`. A recording that cannot be read, or not to its end, is said
/// and left out. Gives whether there was none, and no finding as severe as `fail_on`.
///
/// # Errors
/// If no directory is named, if the tables cannot be written, or if none of the recordings could be read.
pub fn write(files: &[PathBuf], view: &View, fail_on: Option<Severity>) -> Result<bool> {
    let Some(directory) = &view.output else {
        let failure = Failure::new("--format parquet writes many files");
        return Err(failure.with_hint("name a directory for them: -o DIRECTORY"));
    };
    if view.says_little() {
        let failure =
            Failure::new("--format parquet has every call, so -c and -q do not go with it");
        return Err(failure.with_hint("leave them out: a query chooses"));
    }
    let staged = Staged::below(directory);
    let staged = staged.with_context(|| format!("cannot make {}", directory.display()))?;
    let (mut written, mut failed) = (0_u64, false);
    for file in files {
        let told = one(file, &staged, fail_on);
        if !matches!(&told, Ok(told) if !told.is_cut && told.written.is_ok()) {
            staged.drop();
        }
        match told {
            Ok(Told { written: Err(_), .. }) if staged.is_copy() => {
                skipped(file, "it is a copy of one that was read before");
            }
            Ok(Told { written: Err(failure), .. }) => return Err(failure),
            Ok(Told { is_cut: true, .. }) => skipped(file, "it is not whole"),
            Ok(Told { failed: is_worse, .. }) => {
                staged
                    .keep()
                    .with_context(|| format!("cannot write into {}", directory.display()))?;
                written += 1;
                failed |= is_worse;
            }
            Err(failure) => skipped(file, failure.text()),
        }
    }
    let left_out = files.len() as u64 - written;
    eprintln!(
        "aiotrace: the tables of {} of {} recordings are in {}",
        thousands(written),
        thousands(files.len() as u64),
        directory.display()
    );
    if written == 0 {
        return Err(Failure::new("none of the recordings could be read"));
    }
    Ok(left_out == 0 && !failed)
}

fn one(file: &Path, staged: &Staged, fail_on: Option<Severity>) -> Result<Told> {
    let say = |why: &str| eprintln!("aiotrace: {}: {why}", name(file));
    tell_to(file, fail_on, &say, |known, _| {
        let tables = Parquet::new(staged.clone(), file, known.paths());
        let mut shown = Opened::of(Box::new(tables)).shown;
        (shown.quiet, shown.completions) = (false, true);
        Ok(shown)
    })
}

fn skipped(file: &Path, why: &str) {
    eprintln!("aiotrace: {} is left out: {why}", name(file));
}

fn name(file: &Path) -> String {
    escaped(file.as_os_str().as_encoded_bytes())
}
