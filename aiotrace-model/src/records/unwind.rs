//! Stacks, as records have them: a copy of registers and memory. What the functions in progress are is found out by
//! somebody who may look at the process and its files.

use crate::event::Stack;

/// What was copied of a stack.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// When, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// The address space.
    pub space: u64,
    /// The instruction after the system call.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer, or whatever is in that register.
    pub bp: u64,
    /// Whole pages, from the one with `sp` on.
    pub pages: &'a [u8],
    /// Bit n: page n could be read.
    pub read: u32,
    /// Not 0: the number of a stack told to the probes; then there are no pages.
    pub known: u64,
}

/// Makes stacks of what was copied of them.
pub trait Unwind {
    /// The stack of a thread of this process.
    fn unwind(&mut self, pid: u32, copied: &Copied<'_>) -> Stack;
    /// The process ended, or runs another program.
    fn forget(&mut self, pid: u32);
}
