//! What the end of a context, of a process and of the trace tells.

use super::{
    Doubt, Model, Name, SECOND, Severity, Subject, Target,
    process::{Released, Short},
    report::{Destroying, End},
};
use crate::{
    any_order::AnyOrder as _,
    event::{Call, Event, ExitStatus, Gone, Handle, How},
    model::{Context, Finding, requests::Request, rules::delivered},
    words::duration::in_words,
};

/// The contexts of a process end one after the other, within this time.
const TOGETHER: u64 = SECOND / 10;
/// What a program that hangs has not submitted again for so long, it does not.
const LONG_SINCE: u64 = SECOND;

impl Model {
    pub(super) fn context_gone(&mut self, event: &Event, gone: &Gone) {
        let now = self.space(event.pid);
        let left = (gone.how == How::Exec).then(|| self.left_by(event.pid, gone.ctx, now));
        let space = left.flatten().unwrap_or(now);
        let Some(context) = self.take(space, gone.ctx, event.time) else { return };
        self.spaces.entry(space).or_default().ended_at.insert(context.innermost);
        if gone.how == How::Destroy {
            self.refusals_of_gone((space, gone.ctx.0), event.time);
            self.spaces.entry(space).or_default().destroyed(gone.ctx.0, event.time);
        }
        self.ended(space, context, gone, event);
    }

    /// The address space that a process has left by exec, by a context in it that ends only now: somebody else had
    /// held that memory until then.
    fn left_by(&self, pid: u32, ctx: Handle, now: u64) -> Option<u64> {
        if self.contexts.contains_key(&(now, ctx.0)) {
            return None;
        }
        let is_it = |(_, it): &(&(u64, u64), &Context)| it.handle() == ctx && it.pid == pid;
        let mut spaces = self.contexts.in_any_order().filter(is_it).map(|((space, _), _)| *space);
        let space = spaces.next()?;
        spaces.next().is_none().then_some(space)
    }

