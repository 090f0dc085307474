//! `aiotrace man`: the manual pages. Those of the commands are made from what clap knows of them, the others from the
//! documents.

mod command;
mod document;
mod examples;

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
    for (name, text) in pages(command) {
        fs::write(directory.join(name), text).with_context(cannot)?;
    }
    Ok(0)
}

/// All pages: the names of their files, and their texts.
fn pages(command: Command) -> Vec<(String, String)> {
    let version = command.get_version().unwrap_or_default().to_owned();
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let commands = command.get_subcommands().filter(|it| !it.is_hide_set());
    let mut pages = vec![command::page(&command, &version)];
    pages.extend(commands.map(|it| command::page(it, &version)));
    pages.extend(DOCUMENTS.iter().map(|it| {
        (format!("{}.{}", it.name, it.section), document::page(it, &(it.text)(), &version))
    }));
    pages
}

/// A manual page that is made from a document.
struct Document {
    name: &'static str,
    section: u8,
    about: &'static str,
    text: fn() -> String,
    /// The commands that it is about, as other pages are named.
    commands: &'static str,
}

impl Document {
    /// As other pages name it.
    fn reference(&self) -> String {
        format!("{}({})", self.name, self.section)
    }
}

const DOCUMENTS: [Document; 3] = [
    Document {
        name: "aiotrace-faults",
        section: 7,
        about: "rules for faults that aiotrace makes, and its verdicts on them",
        text: || explain::verdicts::DOCUMENT.to_owned(),
        commands: "aiotrace-attach(1), aiotrace-run(1), aiotrace-sweep(1)",
    },
    Document {
        name: "aiotrace-findings",
        section: 7,
        about: "what aiotrace finds in the use of Linux native AIO",
        text: explain::findings::document,
        commands: "aiotrace-attach(1), aiotrace-run(1), aiotrace-explain(1)",
    },
    Document {
        name: "aiotrace-json",
        section: 5,
        about: "the JSON Lines that aiotrace writes",
        text: || explain::JSON.to_owned(),
        commands: "aiotrace-attach(1), aiotrace-run(1), aiotrace-report(1), aiotrace-ls(1)",
    },
];

/// What the part SEE ALSO of a page says: its neighbours, and the documents that are not this page.
fn see_also(neighbours: &str, this: &str) -> String {
    let others = DOCUMENTS.iter().filter(|it| it.name != this).map(Document::reference);
    let all: Vec<String> = std::iter::once(neighbours.to_owned()).chain(others).collect();
    all.join(", ")
}
