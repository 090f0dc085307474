//! What a run writes, on its way into a file. It goes through a pipe: what a program writes to a file of its own accord
//! could be what became of a request, and a full disk would be an error for the program.

use std::{
    fs::File,
    io::{self, PipeWriter, Read as _, Write as _},
    path::Path,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use crate::failure::{Context as _, Result};

/// How long a process that nobody could end may keep the log open.
const PATIENCE: Duration = Duration::from_secs(2);

/// The log of a run.
pub struct Log {
    writer: PipeWriter,
    /// Ends when all is in the file.
    whole: Receiver<()>,
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
            loop {
                match reader.read(&mut bytes) {
                    Ok(count @ 1..) => drop(file.write_all(&bytes[..count])),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                    Ok(0) | Err(_) => break,
                }
            }
            drop(done);
        };
        std::thread::Builder::new().name("log".into()).spawn(copy)?;
        Ok(Self { writer, whole })
    }

    /// For a process that writes to it.
    pub fn end(&self) -> Result<PipeWriter> {
        Ok(self.writer.try_clone()?)
    }

    /// All that wrote to it have ended: waits until that is in the file.
    pub fn close(self) {
        drop(self.writer);
        let _ = self.whole.recv_timeout(PATIENCE);
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
        log.close();
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    }
}
