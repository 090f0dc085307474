//! What a run writes, on its way into a file. It goes through a pipe: what a program writes to a file of its own accord
//! could be what became of a request, and a full disk would be an error for the program.

use std::{
    fs::File,
    io::{self, PipeWriter, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use crate::failure::{Context as _, Result};

/// How long a process that nobody could end may keep the log open.
const PATIENCE: Duration = Duration::from_secs(2);

/// The log of a run.
pub struct Log {
    writer: PipeWriter,
    /// Ends when all is in the file, with what was not.
    whole: Receiver<io::Error>,
    path: PathBuf,
}

impl Log {
    /// Opens the log.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let (mut reader, writer) = io::pipe()?;
        let (done, whole) = channel();
        let copy = move || {
            let mut bytes = [0; 16 << 10];
            let mut failed = None;
            loop {
                match reader.read(&mut bytes) {
                    Ok(count @ 1..) => {
                        let written = file.write_all(&bytes[..count]);
                        failed = failed.or(written.err());
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                    Ok(0) | Err(_) => break,
                }
            }
            failed.into_iter().for_each(|it| drop(done.send(it)));
        };
        std::thread::Builder::new().name("log".into()).spawn(copy)?;
        Ok(Self { writer, whole, path: path.to_owned() })
    }

    /// For a process that writes to it.
    pub fn end(&self) -> Result<PipeWriter> {
        Ok(self.writer.try_clone()?)
    }

    /// All that wrote to it have ended: waits until that is in the file.
    ///
    /// # Errors
    /// If not all of it could be written.
    pub fn close(self) -> Result<()> {
        drop(self.writer);
        match self.whole.recv_timeout(PATIENCE) {
            Ok(error) => {
                Err(error).with_context(|| format!("cannot write {}", self.path.display()))
            }
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_in_the_file_when_the_log_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = Log::open(&path).unwrap();
        let text = "x".repeat(1 << 20);
        let mut end = log.end().unwrap();
        end.write_all(text.as_bytes()).unwrap();
        drop(end);
        log.close().unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
        let log = Log::open(Path::new("/dev/full")).unwrap();
        log.end().unwrap().write_all(b"x").unwrap();
        assert!(log.close().unwrap_err().text().contains("No space left"));
    }
}
