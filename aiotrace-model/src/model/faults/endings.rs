//! What shows in that nothing follows: time passes, the process ends, the trace ends.

use std::collections::BTreeMap;

use super::{
    Faults,
    sharers::{move_space, of_space},
    telling::watched_until,
    watched::{Kind, Want, Watched},
};
use crate::{
    any_order::AnyOrder as _,
    event::{ExitStatus, Handle, SpaceId, Syscall},
    model::{
        Doubt, Map, Model,
        context::Context,
        verdict::{Cause, Doing, Going, HUNG_AFTER, Half, STILL_AFTER},
    },
};

/// A retry that is due may be late by this; nanoseconds.
const LATE: u64 = 50_000_000;

impl Faults {
    /// What follows is not known for sure; `None`: of nobody.
    pub fn unsure(&mut self, space: Option<SpaceId>, doubt: Doubt) {
        let is_meant = |it: &&mut Watched| space.is_none_or(|space| it.space == space);
        for watched in self.watched.values_mut().filter(is_meant) {
            watched.doubt.get_or_insert(doubt);
            watched.since.goes_on(doubt);
        }
    }

    /// An address space that stood for a process has become known.
    pub fn moved(&mut self, from: SpaceId, to: SpaceId) {
        let is_meant = |it: &&mut Watched| it.space == from;
        self.watched.values_mut().filter(is_meant).for_each(|it| it.space = to);
        let wanted: Vec<_> =
            self.wanted.extract_in_any_order(|(space, _), _| *space == from).collect();
        for ((_, want), mut list) in wanted {
            self.wanted.entry((to, want)).or_default().append(&mut list);
        }
        self.children.moved(from, to);
        self.given.moved(from, to);
        for is_write in [false, true] {
            if let Some(ranges) = self.ranges.remove(&(from, is_write)) {
                self.ranges.entry((to, is_write)).or_default().append(ranges);
            }
        }
        if let Some(activity) = self.active.remove(&from) {
            self.active.insert(to, activity);
        }
        rename(&mut self.completed, from, to);
        rename(&mut self.changed, from, to);
        rename(&mut self.undelivered, from, to);
        move_space(&mut self.paths, from, to);
        self.placeless.moved(from, to);
        self.sharers.moved(from, to);
    }

    /// A ring was moved, so its context has another handle.
    pub fn ring_moved(&mut self, space: SpaceId, from: Handle, to: Handle) {
        self.given.ring_moved(space, from, to);
        let is_meant = |it: &&mut Watched| it.space == space && it.current() == from;
        for it in self.watched.values_mut().filter(is_meant) {
            it.moved = Some(to);
            it.wants.iter_mut().for_each(|want| *want = want.moved(from, to));
        }
        let is_of_it = |(of, want): &(SpaceId, Want)| *of == space && want.moved(from, to) != *want;
        let wanted: Vec<_> = self.wanted.extract_in_any_order(|key, _| is_of_it(key)).collect();
        for ((_, want), mut list) in wanted {
            self.wanted.entry((space, want.moved(from, to))).or_default().append(&mut list);
        }
    }

    /// The address space is gone: its last process exited, or runs another program (no status).
    pub fn ended(&mut self, space: SpaceId, exit: Option<ExitStatus>, time: u64) {
        let numbers = self.of_space(space);
        if self.completed.len() + self.changed.len() > 0 {
            self.completed.retain_in_any_order(|(of, ..), _| *of != space);
            self.changed.retain_in_any_order(|(of, ..), _| *of != space);
        }
        self.undelivered.retain_in_any_order(|(of, ..), _| *of != space);
        let going = exit.map_or(Going::Exec, Going::Ended);
        for number in numbers {
            let Some(watched) = self.watched.get_mut(&number) else { continue };
            // What was left when its contexts ended is known.
            watched.is_unreaped = false;
            let Some(watched) = self.watched.get(&number) else { continue };
            let told = watched.told.filter(|_| !self.is_back(watched));
            let (half, going) = match (going.is_killed(), told) {
                // What was told of it stands: nobody knows what it would have done.
                (true, Some(told)) => {
                    let is_hung = told.going == Some(Going::Hung);
                    let half = match told.half {
                        _ if watched.has_completed().is_some() => watched.half(self.watches),
                        Half::Lost => watched.half(self.watches),
                        // It has come back since.
                        Half::GaveUp if watched.retries > 0 => watched.half(self.watches),
                        half => (half, told.doubt),
                    };
                    (half, if is_hung { Going::Hung } else { going })
                }
                (true, None) => (watched.half_at_end(self.watches), going),
                (false, _) => (watched.half(self.watches), going),
            };
            // Its descriptors are those of the next program, if they are not closed by that.
            let half = match (half.0, going) {
                (Half::Lost, Going::Exec) => (Half::Unsure, Some(Doubt::Exec)),
                _ => half,
            };
            self.close(number, half, Some(going), Some(time));
        }
        self.active.remove(&space);
        // The number of an address space is given again.
        of_space(&mut self.paths, space);
        self.placeless.ended(space);
        self.sharers.ended(space);
    }

