//! How a trace is shown, and where.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use jiff::tz::TimeZone;

use super::{
    files,
    shown::{Shown, Throttle},
};
use crate::{
    failure::{Context as _, Result},
    output::{
        Format, Output, clock,
        counting::Counting,
        json::Json,
        paths::Paths,
        table::Table,
        text::{self, Text},
    },
    stacks::Symbolizer,
};

/// How events are shown.
#[derive(Clone, Debug)]
pub struct View {
    /// Where they are written; `None`: to standard output.
    pub output: Option<PathBuf>,
    /// As what.
    pub format: Format,
    /// Calls are counted instead.
    pub summary: bool,
    /// Calls are not shown.
    pub quiet: bool,
    /// Lists are shown whole, and rings, and where contexts are made.
    pub verbose: bool,
    /// The time of each line.
    pub timestamps: clock::Format,
    /// When colours are used.
    pub color: Color,
}

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
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
                let file = files::write(path)?;
                let spill = spill_for(&file, files::directory_of(path));
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
        let output: Box<dyn Output> = match self.format {
            Format::Json if self.summary => Box::new(Json::new(writer, Paths::none())),
            Format::Json => Box::new(Json::new(writer, paths).with_symbols(symbols.clone())),
            Format::Text if self.summary => Box::new(Table::new(writer)),
            Format::Text => {
                let text = Text::new(writer, options, paths, TimeZone::system());
                Box::new(text.with_symbols(symbols.clone()))
            }
        };
        let output = if self.summary { Box::new(Counting::new(output)) } else { output };
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
    /// `-o FILE`: that file, which [`files::begin`] empties.
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
    spill_for(file, files::directory_of(path))
}
