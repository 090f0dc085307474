//! What the model learns from the end of a context, of a process and of the trace.

use super::{
    Doubt, Model, SECOND,
    process::{Released, Short},
    report::{Destroying, End},
};
use crate::{
    any_order::AnyOrder as _,
    event::{Call, Event, ExitStatus, Gone, Handle, How, SpaceId},
    model::{Context, rules::delivered},
};

/// The contexts of a process end one after the other, within this time.
const TOGETHER: u64 = SECOND / 10;
/// What a program that hangs has not submitted again after this time, it will not submit.
const LONG_SINCE: u64 = SECOND;

impl Model {
    pub(super) fn context_gone(&mut self, event: &Event, gone: &Gone) {
        let now = self.space(event.pid);
        let left = (gone.how == How::Exec).then(|| self.left_by(event.pid, gone.ctx, now));
        let space = left.flatten().unwrap_or(now);
        if gone.how == How::Destroy {
            self.is_no_leak((space, gone.ctx), event.time);
        }
        let Some(context) = self.take(space, gone.ctx, event.time) else { return };
        self.spaces.entry(space).or_default().ended_at.insert(context.innermost);
        if gone.how == How::Destroy {
            self.refusals_of_gone((space, gone.ctx), event.time);
            self.spaces.entry(space).or_default().destroyed(gone.ctx, event.time);
        }
        self.ended(space, context, gone, event);
    }

    /// The address space that a process has left by exec, found by a context that ends in it only at this event,
    /// because somebody else held that memory until then.
    fn left_by(&self, pid: u32, ctx: Handle, now: SpaceId) -> Option<SpaceId> {
        if self.contexts.contains_key(&(now, ctx)) {
            return None;
        }
        let is_it = |(_, it): &(&(SpaceId, Handle), &Context)| it.handle() == ctx && it.pid == pid;
        let mut spaces = self.contexts.in_any_order().filter(is_it).map(|((space, _), _)| *space);
        let space = spaces.next()?;
        spaces.next().is_none().then_some(space)
    }

    /// Takes out the context that ended. If two contexts had the handle and a probe sees the ends, it is the one that
    /// has the handle; otherwise it is the older one, whose end is known when its io_destroy returns.
    fn take(&mut self, space: SpaceId, ctx: Handle, time: u64) -> Option<Context> {
        let key = (space, ctx);
        let place = self.leaving.iter().position(|(of, _)| *of == key);
        let is_it = self.contexts.get(&key).is_some_and(|it| it.since <= time);
        match place {
            Some(place) if !is_it || !self.settings.exact_completions => {
                Some(self.leaving.remove(place).1)
            }
            _ if is_it => self.release(key),
            _ => None,
        }
    }

    fn ended(&mut self, space: SpaceId, mut context: Context, gone: &Gone, event: &Event) {
        let how = gone.how;
        if how != How::Destroy && context.has_unreaped() {
            self.faults.leaves_unreaped(space, context.handle());
        }
        if let Some(known) = self.spaces.get_mut(&space) {
            known.context_ended(context.name.id);
        }
        if how == How::Destroy {
            // How long io_destroy blocked, and what was in the ring, is known only when it returns.
            let key = (space, context.handle());
            let (gone, time) = (*gone, event.time);
            return self.ends.destroying.push(Destroying { key, context, gone, time });
        }
        let is_shared = self.spaces.get(&space).is_some_and(|it| it.is_shared);
        let doubt = is_shared.then_some(Doubt::SharedMemory);
        context.doubt = context.doubt.or(doubt);
        let process = self.name_then(space, context.pid);
        let is_exact = self.settings.exact_completions;
        if let Some(mut finding) = self.discarded(&context, gone, event.time, (None, is_exact)) {
            finding.process.clone_from(&process);
            self.find(finding, 0, 0);
        }
        let known = self.spaces.entry(space).or_default();
        let released = known.released.get_or_insert(Released {
            pid: context.pid,
            process: process.clone(),
            time: event.time,
            contexts: 0,
            charge: Some(0),
            by_exec: how == How::Exec,
            doubt,
        });
        released.contexts += 1;
        let both = released.charge.zip(context.charge);
        released.charge = both.map(|(sum, it)| sum + u64::from(it));
        self.forget_as(process, context, event.time, how.into());
    }

