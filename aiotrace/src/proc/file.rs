//! Reads files of /proc up to a limit: a process can make its maps, its mounts and its names as
//! long as it likes.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::Path,
};

/// The limit for most files, which are a few lines long. (The longest of these is a status with
/// 65,536 groups.)
const SHORT: u64 = 1 << 20;
/// The limit for maps and mountinfo: 300,000 lines of the usual length.
const LONG: u64 = 32 << 20;
/// The limit for a line of maps or mountinfo. (A path has up to 4096 bytes, and each can be written
/// as four.)
const LINE: usize = 17 << 10;

/// Reads a whole file.
///
/// # Errors
/// If it cannot be read, or is longer than 1 MiB (`FileTooLarge`).
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SHORT + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        0..=SHORT => Ok(bytes),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

/// Whether all lines of a file were passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// All lines were passed on.
    All,
    /// Some lines were too long, and were left out.
    Some,
}

/// Passes each line of maps or mountinfo to `each`.
///
/// # Errors
/// If the file cannot be read, or is longer than 32 MiB (`FileTooLarge`).
pub fn lines(path: impl AsRef<Path>, each: impl FnMut(&[u8])) -> io::Result<Told> {
    lines_of(File::open(path)?, each)
}

fn lines_of(file: impl io::Read, mut each: impl FnMut(&[u8])) -> io::Result<Told> {
    let mut file = BufReader::with_capacity(64 << 10, file.take(LONG + 1));
    let (mut line, mut is_cut, mut told) = (Vec::new(), false, Told::All);
    loop {
        let buffer = file.fill_buf()?;
        let end = buffer.iter().position(|it| *it == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        let (length, is_over) = (part.len() + usize::from(end.is_some()), buffer.is_empty());
        is_cut |= line.len() + part.len() > LINE;
        if !is_cut {
            line.extend_from_slice(part);
        }
        file.consume(length);
        if file.get_ref().limit() == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if end.is_some() || is_over {
            match is_cut {
                true => told = Told::Some,
                false if !is_over || !line.is_empty() => each(&line),
                false => (),
            }
            line.clear();
            is_cut = false;
        }
        if is_over {
            return Ok(told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(file: &[u8]) -> (Vec<String>, Option<Told>) {
        let mut lines = Vec::new();
        let told = lines_of(file, |line| lines.push(String::from_utf8_lossy(line).into_owned()));
        (lines, told.ok())
    }

    #[test]
    fn lines_are_told_but_for_those_that_are_too_long() {
        let of = |lines: &[&str]| lines.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        assert_eq!(told(b"one\n\nthree"), (of(&["one", "", "three"]), Some(Told::All)));
        assert_eq!(told(b""), (of(&[]), Some(Told::All)));
        let long = ["one\n".as_bytes(), &vec![b'x'; 1 << 20], b"\ntwo\n"].concat();
        assert_eq!(told(&long), (of(&["one", "two"]), Some(Told::Some)));
        let endless = vec![b'\n'; LONG as usize + 1];
        assert_eq!(told(&endless).1, None);
    }

    #[test]
    fn a_file_is_read_if_it_is_short() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![0; SHORT as usize]).unwrap();
        assert_eq!(read(&path).unwrap().len() as u64, SHORT);
        std::fs::write(&path, vec![0; SHORT as usize + 1]).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
