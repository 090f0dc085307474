//! What the model learns from each call.

use super::{Context, ContextId, Doubt, MOST_NAMES, MOST_REQUESTS, Model, Subject};
use aiotrace_common::abi::RingHeader;

use crate::{
    any_order::AnyOrder as _,
    errno::returned::{EAGAIN, EINPROGRESS, EINVAL},
    event::{Args, Call, Entry, Event, Handle, Iocb, Moved, Refused, Ring, SpaceId, opcode_name},
    model::{
        Question,
        process::Space,
        requests::{Request, Requests},
        rules::delivered,
        verdict::WATCHED,
    },
    opcode,
};

impl Model {
    pub(super) fn call(&mut self, event: &Event, call: &Call) {
        self.calls += 1;
        self.called(event.pid, event.time);
        self.left_call(event.tid);
        self.turn_of(event, call);
        self.no_wait_is_endless(event.pid);
        self.follow(event, call);
        let space = self.space(event.pid);
        if let Some(space) = self.spaces.get_mut(&space).filter(|it| it.has_short()) {
            space.active(event.time, WATCHED);
        }
        // An answer that is a fault says nothing about the kernel.
        let is_injected = self.faults.rules.injected(call);
        self.usages.call(event.pid, call, is_injected);
        if call.entry == Entry::Denied && !is_injected {
            return self.denied(event, call);
        }
        let key = (self.space(event.pid), call.args.handle());
        if (call.ret >= 0 || call.ret == EINPROGRESS) && !is_injected {
            self.is_no_leak(key, call.began(event));
        }
        let handle = match &call.args {
            Args::Setup { nr_events, stored, .. } => {
                if !is_injected {
                    self.setup(event, call, *nr_events, *stored);
                    self.refused_call(event, call, false);
                }
                return;
            }
            Args::Destroy { ctx } => {
                if call.ret == 0 {
                    // If it began before the attach, it may have ended any of these contexts.
                    let began = call.entered.unwrap_or(0);
                    self.excuse_refusals((self.space(event.pid), *ctx), began);
                    self.destroyed((self.space(event.pid), *ctx), Some((call, event.time)));
                }
                *ctx
            }
            Args::Submit { ctx, iocbs, .. } if !self.settings.every_call => {
                self.submit_alone(event, call, *ctx, iocbs);
                *ctx
            }
            Args::Getevents { ctx, .. } if !self.settings.every_call => *ctx,
            Args::Submit { ctx, nr, iocbs, .. } => {
                self.went_on(event, call);
                self.submit(event, call, *ctx, *nr, iocbs);
                *ctx
            }
            Args::Getevents { ctx, list, .. } => {
                self.getevents(event, call, *ctx);
                self.polled(event, call);
                self.given(event, *ctx, list);
                *ctx
            }
            Args::Cancel { ctx, iocb, value, .. } => {
                if !is_injected {
                    self.cancel(event, call, (*ctx, *iocb), value.as_ref());
                }
                *ctx
            }
        };
        self.reaped_by_hand((self.space(event.pid), handle));
        if call.ret < 0 && !is_injected {
            let is_explained = call.ret == EINVAL && self.used_after_destroy(event, call, handle);
            self.refused_call(event, call, is_explained);
        }
    }

    fn setup(&mut self, event: &Event, call: &Call, asked: u32, stored: Option<Handle>) {
        match (call.ret, stored) {
            (0, Some(handle)) => {
                if let Some(context) = self.add_context(event.pid, handle, event.time) {
                    context.charge = Some(asked);
                    context.made_at(call.stack.as_ref());
                }
            }
            (0, None) => self.lost(event.pid),
            (EAGAIN, _) => self.setup_denied(event, asked),
            _ => (),
        }
    }

