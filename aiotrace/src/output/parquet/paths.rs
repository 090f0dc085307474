//! The directories and names of files. What a recording says of its host becomes part of a path, and anybody may have made
//! the recording.

use std::{
    cell::RefCell,
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
};

use jiff::{Timestamp, tz::TimeZone};

/// Bytes of a host's name in a path.
const LONGEST: usize = 128;

/// The files of a recording that is being read: they get their names when it was read to its end.
#[derive(Clone, Debug)]
pub struct Staged(Rc<RefCell<Stage>>);

#[derive(Debug)]
struct Stage {
    root: PathBuf,
    /// `date=2026-11-29/host=db1`
    below: PathBuf,
    name: String,
    /// Where files are, and where they belong.
    files: Vec<(PathBuf, PathBuf)>,
    /// The recordings that were written in this run.
    written: HashSet<PathBuf>,
    /// The last one was written before.
    is_copy: bool,
}

impl Staged {
    /// Files below this directory, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn below(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self(Rc::new(RefCell::new(Stage {
            root: root.to_owned(),
            below: PathBuf::new(),
            name: String::new(),
            files: Vec::new(),
            written: HashSet::new(),
            is_copy: false,
        }))))
    }

    /// A recording begins: of this host, in this run of it, at this time. Gives its name.
    pub(super) fn begin(
        &self,
        host: &str,
        boot_id: Option<&str>,
        began: i64,
    ) -> io::Result<String> {
        let stage = &mut *self.0.borrow_mut();
        let date = Timestamp::from_nanosecond(began.into()).map_err(io::Error::other)?;
        let date = date.to_zoned(TimeZone::UTC).date();
        let boot: String = boot_id.unwrap_or_default().chars().take(8).collect();
        let boot = if boot.is_empty() { "unknown".to_owned() } else { plain(&boot) };
        stage.below = PathBuf::from(format!("date={date}")).join(format!("host={}", plain(host)));
        stage.name = format!("{boot}-{began}");
        let whole = stage.below.join(&stage.name);
        stage.is_copy = !stage.written.insert(whole);
        if stage.is_copy {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(stage.name.clone())
    }

    /// Whether the last recording is the same as one that was read before it.
    pub fn is_copy(&self) -> bool {
        self.0.borrow().is_copy
    }

    /// Where to write the file of a table.
    pub(super) fn file(&self, table: &str) -> io::Result<PathBuf> {
        let stage = &mut *self.0.borrow_mut();
        let directory = stage.root.join(table).join(&stage.below);
        fs::create_dir_all(&directory)?;
        let whole = directory.join(format!("{}.parquet", stage.name));
        // Readers take `*.parquet`.
        let part = directory.join(format!(".{}.{}.part", stage.name, std::process::id()));
        // One of ours that was killed may have left it.
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        stage.files.push((part.clone(), whole));
        Ok(part)
    }

    /// Gives the files their names.
    ///
    /// # Errors
    /// If one cannot be renamed.
    pub fn keep(&self) -> io::Result<()> {
        let files = std::mem::take(&mut self.0.borrow_mut().files);
        files.iter().try_for_each(|(part, whole)| fs::rename(part, whole))
    }

    /// Removes the files, and the directories that are empty then.
    pub fn drop(&self) {
        for (part, whole) in std::mem::take(&mut self.0.borrow_mut().files) {
            let _ = fs::remove_file(part);
            for directory in whole.ancestors().skip(1).take(2) {
                let _ = fs::remove_dir(directory);
            }
        }
    }
}

/// A name as part of a path: other characters than letters, digits, `-`, `_` and `.` become `%` and two digits, as in URLs,
/// which readers of such directories decode.
fn plain(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        match is_plain && !(text.is_empty() && byte == b'.') {
            true => text.push(byte.into()),
            false => text += &format!("%{byte:02X}"),
        }
        if text.len() >= LONGEST {
            break;
        }
    }
    if text.is_empty() { "unknown".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_no_way_out_of_the_directory() {
        assert_eq!(plain("db1.example.com"), "db1.example.com");
        assert_eq!(plain("../../etc"), "%2E.%2F..%2Fetc");
        assert_eq!(plain("a=b/c\n"), "a%3Db%2Fc%0A");
        assert_eq!(plain(""), "unknown");
        assert!(plain(&"/".repeat(1000)).len() <= LONGEST + 2);
    }

    #[test]
    fn files_have_their_names_when_they_are_whole_and_a_copy_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let staged = Staged::below(root.path()).unwrap();
        let begin = || staged.begin("db1", Some("0123456789"), 1_764_376_071_000_000_000);
        assert_eq!(begin().unwrap(), "01234567-1764376071000000000");
        let part = staged.file("calls").unwrap();
        fs::write(&part, "x").unwrap();
        let whole =
            root.path().join("calls/date=2025-11-29/host=db1/01234567-1764376071000000000.parquet");
        assert!(!whole.exists());
        staged.keep().unwrap();
        assert!(whole.exists() && !part.exists());
        assert_eq!(begin().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        staged.begin("db2", None, 0).unwrap();
        fs::write(staged.file("calls").unwrap(), "x").unwrap();
        staged.drop();
        assert!(!root.path().join("calls/date=1970-01-01").exists());
    }
}
