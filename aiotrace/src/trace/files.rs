//! Files that the user names. A file to be written is opened early, created if it does not exist,
//! and emptied only when the trace begins. In a directory to which others can write, no symbolic
//! link of theirs is followed. (But a file that they have made there is written to, and so is a hard
//! link: fs.protected_hardlinks exists against these.)

use std::{
    ffi::{OsStr, OsString},
    fs::{File, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, FcntlArg, OFlag, fcntl, open, openat, readlinkat},
    sys::{
        stat::{Mode, fstatat},
        statfs::{PROC_SUPER_MAGIC, fstatfs},
    },
    unistd::geteuid,
};

use crate::{
    failure::{Context as _, Failure, Hint as _, Result},
    proc::descriptor,
};

/// How long to wait for the reader of a FIFO, or for the holder of a lease.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest chain of links to links, as in the kernel.
const MOST_LINKS: u32 = 40;

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// The link may have been put there by another user as a trap.
    #[error(
        "on its way is a symbolic link of user {owner} in a directory that others can write to, which is not followed"
    )]
    Link { owner: u32 },
    /// The file is a socket, or a device without a driver.
    #[error("it is a socket, or a device without a driver")]
    Special,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Errno(#[from] Errno),
}

/// A file that is to be written.
#[derive(Debug)]
pub struct ToWrite {
    /// It.
    pub file: File,
    /// The directory in which it was found, as a place to look from.
    directory: File,
}

impl ToWrite {
    /// A file without a name, beside it.
    pub fn unnamed(&self) -> io::Result<File> {
        // Not by its path, where there may be another one by now.
        tempfile::tempfile_in(descriptor::path_of_ours(&self.directory))
    }
}

/// Opens a file to be written, makes it if there is none, and leaves what is in it: see [`begin`].
///
/// # Errors
/// It cannot be written, or a link must not be followed.
pub fn write(path: &Path) -> Result<ToWrite> {
    open_through(path).map_err(|error| {
        let hint = match &error {
            Refused::Link { .. } => {
                Some("write to a directory of your own, or name the file that is meant")
            }
            Refused::Errno(Errno::ENXIO) => {
                Some("it is a FIFO that nobody reads: start its reader first")
            }
            Refused::Errno(Errno::EAGAIN) => Some(LEASED),
            Refused::Special | Refused::Errno(_) | Refused::Io(_) => None,
        };
        let failure =
            Failure::from(error).during(format_args!("cannot write to {}", path.display()));
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}

/// Empties the file, because now it is going to be written.
///
/// # Errors
/// If the file cannot be emptied.
pub fn begin(file: &File) -> Result<()> {
    let is_regular = file.metadata().is_ok_and(|it| it.is_file());
    if is_regular {
        file.set_len(0).context("cannot empty the file that is to be written")
    } else {
        Ok(())
    }
}

/// Opens it a directory at a time, so that no link on the way is followed that is not looked at.
fn open_through(path: &Path) -> Result<ToWrite, Refused> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    if bytes.ends_with(b"/") {
        return Err(Errno::EISDIR.into());
    }
    let mut left: Vec<OsString> = Vec::new();
    push(&mut left, path);
    let mut at = File::from(open(start(path), DIRECTORY, Mode::empty())?);
    let mut links = 0;
    while let Some(name) = left.pop() {
        let is_last = left.is_empty();
        // In /proc, a link is the kernel's own, and only the kernel can follow it to the file that
        // it stands for.
        if fstatfs(&at)?.filesystem_type() == PROC_SUPER_MAGIC {
            if is_last {
                return to_write(at, &name, OFlag::empty());
            }
            at = openat(&at, &*name, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?.into();
            continue;
        }
        // O_DIRECTORY makes the kernel mount what is mounted on demand.
        let on_the_way = if is_last { OFlag::empty() } else { OFlag::O_DIRECTORY };
        let how = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = match openat(&at, &*name, how | on_the_way, Mode::empty()) {
            Err(Errno::ENOENT) if is_last => return to_write(at, &name, OFlag::O_NOFOLLOW),
            // It is a link, or a file.
            Err(Errno::ENOTDIR | Errno::ELOOP) if !is_last => {
                openat(&at, &*name, how, Mode::empty())
            }
            found => found,
        };
        let found = File::from(found?);
        if found.metadata()?.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP.into());
            }
            let to = followed(&at, &found)?;
            if to.is_absolute() {
                at = File::from(open(start(&to), DIRECTORY, Mode::empty())?);
            }
            push(&mut left, &to);
        } else if is_last {
            return to_write(at, &name, OFlag::O_NOFOLLOW);
        } else {
            at = found;
        }
    }
    Err(Errno::EISDIR.into())
}

