//! The end: everybody is let go, or, with a filter, traced on in silence.

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, poll};

use super::{LOOK_AGAIN, Last, PAUSE, Tracer, stops::Unstopped};
use crate::{
    clock::timeout,
    errand::{Errand as _, ThreadState},
    source::{
        backlog::Message,
        collector::{End, Signals},
        ptrace::{
            requests,
            tracee::{State, Tracee},
        },
    },
};

/// And when we let them go. The kernel lets go of those that have not stopped by then.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

impl Tracer {
    /// The last message. Another thread waits until the reader takes it: see [`Self::leave`].
    pub(super) fn end(&mut self, end: End) {
        if let Some(feeder) = self.calls.records.take() {
            let _ = self.last.send(Last { feeder, end });
        }
    }

    /// Traces on without telling anything: the filter needs somebody who answers.
    pub(super) fn keep(&mut self, signals: &mut Signals) {
        loop {
            while signals.take().is_some() {}
            loop {
                match self.next_stop() {
                    Ok(Some((tid, status))) => self.stopped(tid, status),
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            let now = Instant::now();
            self.release_held(now);
            self.adopt_orphans(now);
            let due = self.next_due().into_iter().chain(self.next_orphan()).min();
            let due = due.map(|it| it.saturating_duration_since(now));
            let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, timeout(due.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)));
        }
    }

    /// Lets go of all tracees. Those that are in a call are not interrupted: the kernel lets go of them when this
    /// thread ends, and they do not notice. (Whoever comes out of its call before that is stopped where it ends, and
    /// goes on from there.) So nothing may be waited for after this.
    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
        while let Some((tid, status)) = self.turns.next() {
            self.stopped(tid, status);
        }
        let start = Instant::now();
        // Of a fault something may be left to do where the call ends.
        let is_in_call = |it: &&Tracee| {
            let has_fault = it.call.as_ref().is_some_and(|it| it.verdict.is_some());
            it.state == State::Running && it.at_entry && !has_fault
        };
        let others = self.tracees.values().filter(|it| !is_in_call(it));
        let tids: Vec<u32> = others.map(|it| it.tid).collect();
        for tid in tids.iter().copied() {
            let Some(tracee) = self.tracees.get(&tid) else { continue };
            match tracee.state {
                State::Running | State::GroupStopped => {
                    let _ = requests::interrupt(tid);
                }
                State::Stopped(_) | State::Held(..) => self.go_on(tid),
            }
        }
        for tid in std::mem::take(&mut self.early).into_keys() {
            let _ = requests::detach(tid, 0);
        }
        let mut unstopped = Unstopped::new(tids, LAST_PATIENCE, start);
        loop {
            let any = unstopped.round(Instant::now(), |tid| {
                if let Ok(Some(status)) = requests::wait_for(tid) {
                    self.stopped(tid, status);
                }
                !self.is_known(tid)
            });
            if unstopped.is_over(Instant::now(), |tid| self.cannot_stop(*tid)) {
                break;
            }
            // Those that are new.
            if !any {
                match requests::wait() {
                    Ok(Some((tid, status))) => self.stopped(tid, status),
                    Ok(None) => std::thread::sleep(PAUSE),
                    Err(_) => break,
                }
            }
        }
    }

    pub(super) fn tell_cut_short(&mut self) {
        let text = match self.cut_short {
            0 => return,
            1 => "a write(2) or send(2) wrote a part only when its thread was stopped (attach or detach by ptrace), \
                  perhaps because of that; as after a signal, the rest is for the program to write"
                .to_owned(),
            count => format!(
                "{count} calls of write(2) or send(2) wrote a part only when their threads were stopped (attach or \
                 detach by ptrace), perhaps because of that; as after a signal, the rest is for the program to write"
            ),
        };
        self.calls.records.say(Message::Note(text));
    }

    /// It waits for something in the kernel that no signal interrupts, or has ended.
    pub(super) fn cannot_stop(&self, tid: u32) -> bool {
        let pid = self.tracees.get(&tid).map_or(tid, |it| it.pid);
        // Of one that nobody answers for it is not known.
        matches!(ThreadState { pid, tid }.ask(), Some(None | Some(b'D' | b'Z' | b'X')))
    }
}
