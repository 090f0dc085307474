//! Threads that wait inside an AIO call, or in exit.

use std::{fs, io, path::Path};

use aiotrace_common::{
    abi::Timespec,
    arch::{aio_call, compat_aio_call},
};
use serde::{Deserialize, Serialize};
use zerocopy::FromBytes as _;

use super::{
    file,
    memory::read_memory,
    process::{stat_fields, stat_state, threads},
};
use crate::{arch::Before, event::Syscall};

/// A thread of this process that is in exit and waits there for AIO requests in flight. Nothing can
/// interrupt it ([`exit_aio`]). The process has no memory and no context any more.
///
/// [`exit_aio`]: https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n938
pub fn waits_in_exit(pid: u32) -> Option<u32> {
    // The constant of include/linux/sched.h.
    const PF_EXITING: u64 = 4;
    threads(pid).into_iter().find(|tid| {
        let read =
            |name: &str| file::read(format!("/proc/{pid}/task/{tid}/{name}")).unwrap_or_default();
        let stat = read("stat");
        // The flags are field 9 of the line, and the first field behind the name is field 3.
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
    /// The call in which the thread is blocked.
    pub syscall: Syscall,
    /// The arguments of the call.
    pub args: [u64; 6],
}

/// The threads of a process that are blocked inside an AIO call, by /proc/PID/task/TID/syscall.
/// Threads that are running, or cannot be read, are left out.
pub fn blocked_calls(pid: u32) -> Vec<Blocked> {
    let is_32_bit = is_32_bit(Path::new(&format!("/proc/{pid}/exe")));
    threads(pid).into_iter().filter_map(|tid| blocked_in(pid, tid, is_32_bit)).collect()
}

/// The AIO call in which this thread is blocked, if it is in one.
pub fn blocked_call(pid: u32, tid: u32) -> Option<Blocked> {
    blocked_in(pid, tid, is_32_bit(Path::new(&format!("/proc/{pid}/exe"))))
}

pub(super) fn blocked_in(pid: u32, tid: u32, is_32_bit: bool) -> Option<Blocked> {
    let text = file::read(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    let (syscall, args) = parse_syscall(str::from_utf8(&text).ok()?, is_32_bit)?;
    Some(Blocked { tid, syscall, args })
}

/// The value to which a timeout argument of a blocked call points. It is not read from a 32-bit
/// program, where it has another form.
pub fn read_timespec(pid: u32, address: u64) -> Option<Timespec> {
    if address == 0 || is_32_bit(Path::new(&format!("/proc/{pid}/exe"))) {
        return None;
    }
    let mut bytes = [0; size_of::<Timespec>()];
    read_memory(pid, address, &mut bytes)?;
    Timespec::read_from_bytes(&bytes).ok()
}

/// Whether the program is a 32-bit one, as far as that can be read.
pub(super) fn is_32_bit(exe: &Path) -> bool {
    use io::Read as _;
    let mut head = [0; 5];
    let read = fs::File::open(exe).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && &head[..4] == b"\x7fELF" && head[4] == 1
}

/// Parses `NR 0xARG0 ... 0xARG5 0xSP 0xPC`; other lines are `running`, or `-1 0xSP 0xPC`.
pub(super) fn parse_syscall(text: &str, is_32_bit: bool) -> Option<(Syscall, [u64; 6])> {
    let Before { number, args, .. } = parse_any_syscall(text)?;
    let syscall = if is_32_bit { compat_aio_call(number)?.0 } else { aio_call(number)? };
    Some((syscall, args))
}

/// Parses the same line, whatever the call is.
fn parse_any_syscall(text: &str) -> Option<Before> {
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut hex = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = hex()?;
    }
    let _sp = hex()?;
    Some(Before { number, args, ip: hex()? })
}

/// The system call in which this thread is blocked.
pub fn within(pid: u32, tid: u32) -> Option<Before> {
    let text = file::read(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    parse_any_syscall(str::from_utf8(&text).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_call_is_read_with_its_arguments() {
        let text =
            format!("{} 0x7f00 0x1 0x20 0xbeef 0x0 0x6 0x7ffd 0x7f11\n", libc::SYS_io_getevents);
        let args = [0x7f00, 1, 0x20, 0xbeef, 0, 6];
        assert_eq!(parse_syscall(&text, false), Some((Syscall::Getevents, args)));
        assert_eq!(parse_any_syscall(&text).map(|it| it.ip), Some(0x7f11));
        for other in
            ["running\n", "-1 0x7ffd 0x7f11\n", "600 0x0 0x0 0x0 0x0 0x0 0x0 0x1 0x2\n", ""]
        {
            assert_eq!(parse_syscall(other, false), None, "{other}");
        }
        let number =
            (0..600).find(|it| compat_aio_call(*it).is_some_and(|it| it.0 == Syscall::Getevents));
        let in_32_bit = format!("{} 0xf700 0x1 0x20 0xbeef 0x0 0x6 0xffd 0xf11\n", number.unwrap());
        let args = [0xf700, 1, 0x20, 0xbeef, 0, 6];
        assert_eq!(parse_syscall(&in_32_bit, true), Some((Syscall::Getevents, args)));
    }
}