    /// The context of a call that succeeded; `None` if it ended while the call was in progress. A context that is
    /// unknown is older than the trace, or the call that made it was lost.
    fn used(&mut self, event: &Event, call: &Call, ctx: Handle) -> Option<&mut Context> {
        let space = self.space(event.pid);
        let key = (space, ctx);
        let began = call.began(event);
        let is_known = self.contexts.contains_key(&key);
        let destroyed = self.spaces.get(&space).and_then(|it| it.when_destroyed(ctx));
        let context = match (is_known, destroyed) {
            (true, _) => self.context_when_mut((event.pid, ctx), began)?,
            (false, Some(destroyed)) if began <= destroyed => return None,
            (false, _) => {
                if let Some(from) = self.where_from(space, call) {
                    self.moved(event, Moved { from, to: ctx });
                    let context = self.contexts.get_mut(&key)?;
                    context.used = context.used.max(event.time);
                    return Some(context);
                }
                self.strayed(space, event.time);
                let context = self.add_context(event.pid, ctx, event.time)?;
                (context.adopted, context.is_stray) = (true, true);
                context.doubts(Doubt::Older);
                context.requests = Requests::adopted(ring_at_first(call), event.time);
                context
            }
        };
        context.used = context.used.max(event.time);
        context.pid = event.pid;
        Some(context)
    }

    fn strayed(&mut self, space: SpaceId, time: u64) {
        let space = self.spaces.entry(space).or_default();
        if !space.lost {
            space.strayed = space.strayed.max(Some(time));
        }
    }

    /// A call succeeded on a handle that no io_setup was seen to make. If nothing was lost, mremap(2) has moved a
    /// ring there unseen: returns the handle that it had, if only one is possible.
    fn where_from(&self, space: SpaceId, call: &Call) -> Option<Handle> {
        let known = self.spaces.get(&space).filter(|it| !it.lost)?;
        let nr = call.ring.map(|it| it.nr);
        let may_be = |it: &&Context| {
            let same = nr.zip(it.ring).is_none_or(|(nr, own)| nr == own.nr);
            same && !it.is_stray && it.doubt.is_none()
        };
        let mut all = (0, None);
        let mut missing = (0, None);
        let of_space =
            self.contexts.in_any_order().filter(|((of, _), _)| *of == space).map(|it| it.1);
        for it in of_space.filter(may_be) {
            all = (all.0 + 1, Some(it.handle()));
            if it.look.is_missing {
                missing = (missing.0 + 1, Some(it.handle()));
            }
        }
        match (all, missing) {
            (_, (1, from)) => from,
            ((1, from), _) if known.is_whole => from,
            _ => None,
        }
    }

    /// Takes an io_submit when not every call has an event: only its duration counts.
    fn submit_alone(&mut self, event: &Event, call: &Call, ctx: Handle, iocbs: &[Option<Iocb>]) {
        let took = call.entered.map_or(0, |entered| event.time.saturating_sub(entered));
        if took >= self.settings.thresholds.slow_submit {
            self.slow(event, call, ctx, iocbs, took);
        }
    }

