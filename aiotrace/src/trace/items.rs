//! The items of a recording, for whoever shows it. A recording is a file that anybody may have made: so there is a limit
//! to the memory that showing it takes.

use std::{
    io::{self, BufReader, Read},
    path::Path,
};

use super::files;
use crate::{
    event::Event,
    failure::{Failure, Result},
    model::Settings,
    output::Start,
    proc::system::memory_now,
    source::recording::{Error, Item, Reader},
};
use aiotrace_model::trace::Probes;

/// The most memory that showing a recording may take, in MiB. Traces stay below that
/// (docs/reference/recording.md); a file that was made to take more is not read further.
const MOST_MEMORY: u64 = 400;
/// How many items are read between two checks of the memory; each item may take a MiB.
const ITEMS: u64 = 64;

/// Reads a recording.
pub struct Items<R: Read> {
    reader: Reader<R>,
    read: u64,
}

/// What comes next.
#[expect(clippy::large_enum_variant, reason = "nearly all are items, which are used at once")]
pub enum Next {
    /// An item, which is not [`Item::Start`].
    Item(Item<Event>),
    /// Nothing more is read.
    Over {
        /// Why, for people.
        why: String,
        /// Whether there is more in the file.
        is_cut: bool,
    },
}

impl Items<BufReader<Box<dyn Read>>> {
    /// Opens a recording (`-` is standard input).
    ///
    /// # Errors
    /// If it cannot be opened, or if its beginning cannot be read.
    pub fn open(path: &Path) -> Result<(Self, Start, Settings)> {
        let file: Box<dyn Read> = match path.as_os_str() == "-" {
            true => Box::new(io::stdin().lock()),
            false => Box::new(files::read(path)?),
        };
        Self::begin(BufReader::new(file)).map_err(|error| with_hint(error, path))
    }
}

impl<R: Read> Items<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// [`Error`]
    pub fn begin(input: R) -> Result<(Self, Start, Settings), Error> {
        let mut reader = Reader::new(input)?;
        match reader.next_item()? {
            Some(Item::Start(start, settings)) => {
                let settings = Settings { stops: start.probes == Probes::Ptrace, ..settings };
                Ok((Self { reader, read: 0 }, start, settings))
            }
            _ => Err(Error::Truncated),
        }
    }

    /// What comes next.
    ///
    /// # Errors
    /// If it begins a second time.
    pub fn following(&mut self) -> Result<Next, Error> {
        self.read += 1;
        if self.read.is_multiple_of(ITEMS) && memory_now().is_some_and(|it| it > MOST_MEMORY << 20)
        {
            let why = format!(
                "showing the recording takes more than {MOST_MEMORY} MiB of memory, which no trace does; this is what \
                 came before"
            );
            return Ok(Next::Over { why, is_cut: true });
        }
        Ok(match self.reader.next_item() {
            Ok(Some(Item::Start(..))) => return Err(self.reader.damaged()),
            Ok(Some(item)) => Next::Item(item),
            Ok(None) => Next::Over { why: Error::Truncated.to_string(), is_cut: false },
            Err(error) => {
                let why = format!("{error}; this is what came before");
                Next::Over { why, is_cut: true }
            }
        })
    }

    /// Says how many items were skipped, if some were.
    pub fn unknown(&self) -> Option<String> {
        let (count, version) = (self.reader.unknown(), env!("CARGO_PKG_VERSION"));
        (count > 0).then(|| {
            format!(
                "a later aiotrace made the recording: {count} items in it are of kinds that {version} does not know, and \
                 not told"
            )
        })
    }
}

/// Adds what the user can do.
pub fn with_hint(error: Error, file: &Path) -> Failure {
    let hint = match &error {
        Error::Foreign => "make one with `aiotrace attach --record FILE`".to_owned(),
        Error::Version(_) => "read it with the aiotrace that made it".to_owned(),
        Error::Truncated | Error::Damaged { .. } | Error::Chunk(_) | Error::Io(_) => {
            "nothing of it can be shown".to_owned()
        }
    };
    Failure::from(error).during(file.display()).with_hint(hint)
}
