//! How a trace is shown, and where it is written.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd,
    path::PathBuf,
};

use jiff::tz::TimeZone;

use super::{
    files,
    shown::{Shown, Throttle},
};
use crate::{
    failure::{Context as _, Failure, Result},
    output::{
        Output, Traced, clock,
        counting::Counting,
        json::Json,
        paths::Paths,
        perfetto::Perfetto,
        table::Table,
        text::{self, Text},
    },
    stacks::Symbolizer,
};

/// How events are shown.
#[derive(Clone, Debug)]
pub struct View {
    /// The file to which events are written; `None`: standard output.
    pub output: Option<PathBuf>,
    /// The form of the output.
    pub format: Traced,
    /// Whether calls are counted instead of shown.
    pub summary: bool,
    /// Whether calls are not shown.
    pub quiet: bool,
    /// Whether whole lists, rings, and the places where contexts are made are shown.
    pub verbose: bool,
    /// The time of each line.
    pub timestamps: clock::Format,
    /// When colours are used.
    pub color: Color,
}

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// Colours are used on a terminal.
    #[default]
    Auto,
    /// Colours are always used.
    Always,
    /// Colours are never used.
    Never,
}

impl View {
    /// Whether calls are not shown one by one.
    pub fn says_little(&self) -> bool {
        self.quiet || self.summary
    }

    /// Whether the format can be had with the other options.
    fn check(&self) -> Result<()> {
        if self.format != Traced::Perfetto {
            return Ok(());
        }
        let failure = match (self.says_little(), &self.output) {
            (true, _) => "--format perfetto shows each call, so -c and -q do not go with it",
            (false, None) if io::stdout().is_terminal() => {
                "--format perfetto is no text: it does not go to a terminal"
            }
            _ => return Ok(()),
        };
        let hint = "write it to a file, -o FILE, and open that at https://ui.perfetto.dev";
        Err(Failure::new(failure).with_hint(hint))
    }

    /// Opens the output. `stacks`: show stacks even without `verbose`; `in_part`: some calls are
    /// left out.
    pub fn open(
        &self,
        paths: Paths,
        symbols: &Symbolizer,
        stacks: bool,
        in_part: bool,
    ) -> Result<Opened> {
        self.check()?;
        if self.format == Traced::Parquet {
            let failure = Failure::new("--format parquet is for recordings");
            return Err(failure.with_hint("record with --record FILE, then: aiotrace report FILE... --format parquet -o DIRECTORY"));
        }
        // The writers need no buffer: the outputs have one.
        let (writer, spill, file): (Box<dyn Write>, _, _) = match &self.output {
            Some(path) => {
                let output = files::write(path)?;
                let spill = spill_for(&output.file, || output.unnamed());
                let same = output.file.try_clone().context("no descriptor is left")?;
                (Box::new(output.file), spill, Some(same))
            }
            None => {
                let spill = spill_for(io::stdout(), || tempfile::tempfile_in("/var/tmp"));
                (Box::new(io::stdout().lock()), spill, None)
            }
        };
        let is_terminal = self.output.is_none() && io::stdout().is_terminal();
        let color = match self.color {
            Color::Always => true,
            Color::Never => false,
            // NO_COLOR: https://no-color.org
            Color::Auto => {
                is_terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
            }
        };
        let options =
            text::Options { color, verbose: self.verbose, time: self.timestamps, stacks, in_part };
        let output: Box<dyn Output> = match self.format {
            Traced::Perfetto => Box::new(Perfetto::new(writer, paths)),
            Traced::Json if self.summary => Box::new(Json::new(writer, Paths::none())),
            Traced::Json => Box::new(Json::new(writer, paths).with_symbols(symbols.clone())),
            Traced::Text if self.summary => Box::new(Table::new(writer)),
            Traced::Text | Traced::Parquet => {
                let text = Text::new(writer, options, paths, TimeZone::system());
                Box::new(text.with_symbols(symbols.clone()))
            }
        };
        let output = if self.summary { Box::new(Counting::new(output)) } else { output };
        let calls_as_text = self.format == Traced::Text && !self.summary;
        let shown = Shown {
            output,
            quiet: self.quiet,
            completions: self.verbose || self.format != Traced::Text,
            throttle: (is_terminal && calls_as_text).then(Throttle::new),
            only: None,
            shows_calls: !self.summary,
            calls: 0,
            failed: None,
        };
        Ok(Opened { shown, spill, file })
    }
}

/// An output to which nothing has been written yet.
pub struct Opened {
    /// The output.
    pub shown: Shown,
    /// The file for records that the output does not take at once.
    pub spill: Option<File>,
    /// The file of `-o FILE`, which [`files::begin`] empties.
    pub file: Option<File>,
}

impl Opened {
    /// An output that shows no call, and that is no file.
    pub fn of(output: Box<dyn Output>) -> Self {
        let shown = Shown {
            output,
            quiet: true,
            completions: false,
            throttle: None,
            only: None,
            shows_calls: false,
            calls: 0,
            failed: None,
        };
        Self { shown, spill: None, file: None }
    }
}

/// A nameless file, if the output is a regular one. A pipe's reader may be slower than the target for ever; then records
/// are lost, and counted.
pub fn spill_for(output: impl AsFd, unnamed: impl FnOnce() -> io::Result<File>) -> Option<File> {
    let status = nix::sys::stat::fstat(output).ok()?;
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return None;
    }
    unnamed().inspect_err(|error| tracing::debug!(%error, "no spill")).ok()
}