    fn submit(&mut self, event: &Event, call: &Call, ctx: Handle, nr: i64, iocbs: &[Option<Iocb>]) {
        let took = call.entered.map_or(0, |entered| event.time.saturating_sub(entered));
        let has_fault = delivered(call.fault).is_some();
        if call.compat {
            let space = self.space(event.pid);
            self.spaces.entry(space).or_default().is_compat = true;
        }
        if took >= self.settings.thresholds.slow_submit && !has_fault {
            self.slow(event, call, ctx, iocbs, took);
        }
        let is_injected = self.faults.rules.injected(call);
        let began = call.began(event);
        let is_next_refused = self.eagains.remove(&event.tid).is_some_and(|it| it == ctx);
        if call.ret == EAGAIN && !is_injected {
            self.submit_eagain(event, (ctx, began), call.ring, None);
        }
        let accepted = count(call.ret) as usize;
        let entered = call.entered.unwrap_or(0);
        if !is_injected {
            self.count_refused(event.pid, iocbs.iter().skip(accepted));
        }
        let has_room = self.followed + accepted as u64 <= MOST_REQUESTS;
        let is_exact = self.settings.exact_completions;
        if call.ret < 0 {
            if let Some(context) = self.context_when_mut((event.pid, ctx), began) {
                context.submitted += count(nr);
                context.refused += count(nr);
            }
            // This counts as a retry of its requests that failed; the program knows that from the result.
            return self.submitted_again(event, (ctx, began), (iocbs, accepted), entered);
        }
        let Some(context) = self.used(event, call, ctx) else {
            return self.submitted_again(event, (ctx, began), (iocbs, accepted), entered);
        };
        context.submitted += count(nr).max(accepted as u64);
        context.refused += count(nr).saturating_sub(accepted as u64);
        context.submits += 1;
        context.submitted_by(event.tid);
        let number = context.submits;
        let as_request = |(index, iocb): (usize, &Option<Iocb>)| {
            let times = (entered, event.time);
            iocb.as_ref().and_then(|it| Request::new(it, times, (number, index)))
        };
        let (name, doubt) = (context.name, context.doubt_of_reading());
        let (mut unnamed, mut found) = (accepted.saturating_sub(iocbs.len()), Vec::new());
        if let Some(before) = call.ring_before {
            context.requests.look_before(before, entered);
        }
        let mut last = None;
        let mut followed = 0;
        for iocb in iocbs.iter().enumerate().take(accepted) {
            match as_request(iocb).filter(|_| has_room) {
                Some(request) => {
                    let of_it = request.clone();
                    let completed = context.requests.accepted(request);
                    followed += 1;
                    let is_inline = match &completed {
                        // What failed at once says nothing about the file.
                        Some(it) if it.completed.event.res < 0 => None,
                        // Its ring was not looked at when the call began, perhaps.
                        Some(it) if it.completed.time > event.time => Some(false),
                        Some(it) => (it.completed.after >= entered).then_some(true),
                        // It has not completed, if the ring could be looked at when the call returned.
                        None => (is_exact || call.ring.is_some()).then_some(false),
                    };
                    last = is_inline.map(|is_inline| (of_it, is_inline));
                    completed.iter().for_each(|it| context.count(it));
                    found.extend(completed);
                }
                None => (unnamed, last) = (unnamed + 1, None),
            }
        }
        if unnamed > 0 {
            context.requests.accepted_unnamed(unnamed as u64, entered);
            if !has_room {
                context.doubts(Doubt::TooMany);
            }
        }
        if let Some(ring) = call.ring {
            context.looked(ring, event.time);
        }
        // Requests that completed during the call were in flight, too, even if their entries could not be read yet.
        let untold = (accepted - found.len()) as u64;
        let hidden = completed_in(call).min(context.requests.hidden()).min(untold);
        if accepted > 0 {
            let completed = completed_in(call).max(found.len() as u64 + hidden);
            let is_known = doubt.is_none() && (is_exact || call.ring.is_some());
            context.peak.submitted(context.requests.in_flight(), completed, is_known);
        }
        self.followed += followed;
        self.evicted += if has_room { 0 } else { unnamed as u64 };
        let space = self.space(event.pid);
        let first = iocbs.first().cloned().flatten().filter(|_| accepted > 0);
        let is_inline = !found.is_empty() || hidden > 0;
        self.turn_begins(event, call, ctx, (nr, first, is_inline));
        self.submitted_again(event, (ctx, began), (iocbs, accepted), entered);
        for it in found {
            self.faults.told_before(space, &it.completed.event, &it.request);
            self.matched(event.pid, name, doubt, it);
        }
        let is_read_or_write = |it: &(Request, bool)| it.0.opcode.is_some_and(opcode::moves_data);
        // If an entry could not be read yet, the request in it may be the last one.
        let is_known = !has_fault && hidden == 0;
        if let Some((request, is_inline)) = last.filter(is_read_or_write).filter(|_| is_known) {
            self.inline(event, &request, is_inline);
        }
        let given = nr.max(0) as u64;
        if is_next_refused && !is_injected {
            self.submit_eagain(event, (ctx, began), call.ring, Some((accepted as u64, given)));
        }
        if (accepted as u64) < given && accepted > 0 && !is_injected {
            let rest = iocbs.iter().enumerate().skip(accepted).filter_map(as_request);
            let (ids, counts) = ((event.pid, event.tid), (given, accepted as u64));
            let space = self.space(event.pid);
            let space = self.spaces.get_mut(&space);
            let watches = self.settings.synchronous;
            let given_up = space.map(|it| it.short(event.time, ids, name, counts, rest, watches));
            for short in given_up.unwrap_or_default() {
                self.dropped(short, Some(Doubt::TooMany));
            }
            let space = self.space(event.pid);
            let fds = self.spaces.get(&space).map_or_else(Vec::new, Space::unseen_fds);
            for fd in fds {
                self.ask(Question::Ways { pid: event.pid, fd });
            }
        }
    }

