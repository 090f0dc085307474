//! The end of a trace: all tracees are let go, or, if they have a filter, traced on in silence.

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

/// How long we wait for tracees to stop, so that they can be let go. The kernel lets go of those that have not
/// stopped by then.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

impl Tracer {
    /// Sends the last message. Another thread waits until the reader takes it, see [`Self::leave`].
    pub(super) fn end(&mut self, end: End) {
        if let Some(feeder) = self.calls.records.take() {
            let _ = self.last.send(Last { feeder, end });
        }
    }

    /// Traces on without recording anything, because the filter needs a tracer that answers.
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
    /// thread ends, and they do not notice. (A thread that comes out of its call before that stops at the end of the
    /// call, and goes on from there.) So the tracer must not wait for anything after this.
    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
        while let Some((tid, status)) = self.turns.next() {
            self.stopped(tid, status);
        }
        let start = Instant::now();
        // A fault may have something left to do at the end of the call.
        let is_in_call = |it: &&Tracee| {
            let has_fault = it.call.as_ref().is_some_and(|it| it.verdict.is_some());
            it.state == State::Running && it.at_entry && !has_fault
        };
        let others = self.tracees.values().filter(|it| !is_in_call(it));
        let tids: Vec<u32> = others.map(|it| it.tid).collect();
        for tid in tids.iter().copied() {
            let Some(tracee) = self.tracees.get_mut(&tid) else { continue };
            match tracee.state {
                State::Running | State::GroupStopped => {
                    let _ = tracee.interrupt();
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
            // Threads and processes that were made in the meantime.
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

    /// Whether a thread cannot stop: it waits in the kernel for something that no signal interrupts, or it has ended.
    pub(super) fn cannot_stop(&self, tid: u32) -> bool {
        let pid = self.tracees.get(&tid).map_or(tid, |it| it.pid);
        // If the look at the thread got no answer, it is unknown whether it can stop.
        matches!(ThreadState { pid, tid }.ask(), Some(None | Some(b'D' | b'Z' | b'X')))
    }
}
