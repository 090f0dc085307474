//! What each call tells.

use super::{
    Context, ContextRef, Doubt, MOST_NAMES, MOST_REQUESTS, Model, Name, Needs, Severity, Subject,
};
use aiotrace_common::abi::RingHeader;

use crate::{
    any_order::AnyOrder as _,
    errno,
    event::{
        Address, Args, Call, Entry, Event, Handle, Iocb, Limit, Moved, Refused, Ring, Syscall,
        errno_name, opcode_name,
    },
    model::{
        Finding, cause,
        process::Cancelled,
        requests::{MOST_COMPARED, Request},
        rules::delivered,
        verdict::HUNG_AFTER,
    },
    words::duration::in_words,
};
use aiotrace_common::abi;

const EINVAL: i64 = -(errno::EINVAL as i64);
const EAGAIN: i64 = -(errno::EAGAIN as i64);
const ENOSYS: i64 = -(errno::ENOSYS as i64);
const EINPROGRESS: i64 = -(errno::EINPROGRESS as i64);

impl Model {
    pub(super) fn call(&mut self, event: &Event, call: &Call) {
        self.calls += 1;
        self.called(event.pid, event.time);
        self.left_call(event.tid);
        self.follow(event, call);
        let space = self.space(event.pid);
        if let Some(space) = self.spaces.get_mut(&space).filter(|it| it.has_short()) {
            space.active(event.time, HUNG_AFTER);
        }
        // An answer that is ours tells nothing of the kernel.
        let is_injected = self.faults.rules.injected(call);
        if call.entry == Entry::Denied && !is_injected {
            return self.denied(event, call);
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
                    // One that began before the attach may have ended any.
                    let began = call.entered.unwrap_or(0);
                    self.excuse_refusals((self.space(event.pid), ctx.0), began);
                    self.destroyed((self.space(event.pid), ctx.0), Some((call, event.time)));
                }
                *ctx
            }
            Args::Submit { ctx, iocbs, .. } if !self.settings.every_call => {
                self.submit_alone(event, call, *ctx, iocbs);
                *ctx
            }
            Args::Getevents { ctx, .. } if !self.settings.every_call => *ctx,
            Args::Submit { ctx, nr, iocbs, .. } => {
                if self.submits.len() < MOST_NAMES || self.submits.contains_key(&event.pid) {
                    *self.submits.entry(event.pid).or_default() += 1;
                }
                self.submit(event, call, *ctx, *nr, iocbs);
                *ctx
            }
            Args::Getevents { ctx, list, .. } => {
                self.getevents(event, call, *ctx);
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
        self.reaped_by_hand((self.space(event.pid), handle.0));
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
            (EAGAIN, _) => {
                let text = format!("io_setup({asked}) = EAGAIN");
                let mut finding = Finding::new(Name::SetupDenied, event.time, event.pid, text);
                finding.tid = Some(event.tid);
                finding.numbers = vec![("asked", i64::from(asked))];
                self.find_if(Needs::Limit, finding, 0, 0);
            }
            _ => (),
        }
    }

    /// The context of a call that succeeded: `None` if it ended while the call was in progress. One that
    /// is not known is older than the trace, or the call that made it was lost.
    fn used(&mut self, event: &Event, call: &Call, ctx: Handle) -> Option<&mut Context> {
        let space = self.space(event.pid);
        let key = (space, ctx.0);
        let began = call.began(event);
        let is_known = self.contexts.contains_key(&key);
        let destroyed = self.spaces.get(&space).and_then(|it| it.when_destroyed(ctx.0));
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
                context.requests = super::requests::Requests::adopted(call.ring, event.time);
                context
            }
        };
        context.used = context.used.max(event.time);
        context.pid = event.pid;
        Some(context)
    }

    fn strayed(&mut self, space: u64, time: u64) {
        let space = self.spaces.entry(space).or_default();
        if !space.lost {
            space.strayed = space.strayed.max(Some(time));
        }
    }

    /// A call succeeded on a handle that nobody was seen to make. Where nothing was lost, a ring was moved there with
    /// mremap(2), and that was not told: from which handle, if only one can be meant.
    fn where_from(&self, space: u64, call: &Call) -> Option<Handle> {
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

    /// One of many that are not told: it says how long it took.
    fn submit_alone(&mut self, event: &Event, call: &Call, ctx: Handle, iocbs: &[Option<Iocb>]) {
        let took = call.entered.map_or(0, |entered| event.time.saturating_sub(entered));
        if took >= self.settings.thresholds.slow_submit {
            self.slow(event, call, ctx, iocbs, took);
        }
    }

    fn submit(&mut self, event: &Event, call: &Call, ctx: Handle, nr: i64, iocbs: &[Option<Iocb>]) {
        let took = call.entered.map_or(0, |entered| event.time.saturating_sub(entered));
        let has_fault = delivered(call.fault).is_some();
        if took >= self.settings.thresholds.slow_submit && !has_fault {
            self.slow(event, call, ctx, iocbs, took);
        }
        let is_injected = self.faults.rules.injected(call);
        let began = call.began(event);
        if let Some((time, ctx)) = self.eagains.remove(&event.tid).filter(|_| !is_injected) {
            self.submit_eagain((time, event.pid, event.tid), (ctx, began), None);
        }
        if call.ret == EAGAIN && !is_injected {
            self.submit_eagain((event.time, event.pid, event.tid), (ctx, began), call.ring);
        }
        let accepted = count(call.ret) as usize;
        let entered = call.entered.unwrap_or(0);
        if !is_injected {
            self.count_refused(event.pid, iocbs.iter().skip(accepted));
        }
        let has_room = self.followed + accepted as u64 <= MOST_REQUESTS;
        if call.ret < 0 {
            if let Some(context) = self.context_when_mut((event.pid, ctx), began) {
                context.submitted += count(nr);
                context.refused += count(nr);
            }
            // It was tried again, and the program knows why it did not work.
            return self.submitted_again(event, (ctx, began), (iocbs, accepted), entered);
        }
        let Some(context) = self.used(event, call, ctx) else {
            return self.submitted_again(event, (ctx, began), (iocbs, accepted), entered);
        };
        context.submitted += count(nr).max(accepted as u64);
        context.refused += count(nr).saturating_sub(accepted as u64);
        context.submits += 1;
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
                    let is_inline = completed.as_ref().is_some_and(|it| {
                        it.completed.time <= event.time && it.completed.after >= entered
                    });
                    // What failed at once says nothing about the file.
                    let is_failed = completed.as_ref().is_some_and(|it| it.completed.event.res < 0);
                    last = (!is_failed).then_some((of_it, is_inline));
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
        // What completed in the call was in flight, too, also if it could not be read yet.
        let untold = (accepted - found.len()) as u64;
        let hidden = completed_in(call).min(context.requests.hidden()).min(untold);
        let peak = context.requests.in_flight() + found.len() as u64 + hidden;
        context.peak = context.peak.max(peak);
        self.followed += followed;
        self.evicted += if has_room { 0 } else { unnamed as u64 };
        let space = self.space(event.pid);
        self.submitted_again(event, (ctx, began), (iocbs, accepted), entered);
        for it in found {
            self.faults.told_before(space, &it.completed.event, &it.request);
            self.matched(event.pid, name, doubt, it);
        }
        let is_read_or_write = |it: &(Request, bool)| matches!(it.0.opcode, Some(0 | 1 | 7 | 8));
        // Of what could not be read yet, it is not known whether it is the last one.
        let is_known = !has_fault && hidden == 0;
        if let Some((request, is_inline)) = last.filter(is_read_or_write).filter(|_| is_known) {
            self.inline(event, &request, is_inline);
        }
        let given = nr.max(0) as u64;
        if (accepted as u64) < given && accepted > 0 && !is_injected {
            let rest = iocbs.iter().enumerate().skip(accepted).filter_map(as_request);
            let (ids, counts) = ((event.pid, event.tid), (given, accepted as u64));
            let space = self.space(event.pid);
            let space = self.spaces.get_mut(&space);
            let given_up = space.map(|it| it.short(event.time, ids, name, counts, rest));
            for short in given_up.unwrap_or_default() {
                self.dropped(short, Some(Doubt::TooMany));
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
        let context = self.context_when((event.pid, ctx), began).map_or(0, |it| it.name.id);
        let Some(space) = self.spaces.get_mut(&space).filter(|it| it.has_short()) else { return };
        let is_read = |it: &Option<Iocb>| it.is_some_and(|it| it.value.is_some());
        let unread = !iocbs.iter().all(is_read);
        let requests: Vec<Request> = iocbs
            .iter()
            .enumerate()
            .filter_map(|(index, it)| Request::new(it.as_ref()?, (entered, event.time), (0, index)))
            .collect();
        space.submitted(context, &requests, accepted, unread);
    }

    fn submit_eagain(
        &mut self,
        (time, pid, tid): (u64, u32, u32),
        (ctx, began): (Handle, u64),
        ring: Option<Ring>,
    ) {
        let Some(context) = self.context_when_mut((pid, ctx), began) else { return };
        // Else it is that of the context that has the handle by now.
        let ring = ring.filter(|_| !context.is_left);
        if let Some(ring) = ring {
            context.looked(ring, time);
        }
        let in_flight = context.requests.in_flight();
        let unreaped = ring.map_or(context.requests.unreaped(), |it| u64::from(it.unreaped()));
        let room = ring.or(context.ring).map_or(0, |it| u64::from(it.nr.saturating_sub(1)));
        let doubt = context.doubt_of_reading();
        let name = context.name;
        let mut text = format!(
            "io_submit = EAGAIN with {in_flight} in flight and {unreaped} completed but not reaped, \
             in a ring of {room}"
        );
        text.push_str(if unreaped >= in_flight && 2 * (in_flight + unreaped) >= room {
            ": reap, do not just try again"
        } else if 2 * (in_flight + unreaped) >= room {
            ": wait for completions and reap them, then try again"
        } else {
            ". That is below its capacity: slots are kept for each processor, or memory was short; \
             wait for a completion, then try again"
        });
        let mut finding = Finding::new(Name::SubmitEagain, time, pid, text);
        finding.tid = Some(tid);
        finding.context = Some(name);
        finding.doubt = doubt;
        finding.numbers = vec![
            ("in_flight", in_flight as i64),
            ("unreaped", unreaped as i64),
            ("capacity", room as i64),
        ];
        self.find(finding, name.id, 0);
    }

    /// A probe saw that an iocb was refused: the same as EAGAIN of the call, if others were accepted, and if
    /// the call does not tell that it was a fault.
    pub(super) fn refused(&mut self, event: &Event, refused: &Refused) {
        let has_room = self.eagains.len() < MOST_NAMES;
        if refused.ret == EAGAIN && refused.index > 0 && has_room {
            self.eagains.insert(event.tid, (event.time, refused.ctx));
        }
    }

    fn slow(&mut self, event: &Event, call: &Call, ctx: Handle, iocbs: &[Option<Iocb>], took: u64) {
        let subject =
            iocbs.iter().flatten().find_map(|it| Subject::of(&Request::new(it, (0, 0), (0, 0))?));
        let mut text = format!("io_submit took {}", in_words(took));
        text.push_str(&match call.ret {
            1 => " for 1 request".to_owned(),
            ret @ 2.. => format!(" for {ret} requests"),
            ret => format!(" and returned {}", errno_name(ret).unwrap_or("0")),
        });
        if let Some(subject) = subject {
            let which = if iocbs.len() > 1 { ", the first " } else { ": " };
            text.push_str(which);
            text.push_str(&subject.in_words());
        }
        let mut finding = Finding::new(Name::BlockingSubmit, event.time, event.pid, text);
        finding.tid = Some(event.tid);
        finding.context = self.context_when((event.pid, ctx), call.began(event)).map(|it| it.name);
        finding.request = subject;
        finding.stack.clone_from(&call.stack);
        finding.numbers = vec![("took_ns", took as i64), ("accepted", call.ret)];
        let detail = subject.map_or(0, |it| u64::from(it.fd));
        self.find(finding, detail, 0);
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

    fn cancel(
        &mut self,
        event: &Event,
        call: &Call,
        (ctx, iocb): (Handle, Address),
        value: Option<&abi::Iocb>,
    ) {
        let space = self.space(event.pid);
        let Some(context) = self.context_when((event.pid, ctx), call.began(event)) else { return };
        let name = context.name;
        match call.ret {
            EINPROGRESS | 0 => {
                if let Some(space) = self.spaces.get_mut(&space) {
                    let (context, time) = (name.id, event.time);
                    space.cancelled(Cancelled { context, iocb: iocb.0, time });
                }
            }
            EINVAL | EAGAIN => {
                let opcode = value.map(|it| it.opcode);
                let op = opcode.and_then(opcode_name).unwrap_or("request");
                let errno = errno_name(call.ret).unwrap_or("?");
                let elsewhere = || self.in_flight_elsewhere(space, iocb, value);
                let (kind, reason) = why_not_cancelled(context, iocb, value, elsewhere);
                let text = format!("io_cancel of a {op}, iocb {:#x} = {errno}: {reason}", iocb.0);
                let mut finding = Finding::new(Name::CancelRefused, event.time, event.pid, text);
                finding.tid = Some(event.tid);
                finding.context = Some(name);
                let what = u64::from(opcode.unwrap_or(u16::MAX)) << 8 | kind;
                self.find(finding, name.id, what);
            }
            _ => (),
        }
    }

    /// A context of the program in which the request is in flight that was to be cancelled, and whether that is certain. Where there are many contexts,
    /// not all are looked at: whoever asks may do so often.
    fn in_flight_elsewhere(
        &self,
        space: u64,
        iocb: Address,
        value: Option<&abi::Iocb>,
    ) -> Option<(bool, ContextRef)> {
        let has_it = |it: &Context| {
            let request = it.requests.of_iocb(iocb.0, value.map(|it| it.data));
            request.is_some_and(|request| value.is_none_or(|value| request.has(value)))
        };
        let some = self.contexts.in_any_order().take(MOST_COMPARED);
        let of_it = some.filter(|((of, _), it)| *of == space && has_it(it));
        let it = of_it.map(|(_, it)| it).min_by_key(|it| it.name.id)?;
        // It may have completed since that context was last looked at.
        let is_certain = self.settings.exact_completions && it.doubt_of_requests().is_none();
        Some((is_certain, it.name))
    }

    fn used_after_destroy(&mut self, event: &Event, call: &Call, ctx: Handle) -> bool {
        let space = self.space(event.pid);
        if self.contexts.contains_key(&(space, ctx.0)) {
            return false;
        }
        let Some(known) = self.spaces.get(&space) else { return false };
        let destroyed = known.when_destroyed(ctx.0);
        // A call that waited when another thread destroyed the context ends like this by design.
        let (Some(destroyed), Some(entered)) = (destroyed, call.entered) else { return false };
        if entered <= destroyed {
            return false;
        }
        let ago = in_words(entered - destroyed);
        let name = call.args.syscall().name();
        let text = format!("{name} on {:#x}, which was destroyed {ago} before", ctx.0);
        let mut finding = Finding::new(Name::UseAfterDestroy, event.time, event.pid, text);
        finding.tid = Some(event.tid);
        finding.doubt = known.doubt();
        finding.context = Some(ContextRef { id: 0, handle: ctx });
        finding.numbers = vec![("destroyed_ns_before", (entered - destroyed) as i64)];
        self.find(finding, ctx.0, call.args.syscall() as u64);
        true
    }

    fn denied(&mut self, event: &Event, call: &Call) {
        let syscall = call.args.syscall();
        let errno = errno_name(call.ret).unwrap_or("?");
        let mut text = format!("a seccomp filter answers {} with {errno}", syscall.name());
        let mut finding = Finding::new(Name::SandboxDenied, event.time, event.pid, String::new());
        if syscall == Syscall::Pgetevents && call.ret == ENOSYS {
            text.push_str("; libaio falls back to io_getevents");
            finding.severity = Severity::Info;
        } else if syscall == Syscall::Pgetevents {
            text.push_str("; libaio falls back to io_getevents only on ENOSYS");
        }
        finding.message = text;
        finding.tid = Some(event.tid);
        finding.numbers = vec![("ret", call.ret)];
        self.find(finding, syscall as u64, call.ret as u64);
    }
}

/// Why io_cancel found nothing that it could cancel, as far as that is known; and a number for that.
fn why_not_cancelled(
    context: &Context,
    iocb: Address,
    value: Option<&abi::Iocb>,
    elsewhere: impl FnOnce() -> Option<(bool, ContextRef)>,
) -> (u64, String) {
    let in_flight = context.requests.of_iocb(iocb.0, value.map(|it| it.data));
    if let Some(reason) = cause::key(value) {
        let which = if in_flight.is_some() { ", which is in flight" } else { "" };
        return (0, format!("{reason}{which}"));
    }
    let op = |opcode: u16| opcode_name(opcode).unwrap_or("request");
    match in_flight {
        Some(it) if it.is_poll() => (1, "it was completing at that moment".to_owned()),
        Some(it) => {
            let op = it.opcode.map_or("request", op);
            (2, format!("a {op} cannot be cancelled, only polls can"))
        }
        None if let Some((is_certain, it)) = elsewhere() => {
            let verb = if is_certain { "is" } else { "may be" };
            (6, format!("it {verb} in flight in context {} at {:#x}", it.id, it.handle.0))
        }
        None if let Some(it) = context.requests.same(value) => {
            let text = format!(
                "no request of an iocb at this address is known to be in flight, but one with the same content is, \
                 submitted from {:#x}",
                it.iocb
            );
            (5, text)
        }
        None if context.adopted || context.doubt_of_requests().is_some() => {
            let text = "it has completed, or cannot be cancelled (only polls can), or was submitted from another \
                        address";
            (3, text.to_owned())
        }
        None => {
            let text = "no request of an iocb at this address is in flight: it has completed, or was submitted from \
                        another address";
            (4, text.to_owned())
        }
    }
}

/// Requests of the context that completed while the call took place, as its ring tells.
fn completed_in(call: &Call) -> u64 {
    let rings = call.ring_before.zip(call.ring);
    let sane = rings.filter(|(before, now)| before.tail < now.nr && now.tail < now.nr);
    sane.map_or(0, |(before, now)| RingHeader::distance(before.tail, now.tail, now.nr).into())
}

/// How many, as the kernel says; a ring has no more entries.
fn count(ret: i64) -> u64 {
    ret.clamp(0, u32::MAX.into()) as u64
}

/// Adds who holds fs.aio-nr.
pub(super) fn with_limit(finding: &mut Finding, limit: &Limit, time: u64) {
    let Limit { used, limit: most, holders } = limit;
    let later = in_words(time.saturating_sub(finding.time));
    let text = &mut finding.message;
    text.push_str(&format!(": {later} later fs.aio-nr is {used} of {most}"));
    for (index, holder) in holders.iter().take(3).enumerate() {
        let name = crate::words::escape::escaped(&holder.name);
        text.push_str(if index == 0 { "; held by " } else { ", " });
        text.push_str(&format!("{name}:{} {}", holder.pid, holder.charge));
    }
    finding.numbers.extend([("used", *used as i64), ("limit", *most as i64)]);
    finding.holders.clone_from(holders);
}

impl Subject {
    /// `None` if the iocb could not be read.
    pub(super) fn of(request: &Request) -> Option<Self> {
        Some(Self {
            iocb: request.iocb,
            opcode: request.opcode?,
            fd: request.fd,
            offset: request.offset,
            nbytes: request.nbytes,
        })
    }

    /// `pread fd=3 offset=0 nbytes=4096`
    pub fn in_words(&self) -> String {
        let op = opcode_name(self.opcode).unwrap_or("request");
        let fd = self.fd as i32;
        match self.opcode {
            0 | 1 => format!("{op} fd={fd} offset={} nbytes={}", self.offset, self.nbytes),
            7 | 8 => format!("{op} fd={fd} offset={} iovcnt={}", self.offset, self.nbytes),
            _ => format!("{op} fd={fd}"),
        }
    }
}
