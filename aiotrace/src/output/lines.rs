//! Lines gather here and are written in large pieces: a write per line costs more than making the line.

use std::io::{self, Write};

/// Size of a piece, in bytes.
const PIECE: usize = 64 << 10;

/// A buffer of lines in front of a writer.
pub struct Lines<W> {
    out: W,
    /// Where the next line is put together.
    pub line: Vec<u8>,
}

impl<W: Write> Lines<W> {
    /// An empty buffer in front of `out`.
    pub fn new(out: W) -> Self {
        Self { out, line: Vec::with_capacity(2 * PIECE) }
    }

    /// Ends the line.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn end(&mut self) -> io::Result<()> {
        self.line.push(b'\n');
        if self.line.len() < PIECE { Ok(()) } else { self.hand_over() }
    }

    /// Writes all lines, and flushes the writer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.hand_over()?;
        self.out.flush()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let result = self.out.write_all(&self.line);
        self.line.clear();
        result
    }
}
