//! `aiotrace man`: the manual pages. Those of the commands are made from what clap knows of them, the others from the
//! documents.

mod document;

use std::{fs, path::PathBuf};

use clap::{Args, Command};

use crate::{
    explain,
    failure::{Context as _, Result},
};

/// Write the manual pages into a directory
///
/// One page for each command, aiotrace-faults(7), aiotrace-findings(7) and aiotrace-json(5). The packages have them
/// already. `man -l DIRECTORY/aiotrace.1` shows one.
#[derive(Debug, Args)]
pub struct Options {
    /// The directory; it is made if it does not exist
    #[arg(value_name = "DIRECTORY", value_hint = clap::ValueHint::DirPath)]
    directory: PathBuf,
}

/// Runs the command. `command`: all that clap knows.
pub fn run(options: Options, command: Command) -> Result<u8> {
    let directory = &options.directory;
    let cannot = || format!("cannot write into {}", directory.display());
    fs::create_dir_all(directory).with_context(cannot)?;
    let version = command.get_version().unwrap_or_default().to_owned();
    let others = OTHERS.map(|it| format!("{}({})", it.name, it.section)).join(", ");
    let command = command.after_long_help(format!("See also: {others}."));
    clap_mangen::generate_to(command, directory).with_context(cannot)?;
    for page in &OTHERS {
        let text = document::page(page, &(page.text)(), &version);
        let path = directory.join(format!("{}.{}", page.name, page.section));
        fs::write(path, text).with_context(cannot)?;
    }
    Ok(0)
}

/// A manual page that is made from a document.
struct Page {
    name: &'static str,
    section: u8,
    about: &'static str,
    text: fn() -> String,
}

const OTHERS: [Page; 3] = [
    Page {
        name: "aiotrace-faults",
        section: 7,
        about: "rules for faults that aiotrace makes, and its verdicts on them",
        text: || explain::verdicts::DOCUMENT.to_owned(),
    },
    Page {
        name: "aiotrace-findings",
        section: 7,
        about: "what aiotrace finds in the use of Linux native AIO",
        text: explain::findings::document,
    },
    Page {
        name: "aiotrace-json",
        section: 5,
        about: "the JSON Lines that aiotrace writes",
        text: || explain::JSON.to_owned(),
    },
];