    /// It is told in the report.
    pub(super) fn forget(&mut self, context: Context, time: u64, end: End) {
        let process = self.names.get(&context.pid).cloned().unwrap_or_default();
        self.forget_as(process, context, time, end);
    }

    /// Likewise: its process had this name then.
    fn forget_as(&mut self, process: Vec<u8>, mut context: Context, time: u64, end: End) {
        // Nobody looked at its ring between the last call and the end.
        let is_bound = matches!(end, End::Exit | End::Exec) && !self.settings.exact_completions;
        if is_bound && context.requests.in_flight() > 0 {
            context.doubt.get_or_insert(Doubt::Window);
        }
        if end == End::Leaked
            && let Some(space) = self.spaces.get_mut(&self.space(context.pid))
        {
            space.has_leaked = true;
        }
        self.turns_end(&context, time);
        self.followed = self.followed.saturating_sub(context.requests.followed());
        self.ends.add(process, &context, time, end, &mut self.usages);
    }

    /// io_destroy returned, at this time; `None`: its return was not seen.
    pub(super) fn destroyed(&mut self, key: (SpaceId, Handle), call: Option<(&Call, u64)>) {
        let entered = call.and_then(|(call, _)| call.entered);
        let is_it = |it: &Destroying| it.key == key && entered.is_none_or(|began| it.time >= began);
        let Some(place) = self.ends.destroying.iter().position(is_it) else { return };
        let Destroying { mut context, gone, time, .. } = self.ends.destroying.remove(place);
        let every_call = self.settings.every_call;
        if let Some(ring) = call.and_then(|(call, _)| call.ring).filter(|_| every_call) {
            // This is the ring when the call began, and the context had its handle then.
            context.is_left = false;
            context.looked(ring, time);
            if context.is_reaped_by_hand() {
                self.faults.may_be_read(key.0, key.1);
            }
        }
        if context.has_unreaped() {
            self.faults.leaves_unreaped(key.0, key.1);
        }
        // A fault that delays the call is part of its duration, so the call's own time is unknown.
        let own = call.filter(|(call, _)| delivered(call.fault).is_none());
        let took = own.zip(entered).map(|((_, now), began)| now.saturating_sub(began));
        // Else its ring could be looked at when the call began.
        let is_seen = self.settings.exact_completions || !context.look.works_without;
        let finding = self.discarded(&context, &gone, time, (took, is_seen));
        self.forget(context, time, End::Destroyed);
        if let Some(finding) = finding {
            self.find(finding, 0, 0);
        }
    }

    /// A process has exited, or runs another program (then it has no status).
    pub(super) fn leave(&mut self, event: &Event, status: Option<ExitStatus>) {
        let space = self.space(event.pid);
        let Some(known) = self.spaces.get_mut(&space) else {
            self.child_left(space, status.is_some());
            return self.faults.ended(space, status, event.time);
        };
        known.users.retain(|pid| *pid != event.pid);
        if !known.users.is_empty() {
            if status.is_none() {
                // The process was made by vfork, and had the same files.
                self.goes_on(space, event.time);
            }
            return;
        }
        self.child_left(space, status.is_some());
        self.faults.ended(space, status, event.time);
        let name = self.names.get(&event.pid).cloned();
        let Some(known) = self.spaces.get_mut(&space) else { return };
        (known.ended, known.name) = (Some(event.time), name);
        self.end_refusals(Some(space));
        self.judge_files(Some(event.pid), false);
        self.judge_appends(Some(event.pid), false);
        let Some(known) = self.spaces.get_mut(&space) else { return };
        // A process that is killed drops everything.
        if !matches!(status, Some(ExitStatus::Signal(_))) {
            // The next program has the descriptors.
            let doubt = status.is_none().then_some(Doubt::Exec);
            for short in known.dropped(|_| true) {
                self.dropped(short, doubt);
            }
        }
    }

