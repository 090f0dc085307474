//! Synchronous calls are watched after a fault or a short io_submit, until the model knows what became of the
//! requests. During that time the threads of the process stop at each system call, even if they have a filter.

use aiotrace_common::{
    abi::Abi,
    fault::effect,
    record::{self, Header, Kind, Memory as Mark},
    synchronous,
};

use super::Tracer;
use crate::{
    arch::COMPAT,
    clock::monotonic,
    errand::{Errand as _, Position},
    source::ptrace::{
        memory::Memory,
        requests::{self, Until},
        tracee::{InCall, State, Synchronous, Tracee},
    },
};

/// Whether a call that returned `ret` leaves requests undone.
pub fn provokes(call: &InCall, ret: i64) -> bool {
    use aiotrace_common::abi::Syscall;
    let is_fault = call.fault != 0 && call.fault & (effect::DRY_RUN | effect::MISSED) == 0;
    call.syscall == Syscall::Submit
        && ((ret < 0 && is_fault) || (1..call.args[1] as i64).contains(&ret))
}

/// Where in memory the data of a call is, or the first part of it; 0 if that is not known.
fn first_memory(memory: Memory, call: synchronous::Call, abi: Abi, args: &[u64; 6]) -> u64 {
    match call.memory(abi, args) {
        at if at != 0 && call.is_vectored() => memory.pointer(at, abi).unwrap_or(0),
        at => at,
    }
}

impl Tracee {
    /// The thread enters a system call that is not AIO.
    pub fn enters_synchronous(&mut self, info: &requests::Syscall) {
        self.synchronous = None;
        if !self.watched {
            return;
        }
        let abi = if info.arch == COMPAT { Abi::Compat } else { Abi::Native };
        let call = synchronous::Call::from_number(abi, info.number());
        let (args, entered) = (info.args(), monotonic());
        self.synchronous = call.map(|call| Synchronous { call, abi, args, entered });
    }
}

impl Tracer {
    /// Watches the synchronous calls of a process from now on, because of what happened to this thread at this time.
    /// Threads that would not stop at these calls are interrupted: none of them can know yet what happened.
    pub(super) fn watch(&mut self, pid: u32, tid: u32, time: u64) {
        let Some(process) = self.processes.of_mut(pid).filter(|it| !it.is_silent) else { return };
        self.watches = true;
        if process.watched.replace(time).is_some() {
            return;
        }
        for tracee in self.tracees.values_mut().filter(|it| it.pid == pid) {
            let runs_on = tracee.state == State::Running && tracee.until() == Until::Event;
            tracee.watched = true;
            if runs_on && tracee.tid != tid && !self.turns.has(tracee.tid) {
                tracee.is_interrupted = tracee.interrupt().is_ok();
            }
        }
    }

    /// Ends the watch over synchronous calls for everything that happened up to this time.
    pub(super) fn unwatch(&mut self, settled: u64) {
        if !self.watches {
            return;
        }
        self.watches = false;
        for pid in self.processes.pids().collect::<Vec<_>>() {
            let Some(process) = self.processes.of_mut(pid) else { continue };
            match process.watched {
                None => (),
                Some(time) if time > settled => self.watches = true,
                Some(_) => {
                    process.watched = None;
                    let of_it = self.tracees.values_mut().filter(|it| it.pid == pid);
                    of_it.for_each(|it| (it.watched, it.synchronous) = (false, None));
                }
            }
        }
    }

    /// A synchronous call ends.
    pub(super) fn synchronous(&mut self, tid: u32, call: &Synchronous, ret: i64) {
        let Some(tracee) = self.tracees.get(&tid).filter(|it| it.watched) else { return };
        if self.is_silent(tid) {
            return;
        }
        let (pid, time) = (tracee.pid, monotonic());
        let Synchronous { call, abi, args, entered } = *call;
        if !call.is_told(&args, ret) {
            return;
        }
        let fd = call.fd(&args);
        let offset = call.offset(abi, &args).or_else(|| {
            let moved = call.is_at_position(abi, &args) && ret >= 0;
            // The position of the descriptor is behind the bytes that were just moved.
            let before = || {
                Position { pid: tid, fd }.ask().flatten()?.checked_sub(ret).filter(|it| *it >= 0)
            };
            moved.then(before).flatten()
        });
        let placed = if offset.is_some() { Mark::Read } else { Mark::Unread };
        let count = call.count(abi, &args);
        self.calls.records.emit(&record::Synchronous {
            header: Header { kind: Kind::Synchronous, flags: 0, seq: 0, time, pid, tid },
            entered,
            offset: offset.unwrap_or(0),
            memory: first_memory(Memory { pid, tid }, call, abi, &args),
            count,
            ret,
            call,
            fd,
            placed,
            reserved: 0,
        });
    }
}
