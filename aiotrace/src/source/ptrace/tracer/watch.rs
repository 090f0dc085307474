//! Synchronous calls are watched after a fault or a short io_submit, until the model knows what became of the
//! requests. During that time the threads of the process stop at each system call, even if they have a filter.

use aiotrace_common::{
    abi::Abi,
    fault::effect,
    record::{self, Header, Kind, Memory as Mark, flag},
    synchronous::{self, Does},
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

/// After a fault or a short io_submit, so many synchronous calls are a reason to look at the process before it closes
/// something.
const MOST_LOOKS: u32 = 16;

/// Whether a call that returned `ret` leaves requests undone.
pub fn provokes(call: &InCall, ret: i64) -> bool {
    use aiotrace_common::abi::Syscall;
    let is_fault = call.fault != 0 && call.fault & (effect::DRY_RUN | effect::MISSED) == 0;
    call.syscall == Syscall::Submit
        && ((ret < 0 && is_fault) || (1..call.args[1] as i64).contains(&ret))
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
    /// Watches the synchronous calls of all traced processes from now on, because of what happened to a thread of this
    /// one at this time: another process may do it. Threads that would not stop at these calls are interrupted: none of
    /// them can know yet what happened.
    pub(super) fn watch(&mut self, pid: u32, tid: u32, time: u64) {
        if self.processes.of_mut(pid).is_none_or(|it| it.is_silent) {
            return;
        }
        self.watches = true;
        for pid in self.processes.pids().collect::<Vec<_>>() {
            let Some(process) = self.processes.of_mut(pid).filter(|it| !it.is_silent) else {
                continue;
            };
            process.looks = MOST_LOOKS;
            if process.watched.replace(time).is_some() {
                continue;
            }
            for tracee in self.tracees.values_mut().filter(|it| it.pid == pid) {
                let runs_on = tracee.state == State::Running && tracee.until() == Until::Event;
                tracee.watched = true;
                if runs_on && tracee.tid != tid && !self.turns.has(tracee.tid) {
                    tracee.is_interrupted = tracee.interrupt().is_ok();
                }
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
        let is_reason = matches!(call.does(), Does::Read | Does::Write | Does::Sync) && ret >= 0;
        if let Some(process) = self.processes.of_mut(pid).filter(|it| is_reason && it.looks > 0) {
            process.looks -= 1;
            process.touched = time;
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
        let (count, memory) = (call.count(abi, &args), call.memory(abi, &args));
        let of_it = call.is_vectored().then_some(Memory { pid, tid });
        let iovecs = of_it.and_then(|it| it.iovecs(memory, count, abi)).unwrap_or_default();
        let flags = if abi.is_32_bit() { flag::COMPAT } else { 0 };
        let record = record::Synchronous {
            header: Header { kind: Kind::Synchronous, flags, seq: 0, time, pid, tid },
            entered,
            offset: offset.unwrap_or(0),
            memory,
            count,
            ret,
            call,
            fd,
            placed,
            vectors: if iovecs.is_empty() { 0 } else { count as u32 },
        };
        self.calls.records.emit_with(&record, iovecs.as_slice());
    }
}
