//! Reads the files of container engines below a root, `/` or that of `--host-root`. They are root's as a rule, and some are
//! written by the containers' users all the same: so what is opened is looked at before, is read up to a limit, and no
//! link on the way leads out of the root.

use std::{fs::File, io::Read as _, os::fd::AsFd as _, path::Path};

use nix::{
    dir::Dir,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

use crate::stacks::read_through;

/// The longest file, in bytes; more is not read.
const LONGEST: u64 = 4 << 20;

/// A root below which files are read.
pub struct Root(File);

impl Root {
    /// Finds it; `None` if it is no directory.
    pub fn find(path: &Path) -> Option<Self> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
        open(path, flags, Mode::empty()).ok().map(|it| Self(it.into()))
    }

    /// The names in a directory, at most this many; nothing if it cannot be read. Names that are not UTF-8 are left out:
    /// no engine makes one.
    pub fn names(&self, directory: &str, most: usize) -> Vec<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK;
        let Some(opened) = self.open(directory, flags) else { return Vec::new() };
        let Ok(mut entries) = Dir::from_fd(opened.into()) else { return Vec::new() };
        let names = entries.iter().filter_map(|it| {
            let entry = it.ok()?;
            entry.file_name().to_str().ok().map(str::to_owned)
        });
        names.filter(|it| it != "." && it != "..").take(most).collect()
    }

    /// What is in a regular file; `None` if it cannot be read, or is longer than 4 MiB.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        let file = read_through(&self.open(path, OFlag::O_PATH)?, |it| it.len() <= LONGEST)?;
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= LONGEST).then_some(bytes)
    }

    fn open(&self, path: &str, flags: OFlag) -> Option<File> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        openat2(self.0.as_fd(), path, how).ok().map(File::from)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn nothing_outside_of_the_root_is_read_and_nothing_that_is_no_file() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let at = |it: &str| directory.path().join(it);
        fs::write(at("plain"), "plain").unwrap();
        fs::write(at("long"), vec![b'x'; LONGEST as usize + 1]).unwrap();
        symlink(outside.path().join("secret"), at("out")).unwrap();
        symlink("../../../../../../etc/hostname", at("up")).unwrap();
        symlink("/plain", at("within")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        let root = Root::find(directory.path()).unwrap();
        assert_eq!(root.read("plain").as_deref(), Some(&b"plain"[..]));
        assert_eq!(root.read("within").as_deref(), Some(&b"plain"[..]), "/ is the root");
        for bad in ["out", "up", "fifo", "long", "none", "", "plain\0x", "plain/x"] {
            assert_eq!(root.read(bad), None, "{bad}");
        }
        assert_eq!(root.names("/", 100).len(), 6);
        assert_eq!((root.names("/", 2).len(), root.names("none", 2).len()), (2, 0));
        assert!(Root::find(&at("plain")).is_none());
    }
}
