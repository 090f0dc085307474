//! The loop of the tracer: it handles stops, hands records on, and does what is due.

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use aiotrace_common::record::{Lost, Thread};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{LOOK_AGAIN, Tracer, Wakers};
use crate::{
    clock::{monotonic, timeout},
    errand,
    source::{
        Losses,
        backlog::Message,
        collector::{Asked, End, Reason},
        ptrace::{faults::Faults, tracee::Tracee},
    },
};

/// How long records are gathered before they are handed on.
const GATHER: Duration = Duration::from_millis(5);

impl Tracer {
    /// The threads that are in an AIO call.
    fn in_calls(&self) -> Vec<Thread> {
        self.tracees.values().filter_map(Tracee::in_call).collect()
    }

    pub(super) fn trace(mut self, wakers: Wakers) {
        let Wakers { mut signals, stop, mut alarm } = wakers;
        errand::all_are_urgent();
        let start = Instant::now();
        let mut told = Losses::default();
        let mut looked = start;
        let reason = 'trace: loop {
            // Signals are taken before the stops: a thread that stops later sends another signal.
            while let Some(asked) = signals.take() {
                if asked == Asked::Report {
                    self.calls.records.hand_on();
                    let in_calls = self.in_calls();
                    self.calls.records.say(Message::Report(self.losses(), in_calls));
                }
            }
            let (began, before) = (Instant::now(), monotonic());
            // There may be more stops, and nothing will wake us for them: signals of several threads become one.
            let mut has_more = true;
            while has_more && began.elapsed() < GATHER {
                match self.next_stop() {
                    Ok(Some((tid, status))) => {
                        self.stopped(tid, status);
                        // A single thread wakes us by itself when it stops again.
                        has_more = !self.is_alone() || !self.turns.are_over();
                    }
                    Ok(None) => has_more = false,
                    Err(_) => break 'trace Reason::TargetsGone,
                }
            }
            let now = Instant::now();
            self.looked = self.looked.max(stop.looked());
            self.release_held(now);
            self.adopt_orphans(now);
            self.unwatch(stop.settled());
            if self.processes.is_over() && self.early.is_empty() {
                break Reason::TargetsGone;
            }
            if let Some(reason) = stop.reason() {
                break reason;
            }
            if looked.elapsed() > LOOK_AGAIN {
                looked = now;
                let losses = self.losses();
                if losses != told && self.calls.records.say(Message::Lost(losses)) {
                    told = losses;
                }
            }
            let mut wait = if has_more { Duration::ZERO } else { LOOK_AGAIN };
            if let Some(duration) = self.options.duration {
                let left = duration.saturating_sub(start.elapsed());
                if left.is_zero() {
                    break Reason::TimeOver;
                }
                wait = wait.min(left);
            }
            if self.calls.records.waits {
                let left = GATHER.saturating_sub(self.handed_on.elapsed());
                if left.is_zero() {
                    self.calls.records.hand_on();
                    self.handed_on = now;
                    if let Some(tid) = self.stopped_last.take() {
                        self.place.follow(tid);
                    }
                }
                // Records that the reader cannot take wait as long again.
                wait = wait.min(if left.is_zero() { GATHER } else { left });
            }
            if !has_more && !self.calls.records.waits {
                stop.knows(before);
            }
            if let Some(due) = self.next_due().into_iter().chain(self.next_orphan()).min() {
                wait = wait.min(due.saturating_duration_since(now));
            }
            let is_set = !wait.is_zero() && alarm.set(now, wait).is_ok();
            let mut fds = [signals.as_fd(), stop.as_fd(), stop.curious(), alarm.as_fd()]
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            let _ = poll(&mut fds, if is_set { PollTimeout::NONE } else { timeout(wait) });
            if fds[2].any() == Some(true) {
                stop.is_heard();
            }
        };
        stop.over();
        let attached = start.elapsed();
        let in_calls = self.in_calls();
        self.is_over = true;
        if let Some(uncounted @ 1..) = self.faults.as_ref().map(Faults::uncounted) {
            let text =
                format!("{uncounted} calls and completions had no fault: too many to be counted");
            self.calls.records.say(Message::Note(text));
        }
        if let Some(sites) = &self.calls.sites {
            sites.tell(|text| self.calls.records.say(Message::Note(text)));
        }
        let losses = self.losses();
        let end = End { reason, losses, in_calls, attached, runs: None, counted: None };
        if self.is_filtered() {
            let left = self.processes.pids().count();
            if reason == Reason::TargetsGone && left > 0 {
                let text = format!(
                    "{left} other processes that the program started end with aiotrace (-f traces them, \
                     --no-seccomp lets them live)"
                );
                self.calls.records.say(Message::Note(text));
            }
            self.end(end);
            self.keep(&mut signals);
        } else {
            self.leave();
            self.tell_cut_short();
            self.end(end);
        }
    }

    fn losses(&self) -> Losses {
        let mut losses = Losses { queue_full: self.calls.records.dropped(), ..Losses::default() };
        losses.probes[Lost::NoContextSlot as usize] = self.calls.rings.forgotten;
        losses
    }
}
