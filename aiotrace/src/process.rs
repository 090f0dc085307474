//! What a running process shows in /proc.
//!
//! Most of its files are not read where others wait for us: whoever reads them may have to wait for the process
//! ([`crate::errand`]). Its name, its cgroup and the list of its threads are there at once.

use std::{
    fs, io,
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use aiotrace_common::abi::{Timespec, from_i386};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use zerocopy::FromBytes as _;

use crate::{
    errand::{Errand as _, Started, Status, ThreadState},
    event::Syscall,
};

/// A process to be traced.
#[derive(Debug)]
pub struct Opened {
    /// Its id: that of the whole process, also if one of its threads was named.
    pub pid: u32,
    /// Stands for this very process, also when its id is used again. Readable when it is dead.
    pub pidfd: OwnedFd,
    /// Its name.
    pub name: Vec<u8>,
    /// When it started, nanoseconds of CLOCK_BOOTTIME, to 10 ms.
    pub started: Option<u64>,
}

/// Why a process cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("no such process: {0}")]
    Gone(u32),
    /// Something else.
    #[error("cannot look at process {pid}")]
    Other {
        /// Which.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Opens a process by its id or by the id of one of its threads.
///
/// # Errors
/// [`OpenError::Gone`] if there is none, or it died while we looked.
pub fn open(id: u32) -> Result<Opened, OpenError> {
    let fail = |source: io::Error| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => OpenError::Gone(id),
        _ => OpenError::Other { pid: id, source },
    };
    fs::metadata(format!("/proc/{id}")).map_err(fail)?;
    let status = Status { pid: id, tid: id }.ask().flatten().unwrap_or_default();
    let pid = status_field(&status, "Tgid").and_then(|it| it.parse().ok()).unwrap_or(id);
    let pidfd = pidfd_open(pid).map_err(fail)?;
    // A zombie has ended already, whatever its parent does; but not if other threads of it go on.
    if is_readable(&pidfd) {
        return Err(OpenError::Gone(id));
    }
    let name = name(pid).ok_or(OpenError::Gone(id))?;
    Ok(Opened { pid, pidfd, name, started: Started { pid }.ask().flatten() })
}

/// Of a pidfd: whether all its threads have ended.
fn is_readable(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|it| it > 0)
}

/// What /proc says of a thread in `status`.
pub fn status(pid: u32, tid: u32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/task/{tid}/status")).ok()
}

/// Whether a seccomp filter is in force in any thread of a process.
pub fn has_seccomp_filter(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| fs::read(task.path().join("status")).ok()).any(|it| is_filtered(&it))
}

/// Whether one is in force in a thread; `None` if that is not known.
pub fn has_thread_filter(pid: u32, tid: u32) -> Option<bool> {
    Status { pid, tid }.ask().map(|it| it.is_some_and(|it| is_filtered(&it)))
}

/// Whether a thread is one of this process, also one that has ended and was not waited for.
pub fn has_thread(pid: u32, tid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}/task/{tid}")).is_ok()
}

fn is_filtered(status: &[u8]) -> bool {
    // SECCOMP_MODE_FILTER
    status_field(status, "Seccomp") == Some("2")
}

/// Whether the program is a 32-bit one, as far as that can be read.
fn is_32_bit(exe: &Path) -> bool {
    use io::Read as _;
    let mut head = [0; 5];
    let read = fs::File::open(exe).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && &head[..4] == b"\x7fELF" && head[4] == 1
}

/// A pidfd.
///
/// # Errors
/// `ESRCH`: there is no such process.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Value of a field of /proc/PID/status.
pub fn status_field<'a>(status: &'a [u8], name: &str) -> Option<&'a str> {
    // The name of the process is in there too, and may be anything; it cannot hold a line break.
    status.split(|byte| *byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
        str::from_utf8(rest).ok().map(str::trim)
    })
}

/// The fields of /proc/PID/stat behind the name, which may hold anything, also `) R 1`.
fn stat_fields(stat: &[u8]) -> Option<&str> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    str::from_utf8(stat.get(end + 1..)?).ok()
}

fn stat_state(stat: &[u8]) -> Option<u8> {
    stat_fields(stat)?.trim_start().bytes().next()
}

