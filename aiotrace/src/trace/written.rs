//! Files that we write, and how they are opened: nothing is in them, and nothing of them is gone, before the trace begins;
//! and where others may write, no symbolic link of theirs is followed. (A file that they put there, and a hard link, is
//! written to: fs.protected_hardlinks is there for that.)

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl, readlinkat},
    unistd::geteuid,
};

use crate::failure::{Context as _, Failure, Result};

/// How long somebody is waited for who reads a FIFO.
const PATIENCE: Duration = Duration::from_secs(5);
/// Links that lead to links, at most, as the kernel has it.
const MOST_LINKS: u32 = 40;

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// Somebody may have put it there for us.
    #[error(
        "{link} is a symbolic link of user {owner} in a directory that others can write to, and is not followed"
    )]
    Link { link: String, owner: u32 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Opens a file to be written, makes it if there is none, and leaves what is in it: see [`begin`].
///
/// # Errors
/// It cannot be written, or a link must not be followed.
pub fn open(path: &Path) -> Result<File> {
    open_through(path, 0).map_err(|error| {
        let hint = match &error {
            Refused::Link { .. } => {
                Some("write to a directory of your own, or name the file that is meant")
            }
            Refused::Io(error) if error.raw_os_error() == Some(libc::ENXIO) => {
                Some("it is a FIFO that nobody reads: start its reader first")
            }
            Refused::Io(_) => None,
        };
        let failure =
            Failure::from(error).during(format_args!("cannot write to {}", path.display()));
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}

/// Now that it is written, what was in it is gone.
///
/// # Errors
/// Those of the file.
pub fn begin(file: &File) -> Result<()> {
    let is_regular = file.metadata().is_ok_and(|it| it.is_file());
    if is_regular {
        file.set_len(0).context("cannot empty the file that is to be written")
    } else {
        Ok(())
    }
}

/// The directory of a file.
pub fn directory_of(path: &Path) -> &Path {
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

fn open_through(path: &Path, links: u32) -> Result<File, Refused> {
    let directory = directory_of(path);
    let of = std::fs::metadata(directory)?;
    if !others_can_write(&of) {
        return Ok(open_any(path, 0)?);
    }
    match open_any(path, libc::O_NOFOLLOW) {
        // ELOOP; EACCES if it is of somebody else in a sticky directory.
        Err(_) if links < MOST_LINKS && is_link(path) => {
            let to = follow(path, &of)?;
            open_through(&directory.join(to), links + 1)
        }
        other => Ok(other?),
    }
}

fn is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink())
}

fn others_can_write(directory: &Metadata) -> bool {
    directory.mode() & (libc::S_IWGRP | libc::S_IWOTH) != 0
}

/// Where a link leads, if it is ours, or of whom the directory is (fs.protected_symlinks of the kernel allows the
/// same, but in sticky directories only, and where it is switched on).
fn follow(path: &Path, directory: &Metadata) -> Result<PathBuf, Refused> {
    // The link itself, whatever becomes of its name meanwhile.
    let mut options = OpenOptions::new();
    let link = options.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let owner = link.metadata()?.uid();
    if owner != geteuid().as_raw() && owner != directory.uid() {
        return Err(Refused::Link { link: path.display().to_string(), owner });
    }
    Ok(readlinkat(&link, "").map_err(io::Error::from)?.into())
}

fn open_any(path: &Path, flags: i32) -> io::Result<File> {
    let is_fifo = std::fs::metadata(path).is_ok_and(|it| it.file_type().is_fifo());
    if is_fifo {
        return open_fifo(path, flags);
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).custom_flags(flags).open(path)
}

/// Opens a FIFO without waiting for ever for its reader; writing to it waits, as to any pipe.
fn open_fifo(path: &Path, flags: i32) -> io::Result<File> {
    let begin = Instant::now();
    let open = || {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_NONBLOCK | flags).open(path)
    };
    let file = loop {
        match open() {
            Err(error)
                if error.raw_os_error() == Some(libc::ENXIO) && begin.elapsed() < PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => break other?,
        }
    };
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_WRONLY))?;
    Ok(file)
}