fn to_write(directory: File, name: &OsStr, flags: OFlag) -> Result<ToWrite, Refused> {
    Ok(ToWrite { file: open_in(&directory, name, flags)?, directory })
}

/// A directory, as a place to look from.
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The directory at which a path begins.
fn start(path: &Path) -> &'static str {
    if path.is_absolute() { "/" } else { "." }
}

/// Adds the names of a path to the stack of names that are left, so that the first name is on top.
fn push(left: &mut Vec<OsString>, path: &Path) {
    let names = path.components().rev().filter_map(|it| match it {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    left.extend(names);
}

/// The path to which a link in this directory leads. If others can write to the directory, the link
/// must belong to us or to the owner of the directory. (The kernel's fs.protected_symlinks demands
/// the same, but only for sticky directories, only for the last name, and only if it is switched
/// on.)
fn followed(directory: &File, link: &File) -> Result<PathBuf, Refused> {
    let directory = directory.metadata()?;
    let owner = link.metadata()?.uid();
    let can_others = directory.mode() & (libc::S_IWGRP | libc::S_IWOTH) != 0;
    if can_others && owner != geteuid().as_raw() && owner != directory.uid() {
        return Err(Refused::Link { owner });
    }
    Ok(readlinkat(link, "").map_err(io::Error::from)?.into())
}

/// Opens a file in this directory. It waits only for a limited time for the reader of a FIFO, or
/// for the holder of a lease to give it up (fcntl(2), F_SETLEASE).
fn open_in(directory: &File, name: &OsStr, flags: OFlag) -> Result<File, Refused> {
    let begin = Instant::now();
    let status = fstatat(directory, name, AtFlags::empty());
    let is_fifo = status.is_ok_and(|it| it.st_mode & libc::S_IFMT == libc::S_IFIFO);
    let new = if is_fifo { OFlag::empty() } else { OFlag::O_CREAT };
    let how =
        flags | new | OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = loop {
        match openat(directory, name, how, Mode::from_bits_truncate(0o666)) {
            Err(Errno::ENXIO) if !is_fifo => return Err(Refused::Special),
            Err(Errno::ENXIO | Errno::EAGAIN) if begin.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => break other?,
        }
    };
    // Without O_NONBLOCK, later writes wait as for any other file.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_WRONLY))?;
    Ok(file.into())
}

/// Opens a file to be read. A file to be written needs more checks.
///
/// # Errors
/// If it cannot be read, or if somebody holds a lease on it.
pub fn read(path: &Path) -> Result<File> {
    let begin = Instant::now();
    let open = |flags: i32| OpenOptions::new().read(true).custom_flags(flags).open(path);
    // Opening a FIFO waits for its writer.
    if std::fs::metadata(path).is_ok_and(|it| it.file_type().is_fifo()) {
        return open(0).with_context(|| format!("cannot open {}", path.display()));
    }
    loop {
        match open(libc::O_NONBLOCK) {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && begin.elapsed() < PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => {
                let is_leased =
                    matches!(&other, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
                let file = other.with_context(|| format!("cannot open {}", path.display()));
                return if is_leased { file.hint(LEASED) } else { file };
            }
        }
    }
}

const LEASED: &str = "somebody holds a lease on it (fcntl(2), F_SETLEASE) and does not give it up";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_without_a_name_is_in_the_directory_that_was_walked_to() {
        let directory = tempfile::tempdir().unwrap();
        let [here, aside] = ["here", "aside"].map(|it| directory.path().join(it));
        std::fs::create_dir(&here).unwrap();
        let output = write(&here.join("trace")).unwrap();
        std::fs::rename(&here, &aside).unwrap();
        std::fs::create_dir(&here).unwrap();
        let unnamed = output.unnamed().unwrap();
        let found = std::fs::read_link(descriptor::path_of_ours(&unnamed)).unwrap();
        assert!(found.starts_with(aside.canonicalize().unwrap()), "{}", found.display());
        assert_eq!(std::fs::read_dir(aside).unwrap().count(), 1, "it has no name");
    }
}
