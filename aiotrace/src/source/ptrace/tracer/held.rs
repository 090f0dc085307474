//! What is left of a fault: threads that are held, and what is done when the call ends.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Tracer;
use crate::source::ptrace::{
    faults, requests,
    tracee::{Held, Pending, State, Tracee},
};

impl Tracer {
    /// When the next fault lets a thread go on.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if !self.holds {
            return None;
        }
        let due = |it: &Tracee| match it.state {
            State::Held(until, _) => Some(until),
            _ => None,
        };
        self.tracees.values().filter_map(due).min()
    }

    pub(super) fn release_held(&mut self, now: Instant) {
        if !self.holds {
            return;
        }
        let due = |it: &&Tracee| matches!(it.state, State::Held(until, _) if until <= now);
        let due: Vec<u32> = self.tracees.values().filter(due).map(|it| it.tid).collect();
        for tid in due {
            if let Some(State::Held(_, held)) = self.tracees.get(&tid).map(|it| it.state) {
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
    // Longer is as good as for ever.
    const LONGEST: u64 = 1_000_000_000_000_000;
    State::Held(Instant::now() + Duration::from_nanos(nanoseconds.min(LONGEST)), held)
}

/// Does what is left of a fault when the call ends. Gives the state in which it is held then.
pub(super) fn carry_out(tid: u32, pending: Pending, ret: &mut i64) -> Result<Option<State>, Errno> {
    match pending {
        Pending::Return(value) => {
            // A filter of the program's own, asked after us, may have had another answer.
            if *ret != value {
                let mut registers = requests::registers(tid)?;
                registers.rax = value as u64;
                requests::set_registers(tid, &registers)?;
                *ret = value;
            }
            Ok(None)
        }
        Pending::GiveBack(nr) => {
            let mut registers = requests::registers(tid)?;
            *faults::second_argument(&mut registers) = nr;
            requests::set_registers(tid, &registers)?;
            Ok(None)
        }
        Pending::Late(time) => Ok(Some(held(time, Held::AtExit(*ret)))),
    }
}
