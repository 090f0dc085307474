//! What a run writes, on its way into a file. It goes through a pipe: what a program writes to a file of its own accord
//! could be what became of a request, and a full disk would be an error for the program.

use std::{
    fs::{File, OpenOptions},
    io::{self, PipeWriter, Read as _, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use super::crash::{self, Search};
use crate::failure::{Context as _, Result};

/// How long a process that nobody could end may keep the log open.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the log of a run may become, in bytes; the rest is left out.
const MOST: u64 = 64 << 20;
/// What follows has at least so much room in a log that is full.
const AT_LEAST: u64 = 64 << 10;

/// A part of the log of a run: what some of its processes write.
pub struct Log {
    writer: PipeWriter,
    /// Ends when all is in the file, with what was not.
    whole: Receiver<io::Error>,
    /// What sanitizers say in this part.
    said: Arc<Mutex<Vec<String>>>,
    path: PathBuf,
}

impl Log {
    /// Begins a log.
    pub fn begin(path: &Path) -> Result<Self> {
        File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Self::more(path)
    }

    /// Goes on with it.
    pub fn more(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().append(true).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let length = file.metadata()?.len();
        let mut file = Bounded { file, room: MOST.saturating_sub(length).max(AT_LEAST) };
        let (mut reader, writer) = io::pipe()?;
        let (done, whole) = channel();
        let said = Arc::new(Mutex::new(Vec::new()));
        let found = Arc::clone(&said);
        let copy = move || {
            let mut bytes = [0; 16 << 10];
            let mut failed = None;
            let mut search = Search::default();
            let keep = |lines: Vec<String>| {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                lines.into_iter().for_each(|it| crash::keep(&mut found, it));
            };
            loop {
                match reader.read(&mut bytes) {
                    Ok(count @ 1..) => {
                        keep(search.add(&bytes[..count]));
                        let written = file.write(&bytes[..count]);
                        failed = failed.or(written.err());
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                    Ok(0) | Err(_) => break,
                }
            }
            keep(search.end().into_iter().collect());
            failed.into_iter().for_each(|it| drop(done.send(it)));
        };
        std::thread::Builder::new().name("log".into()).spawn(copy)?;
        Ok(Self { writer, whole, said, path: path.to_owned() })
    }

    /// For a process that writes to it.
    pub fn end(&self) -> Result<PipeWriter> {
        Ok(self.writer.try_clone()?)
    }

    /// All that wrote to it have ended: waits until that is in the file. Returns what sanitizers said.
    ///
    /// # Errors
    /// If not all of it could be written.
    pub fn close(self) -> Result<Vec<String>> {
        drop(self.writer);
        if let Ok(error) = self.whole.recv_timeout(PATIENCE) {
            return Err(error).with_context(|| format!("cannot write {}", self.path.display()));
        }
        Ok(std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// A file that gets no more than there is room for.
struct Bounded<W> {
    file: W,
    room: u64,
}

impl<W: Write> Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let count = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        if count == 0 {
            return Ok(());
        }
        self.room -= count as u64;
        self.file.write_all(&bytes[..count])?;
        if self.room == 0 {
            writeln!(self.file, "\n[this log is full: what was written from here on is left out]")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_in_the_file_when_the_log_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let text = "x".repeat(1 << 20);
        let say = |log: Log, text: &str| {
            let mut end = log.end().unwrap();
            end.write_all(text.as_bytes()).unwrap();
            drop(end);
            log.close().unwrap()
        };
        assert!(
            say(Log::begin(&path).unwrap(), "WARNING: ThreadSanitizer: of --reset\n").len() == 1
        );
        assert!(say(Log::more(&path).unwrap(), &text).is_empty(), "of the first part");
        assert!(std::fs::read_to_string(path).unwrap().ends_with(&text));
        let log = Log::begin(Path::new("/dev/full")).unwrap();
        log.end().unwrap().write_all(b"x").unwrap();
        assert!(log.close().unwrap_err().text().contains("No space left"));
    }

    #[test]
    fn a_log_has_an_end() {
        let mut file = Bounded { file: Vec::new(), room: 5 };
        for _ in 0..3 {
            file.write(b"abc").unwrap();
        }
        let text = String::from_utf8(file.file).unwrap();
        assert!(text.starts_with("abcab\n[this log is full") && text.len() < 100, "{text}");
    }
}
