//! What the probes keep in maps between two calls, and what aiotrace reads there: threads, contexts, stacks, and what was lost.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    abi::{Iocb, Syscall, Timespec},
    arch::Place,
};

/// The state of a thread between the entry and the return of a call. aiotrace also reads it, for
/// calls that never return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Thread {
    /// When the call was entered.
    pub entered: u64,
    /// The arguments of the call.
    pub args: [u64; 6],
    /// io_getevents: the timeout.
    pub timeout: Timespec,
    /// io_destroy, and io_submit of one iocb: head and tail of the ring at the entry.
    pub ring_words: [u32; 2],
    /// As `ring_words`: the size of the ring.
    pub ring_nr: u32,
    /// As `ring_words`: the [`Memory`](super::Memory) of both.
    pub ring_memory: u32,
    /// io_submit of one iocb: the address of the iocb.
    pub iocb_address: u64,
    /// The [`Memory`](super::Memory) of `iocb_address`.
    pub iocb_pointer: u32,
    /// The [`Memory`](super::Memory) of `iocb`.
    pub iocb_memory: u32,
    /// The content of the iocb.
    pub iocb: Iocb,
    /// The address space, as in [`Process::space`](super::Process::space).
    pub space: u64,
    /// The [`Syscall`] that the thread is in; 0 for none.
    pub syscall: u32,
    /// How many records the thread has.
    pub seq: u32,
    /// The process, as aiotrace's pid namespace sees it.
    pub pid: u32,
    /// The thread, as aiotrace's pid namespace sees it.
    pub tid: u32,
    /// io_getevents: the [`Memory`](super::Memory) of the timeout.
    pub timeout_memory: u32,
    /// io_submit: the index, plus one, of the first iocb that could not be read; 0 if all could be
    /// read.
    pub unread: u32,
    /// The [`Abi`](crate::abi::Abi) of the call.
    pub abi: u32,
    /// 1: a trampoline or kprobe saw the last call return, so `unseen_exit` need not record it.
    pub left: u32,
    /// The process, as the initial pid namespace sees it: the kernel uses ids of threads again.
    pub kernel_pid: u32,
    /// The thread, as the initial pid namespace sees it; 0: the slot is free.
    pub kernel_tid: u32,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
    /// The fault rule that is to act on the call, from 1; 0 for none.
    pub verdict: u32,
    /// What became of this rule's decision, as in [`Call::fault`](super::Call::fault)(super::Call::fault).
    pub fault: u32,
    /// io_submit: how many requests the kernel has begun to look at.
    pub submitting: u32,
    /// 1: the request that the kernel is looking at is to be refused.
    pub refuse: u32,
    /// A bit for each rule whose conditions one of the call's requests meets.
    pub requests: u32,
    /// The [`mechanism`](crate::fault::mechanism) that carries the verdict out.
    pub mechanism: u32,
    /// 1: the call is recorded. 0: it is only counted.
    pub told: u32,
    /// The value that the mechanism returns: a negative errno.
    pub errno: i64,
    /// How many requests come before the one that is to be refused.
    pub accept: u64,
    /// The rows where the thread's calls are counted, by [`Syscall`] - 1: each is the index of a
    /// [`CallRow`](crate::counts::CallRow), or 0 if the thread has none yet.
    pub call_rows: [u32; 6],
    /// The handle in the last call that was counted.
    pub context: u64,
    /// The [`ContextRow`](crate::counts::ContextRow) of this context.
    pub context_row: u32,
    /// The tail of the ring at `looked_at`, when this thread last looked at it.
    pub looked_tail: u32,
    /// The handle of the context at which the thread last looked; 0: none.
    pub looked_at: u64,
    /// The first word of that ring: its id and its size.
    pub looked_ring: u64,
    /// How many contexts had begun and ended at that look. If the number is another one, the handle
    /// may be that of another context.
    pub looked_when: u64,
}