    fn submitted_again(
        &mut self,
        event: &Event,
        (ctx, began): (Handle, u64),
        (iocbs, accepted): (&[Option<Iocb>], usize),
        entered: u64,
    ) {
        let space = self.space(event.pid);
        let context =
            self.context_when((event.pid, ctx), began).map_or(ContextId::UNKNOWN, |it| it.name.id);
        let Some(space) = self.spaces.get_mut(&space).filter(|it| it.has_short()) else { return };
        let is_read = |it: &Option<Iocb>| it.as_ref().is_some_and(|it| it.value.is_some());
        let unread = !iocbs.iter().all(is_read);
        let requests: Vec<Request> = iocbs
            .iter()
            .enumerate()
            .filter_map(|(index, it)| Request::new(it.as_ref()?, (entered, event.time), (0, index)))
            .collect();
        space.submitted(context, &requests, accepted, unread);
    }

    /// A probe saw that an iocb was refused. That is the same as EAGAIN of the call, if other iocbs were accepted,
    /// and if the call does not say that it was a fault.
    pub(super) fn refused(&mut self, event: &Event, refused: &Refused) {
        let has_room = self.eagains.len() < MOST_NAMES;
        if refused.ret == EAGAIN && refused.index > 0 && has_room {
            self.eagains.insert(event.tid, refused.ctx);
        }
    }

    fn getevents(&mut self, event: &Event, call: &Call, ctx: Handle) {
        if call.ret < 0 {
            return;
        }
        let Some(context) = self.used(event, call, ctx) else { return };
        context.given += count(call.ret);
        match call.ring.filter(|_| !context.is_left) {
            Some(ring) => context.looked(ring, event.time),
            None => context.reaped(count(call.ret), event.time),
        }
    }
}

/// The ring of a context before the call by which it became known: what this call submitted has completed after that. If
/// the ring was not seen then, all that the call submitted may have completed in it, and none may.
fn ring_at_first(call: &Call) -> Option<Ring> {
    let is_submit = matches!(call.args, Args::Submit { .. });
    let (before, now) = (call.ring_before.filter(|_| is_submit), call.ring);
    before.or_else(|| {
        let ring = now?;
        let own = if is_submit { count(call.ret).min(ring.unreaped().into()) } else { 0 };
        Some(ring.without(own as u32))
    })
}

/// Requests of the context that completed while the call took place, as its ring tells.
fn completed_in(call: &Call) -> u64 {
    let rings = call.ring_before.zip(call.ring);
    let sane = rings.filter(|(before, now)| before.tail < now.nr && now.tail < now.nr);
    sane.map_or(0, |(before, now)| RingHeader::distance(before.tail, now.tail, now.nr).into())
}

/// A number that the kernel returned; a ring has no more entries.
fn count(ret: i64) -> u64 {
    ret.clamp(0, u32::MAX.into()) as u64
}

impl Subject {
    /// The request of a finding; `None` if the iocb could not be read.
    pub(super) fn of(request: &Request) -> Option<Self> {
        Some(Self {
            iocb: request.iocb,
            opcode: request.opcode?,
            fd: request.fd,
            offset: request.offset,
            nbytes: request.nbytes,
        })
    }

    /// The request in words: `pread fd=3 offset=0 nbytes=4096`.
    pub fn in_words(&self) -> String {
        let op = opcode_name(self.opcode).unwrap_or("request");
        let fd = self.fd as i32;
        match self.opcode {
            opcode::PREAD | opcode::PWRITE => {
                format!("{op} fd={fd} offset={} nbytes={}", self.offset, self.nbytes)
            }
            opcode::PREADV | opcode::PWRITEV => {
                format!("{op} fd={fd} offset={} iovcnt={}", self.offset, self.nbytes)
            }
            _ => format!("{op} fd={fd}"),
        }
    }
}
