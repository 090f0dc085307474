//! The file for node_exporter's textfile collector. It is written beside and renamed, so that nobody reads a part.

use std::{
    fs::Permissions,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::failure::{Context as _, Failure, Result};

/// The path of such a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Textfile(PathBuf);

impl Textfile {
    /// A file of this name.
    ///
    /// # Errors
    /// If node_exporter would not read it.
    pub fn new(path: PathBuf) -> Result<Self> {
        if path.extension().is_none_or(|it| it != "prom") {
            let text = format!("{}: node_exporter reads only files named *.prom", path.display());
            return Err(Failure::new(text).with_hint("give the file a name that ends with .prom"));
        }
        Ok(Self(path))
    }

    /// Writes the file, in one step for whoever reads it.
    ///
    /// # Errors
    /// If the directory is not there or may not be written to.
    pub fn write(&self, text: &str) -> Result<()> {
        let written = self.try_write(text);
        written.with_context(|| format!("cannot write {}", self.0.display()))
    }

    fn try_write(&self, text: &str) -> std::io::Result<()> {
        let directory = match self.0.parent() {
            Some(it) if !it.as_os_str().is_empty() => it,
            _ => Path::new("."),
        };
        let mut file = tempfile::NamedTempFile::with_prefix_in(".aiotrace-", directory)?;
        file.write_all(text.as_bytes())?;
        // node_exporter has a user of its own.
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        file.persist(&self.0)?;
        Ok(())
    }

    /// Removes the file: what it says would be told for ever.
    pub fn remove(&self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_readable_for_all_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("aio.prom");
        let file = Textfile::new(path.clone()).unwrap();
        file.write("a 1\n").unwrap();
        file.write("a 2\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a 2\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
        file.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_nobody_would_read_is_refused() {
        assert!(Textfile::new("/tmp/aio.txt".into()).is_err());
        let failure = Textfile::new("/nonexistent/aio.prom".into()).unwrap().write("").unwrap_err();
        assert!(failure.text().starts_with("cannot write /nonexistent/aio.prom: "), "{failure:?}");
    }
}