    /// Whether the processes were ended because they took too long.
    pub fn is_timed_out(&self) -> bool {
        self.is_timed_out
    }

    /// The processes were ended because they took too long: at this time.
    pub fn timed_out(&mut self, time: u64) {
        self.is_timed_out = true;
        let numbers: Vec<u64> = self.watched.keys().copied().collect();
        for number in numbers {
            let Some(watched) = self.watched.get(&number) else { continue };
            let half = match watched.told {
                Some(told) if told.half == Half::Lost => watched.half(self.watches),
                _ => watched.half_at_end(self.watches),
            };
            let going = Going::TimedOut(self.doing(watched, time));
            self.close(number, half, Some(going), Some(time));
        }
    }

    /// What the process was doing about a fault at this time.
    fn doing(&self, it: &Watched, time: u64) -> Doing {
        let active = self.active.get(&it.space);
        let last = active.map_or(it.time, |active| active.last.max(it.time));
        let still = time.saturating_sub(last);
        // How long it took before: the faults that its retries met, or this one.
        let pace = it.before.last().and_then(|it| it.after).or(it.after);
        let tries = it.retries.saturating_add(it.before.len() as u64);
        let is_on = |pace: u64| still <= pace.saturating_mul(8).saturating_add(LATE);
        // Perhaps the tracer holds it there, because it is behind.
        if active.is_some_and(|it| it.is_in_submit) && it.settled.is_none() && tries > 0 {
            return Doing::Retries;
        }
        match still < STILL_AFTER {
            true if it.settled.is_none() && tries > 1 && pace.is_some_and(is_on) => Doing::Retries,
            true => Doing::Calls,
            false => Doing::Nothing(still),
        }
    }

    fn of_space(&self, space: SpaceId) -> Vec<u64> {
        let is_meant = |(_, it): &(&u64, &Watched)| it.space == space;
        self.watched.iter().filter(is_meant).map(|it| *it.0).collect()
    }

    /// The trace is over.
    fn finish(&mut self) {
        let numbers: Vec<u64> = self.watched.keys().copied().collect();
        for number in numbers {
            let Some(watched) = self.watched.get(&number) else { continue };
            let told = watched.told.filter(|_| !self.is_back(watched));
            let (half, going) = match told {
                None => (watched.half_at_end(self.watches), Going::Running),
                Some(told) if told.going == Some(Going::Hung) => match watched.has_completed() {
                    // What it had submitted again was done while it hung.
                    Some(_) => (watched.half(self.watches), Going::Hung),
                    None => continue,
                },
                // What was lost, or given up, may have come back.
                Some(told) => (watched.half(self.watches), told.going.unwrap_or(Going::Running)),
            };
            self.close(number, half, Some(going), None);
        }
    }
}

