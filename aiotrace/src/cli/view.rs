//! How a trace is shown: the options that `attach`, `run` and `report` share.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::{
    shown::{Shown, Throttle},
    written,
};
use crate::{
    output::{
        Output, clock,
        json::Json,
        paths::Paths,
        summary::Summary,
        text::{self, Text},
    },
    stacks::Symbolizer,
};

/// How events are shown.
#[derive(Debug, Args)]
pub struct View {
    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// text, or json: one object per line, specified in docs/json.md
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Count calls, errors and durations instead of showing calls. They are counted in the kernel (but for
    /// --record, --inject, --stacks and --source ptrace), which costs the target little; findings about single
    /// requests need every call: -q shows those
    #[arg(short = 'c', long)]
    pub(super) summary: bool,
    /// Do not show calls
    #[arg(short, long)]
    quiet: bool,
    /// Show lists whole, the completion ring at each call, and where contexts are made
    #[arg(short, long)]
    verbose: bool,
    /// Time of each line (when the call returned): since the start, of day, or since the line before
    #[arg(short, long, value_enum, default_value_t = clock::Format::Relative, value_name = "FORMAT")]
    timestamps: clock::Format,
    /// When to use colours: on a terminal, always or never
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl View {
    /// Calls are not shown one by one.
    pub fn says_little(&self) -> bool {
        self.quiet || self.summary
    }

    /// Opens the output. `stacks`: they are shown in any case; `in_part`: calls are left out.
    pub fn open(
        &self,
        paths: Paths,
        symbols: &Symbolizer,
        stacks: bool,
        in_part: bool,
    ) -> Result<Opened> {
        // The outputs gather what they write.
        let (writer, spill, file): (Box<dyn Write>, _, _) = match &self.output {
            Some(path) => {
                let file = written::open(path)?;
                let spill = spill_for(&file, written::directory_of(path));
                let same = file.try_clone().context("no descriptor is left")?;
                (Box::new(file), spill, Some(same))
            }
            None => {
                let spill = spill_for(io::stdout(), Path::new("/var/tmp"));
                (Box::new(io::stdout().lock()), spill, None)
            }
        };
        let is_terminal = self.output.is_none() && io::stdout().is_terminal();
        let color = match self.color {
            Color::Always => true,
            Color::Never => false,
            // https://no-color.org
            Color::Auto => {
                is_terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
            }
        };
        let options =
            text::Options { color, verbose: self.verbose, time: self.timestamps, stacks, in_part };
        let output: Box<dyn Output> = match (self.format, self.summary) {
            (Format::Text, false) => {
                let text = Text::new(writer, options, paths, TimeZone::system());
                Box::new(text.with_symbols(symbols.clone()))
            }
            (Format::Json, false) => {
                Box::new(Json::new(writer, paths).with_symbols(symbols.clone()))
            }
            (Format::Text, true) => Box::new(Summary::text(writer)),
            (Format::Json, true) => Box::new(Summary::json(Json::new(writer, Paths::none()))),
        };
        let calls_as_text = self.format == Format::Text && !self.summary;
        let shown = Shown {
            output,
            quiet: self.quiet,
            completions: self.verbose || self.format == Format::Json,
            throttle: (is_terminal && calls_as_text).then(Throttle::new),
            only: None,
            shows_calls: !self.summary,
            calls: 0,
            failed: None,
        };
        Ok(Opened { shown, spill, file })
    }
}

/// An output of which nothing is written yet.
pub struct Opened {
    /// It.
    pub shown: Shown,
    /// For what it does not take at once.
    pub spill: Option<File>,
    /// `-o FILE`: that file, which [`written::begin`] empties.
    pub file: Option<File>,
}

/// A nameless file in `directory`, if the output is a regular file. A pipe's reader may be slower
/// than the target for ever; then records are lost, and counted.
fn spill_for(output: impl AsFd, directory: &Path) -> Option<File> {
    let status = nix::sys::stat::fstat(output).ok()?;
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return None;
    }
    tempfile::tempfile_in(directory).inspect_err(|error| tracing::debug!(%error, "no spill")).ok()
}

/// The same, if this file is a regular one.
pub fn spill_beside(file: &File, path: &Path) -> Option<File> {
    spill_for(file, written::directory_of(path))
}
