//! Properties of processes and threads: names, states, and which process a thread belongs to.

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    },
};

use super::file;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Whether all threads of the process of a pidfd have ended.
pub fn is_over(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|it| it > 0)
}

/// The file `status` of a thread.
pub fn status(pid: u32, tid: u32) -> Option<Vec<u8>> {
    file::read(format!("/proc/{pid}/task/{tid}/status")).ok()
}

/// Whether a seccomp filter is in force in any thread of a process.
pub fn has_seccomp_filter(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| file::read(task.path().join("status")).ok()).any(|it| is_filtered(&it))
}

/// Whether a thread belongs to this process; it may have ended, if nobody has waited for it.
pub fn has_thread(pid: u32, tid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}/task/{tid}")).is_ok()
}

/// Whether a seccomp filter is in force, by the file `status` of a thread.
pub fn is_filtered(status: &[u8]) -> bool {
    // 2 is SECCOMP_MODE_FILTER.
    status_field(status, "Seccomp") == Some("2")
}

/// Opens a pidfd.
///
/// # Errors
/// `ESRCH` if there is no such process.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal to the process of a pidfd, if it is still there.
pub fn signal(pidfd: &OwnedFd, signal: i32) {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and no further information is given.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
}

/// Whether two processes share their address space; `None`: that may not be asked. It waits while one of them begins a
/// program.
pub fn share_space(one: u32, other: u32) -> Option<bool> {
    const KCMP_VM: i32 = 1;
    share(one, other, KCMP_VM)
}

/// Whether two threads share their descriptors. It waits likewise.
pub fn share_descriptors(one: u32, other: u32) -> Option<bool> {
    const KCMP_FILES: i32 = 2;
    share(one, other, KCMP_FILES)
}

fn share(one: u32, other: u32, what: i32) -> Option<bool> {
    // SAFETY: no memory is involved.
    match unsafe { libc::syscall(libc::SYS_kcmp, one, other, what, 0, 0) } {
        0 => Some(true),
        1..=3 => Some(false),
        _ => None,
    }
}

/// Value of a field of /proc/PID/status.
pub fn status_field<'a>(status: &'a [u8], name: &str) -> Option<&'a str> {
    // The name of the process is in this file, too. It may be anything, but holds no line break.
    status.split(|byte| *byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
        str::from_utf8(rest).ok().map(str::trim)
    })
}

/// An amount of memory in /proc/PID/status, in bytes.
pub fn status_bytes(status: &[u8], name: &str) -> Option<u64> {
    let kibibytes = status_field(status, name)?.strip_suffix("kB")?;
    Some(kibibytes.trim().parse::<u64>().ok()? << 10)
}

/// The fields of /proc/PID/stat behind the name, which may be anything, even `) R 1`.
pub(super) fn stat_fields(stat: &[u8]) -> Option<&str> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    str::from_utf8(stat.get(end + 1..)?).ok()
}

pub(super) fn stat_state(stat: &[u8]) -> Option<u8> {
    stat_fields(stat)?.trim_start().bytes().next()
}

pub(super) fn started(stat: &[u8]) -> Option<u64> {
    // The start is field 22 of the line, and the first field behind the name is field 3.
    let ticks: u64 = stat_fields(stat)?.split_whitespace().nth(22 - 3)?.parse().ok()?;
    // SAFETY: the call takes no pointers.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some(ticks.checked_mul(1_000_000_000)? / u64::try_from(per_second).ok().filter(|it| *it > 0)?)
}