    /// The program hangs: what it has not submitted again by now, it most likely never will.
    pub(super) fn drop_what_waits(&mut self, time: u64) {
        let is_old = |it: &Short| it.time.saturating_add(LONG_SINCE) <= time;
        let all: Vec<Short> =
            self.spaces.in_any_order_mut().flat_map(|it| it.1.dropped(is_old)).collect();
        for short in all {
            self.dropped(short, Some(Doubt::Ended));
        }
    }

    /// Reports findings that were gathered with others of their kind, and forgets processes that are gone.
    pub(super) fn settle(&mut self, at_end: bool) {
        let now = self.now;
        let is_over = |time: u64| at_end || time.saturating_add(TOGETHER) <= now;
        let mut over = Vec::new();
        for (space, known) in self.spaces.in_any_order_mut() {
            let ended = known.ended.is_some_and(is_over);
            if ended || known.released.as_ref().is_some_and(|it| is_over(it.time)) {
                over.push((*space, ended));
            }
        }
        for (space, ended) in over {
            if ended && !at_end {
                self.close(space);
            } else {
                self.tell_released(space);
            }
        }
    }

    fn tell_released(&mut self, space: SpaceId) {
        let released = self.spaces.get_mut(&space).and_then(|it| it.released.take());
        if let Some(released) = released {
            self.released(released);
        }
    }

    /// Nobody uses this address space any more. (The kernel may give its address to another one.)
    pub(super) fn close(&mut self, space: SpaceId) {
        // No events of the ends of these contexts came.
        self.forget_contexts(space);
        self.tell_released(space);
        if let Some(old) = self.spaces.remove(&space) {
            let of_it = self.space_of.in_any_order().filter(|it| *it.1 == space);
            let stops = self.settings.stops;
            of_it.for_each(|(pid, _)| self.usages.ended(*pid, &old.files, stops));
        }
        self.space_of.retain_in_any_order(|_, of| *of != space);
    }

    /// In these address spaces no io_destroy will return any more.
    fn end_destroying(&mut self, is_meant: impl Fn(SpaceId) -> bool) {
        let next = |model: &Self| {
            model.ends.destroying.iter().map(|it| it.key).find(|(space, _)| is_meant(*space))
        };
        while let Some(key) = next(self) {
            self.destroyed(key, None);
        }
    }

    fn forget_contexts(&mut self, space: SpaceId) {
        let is_meant = |of: SpaceId| of == space;
        self.end_destroying(is_meant);
        self.forget_lost(|(of, _)| is_meant(of));
        let left: Vec<Context> =
            self.leaving.extract_if(.., |((of, _), _)| is_meant(*of)).map(|it| it.1).collect();
        let live = self.contexts.extract_in_any_order(|(of, _), _| is_meant(*of)).map(|it| it.1);
        let all: Vec<Context> = live.chain(left).collect();
        for context in all {
            let process = self.name_then(space, context.pid);
            self.forget_as(process, context, self.now, End::Exit);
        }
    }

    /// The trace is over, and no events follow.
    pub fn finish(&mut self, time: u64) {
        self.now = self.now.max(time);
        self.moment = self.now;
        self.settle(true);
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().for_each(|it| self.tell_unanswered(it));
        self.end_destroying(|_| true);
        self.end_refusals(None);
        self.judge_files(None, true);
        self.all_turns_end();
        self.judge_appends(None, true);
        self.end_faults();
        let idle = self.settings.thresholds.idle;
        let now = self.now;
        let left: Vec<_> = self
            .spaces
            .in_any_order_mut()
            .flat_map(|it| it.1.dropped(|short| short.time.saturating_add(idle) <= now))
            .collect();
        // The program may still do it.
        left.into_iter().for_each(|it| self.dropped(it, Some(Doubt::Ended)));
        self.not_kernel_aio();
    }
}