fn started(stat: &[u8]) -> Option<u64> {
    // Field 22; the first behind the name is field 3.
    let ticks: u64 = stat_fields(stat)?.split_whitespace().nth(22 - 3)?.parse().ok()?;
    // SAFETY: no memory is involved.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Some(ticks.checked_mul(1_000_000_000)? / u64::try_from(per_second).ok().filter(|it| *it > 0)?)
}

/// When a process started, nanoseconds of CLOCK_BOOTTIME, to 10 ms.
pub fn started_at(pid: u32) -> Option<u64> {
    started(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether a process, or the thread with this id, is there and has not ended.
pub fn is_alive(id: u32) -> bool {
    match pidfd_open(id) {
        Ok(pidfd) => !is_readable(&pidfd),
        // It is a thread, and not the first one of its process.
        Err(_) => fs::metadata(format!("/proc/{id}")).is_ok(),
    }
}

/// The same of a thread, which may have ended and not been waited for.
pub fn is_alive_thread(pid: u32, tid: u32) -> bool {
    let state = ThreadState { pid, tid }.ask();
    // Who does not answer is there.
    state.is_none_or(|it| !matches!(it, None | Some(b'Z' | b'X')))
}

/// The state of a thread, a letter of proc(5).
pub fn thread_state(pid: u32, tid: u32) -> Option<u8> {
    stat_state(&fs::read(format!("/proc/{pid}/task/{tid}/stat")).ok()?)
}

/// The threads of a process.
pub fn threads(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect()
}

/// Which thread traces a thread, if one does.
pub fn tracer_of(tid: u32) -> Option<u32> {
    let status = Status { pid: tid, tid }.ask()??;
    status_field(&status, "TracerPid")?.parse().ok().filter(|it| *it != 0)
}

/// The name of a process.
pub fn name(pid: u32) -> Option<Vec<u8>> {
    let mut name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    name.pop_if(|last| *last == b'\n');
    Some(name)
}

/// Its cgroup (v2).
pub fn cgroup(pid: u32) -> Option<Vec<u8>> {
    let text = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    Some(line.to_vec())
}

/// The processes there are now.
pub fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// A thread of this process that is in exit and waits there for AIO requests in flight, which nothing can
/// interrupt: `exit_aio` of fs/aio.c. The process has no memory and no context any more.
pub fn waits_in_exit(pid: u32) -> Option<u32> {
    // include/linux/sched.h
    const PF_EXITING: u64 = 4;
    threads(pid).into_iter().find(|tid| {
        let read =
            |name: &str| fs::read(format!("/proc/{pid}/task/{tid}/{name}")).unwrap_or_default();
        let stat = read("stat");
        // Field 9; the first behind the name is field 3.
        let flags = stat_fields(&stat).and_then(|it| it.split_whitespace().nth(9 - 3));
        let flags: u64 = flags.and_then(|it| it.parse().ok()).unwrap_or(0);
        stat_state(&stat) == Some(b'D') && flags & PF_EXITING != 0 && read("wchan") == b"exit_aio"
    })
}

/// A thread that is blocked inside an AIO call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// The thread.
    pub tid: u32,
    /// In which call.
    pub syscall: Syscall,
    /// Its arguments.
    pub args: [u64; 6],
}

/// The threads of a process that are blocked inside an AIO call now, from
/// /proc/PID/task/TID/syscall. Threads that cannot be read, or are running, are left out.
pub fn blocked_calls(pid: u32) -> Vec<Blocked> {
    let is_32_bit = is_32_bit(Path::new(&format!("/proc/{pid}/exe")));
    threads(pid).into_iter().filter_map(|tid| blocked_in(pid, tid, is_32_bit)).collect()
}

/// The same of one thread.
pub fn blocked_call(pid: u32, tid: u32) -> Option<Blocked> {
    blocked_in(pid, tid, is_32_bit(Path::new(&format!("/proc/{pid}/exe"))))
}

fn blocked_in(pid: u32, tid: u32, is_32_bit: bool) -> Option<Blocked> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    let (syscall, args) = parse_syscall(&text, is_32_bit)?;
    Some(Blocked { tid, syscall, args })
}

/// What a timeout argument of a blocked call points to. (A 32-bit program has it in another form.)
pub fn read_timespec(pid: u32, address: u64) -> Option<Timespec> {
    if address == 0 || is_32_bit(Path::new(&format!("/proc/{pid}/exe"))) {
        return None;
    }
    let mut bytes = [0; size_of::<Timespec>()];
    read_memory(pid, address, &mut bytes)?;
    Timespec::read_from_bytes(&bytes).ok()
}

