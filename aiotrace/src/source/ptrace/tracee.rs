//! What is known of each thread that we trace.

use std::time::Instant;

use aiotrace_common::{
    abi::{Abi, Syscall, Timespec},
    record::{self, Memory as Mark, RingSample},
    synchronous,
};

use zerocopy::FromZeros as _;

use super::{memory::Memory, requests::Until, untraced::Taken};

/// A thread.
#[derive(Debug)]
pub struct Tracee {
    /// Its process.
    pub pid: u32,
    /// Itself.
    pub tid: u32,
    /// Its address space.
    pub space: u64,
    /// Records of it so far.
    pub seq: u32,
    /// It was told of, since the last exec.
    pub is_told: bool,
    /// The AIO call it is in.
    pub call: Option<InCall>,
    /// A call that was interrupted by us and that it makes again: not a new one.
    pub again: Option<Again>,
    /// What it does.
    pub state: State,
    /// It is stopped where a call begins; if it runs, it is in that call.
    pub at_entry: bool,
    /// It has not stopped yet since it was seized.
    pub is_fresh: bool,
    /// It stops at each system call: there is no filter, or it has one of its own beside ours.
    pub all_calls: bool,
    /// Its synchronous calls are watched, so it stops at each system call, too.
    pub watched: bool,
    /// The synchronous call that it is in, if those are watched.
    pub synchronous: Option<Synchronous>,
    /// We stopped it, so that it goes on otherwise.
    pub is_interrupted: bool,
    /// What it lacks until the child that it makes is made, or, if it is that child, until its first stop.
    pub taken: Option<Taken>,
}

/// What a tracee does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, or waits in the kernel.
    Running,
    /// It is stopped and may go on, with this signal if not 0.
    Stopped(i32),
    /// Its process is stopped, by a signal.
    GroupStopped,
    /// It is stopped by a fault until then.
    Held(Instant, Held),
}

/// Where a fault holds a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Before its call begins.
    AtEntry,
    /// After it ended, with this result.
    AtExit(i64),
}

/// The synchronous call that a thread is in.
#[derive(Clone, Copy, Debug)]
pub struct Synchronous {
    /// Which.
    pub call: synchronous::Call,
    /// How it came into the kernel.
    pub abi: Abi,
    /// Its arguments.
    pub args: [u64; 6],
    /// When it was entered, nanoseconds of CLOCK_MONOTONIC.
    pub entered: u64,
}

/// The call that a thread is in.
#[derive(Clone, Debug)]
pub struct InCall {
    /// Which.
    pub syscall: Syscall,
    /// How it came into the kernel.
    pub abi: Abi,
    /// Its arguments, as the program meant them.
    pub args: [u64; 6],
    /// When it was entered, nanoseconds of CLOCK_MONOTONIC; 0 if that was not seen.
    pub entered: u64,
    /// Its filter has not let it pass yet: it asks us when it does.
    pub is_unconfirmed: bool,
    /// io_getevents: the timeout.
    pub timeout: Option<Timespec>,
    /// io_destroy: the ring when it was entered.
    pub ring: RingSample,
    /// io_submit: the first iocb that could not be read.
    pub unread: Option<u32>,
    /// The fault rule that acts on it, as in [`record::Call::fault`].
    pub fault: u32,
    /// What is still to be done for that.
    pub verdict: Option<Pending>,
}

/// What is still to be done for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// The call does not take place, and returns this.
    Return(i64),
    /// io_submit got to see fewer requests: this register is given back.
    GiveBack(u64),
    /// It returns so many nanoseconds later.
    Late(u64),
}

/// A call that is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// Its number.
    pub number: u64,
    /// The first argument: another context is another call.
    pub first: u64,
    /// What it returned.
    pub ret: i64,
}

impl InCall {
    /// It begins now.
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
        }
    }
}

impl Tracee {
    /// A thread that was seized.
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
            taken: None,
        }
    }

    /// Its memory.
    pub fn memory(&self) -> Memory {
        Memory { pid: self.pid, tid: self.tid }
    }

    /// Until when it is to run.
    pub fn until(&self) -> Until {
        if self.all_calls || self.watched || self.call.is_some() || self.taken.is_some() {
            Until::Syscall
        } else {
            Until::Event
        }
    }

    /// For a call that is in progress when the trace ends.
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
