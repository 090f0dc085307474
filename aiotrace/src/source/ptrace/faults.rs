//! Faults: a call is judged when it begins, a completion when its entry is first seen in the ring.
//!
//! The result that the program gets can be changed in two places: in the ring, as long as nobody has reaped the
//! completion, and in the memory into which io_getevents has just copied it. A program that reaps from the ring by
//! itself may be faster than we are; then the fault is reported as missed.

mod changes;
mod requests;

use aiotrace_common::{
    abi::{RingHeader, Syscall},
    fault::{action, effect, what},
};
use nix::errno::Errno;

use self::{
    changes::{Array, Change, is_changed_in_ring, tell},
    requests::{Requests, given},
};
use super::{
    Rules,
    heads::Heads,
    in_flight::InFlight,
    records::Records,
    rings::New,
    tracee::{InCall, Pending, Tracee},
};
use crate::{
    arch::Registers,
    fault::{Case, Verdict},
};

/// Most changes that wait for the thread that reaped the completion.
const MOST_WAITING: usize = 4096;

/// The fault rules, and the changes that are still to be made.
pub struct Faults {
    rules: Rules,
    waiting: Vec<Waiting>,
    /// Requests in flight, if a rule has to know whose completion it changes.
    in_flight: Option<InFlight>,
    /// Knows which programs move the heads of their rings by themselves.
    heads: Heads,
    /// A completion was changed since [`Self::take_changed`] was called last.
    has_changed: bool,
}

/// A change to a completion that one of these threads has reaped, whose io_getevents has not returned yet.
struct Waiting {
    change: Change,
    space: u64,
    tids: Vec<u32>,
}

/// The events that a call has reaped.
#[derive(Clone, Copy, Debug)]
pub struct Reaped {
    /// The address of the array.
    pub events: u64,
    /// How many events are in it.
    pub count: u64,
}

impl Reaped {
    /// What this call has reaped, if it returned `ret`.
    pub fn by(call: &InCall, ret: i64) -> Option<Self> {
        let is_reaper = matches!(call.syscall, Syscall::Getevents | Syscall::Pgetevents);
        is_reaper.then_some(Self { events: call.args[3], count: ret.max(0) as u64 })
    }
}

/// What can be seen of completions when a call begins or ends.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The call.
    pub call: &'a InCall,
    /// Entries that are new in the ring of the call.
    pub new: &'a [New],
    /// The events that the call gives to the program.
    pub reaped: Option<Reaped>,
    /// Other threads in io_getevents, any of which may have reaped the new entries.
    pub others: &'a [u32],
    /// The time of the look, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
}

/// How a call goes on after it was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    /// The call takes place.
    On,
    /// The call takes place after this many nanoseconds.
    Later(u64),
    /// The call does not take place.
    Not,
}

impl Faults {
    /// Makes faults by these rules.
    pub fn new(rules: Rules) -> Self {
        let in_flight = rules.judge.needs_requests(what::COMPLETE).then(InFlight::default);
        Self { rules, waiting: Vec::new(), in_flight, heads: Heads::default(), has_changed: false }
    }

    /// Whether a rule is about completions, so that they must be looked at.
    pub fn are_about_completions(&self) -> bool {
        self.rules.judge.is_about(what::COMPLETE)
    }

    /// Whether a completion was changed since this function was called last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// How many calls and completions could not be counted, and so had no fault.
    pub fn uncounted(&self) -> u64 {
        self.rules.judge.uncounted()
    }

    /// Forgets the counts of a process that ended.
    pub fn process_ended(&mut self, pid: u32) {
        self.rules.judge.process_ended(pid);
    }

    /// Judges a call that begins, and changes the registers as the verdict says.
    ///
    /// # Errors
    /// The thread is dead.
    pub fn call(&mut self, tracee: &Tracee, call: &mut InCall) -> Result<Goes, Errno> {
        let goes = self.judge_call(tracee, call);
        if let Some(in_flight) = &mut self.in_flight
            && call.syscall == Syscall::Submit
            && goes != Ok(Goes::Not)
        {
            let iocbs = given(tracee, call);
            let site = call.site.as_ref();
            in_flight.given(tracee.tid, (tracee.space, call.args[0]), site, iocbs);
        }
        goes
    }

    /// A call has returned.
    pub fn returned(&mut self, tracee: &Tracee, call: &InCall, ret: i64) {
        if call.syscall == Syscall::Destroy && ret == 0 {
            self.heads.forget(tracee.space, call.args[0]);
        }
        let Some(in_flight) = &mut self.in_flight else { return };
        match call.syscall {
            Syscall::Submit => in_flight.returned(tracee.tid, ret.max(0) as usize),
            Syscall::Destroy if ret == 0 => in_flight.destroyed(tracee.space, call.args[0]),
            _ => (),
        }
    }

