//! Reads the target's memory. The reads cannot sleep, so memory that is not there at this moment
//! (not paged in, or not mapped) is an answer and no error.

use aiotrace_common::{
    abi::{Abi, Timespec},
    record::Memory,
};
use aya_ebpf::helpers::{bpf_probe_read_user, generated};

/// The value at `address`, if it is there.
#[inline(always)]
pub fn read<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// Fills `size` bytes at `to` from `address`. Returns whether they were there.
///
/// # Safety
/// `to` must have room for `size` bytes; the verifier checks it.
#[inline(always)]
pub unsafe fn read_into<T>(to: *mut T, size: u32, address: u64) -> bool {
    // SAFETY: as above; the helper checks the address.
    unsafe { generated::bpf_probe_read_user(to.cast(), size, address as *const _) == 0 }
}

/// Fills `to` from `address` and returns 0; or fills `to` with zeros and returns all bits set, if
/// `address` cannot be read or is 0. It has no branch: the verifier of Linux 5.10 refuses what
/// compilers make of an `Option` of several words, because they read stack memory that is not
/// written on every way.
#[inline(always)]
pub fn read_or_fail<T>(to: &mut T, address: u64) -> u32 {
    let to = core::ptr::from_mut(to).cast();
    // SAFETY: the size is that of the type; the helper checks the address.
    let result =
        unsafe { generated::bpf_probe_read_user(to, size_of::<T>() as u32, address as *const _) };
    (result >> 63) as u32
}

/// An address that the kernel refuses at once, because it is not one of user space:
/// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/mm/maccess.c?h=v6.12.117#n118>.
/// A read at 0 takes a page fault: with five of them in each io_getevents, fio was 2.5 times
/// slower.
pub const NOWHERE: u64 = u64::MAX;

/// The address, or [`NOWHERE`] for 0.
#[inline(always)]
pub fn or_nowhere(address: u64) -> u64 {
    if address == 0 { NOWHERE } else { address }
}

/// [`read_or_fail`], which also writes into `mark` how `to` was read: `how`, or unread.
#[inline(always)]
pub fn read_marked<T>(to: &mut T, mark: &mut Memory, address: u64, how: Memory) -> u32 {
    let failed = read_or_fail(to, address);
    // SAFETY: 0 is Unread, and the mask leaves either that or `how`.
    unsafe { core::ptr::from_mut(mark).cast::<u32>().write(how as u32 & !failed) };
    failed
}

/// Reads a pointer of the target, of four or of eight bytes, as [`read_or_fail`] does.
#[inline(always)]
pub fn read_pointer(to: &mut u64, address: u64, abi: Abi) -> u32 {
    if !abi.is_32_bit() {
        return read_or_fail(to, address);
    }
    let mut narrow = 0u32;
    let failed = read_or_fail(&mut narrow, address);
    *to = u64::from(narrow);
    failed
}

/// Reads a timeout, as [`read_or_fail`] does.
#[inline(always)]
pub fn read_timespec(to: &mut Timespec, address: u64, abi: Abi) -> u32 {
    if !matches!(abi, Abi::Compat) {
        return read_or_fail(to, address);
    }
    let mut narrow = [0i32; 2];
    let failed = read_or_fail(&mut narrow, address);
    *to = Timespec { sec: i64::from(narrow[0]), nsec: i64::from(narrow[1]) };
    failed
}

/// `how`, or unread if the read failed.
#[inline(always)]
pub fn mark(failed: u32, how: Memory) -> Memory {
    if failed == 0 { how } else { Memory::Unread }
}

/// The value of a variable in a map, as a number of which the verifier knows nothing. Loops keep
/// their state in maps, so that ways through an iteration that end alike are walked only once:
/// otherwise the number of ways multiplies with every iteration.
#[inline(always)]
pub fn unknown(in_map: &u32) -> u32 {
    // SAFETY: a reference is valid for reads; volatile, so that it is really read again.
    unsafe { core::ptr::read_volatile(in_map) }
}
