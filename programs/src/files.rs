//! Files that have a name for as long as they are needed.

use std::{
    fs::File,
    os::fd::{AsRawFd as _, RawFd},
    path::PathBuf,
};

/// A file that is removed on drop.
pub struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    /// A file with this content.
    pub fn of(content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("aio-file-{}", std::process::id()));
        std::fs::write(&path, content).expect("a temporary file");
        let file = File::options().read(true).write(true).open(&path).expect("the temporary file");
        Self { file, path }
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
