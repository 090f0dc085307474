//! By what else the file of a descriptor may be read or written than by calls that are watched: mappings of it, an io_uring
//! of the process, and other processes that have it open, however they got it (by fork, by open, or by SCM_RIGHTS).

use std::{fs, io};

use super::{
    all,
    descriptor::{identity, place, status_of},
    file,
    maps::Mapping,
    process::status_field,
};
use crate::event::{Others, Ways};

/// Descriptors of other processes looked at, at most.
const MOST_DESCRIPTORS: usize = 100_000;
/// The name of an io_uring, of its descriptor and of its mappings (it may have only one of both):
/// <https://elixir.bootlin.com/linux/v6.12.117/source/io_uring/io_uring.c#L3559>
const URING: &[u8] = b"anon_inode:[io_uring]";

/// By what else it may be read or written; `None`: the process has ended. (A descriptor that is not open leads to no file.)
///
/// The device of a mapping is another one than that of statx(2) on some file systems, such as btrfs, so only the inodes are
/// compared: another file with the same number may pass for this one. Processes that we may not look at are none.
pub fn of_file(pid: u32, fd: u32) -> Option<Ways> {
    // If that is unknown, it is unknown which file it is.
    let place = place(pid, fd)?;
    let id = match status_of(&format!("{place}/fd/{fd}"), libc::STATX_INO) {
        Ok(status) => Some(identity(&status)),
        // It is not open: there is no file, if the process lives.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => return None,
    };
    let mut ways = Ways::default();
    // One that ends has no mappings any more.
    let mut has_memory = false;
    let told = file::lines(format!("/proc/{pid}/maps"), |line| {
        has_memory = true;
        ways.uring |= line.ends_with(URING);
        let inode = id.map(|it| it.1);
        if let Some(it) = Mapping::parse(line).filter(|it| Some(it.inode) == inode) {
            ways.mapped = true;
            ways.stored |= it.is_stored();
        }
    });
    if !has_memory || told.ok()? != file::Told::All {
        return None;
    }
    let own = fs::read_dir(format!("{place}/fd")).ok()?;
    ways.uring |= own.flatten().any(|it| is_uring(&it));
    if let Some(id) = id {
        (ways.writers, ways.others) = others(pid, id);
    }
    Some(ways)
}

fn is_uring(entry: &fs::DirEntry) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    fs::read_link(entry.path()).is_ok_and(|it| it.as_os_str().as_bytes() == URING)
}

/// Whether others have the file open for writing, and whether others have it open.
fn others(pid: u32, id: (u64, u64)) -> (Others, Others) {
    let (us, mut left) = (std::process::id(), MOST_DESCRIPTORS);
    let mut found = (Others::None, Others::None);
    for other in all().into_iter().filter(|it| *it != pid && *it != us) {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{other}/fd")) else { continue };
        for entry in descriptors.flatten() {
            if left == 0 {
                let unknown = |it| if it == Others::None { Others::Unknown } else { it };
                return (unknown(found.0), unknown(found.1));
            }
            left -= 1;
            let Some(path) = entry.path().to_str().map(str::to_owned) else { continue };
            if status_of(&path, libc::STATX_INO).is_ok_and(|it| identity(&it) == id) {
                found.1 = Others::Some;
                if writes(other, &entry).unwrap_or(true) {
                    return (Others::Some, Others::Some);
                }
            }
        }
    }
    found
}

/// Whether a descriptor is open for writing.
fn writes(pid: u32, entry: &fs::DirEntry) -> io::Result<bool> {
    let name = entry.file_name();
    let info = file::read(format!("/proc/{pid}/fdinfo/{}", name.to_string_lossy()))?;
    let flags = status_field(&info, "flags").and_then(|it| i32::from_str_radix(it, 8).ok());
    Ok(flags.is_none_or(|it| it & libc::O_ACCMODE != libc::O_RDONLY))
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::AsRawFd as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_file_is_mapped_where_stores_go_to_it() {
        let (us, file) = (std::process::id(), tempfile::tempfile().unwrap());
        file.set_len(4096).unwrap();
        let fd = file.as_raw_fd() as u32;
        let found = || of_file(us, fd).map(|it| (it.stored, it.mapped));
        assert_eq!(found(), Some((false, false)));
        let options = memmap2::MmapOptions::new();
        // SAFETY: nobody else has the file, and nobody reads the mapping.
        let copied = unsafe { options.map_copy(&file).unwrap() };
        assert_eq!(found(), Some((false, true)));
        // SAFETY: as above.
        let shared = unsafe { options.map_mut(&file).unwrap() };
        assert_eq!(found(), Some((true, true)));
        drop((copied, shared));
        assert_eq!(found(), Some((false, false)));
        assert_eq!(
            of_file(us, 9999),
            Some(Ways { uring: of_file(us, fd).unwrap().uring, ..Ways::default() })
        );
    }

    #[test]
    fn whoever_has_a_file_open_is_found_by_whatever_number() {
        let (us, file) = (std::process::id(), tempfile::NamedTempFile::new().unwrap());
        let fd = file.as_raw_fd() as u32;
        let found = || of_file(us, fd).map(|it| (it.writers, it.others));
        assert_eq!(found(), Some((Others::None, Others::None)));
        let with = |stdin: Stdio, stdout: Stdio| {
            let mut child =
                Command::new("sleep").arg("1000").stdin(stdin).stdout(stdout).spawn().unwrap();
            let found = found();
            child.kill().unwrap();
            child.wait().unwrap();
            found
        };
        let read = fs::File::open(file.path()).unwrap();
        assert_eq!(with(read.into(), Stdio::null()), Some((Others::None, Others::Some)));
        let write = fs::File::options().write(true).open(file.path()).unwrap();
        assert_eq!(with(Stdio::null(), write.into()), Some((Others::Some, Others::Some)));
    }

    #[test]
    fn who_has_ended_is_not_known() {
        let mut child = Command::new("true").spawn().unwrap();
        nix::sys::wait::waitid(
            nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(child.id() as i32)),
            nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT,
        )
        .unwrap();
        assert_eq!(of_file(child.id(), 0), None);
        child.wait().unwrap();
    }
}
