//! As what something is shown, and what is shown as a whole.

use std::io::{self, Write};

use serde::Serialize;

/// As what something is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// An object on each line: [`super::json`].
    Json,
}

/// Something that is shown as a whole, and not as it happens: an [`Output`](super::Output) shows that.
pub trait Listed: Serialize {
    /// For people: lines, each with its end. `verbose`: all that is known.
    fn text(&self, verbose: bool) -> String;
}

impl Format {
    /// Writes it; `verbose`: as text, all that is known.
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