/// Memory of a process: all of it, or nothing.
pub fn read_memory(pid: u32, from: u64, to: &mut [u8]) -> Option<()> {
    try_read_memory(pid, from, to).ok()
}

/// The same.
///
/// # Errors
/// What the kernel says; `EFAULT` also if it is not all there.
pub fn try_read_memory(pid: u32, from: u64, to: &mut [u8]) -> Result<(), Errno> {
    let base = usize::try_from(from).ok().filter(|it| *it != 0).ok_or(Errno::EFAULT)?;
    let remote = [RemoteIoVec { base, len: to.len() }];
    let wanted = to.len();
    let read =
        process_vm_readv(Pid::from_raw(pid as i32), &mut [io::IoSliceMut::new(to)], &remote)?;
    if read == wanted { Ok(()) } else { Err(Errno::EFAULT) }
}

/// `NR 0xARG0 ... 0xARG5 0xSP 0xPC`, or `running`, or `-1 0xSP 0xPC`.
fn parse_syscall(text: &str, is_32_bit: bool) -> Option<(Syscall, [u64; 6])> {
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let syscall = if is_32_bit { from_i386(number)?.0 } else { Syscall::from_x86_64(number)? };
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    Some((syscall, args))
}

/// For the fuzz target: every reader of a file of /proc. How many found something.
pub fn fuzz(bytes: &[u8], text: &str) -> u64 {
    let found = [
        status_field(bytes, "Seccomp").is_some(),
        is_filtered(bytes),
        stat_state(bytes).is_some(),
        started(bytes).is_some(),
        parse_syscall(text, false).is_some(),
        parse_syscall(text, true).is_some(),
        kernel_version(text).0 != u32::MAX,
    ];
    found.iter().filter(|it| **it).count() as u64
}

/// Major and minor of a kernel's release; what cannot be read passes for new.
pub fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (u32::MAX, 0),
    }
}

/// Inode number of our pid namespace, or `None` if it is the initial one.
pub fn pid_namespace() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    /// `PROC_PID_INIT_INO` of include/linux/proc_ns.h: the same on every kernel.
    const INITIAL: u64 = 0xEFFF_FFFC;
    let inode = fs::metadata("/proc/self/ns/pid").ok()?.ino();
    (inode != INITIAL).then_some(inode as u32)
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
    fn a_blocked_call_is_read_with_its_arguments() {
        let text = "208 0x7f00 0x1 0x20 0xbeef 0x0 0x6 0x7ffd 0x7f11\n";
        let args = [0x7f00, 1, 0x20, 0xbeef, 0, 6];
        assert_eq!(parse_syscall(text, false), Some((Syscall::Getevents, args)));
        for other in ["running\n", "-1 0x7ffd 0x7f11\n", "0 0x0 0x0 0x0 0x0 0x0 0x0 0x1 0x2\n", ""]
        {
            assert_eq!(parse_syscall(other, false), None, "{other}");
        }
        let in_32_bit = "247 0xf700 0x1 0x20 0xbeef 0x0 0x6 0xffd 0xf11\n";
        let args = [0xf700, 1, 0x20, 0xbeef, 0, 6];
        assert_eq!(parse_syscall(in_32_bit, true), Some((Syscall::Getevents, args)));
    }

    #[test]
    fn a_release_has_a_major_and_a_minor() {
        assert_eq!(kernel_version("6.1.0-13-amd64"), (6, 1));
        assert_eq!(kernel_version("5.10.0"), (5, 10));
        assert_eq!(kernel_version("odd"), (u32::MAX, 0));
    }

    #[test]
    fn our_own_process_can_be_opened_by_a_thread_id_too() {
        let pid = std::process::id();
        assert_eq!(open(pid).unwrap().pid, pid);
        let tid = std::thread::spawn(|| open(nix::unistd::gettid().as_raw() as u32).unwrap().pid);
        assert_eq!(tid.join().unwrap(), pid);
        assert!(matches!(open(4_194_305), Err(OpenError::Gone(4_194_305))));
        assert!(is_alive(pid) && !is_alive(4_194_305));
    }
}