impl Model {
    /// What shows in that nothing happens.
    pub(in crate::model) fn judge_faults(&mut self) {
        self.faults.now = self.now;
        // A look may be newer than what is known of the calls.
        let now = self.faults.heard;
        self.see_what_is_unreaped();
        let is_past = |time: u64| time.saturating_add(HUNG_AFTER) <= now;
        let mut verdicts: Vec<(u64, (Half, Option<Doubt>), Going)> = Vec::new();
        let mut waiting: BTreeMap<SpaceId, (bool, bool)> = BTreeMap::new();
        let watches = self.faults.watches;
        let is_open = |it: &Watched| it.told.is_none() || self.faults.is_back(it);
        for (number, it) in self.faults.watched.iter().filter(|(_, it)| is_open(it)) {
            if !is_past(it.time) {
                break;
            }
            let activity = self.faults.active.get(&it.space).copied().unwrap_or_default();
            let is_still = is_past(activity.last);
            let mut waits = || {
                let (in_flight, unreaped) =
                    *waiting.entry(it.space).or_insert_with(|| self.waits(it.space));
                let may_wait = matches!(it.kind, Kind::Call) && it.retries == 0;
                (may_wait && unreaped)
                    || (matches!(it.kind, Kind::Completion { .. }) && (in_flight || unreaped))
            };
            let went_on = activity.calls > it.calls && it.retries == 0;
            let is_told_by_end = matches!(it.kind, Kind::Destroy);
            // Whoever has no context may do without, and make no AIO call at all.
            let does_without = it.cause == Cause::Call(Syscall::Setup) && it.retries == 0;
            let half = || it.half(watches);
            let verdict = if it.settled.is_some() {
                Some((half(), Going::Running))
            } else if let Some(time) = it.has_completed() {
                is_past(time).then(|| (half(), Going::Running))
            } else if it.doubt.is_some() {
                // Its end tells.
                None
            } else if it.over.is_some_and(is_past) {
                Some((half(), Going::Running))
            } else if is_still && it.over.is_none() && (is_refused(it) || waits()) {
                // A program whose iocb carries another request by now does not wait for this one.
                match it.is_replaced() {
                    true => Some((half(), Going::Running)),
                    false => Some((it.half_at_end(watches), Going::Hung)),
                }
            } else if does_without || went_on && !is_still && !is_told_by_end {
                // As long as completions wait to be reaped, the program may not have got its own.
                let is_got = !matches!(it.kind, Kind::Completion { .. })
                    || !waiting.entry(it.space).or_insert_with(|| self.waits(it.space)).1;
                is_got.then(|| (half(), Going::Running))
            } else {
                None
            };
            verdicts.extend(verdict.map(|(half, going)| (*number, half, going)));
        }
        for (number, half, going) in verdicts {
            self.faults.tell(number, half, Some(going), None);
        }
        let watched = &self.faults.watched;
        let is_waited_for = |it: &Watched| it.told.is_none() || now < watched_until(it.time);
        self.faults.owing.retain(|it| watched.get(it).is_some_and(is_waited_for));
    }

    /// Whoever waits again, while requests are left, may wait for one of these, and have dropped another.
    fn see_what_is_unreaped(&mut self) {
        let Self { faults, contexts, .. } = self;
        for it in faults.watched.values_mut().filter(|it| it.waits()) {
            let context = contexts.get(&(it.space, it.current()));
            it.is_unreaped = context.is_some_and(Context::has_unreaped);
        }
    }

    /// Whether the address space has requests in flight that end by themselves, and completions to reap.
    fn waits(&self, space: SpaceId) -> (bool, bool) {
        let contexts =
            self.contexts.in_any_order().filter(|((of, _), _)| *of == space).map(|it| it.1);
        contexts.fold((false, false), |(in_flight, unreaped), it| {
            let ends = it.requests.iter().any(|it| !it.is_poll());
            (in_flight || ends, unreaped || it.requests.unreaped() > 0)
        })
    }

    /// `--timeout`: the traced program is ended now, because it took too long.
    pub fn timed_out(&mut self, time: u64) {
        self.now = self.now.max(time);
        self.faults.now = self.now;
        self.moment = self.now;
        self.waited = Some(self.waits_in_calls());
        self.faults.timed_out(time);
        self.drop_what_waits(time);
    }

    /// The trace is over.
    pub(in crate::model) fn end_faults(&mut self) {
        self.judge_faults();
        self.faults.finish();
    }
}

/// Whether io_submit did not take it, and still has not.
fn is_refused(it: &Watched) -> bool {
    matches!(it.kind, Kind::Submit { .. }) && it.left().0 > 0
}

/// What is known of one address space is of another one from now on.
fn rename<T>(known: &mut Map<(SpaceId, u64, u64), T>, from: SpaceId, to: SpaceId) {
    let all: Vec<_> = known.extract_in_any_order(|(space, ..), _| *space == from).collect();
    known.extend(all.into_iter().map(|((_, iocb, data), it)| ((to, iocb, data), it)));
}