    /// The context that is meant. Where two had the handle and a probe tells the ends, the one that has
    /// it; else the older one, whose io_destroy was told when it returned.
    fn take(&mut self, space: u64, ctx: Handle, time: u64) -> Option<Context> {
        let key = (space, ctx.0);
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

    fn ended(&mut self, space: u64, context: Context, gone: &Gone, event: &Event) {
        let how = gone.how;
        if let Some(known) = self.spaces.get_mut(&space) {
            known.context_ended(context.name.id);
        }
        if how == How::Destroy {
            // How long io_destroy blocked, and what was in the ring, is known when it returns.
            let key = (space, context.handle().0);
            let (gone, time) = (*gone, event.time);
            return self.ends.destroying.push(Destroying { key, context, gone, time });
        }
        if let Some(finding) = self.discarded(&context, gone, event.time) {
            self.find(finding, 0, 0);
        }
        let known = self.spaces.entry(space).or_default();
        let released = known.released.get_or_insert(Released {
            pid: context.pid,
            time: event.time,
            contexts: 0,
            charge: Some(0),
            by_exec: how == How::Exec,
        });
        released.contexts += 1;
        let both = released.charge.zip(context.charge);
        released.charge = both.map(|(sum, it)| sum + u64::from(it));
        self.forget(context, event.time, how.into());
    }

    /// It is told in the report.
    pub(super) fn forget(&mut self, context: Context, time: u64, end: End) {
        self.followed = self.followed.saturating_sub(context.requests.followed());
        self.ends.add(&context, time, end);
    }

    /// io_destroy returned, at this time; `None`: that was not seen.
    pub(super) fn destroyed(&mut self, key: (u64, u64), call: Option<(&Call, u64)>) {
        let entered = call.and_then(|(call, _)| call.entered);
        let is_it = |it: &Destroying| it.key == key && entered.is_none_or(|began| it.time >= began);
        let Some(place) = self.ends.destroying.iter().position(is_it) else { return };
        let Destroying { mut context, gone, time, .. } = self.ends.destroying.remove(place);
        let every_call = self.settings.every_call;
        if let Some(ring) = call.and_then(|(call, _)| call.ring).filter(|_| every_call) {
            // What was in it when the call began: it had its handle then.
            context.is_left = false;
            context.looked(ring, time);
            if context.is_reaped_by_hand() {
                self.faults.may_be_read(key.0, key.1);
            }
        }
        // Of a delayed call that is not known.
        let own = call.filter(|(call, _)| delivered(call.fault).is_none());
        let took = own.zip(entered).map(|((_, now), began)| now.saturating_sub(began));
        let finding = self.discarded(&context, &gone, time);
        self.forget(context, time, End::Destroyed);
        let Some(mut finding) = finding else { return };
        if let Some(took) = took {
            finding.message.push_str(&format!("; it blocked for {}", in_words(took)));
            finding.numbers.push(("blocked_ns", took as i64));
        }
        self.find(finding, 0, 0);
    }

    /// Requests in flight when it ended. Polls pend by design.
    fn discarded(&self, context: &Context, gone: &Gone, time: u64) -> Option<Finding> {
        let how = gone.how;
        let mut requests: Vec<&Request> = context.requests.iter().collect();
        requests.sort_by_key(|it| (it.entered, it.call, it.index));
        let writes = requests.iter().filter(|it| it.is_write()).count();
        let others = requests.iter().filter(|it| !it.is_poll() && !it.is_write()).count();
        let left = context.requests.in_flight();
        if writes + others == 0 || left == 0 {
            return None;
        }
        // Nobody looked at the ring after the last call; or some completed, and it is not known which.
        let at_most = how != How::Destroy && !self.settings.exact_completions
            || left < context.requests.followed();
        if at_most && writes == 0 {
            return None;
        }
        let what = match how {
            How::Destroy => "io_destroy",
            How::Exit => "exit",
            How::Exec => "exec",
        };
        let most = if at_most { "at most " } else { "" };
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let counted = match (writes, others) {
            (_, 0) => format!("{writes} write{}", plural(writes)),
            (0, _) => format!("{others} request{} (no write)", plural(others)),
            _ => format!(
                "{writes} write{} and {others} other request{}",
                plural(writes),
                plural(others)
            ),
        };
        let other = || requests.iter().find(|it| !it.is_poll());
        let first = requests.iter().find(|it| it.is_write()).or_else(other);
        let subject = first.and_then(|it| Subject::of(it));
        let example =
            subject.map_or_else(String::new, |it| format!(", the oldest {}", it.in_words()));
        let text = format!(
            "{what} with {most}{counted} in flight{example}: nobody will see what came of it"
        );
        let mut finding = Finding::new(Name::DiscardedRequests, time, context.pid, text);
        if writes > 0 && !at_most {
            finding.severity = Severity::Error;
        }
        // Else the source missed some of its completions.
        let is_counted = gone.in_flight.is_some() || context.adopted;
        finding.doubt = context
            .doubt_of_requests()
            .or_else(|| at_most.then_some(Doubt::Window))
            .or_else(|| (!is_counted).then_some(Doubt::Unmatched));
        finding.context = Some(context.name);
        finding.request = subject;
        finding.numbers = vec![("writes", writes as i64), ("others", others as i64)];
        Some(finding)
    }

    /// The process has exited, or runs another program (no status).
    pub(super) fn leave(&mut self, event: &Event, status: Option<ExitStatus>) {
        let space = self.space(event.pid);
        let Some(known) = self.spaces.get_mut(&space) else {
            self.child_left(space, status.is_some());
            return self.faults.ended(space, status, event.time);
        };
        known.users.retain(|pid| *pid != event.pid);
        if !known.users.is_empty() {
            if status.is_none() {
                // It was made by vfork, and has the same files.
                self.goes_on(space, event.time);
            }
            return;
        }
        self.child_left(space, status.is_some());
        self.faults.ended(space, status, event.time);
        let Some(known) = self.spaces.get_mut(&space) else { return };
        known.ended = Some(event.time);
        self.end_refusals(Some(space));
        self.judge_files(Some(event.pid), false);
        let Some(known) = self.spaces.get_mut(&space) else { return };
        // Whoever is killed drops everything.
        if !matches!(status, Some(ExitStatus::Signal(_))) {
            for short in known.dropped(|_| true) {
                self.dropped(short, None);
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

    /// The rest of a short submit will not be submitted any more. (`doubt`: it still may be.)
    pub(super) fn dropped(&mut self, short: Short, doubt: Option<Doubt>) {
        let (given, accepted) = (short.given, short.accepted);
        let (left, example, own) = short.dropped();
        let which = example.map_or_else(String::new, |it| format!(", the first {}", it.in_words()));
        let space = self.space(short.pid);
        let lost = self.spaces.get(&space).is_some_and(|it| it.lost).then_some(Doubt::Lost);
        let unwatched = (!self.settings.synchronous).then_some(Doubt::NotWatched);
        let doubt = lost.or(own).or(unwatched).or(doubt);
        let otherwise = match (self.settings.synchronous, short.watched) {
            (false, _) => String::new(),
            (true, None) => ", nor done by pread(2), pwrite(2) and the like".to_owned(),
            (true, Some(until)) => format!(
                ", nor done by pread(2), pwrite(2) and the like in {}",
                in_words(until.saturating_sub(short.time))
            ),
        };
        let text = format!(
            "io_submit accepted {accepted} of {given} requests, and {left} of the rest were never \
             submitted again{otherwise}{which}"
        );
        let mut finding = Finding::new(Name::ShortSubmitDropped, short.time, short.pid, text);
        finding.tid = Some(short.tid);
        finding.context = Some(short.context);
        finding.doubt = doubt;
        finding.request = example;
        finding.numbers =
            vec![("given", given as i64), ("accepted", accepted as i64), ("dropped", left as i64)];
        self.find(finding, short.context.id, 0);
    }

    /// Tells what waited for more of its kind, and forgets processes that are gone.
    pub(super) fn settle(&mut self, at_end: bool) {
        let now = self.now;
        let is_over = |time: u64| at_end || time.saturating_add(TOGETHER) <= now;
        let mut over = Vec::new();
        for (space, known) in self.spaces.in_any_order_mut() {
            let ended = known.ended.is_some_and(is_over);
            if ended || known.released.is_some_and(|it| is_over(it.time)) {
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

    fn tell_released(&mut self, space: u64) {
        let released = self.spaces.get_mut(&space).and_then(|it| it.released.take());
        if let Some(released) = released {
            self.released(released);
        }
    }

    /// Nobody uses this address space any more. (The kernel may give its address to another one.)
    pub(super) fn close(&mut self, space: u64) {
        // The ends of these were not told.
        self.forget_contexts(space);
        self.tell_released(space);
        self.spaces.remove(&space);
        self.space_of.retain_in_any_order(|_, of| *of != space);
    }

    /// No io_destroy returns any more in these address spaces.
    fn end_destroying(&mut self, is_meant: impl Fn(u64) -> bool) {
        let next = |model: &Self| {
            model.ends.destroying.iter().map(|it| it.key).find(|(space, _)| is_meant(*space))
        };
        while let Some(key) = next(self) {
            self.destroyed(key, None);
        }
    }

    fn forget_contexts(&mut self, space: u64) {
        let is_meant = |of: u64| of == space;
        self.end_destroying(is_meant);
        let left: Vec<Context> =
            self.leaving.extract_if(.., |((of, _), _)| is_meant(*of)).map(|it| it.1).collect();
        let live = self.contexts.extract_in_any_order(|(of, _), _| is_meant(*of)).map(|it| it.1);
        let all: Vec<Context> = live.chain(left).collect();
        for context in all {
            self.forget(context, self.now, End::Exit);
        }
    }

    fn released(&mut self, released: Released) {
        let Released { pid, time, contexts, charge, by_exec } = released;
        let how = if by_exec { "exec" } else { "exit" };
        let plural = if contexts == 1 { "context" } else { "contexts" };
        let holds = charge.map_or_else(String::new, |it| format!(" ({it} of fs.aio-nr)"));
        let text = format!("{contexts} {plural}{holds} alive at {how}: released by the kernel");
        let mut finding = Finding::new(Name::ReleasedAtExit, time, pid, text);
        finding.numbers = vec![("contexts", contexts as i64)];
        finding.numbers.extend(charge.map(|it| ("charge", it as i64)));
        // Each exec of a program that executes itself is the same.
        self.find(finding, contexts << 1 | u64::from(by_exec), charge.unwrap_or(u64::MAX));
    }

    /// The trace is over: no events follow.
    pub fn finish(&mut self, time: u64) {
        self.now = self.now.max(time);
        self.settle(true);
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.needs.is_optional() {
                self.find(waiting.finding, waiting.key.2, waiting.key.3);
            }
        }
        self.end_destroying(|_| true);
        self.end_refusals(None);
        self.judge_files(None, true);
        self.end_faults();
        let idle = self.settings.thresholds.idle;
        let now = self.now;
        let left: Vec<_> = self
            .spaces
            .in_any_order_mut()
            .flat_map(|it| it.1.dropped(|short| short.time.saturating_add(idle) <= now))
            .collect();
        // It may still do it.
        left.into_iter().for_each(|it| self.dropped(it, Some(Doubt::Ended)));
        // Whoever has contexts uses it.
        let is_unused =
            self.calls + self.counted.total() == 0 && self.next_context == 1 && !self.inside.any;
        // A program that ended at once had no time for one.
        let was_watched = |it: &Target| {
            !it.is_attached || it.ended.unwrap_or(now).saturating_sub(it.since) >= SECOND
        };
        if let Some(Target { pid, untraced, .. }) =
            self.target.filter(|it| is_unused && was_watched(it))
        {
            let others = match untraced {
                0 => String::new(),
                1 => "; it made a child process, which was not followed (-f follows it)".to_owned(),
                _ => format!(
                    "; it made {untraced} child processes, which were not followed (-f follows them)"
                ),
            };
            let text = format!(
                "the target made no io_* call while it was traced: POSIX AIO and io_uring are not kernel AIO{others}"
            );
            let mut finding = Finding::new(Name::NotKernelAio, now, pid, text);
            finding.numbers = vec![("children", untraced as i64)];
            finding.doubt = self.unanswered.then_some(Doubt::Unanswered);
            self.find(finding, 0, 0);
        }
    }
}