    fn judge_call(&mut self, tracee: &Tracee, call: &mut InCall) -> Result<Goes, Errno> {
        let is_submit = call.syscall == Syscall::Submit;
        let case = Case {
            what: what::call(call.syscall),
            pid: tracee.pid,
            tid: tracee.tid,
            ctx: if call.syscall == Syscall::Setup { 0 } else { call.args[0] },
            nr: if is_submit { call.args[1] as i64 } else { 0 },
            now: call.entered,
        };
        let mut requests = Requests::of(tracee, call);
        let verdict = self.rules.judge.decide(&case, |rule| requests.has(rule));
        let Some(Verdict { number, action, value }) = verdict else { return Ok(Goes::On) };
        call.fault = number;
        if self.rules.dry_run {
            call.fault |= effect::DRY_RUN;
            return Ok(Goes::On);
        }
        match action {
            action::ERROR => {
                call.verdict = Some(Pending::Return(value));
                let mut registers = Registers::of(tracee.tid)?;
                // If we die now, the program still gets its errno, and not ENOSYS.
                registers.leave_out(value);
                registers.put(tracee.tid)?;
                Ok(Goes::Not)
            }
            action::ACCEPT => {
                // If we die now, the program goes on with this register changed. That cannot be avoided: the kernel
                // reads the register when the call begins, and a thread that does not stop in between cannot get it
                // back before the call ends. To change the array of iocbs instead would leave more behind.
                let mut registers = Registers::of(tracee.tid)?;
                let nr = registers.replace_second(value as u64);
                call.verdict = Some(Pending::GiveBack(nr));
                registers.put(tracee.tid)?;
                Ok(Goes::On)
            }
            action::DELAY_ENTER => Ok(Goes::Later(value.max(0) as u64)),
            action::DELAY_EXIT => {
                call.verdict = Some(Pending::Late(value.max(0) as u64));
                Ok(Goes::On)
            }
            _ => {
                call.fault |= effect::MISSED;
                Ok(Goes::On)
            }
        }
    }

    /// Looks at the head of a ring when a call on its context begins, or ends with `given` events. `is_disturbed`:
    /// other threads may be reaping.
    pub fn look_at_head(
        &mut self,
        tracee: &Tracee,
        call: &InCall,
        reaped: Option<Reaped>,
        is_disturbed: bool,
    ) {
        let handle = call.args[0];
        if call.syscall != Syscall::Setup
            && let Some(ring) = tracee.memory().value::<RingHeader>(handle)
        {
            let given = reaped.map_or(0, |it| it.count);
            self.heads.look((tracee.space, handle), (ring.nr, ring.head), given, is_disturbed);
        }
    }

    /// Judges the completions that are new in a ring, in their order, and changes them where they are: in the ring,
    /// or in the array into which this call has copied them.
    pub fn completions(&mut self, tracee: &mut Tracee, records: &mut Records, seen: &Seen<'_>) {
        let Seen { call, new, reaped, others, time } = *seen;
        let handle = call.args[0];
        let judged = |it: &New| self.judge(tracee, handle, it, time);
        let changes: Vec<Change> = new.iter().filter_map(judged).collect();
        let mut array = Array::of(tracee, reaped);
        // Completions that another thread saw first, while this thread was reaping them.
        for (change, index) in self.found_by(tracee, handle, &mut array) {
            let effect = match index {
                Some(index) if array.change(tracee, index, change.res) => 0,
                _ => effect::MISSED,
            };
            self.has_changed |= effect == 0;
            tell(tracee, records, &change, index, effect, time);
        }
        for change in changes {
            if self.rules.dry_run {
                tell(tracee, records, &change, None, effect::DRY_RUN, time);
            } else if let Some(index) = array.find(&change) {
                let is_done = array.change(tracee, index, change.res);
                let effect = if is_done { 0 } else { effect::MISSED };
                self.has_changed |= is_done;
                tell(tracee, records, &change, Some(index), effect, time);
            } else if call.syscall != Syscall::Destroy && is_changed_in_ring(tracee, &change) {
                self.has_changed = true;
                let by_hand = self.heads.are_moved_by_hand(tracee.space, handle);
                let effect = if by_hand { effect::UNSURE } else { 0 };
                tell(tracee, records, &change, None, effect, time);
            } else if !others.is_empty() && self.waiting.len() < MOST_WAITING {
                let (space, tids) = (tracee.space, others.to_vec());
                self.waiting.push(Waiting { change, space, tids });
            } else {
                tell(tracee, records, &change, None, effect::MISSED, time);
            }
        }
    }

    /// Changes that waited for this thread, and where in its array their completions are. `None` stands for nowhere;
    /// then no other thread can have reaped the completion either.
    fn found_by(
        &mut self,
        tracee: &Tracee,
        handle: u64,
        array: &mut Array,
    ) -> Vec<(Change, Option<usize>)> {
        let mut found = Vec::new();
        self.waiting.retain_mut(|it| {
            let is_meant = it.space == tracee.space && it.change.handle == handle;
            if !is_meant || !it.tids.contains(&tracee.tid) {
                return true;
            }
            it.tids.retain(|tid| *tid != tracee.tid);
            let index = array.find(&it.change);
            let is_over = index.is_some() || it.tids.is_empty();
            if is_over {
                found.push((it.change, index));
            }
            !is_over
        });
        found
    }

    fn judge(&mut self, tracee: &Tracee, handle: u64, new: &New, now: u64) -> Option<Change> {
        let New { position, event } = *new;
        let (pid, tid) = (tracee.pid, tracee.tid);
        let case = Case { what: what::COMPLETE, pid, tid, ctx: handle, nr: 0, now };
        let in_flight = self.in_flight.as_mut();
        let known = in_flight.and_then(|it| it.take((tracee.space, handle), &event));
        let mut requests = Requests::of_event(tracee, &event, known);
        let verdict = self.rules.judge.decide(&case, |rule| requests.has(rule))?;
        let (res, rule) = (verdict.value, verdict.number);
        (verdict.action == action::RESULT).then_some(Change { handle, position, event, res, rule })
    }
}