impl Thread {
    /// The call that the thread is in.
    #[inline(always)]
    pub fn call(&self) -> Option<Syscall> {
        Syscall::ALL.into_iter().find(|call| *call as u32 == self.syscall)
    }
}

/// The key of a context on the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextKey {
    /// As in [`Process::space`](super::Process::space).
    pub space: u64,
    /// The handle.
    pub handle: u64,
}

/// What the kernel side remembers of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Context {
    /// The size of the ring; 0 until it could be read.
    pub nr: u32,
    /// How many requests may still complete, as far as the probes know; below 0 (as `i32`) for a
    /// moment, when threads that share the context race. The program can write any tail into its
    /// ring: if more entries are new than requests are expected, few of them are sent at one look.
    pub expected: u32,
    /// Two positions in one word, so that threads that share the context always see both from the
    /// same look. The lower half: entries up to there were sent. The upper half: the tail at the
    /// last look, which is further on if entries could not be read.
    pub positions: u64,
}

impl Context {
    /// A context with a ring of `nr` entries, of which all up to `tail` were sent. As many requests
    /// may be in flight as the ring has room for.
    #[inline(always)]
    pub const fn at(nr: u32, tail: u32) -> Self {
        Self { nr, expected: nr, positions: Self::positions(tail, tail) }
    }

    /// Makes [`Self::positions`] of its two halves.
    #[inline(always)]
    pub const fn positions(told: u32, seen: u32) -> u64 {
        told as u64 | (seen as u64) << 32
    }
}

/// What the kernel side knows of a `struct kioctx`, which has no pointer back to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Owner {
    /// As in [`Process::space`](super::Process::space).
    pub space: u64,
    /// The handle, as far as the probes know.
    pub handle: u64,
    /// The process, as aiotrace's pid namespace sees it.
    pub pid: u32,
    /// The process, as the initial pid namespace sees it.
    pub kernel_pid: u32,
    /// How many of its requests have completed since the probes know it, whether recorded or not.
    pub completed: u64,
    /// 1: its end was recorded.
    pub gone: u32,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
}

/// The most words that a [`KnownStack`] can have.
pub const STACK_WORDS: usize = 64;

/// How many stacks the reader can name for the same registers.
pub const STACK_VARIANTS: u64 = 4;

/// The place of a call, as far as the registers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackKey {
    /// As in [`Process::space`](super::Process::space).
    pub space: u64,
    /// As in [`Stack::place`](super::Stack::place).
    pub place: Place,
    /// A number below [`STACK_VARIANTS`].
    pub variant: u64,
}

/// A stack that the reader has unwound. While these words of it are the same, so are the functions,
/// and the probes send no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KnownStack {
    /// The id for [`Stack::known`](super::Stack::known).
    pub id: u64,
    /// The number of words.
    pub count: u64,
    /// All the words of the stack that were read to unwind it.
    pub words: [StackWord; STACK_WORDS],
}

/// A word of a stack.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct StackWord {
    /// The address of the word.
    pub address: u64,
    /// The value of the word.
    pub value: u64,
}

/// What the kernel side can lose; each is the index of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Lost {
    /// A record, because the ring buffer was full.
    BufferFull = 0,
    /// A call, because there was no slot for its thread.
    NoThreadSlot = 1,
    /// A child process that should have been followed, because the set of targets was full.
    NoTargetSlot = 2,
    /// A call that returned and was not seen entered, in a thread whose earlier calls were seen.
    EnterMissed = 3,
    /// A call that was entered and not seen to return, although its thread went on or died. (Even a
    /// thread that is killed inside a call returns from it, with EINTR.)
    ExitMissed = 4,
    /// A context for which there was no room.
    NoContextSlot = 5,
}

impl Lost {
    /// All causes, in the order of their counters.
    pub const ALL: [Self; 6] = [
        Self::BufferFull,
        Self::NoThreadSlot,
        Self::NoTargetSlot,
        Self::EnterMissed,
        Self::ExitMissed,
        Self::NoContextSlot,
    ];
}
