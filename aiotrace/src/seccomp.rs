//! Filters of system calls, as seccomp(2) takes them: the instructions that ours need, and their installation.

use std::mem::offset_of;

use libc::sock_filter;
use nix::errno::Errno;

/// `AUDIT_ARCH_X86_64` of include/uapi/linux/audit.h.
pub const X86_64: u32 = 0xc000_003e;

/// Loads a word of `struct seccomp_data`.
pub const LOAD: u16 = 0x20;
/// Jumps if the word that was loaded is this.
pub const EQUAL: u16 = 0x15;
/// Jumps if it has one of these bits.
pub const ANY_BIT: u16 = 0x45;
/// Answers.
pub const RETURN: u16 = 0x06;

/// Where the number of the call stands.
pub const NUMBER: u32 = offset_of!(libc::seccomp_data, nr) as u32;
/// Where its architecture stands.
pub const ARCH: u32 = offset_of!(libc::seccomp_data, arch) as u32;

/// Where the lower half of an argument stands: a little-endian word.
pub const fn argument(index: u32) -> u32 {
    offset_of!(libc::seccomp_data, args) as u32 + index * size_of::<u64>() as u32
}

/// An instruction. `jt`, `jf`: how many are passed over, if it is so, and if not.
pub const fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The calling thread, and all that come from it, are under this filter from now on.
///
/// # Errors
/// EACCES: without CAP_SYS_ADMIN the right to gain privileges must be given up first ([`no_new_privileges`]).
pub fn install(filter: &mut [sock_filter]) -> Result<(), Errno> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: a complete filter that lives.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    Errno::result(set).map(drop)
}

/// The right to gain privileges is given up (`no_new_privs`: a set-user-id program has no effect then).
///
/// # Errors
/// None is known.
pub fn no_new_privileges() -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}