/// When a process started: nanoseconds of CLOCK_BOOTTIME, exact to 10 ms.
pub fn started_at(pid: u32) -> Option<u64> {
    started(&file::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether a process, or the thread with this id, exists and has not ended.
pub fn is_alive(id: u32) -> bool {
    match pidfd_open(id) {
        Ok(pidfd) => !is_over(&pidfd),
        // It is a thread, and not the first one of its process.
        Err(_) => user(id).is_ok(),
    }
}

/// The state of a thread: a letter of proc(5).
pub fn thread_state(pid: u32, tid: u32) -> Option<u8> {
    stat_state(&file::read(format!("/proc/{pid}/task/{tid}/stat")).ok()?)
}

/// The threads of a process.
pub fn threads(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect()
}

/// The name of a process.
pub fn name(pid: u32) -> Option<Vec<u8>> {
    name_in(&format!("/proc/{pid}/comm"))
}

/// The name of a thread.
pub fn thread_name(pid: u32, tid: u32) -> Option<Vec<u8>> {
    name_in(&format!("/proc/{pid}/task/{tid}/comm"))
}

fn name_in(comm: &str) -> Option<Vec<u8>> {
    let mut name = file::read(comm).ok()?;
    name.pop_if(|last| *last == b'\n');
    Some(name)
}

/// The user of a process, or of a thread: the owner of its directory.
///
/// # Errors
/// There is none.
pub fn user(id: u32) -> io::Result<u32> {
    Ok(fs::metadata(format!("/proc/{id}"))?.uid())
}

/// The processes that the threads of a process have made, and that are its children now.
pub fn children(pid: u32) -> Vec<u32> {
    let of = |tid| file::read(format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
    let lists = threads(pid).into_iter().map(of);
    let numbers = |list: Vec<u8>| -> Vec<u32> {
        let words = list.split(|it| *it == b' ');
        words.filter_map(|it| str::from_utf8(it).ok()?.parse().ok()).collect()
    };
    lists.flat_map(numbers).collect()
}

/// Processes looked at below one.
const MOST_BELOW: usize = 64;

/// The processes below this one: children, and their children, the first ones of them.
pub fn below(pid: u32) -> Vec<u32> {
    let mut all = children(pid);
    let mut next = 0;
    while let Some(of) = all.get(next).copied().filter(|_| next < MOST_BELOW) {
        next += 1;
        all.extend(children(of));
    }
    all.truncate(MOST_BELOW);
    all
}

/// Whether it runs a program that we may look at; threads of the kernel run none.
pub fn has_program(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// The file that it executes.
pub fn executable(pid: u32) -> Option<Vec<u8>> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(path.into_os_string().into_vec())
}

/// The environment with which a process began its program: `NAME=VALUE`, each ended by a zero byte.
pub fn environment(pid: u32) -> Option<Vec<u8>> {
    file::read(format!("/proc/{pid}/environ")).ok()
}

/// What the kernel gave the program when it began.
pub fn auxiliary_vector(pid: u32) -> Option<Vec<u8>> {
    file::read(format!("/proc/{pid}/auxv")).ok()
}

/// The processor on which a thread runs, or ran last.
pub fn processor(tid: u32) -> Option<usize> {
    stat_processor(&file::read(format!("/proc/{tid}/stat")).ok()?)
}

/// Field 39; the first behind the name is field 3.
fn stat_processor(stat: &[u8]) -> Option<usize> {
    stat_fields(stat)?.split_whitespace().nth(39 - 3)?.parse().ok()
}

/// The bytes that a process has had read from disks, without what others read ahead for it; `None` if we may not
/// know.
pub fn read_from_disks(pid: u32) -> Option<u64> {
    let io = file::read(format!("/proc/{pid}/io")).ok()?;
    status_field(&io, "read_bytes")?.parse().ok()
}

/// Its cgroup (v2).
pub fn cgroup(pid: u32) -> Option<Vec<u8>> {
    let text = cgroups(pid)?;
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    Some(line.to_vec())
}

/// Its cgroups in all hierarchies, as the kernel writes them: a line `NUMBER:CONTROLLERS:PATH` for each.
pub fn cgroups(pid: u32) -> Option<Vec<u8>> {
    file::read(format!("/proc/{pid}/cgroup")).ok()
}

/// The ids of all processes.
pub fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let stat = b"12 (a) R 1 2) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 250 9 9";
        assert_eq!(stat_state(stat), Some(b'S'));
        let second = 1_000_000_000;
        assert_eq!(started(stat), Some(250 * second / 100));
        let status = b"Name:\tTgid:\\t7\xff\nTgid:\t12\nNSpid:\t12\n";
        assert_eq!(status_field(status, "Tgid"), Some("12"));
        assert_eq!(status_field(status, "Nothing"), None);
    }

    #[test]
    fn the_processor_of_a_thread_is_read_behind_any_name() {
        let stat = b"97 (a) b) S 1 97 97 0 -1 4194560 230 0 0 0 1 2 0 0 20 0 1 0 81 43 15 1 1 1 1 1 1 0 0 0 0 0 0 0 17 5 0 0 0";
        assert_eq!(stat_processor(stat), Some(5));
        assert_eq!(stat_processor(b"97"), None);
        assert!(processor(std::process::id()).is_some());
    }

    #[test]
    fn children_are_those_of_all_threads() {
        let start = || std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut made = [start(), std::thread::spawn(start).join().unwrap()];
        let found = children(std::process::id());
        for child in &mut made {
            assert!(found.contains(&child.id()), "{found:?}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn what_is_written_counts_as_nothing_read_from_disks() {
        let before = read_from_disks(std::process::id()).unwrap();
        std::io::Write::write_all(&mut tempfile::tempfile().unwrap(), &[1; 4096]).unwrap();
        assert!(read_from_disks(std::process::id()).unwrap() >= before);
        assert_eq!(read_from_disks(4_194_305), None);
    }

    #[test]
    fn we_are_alive() {
        assert!(is_alive(std::process::id()) && !is_alive(4_194_305));
    }
}
