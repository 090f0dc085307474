//! A thread that is traced, and what is known of it.

use std::{sync::Arc, time::Instant};

use aiotrace_common::{
    abi::{Abi, Syscall, Timespec},
    record::{self, Memory as Mark, RingSample},
    synchronous,
};

use nix::errno::Errno;
use zerocopy::FromZeros as _;

use super::{
    memory::Memory,
    requests::{self, Until},
    untraced::Taken,
};
use crate::{
    arch::{Before, NEEDS_BEFORE},
    errand::{Errand as _, Within},
    stacks::Site,
};

/// A thread that is traced.
#[derive(Debug)]
pub struct Tracee {
    /// Its process.
    pub pid: u32,
    /// Its thread id.
    pub tid: u32,
    /// Its address space.
    pub space: u64,
    /// Number of records written of it so far.
    pub seq: u32,
    /// It is recorded as a thread that makes AIO calls, since the last exec.
    pub is_told: bool,
    /// The AIO call it is in.
    pub call: Option<InCall>,
    /// A call that we interrupted and that the thread makes again, which is no new call.
    pub again: Option<Again>,
    /// What the thread does.
    pub state: State,
    /// It is stopped where a call begins; if it runs, it is in that call.
    pub at_entry: bool,
    /// It has not stopped since it was seized.
    pub is_fresh: bool,
    /// It stops at each system call: it has no filter of ours, or one of its own beside ours.
    pub all_calls: bool,
    /// Its synchronous calls are watched, so it stops at each system call, too.
    pub watched: bool,
    /// The synchronous call that it is in, if those are watched.
    pub synchronous: Option<Synchronous>,
    /// We interrupted it, so that it goes on in another way.
    pub is_interrupted: bool,
    /// The call that it was in before we interrupted it, where the architecture needs that.
    pub before: Option<Before>,
    /// The flag that was taken from its clone(2) call until the child is made; if it is that child, until its first
    /// stop.
    pub taken: Option<Taken>,
}

/// What a tracee does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, or waits in the kernel.
    Running,
    /// It is stopped and may go on, with this signal if it is not 0.
    Stopped(i32),
    /// A signal has stopped its process.
    GroupStopped,
    /// A fault holds it in a stop until this time.
    Held(Instant, Held),
}

/// Where in a call a fault holds a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is about to give up memory or a descriptor, or to end, and is looked at before.
    ForLook,
    /// Before its call begins.
    AtEntry,
    /// After its call ended, with this result.
    AtExit(i64),
}

/// A system call that is not AIO, while a thread is in it.
#[derive(Clone, Copy, Debug)]
pub struct Synchronous {
    /// The call.
    pub call: synchronous::Call,
    /// The kernel entry that the thread used.
    pub abi: Abi,
    /// Its arguments.
    pub args: [u64; 6],
    /// When it was entered, nanoseconds of CLOCK_MONOTONIC.
    pub entered: u64,
}

/// An AIO call, while a thread is in it.
#[derive(Clone, Debug)]
pub struct InCall {
    /// The call.
    pub syscall: Syscall,
    /// The kernel entry that the thread used.
    pub abi: Abi,
    /// Its arguments, as the program meant them.
    pub args: [u64; 6],
    /// When it was entered, nanoseconds of CLOCK_MONOTONIC; 0 if that was not seen.
    pub entered: u64,
    /// The filter has not let the call pass yet: when it does, the thread stops again.
    pub is_unconfirmed: bool,
    /// io_getevents: the timeout.
    pub timeout: Option<Timespec>,
    /// io_destroy: the ring when it was entered.
    pub ring: RingSample,
    /// io_submit: the first iocb that could not be read.
    pub unread: Option<u32>,
    /// The fault rule that acts on the call, as in [`record::Call::fault`].
    pub fault: u32,
    /// What is still to be done for the fault.
    pub verdict: Option<Pending>,
    /// Where it was made, if a rule has to know that.
    pub site: Option<Arc<Site>>,
}

/// What is still to be done for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// The call does not take place, and is to return this.
    Return(i64),
    /// io_submit was shown fewer iocbs: the register with their number gets this value back.
    GiveBack(u64),
    /// The call is to return this many nanoseconds later.
    Late(u64),
}

/// A call that was interrupted and is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// The number of the call.
    pub number: u64,
    /// Its first argument: with another context it is another call.
    pub first: u64,
    /// What it returned when it was interrupted.
    pub ret: i64,
}

impl InCall {
    /// A call that begins now.
    pub fn new(syscall: Syscall, abi: Abi, args: [u64; 6], entered: u64) -> Self {
        Self {
            syscall,
            abi,
            args: abi.meant(syscall, args),
            entered,
            is_unconfirmed: false,
            timeout: None,
            ring: RingSample::UNREAD,
            unread: None,
            fault: 0,
            verdict: None,
            site: None,
        }
    }
}

impl Tracee {
    /// A thread that was just seized.
    pub fn new(pid: u32, tid: u32, space: u64, all_calls: bool) -> Self {
        Self {
            pid,
            tid,
            space,
            seq: 0,
            is_told: false,
            call: None,
            again: None,
            state: State::Running,
            at_entry: false,
            is_fresh: true,
            all_calls,
            watched: false,
            synchronous: None,
            is_interrupted: false,
            before: None,
            taken: None,
        }
    }

    /// Stops the thread soon, although it runs; a system call in which it waits is interrupted.
    ///
    /// # Errors
    /// The thread is dead.
    pub fn interrupt(&mut self) -> Result<(), Errno> {
        let Self { pid, tid, .. } = *self;
        self.before = if NEEDS_BEFORE { Within { pid, tid }.ask().flatten() } else { None };
        requests::interrupt(tid)
    }

    /// The memory of the thread.
    pub fn memory(&self) -> Memory {
        Memory { pid: self.pid, tid: self.tid }
    }

    /// Where the thread is to stop next.
    pub fn until(&self) -> Until {
        if self.all_calls || self.watched || self.call.is_some() || self.taken.is_some() {
            Until::Syscall
        } else {
            Until::Event
        }
    }

    /// The call in progress, for the end of the trace.
    pub fn in_call(&self) -> Option<record::Thread> {
        let call = self.call.as_ref().filter(|it| it.entered != 0)?;
        let timeout_memory = if call.timeout.is_some() { Mark::Read } else { Mark::Unread };
        Some(record::Thread {
            entered: call.entered,
            args: call.args,
            timeout: call.timeout.unwrap_or_default(),
            space: self.space,
            syscall: call.syscall as u32,
            seq: self.seq,
            pid: self.pid,
            tid: self.tid,
            timeout_memory: timeout_memory as u32,
            abi: call.abi as u32,
            fault: call.fault,
            ..record::Thread::new_zeroed()
        })
    }
}
