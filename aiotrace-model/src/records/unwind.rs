//! Stacks in records are copies of registers and memory. An unwinder, which may look at the process and its files,
//! finds the functions in them.

use aiotrace_common::arch::Place;

use crate::event::Stack;

/// The copy of a stack.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// When it was copied, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// The address space.
    pub space: u64,
    /// Where the call was made.
    pub place: Place,
    /// Whole pages, from the one with `place.sp` on.
    pub pages: &'a [u8],
    /// Bit n: page n could be read.
    pub read: u32,
    /// Not 0: the number of a stack that the probes know already; then there are no pages.
    pub known: u64,
}

/// Makes stacks from copies.
pub trait Unwind {
    /// The stack of a thread of this process.
    fn unwind(&mut self, pid: u32, copied: &Copied<'_>) -> Stack;
    /// Forgets a process that ended, or runs another program.
    fn forget(&mut self, pid: u32);
}
