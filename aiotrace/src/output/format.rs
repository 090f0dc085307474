//! The format of an answer that is shown as a whole, such as that of `aiotrace ls`.

use std::io::{self, Write};

use serde::Serialize;

/// The format of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// An object on each line: [`super::json`].
    Json,
}

/// The format of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traced {
    /// Lines for people.
    #[default]
    Text,
    /// An object on each line: [`super::json`].
    Json,
    /// A timeline: [`super::perfetto`].
    Perfetto,
    /// Tables of many recordings: [`super::parquet`].
    Parquet,
}

/// Something that is shown as a whole; what is shown as it happens goes to an [`Output`](super::Output).
pub trait Listed: Serialize {
    /// The lines for people, each with its line end. `verbose`: with all details.
    fn text(&self, verbose: bool) -> String;
}

impl Format {
    /// Writes an answer. `verbose`: as text, with all details.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(self, out: &mut impl Write, it: &impl Listed, verbose: bool) -> io::Result<()> {
        match self {
            Self::Text => out.write_all(it.text(verbose).as_bytes())?,
            Self::Json => {
                serde_json::to_writer(&mut *out, it)?;
                out.write_all(b"\n")?;
            }
        }
        out.flush()
    }
}
