//! What a fault has left to do: threads that are held, and changes at the end of the call.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Tracer;
use crate::clock::monotonic;
use crate::{
    arch::Registers,
    source::ptrace::tracee::{Held, Pending, State, Tracee},
};

/// How long a call that gives something up, or the end of a process, waits until the process has been
/// looked at, at most; nanoseconds.
pub(super) const LOOKED_WITHIN: u64 = 1_000_000_000;
/// How often the tracer asks whether it has.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

impl Tracer {
    /// Whether a process is to be looked at before it gives up memory or descriptors, or ends: a fault or a short io_submit
    /// has left something undone, and what else may have done it, or what a call since then was about, is not looked up yet.
    pub(super) fn is_to_be_looked_at(&self, pid: u32) -> bool {
        !self.is_over && !self.is_leaving && self.reason_for_look(pid) > self.looked
    }

    /// When the process did something because of which it is to be looked at; 0: never.
    fn reason_for_look(&self, pid: u32) -> u64 {
        let process = self.processes.of(pid);
        process.map_or(0, |it| it.watched.map_or(0, |since| since.max(it.touched)))
    }

    /// When the next thread that is held is due to go on.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if !self.holds {
            return None;
        }
        let soon = Instant::now() + LOOK_PAUSE;
        let due = |it: &Tracee| match it.state {
            State::Held(until, Held::ForLook) => Some(until.min(soon)),
            State::Held(until, _) => Some(until),
            _ => None,
        };
        self.tracees.values().filter_map(due).min()
    }

    pub(super) fn release_held(&mut self, now: Instant) {
        if !self.holds {
            return;
        }
        let due = |it: &&Tracee| match it.state {
            State::Held(_, Held::ForLook) if !self.is_to_be_looked_at(it.pid) => true,
            State::Held(until, _) => until <= now,
            _ => false,
        };
        let due: Vec<u32> = self.tracees.values().filter(due).map(|it| it.tid).collect();
        for tid in due {
            if let Some(State::Held(_, held)) = self.tracees.get(&tid).map(|it| it.state) {
                let pid = self.tracees.get(&tid).map_or(tid, |it| it.pid);
                if held == Held::ForLook {
                    // It has waited for that once.
                    self.looked = self.looked.max(self.reason_for_look(pid));
                    // Its call begins only now.
                    let call = self.tracees.get_mut(&tid).and_then(|it| it.synchronous.as_mut());
                    call.into_iter().for_each(|it| it.entered = monotonic());
                }
                self.finish_held(tid, held);
                self.set_state(tid, State::Stopped(0));
                self.go_on(tid);
            }
        }
        self.holds = self.next_due().is_some();
    }

    pub(super) fn finish_held(&mut self, tid: u32, held: Held) {
        if let Held::AtExit(ret) = held
            && let Some(call) = self.tracees.get_mut(&tid).and_then(|it| it.call.take())
        {
            self.left(tid, call, ret, 0);
        }
    }
}

pub(super) fn held(nanoseconds: u64, held: Held) -> State {
    // A longer time is as good as for ever.
    const LONGEST: u64 = 1_000_000_000_000_000;
    State::Held(Instant::now() + Duration::from_nanos(nanoseconds.min(LONGEST)), held)
}

/// Does what the fault has left to do when the call ends. Returns the state in which it holds the thread then.
pub(super) fn carry_out(tid: u32, pending: Pending, ret: &mut i64) -> Result<Option<State>, Errno> {
    match pending {
        Pending::Return(value) => {
            // A filter of the program's own, which is asked after us, may have given another answer.
            if *ret != value {
                let mut registers = Registers::of(tid)?;
                registers.set_ret(value);
                registers.put(tid)?;
                *ret = value;
            }
            Ok(None)
        }
        Pending::GiveBack(nr) => {
            let mut registers = Registers::of(tid)?;
            registers.replace_second(nr);
            registers.put(tid)?;
            Ok(None)
        }
        Pending::Late(time) => Ok(Some(held(time, Held::AtExit(*ret)))),
    }
}
