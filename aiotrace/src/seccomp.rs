//! Filters of system calls, as seccomp(2) takes them: the instructions that our filters need, and
//! how to install a filter.

use std::mem::offset_of;

use libc::sock_filter;
use nix::errno::Errno;

/// The instruction that loads a word of `struct seccomp_data`.
pub const LOAD: u16 = 0x20;
/// The instruction that jumps if the loaded word is equal to a number.
pub const EQUAL: u16 = 0x15;
/// The instruction that jumps if the loaded word has one of these bits.
pub const ANY_BIT: u16 = 0x45;
/// The instruction that ends the filter with an answer.
pub const RETURN: u16 = 0x06;

/// The offset of the number of the call.
pub const NUMBER: u32 = offset_of!(libc::seccomp_data, nr) as u32;
/// The offset of the architecture of the call.
pub const ARCH: u32 = offset_of!(libc::seccomp_data, arch) as u32;

/// The offset of the lower half of an argument: the first word, as the machine is little-endian.
pub const fn argument(index: u32) -> u32 {
    offset_of!(libc::seccomp_data, args) as u32 + index * size_of::<u64>() as u32
}

/// Makes an instruction. `jt`, `jf`: how many instructions are skipped if the condition is true,
/// and if it is false.
pub const fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Puts the calling thread, and all threads and processes that it makes from here on, under this
/// filter.
///
/// # Errors
/// EACCES: without CAP_SYS_ADMIN, the thread must first give up the right to gain privileges
/// ([`no_new_privileges`]).
pub fn install(filter: &mut [sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the filter is complete, and lives during the call.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    Errno::result(set).map(drop)
}

/// Gives up the right to gain privileges (`no_new_privs`: set-user-id programs have no effect
/// then).
///
/// # Errors
/// None is known.
pub fn no_new_privileges() -> Result<(), Errno> {
    // SAFETY: the call takes no pointers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}
