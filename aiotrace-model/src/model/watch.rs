//! What shows only in that nothing happens.

use super::{
    Doubt, Map, Model, Name, Needs, Question, SECOND, Subject,
    context::{Context, LONGEST_INTERVAL},
    report::End,
};
use crate::{
    any_order::AnyOrder as _,
    event::{Event, Handle, Stack},
    model::Finding,
    words::duration::in_words,
};

/// A call on it is this long ago: worth a look from outside.
const QUIET: u64 = SECOND / 2;
/// An answer takes no longer.
const PATIENCE: u64 = 2 * SECOND;
/// Contexts looked at in one tick, at most.
const MOST_LOOKS: usize = 64;

/// Contexts that were made at one place.
#[derive(Default)]
struct Growing {
    innermost: u64,
    pid: u32,
    /// Not used for a while.
    idle: u64,
    /// What these take from fs.aio-nr; of some that is not known.
    idle_charge: u64,
    has_unknown_charge: bool,
    /// When the first and the last of these were made.
    made: Option<(u64, u64)>,
    young: u64,
    oldest: u64,
    /// Where the one was made that is idle for longest.
    stack: Option<Stack>,
    doubt: Option<Doubt>,
}

impl Growing {
    fn add(&mut self, context: &Context, now: u64, idle: u64) {
        (self.innermost, self.pid) = (context.innermost, context.pid);
        // Without a stack all contexts seem to be made at one place.
        let is_place = context
            .stack
            .as_ref()
            .is_some_and(|it| !it.truncated || it.frames.len() >= super::context::INNERMOST);
        self.doubt = self.doubt.or(context.doubt).or((!is_place).then_some(Doubt::NoStack));
        self.young += u64::from(now.saturating_sub(context.since) < idle);
        let unused = now.saturating_sub(context.used);
        if unused < idle {
            return;
        }
        self.idle += 1;
        self.idle_charge += u64::from(context.charge.unwrap_or(0));
        self.has_unknown_charge |= context.charge.is_none();
        if unused > self.oldest {
            self.oldest = unused;
            self.stack.clone_from(&context.stack);
        }
        let (first, last) = self.made.unwrap_or((context.since, context.since));
        self.made = Some((first.min(context.since), last.max(context.since)));
    }

    /// How long it took to make those that are idle.
    fn span(&self) -> u64 {
        self.made.map_or(0, |(first, last)| last - first)
    }
}

impl Model {
    /// Time has passed.
    pub fn handle_timeout(&mut self, now: u64) {
        self.now = self.now.max(now);
        if self.now < self.next_tick {
            return;
        }
        let thresholds = self.settings.thresholds;
        let shortest = thresholds.stuck.min(thresholds.unreaped).min(thresholds.idle);
        self.next_tick = self.now.saturating_add((shortest / 4).clamp(SECOND / 20, SECOND / 2));
        self.judge_faults();
        self.settle(false);
        self.give_up_waiting();
        self.look_around();
        self.ask_for_refusals();
        self.judge_files(None, false);
        self.growth();
    }

    /// What was not answered is not known: nothing is guessed.
    fn give_up_waiting(&mut self) {
        let now = self.now;
        let over: Vec<_> =
            self.waiting.extract_if(.., |it| it.since.saturating_add(PATIENCE) <= now).collect();
        for waiting in over {
            if waiting.needs.is_optional() {
                self.find(waiting.finding, waiting.key.2, waiting.key.3);
            }
        }
    }

    fn look_around(&mut self) {
        let (now, exact) = (self.now, self.settings.exact_completions);
        let thresholds = self.settings.thresholds;
        let (mut due, mut stuck, mut unreaped) = (Vec::new(), Vec::new(), Vec::new());
        let live = self.contexts.in_any_order_mut();
        let leaving = self.leaving.iter_mut().map(|(key, context)| (&*key, context));
        for ((space, _), context) in live.chain(leaving) {
            let oldest = context.requests.iter().filter(|it| !it.is_poll() && it.opcode.is_some());
            let oldest = oldest
                .min_by_key(|it| (it.entered, it.call, it.index))
                .filter(|it| it.entered != 0);
            let since = |time: u64| now.saturating_sub(time);
            let late = oldest.filter(|it| since(it.entered) >= thresholds.stuck);
            let late = late.map(|it| (it.entered, Subject::of(it)));
            let waits = context.requests.oldest_unreaped().map(|it| it.time);
            let waits = waits.filter(|time| since(*time) >= thresholds.unreaped);
            // Only a look at the ring itself tells what the program did without a call.
            let looked = context.look.confirmed;
            let mut wants_look = context.look.due <= now && since(context.used) >= QUIET;
            if let Some((entered, subject)) = late {
                if context.doubt_of_requests().is_some() {
                } else if exact || looked >= entered.saturating_add(thresholds.stuck) {
                    stuck.push((*space, context.name, context.pid, entered, subject));
                } else {
                    wants_look = true;
                }
            }
            if let Some(time) = waits {
                match context.ring {
                    // Whoever waits for more reaps them with the others.
                    Some(ring) if context.look.is_awaited(ring.unreaped()) => wants_look = true,
                    Some(ring) if looked >= time.saturating_add(thresholds.unreaped) => {
                        unreaped.push((context.name, context.pid, time, ring));
                    }
                    _ => wants_look = true,
                }
            }
            if wants_look && due.len() < MOST_LOOKS {
                due.push((context.pid, context.handle()));
                context.look.due = now.saturating_add(context.look.interval);
                context.look.interval = (context.look.interval * 2).min(LONGEST_INTERVAL);
            }
        }
        for (pid, ctx) in due {
            self.ask(Question::Ring { pid, ctx });
        }
        for (_, name, pid, entered, subject) in stuck {
            let Some(subject) = subject else { continue };
            let age = now - entered;
            let text = format!("{} is in flight for {}", subject.in_words(), in_words(age));
            let mut finding = Finding::new(Name::RequestStuck, now, pid, text);
            finding.context = Some(name);
            finding.request = Some(subject);
            finding.numbers = vec![("age_ns", age as i64)];
            let needs = Needs::Storage { fd: subject.fd, beyond: None };
            self.find_once_if(needs, finding, name.id, subject.iocb ^ entered);
        }
        for (name, pid, time, ring) in unreaped {
            let (count, age) = (ring.unreaped(), now - time);
            if count == 0 {
                continue;
            }
            let room = ring.nr.saturating_sub(1);
            let text = format!(
                "{count} completions wait to be reaped, the oldest for {}, in a ring of {room}: when it \
                 is full, io_submit = EAGAIN",
                in_words(age)
            );
            let mut finding = Finding::new(Name::UnreapedCompletions, now, pid, text);
            finding.context = Some(name);
            finding.numbers = vec![
                ("unreaped", i64::from(count)),
                ("age_ns", age as i64),
                ("capacity", i64::from(room)),
            ];
            self.find_once(finding, name.id, time);
        }
    }

    /// As [`Self::find`], for what stands as long as nothing changes: it is not counted again.
    fn find_once(&mut self, finding: Finding, detail: u64, more: u64) {
        if !self.findings.has(&(finding.name, finding.pid, detail, more)) {
            self.find(finding, detail, more);
        }
    }

    fn find_once_if(&mut self, needs: Needs, finding: Finding, detail: u64, more: u64) {
        if !self.findings.has(&(finding.name, finding.pid, detail, more)) {
            self.find_if(needs, finding, detail, more);
        }
    }

    /// Many contexts that nobody uses, and still new ones: not a pool that was made at once.
    fn growth(&mut self) {
        let (now, thresholds) = (self.now, self.settings.thresholds);
        if (self.contexts.len() as u64) < thresholds.growth {
            return;
        }
        let mut whole: Map<(u64, u64), Growing> = Map::default();
        let mut innermost: Map<(u64, u64), Growing> = Map::default();
        for ((space, _), context) in self.contexts.in_any_order().filter(|(_, it)| !it.adopted) {
            let whole = whole.entry((*space, context.place)).or_default();
            let innermost = innermost.entry((*space, context.innermost)).or_default();
            whole.add(context, now, thresholds.idle);
            innermost.add(context, now, thresholds.idle);
        }
        // The same frames may make a pool for one caller and busy contexts for another, so only what was made little by
        // little counts, and nothing where contexts end.
        let is_leak = |((space, innermost), it): &((u64, u64), Growing)| {
            let ends = self.spaces.get(space).is_some_and(|it| it.ended_at.may_have(*innermost));
            it.span() >= thresholds.idle && !ends
        };
        let innermost: Vec<Growing> =
            innermost.into_any_order().filter(is_leak).map(|it| it.1).collect();
        let all = whole.into_any_order().map(|it| it.1).chain(innermost);
        for it in all.filter(|it| it.idle >= thresholds.growth && it.young >= 2) {
            let Growing { innermost, pid, idle, young, oldest, stack, doubt, .. } = it;
            let charge = (!it.has_unknown_charge).then_some(it.idle_charge);
            let holds = charge.map_or_else(String::new, |it| format!(" ({it} of fs.aio-nr)"));
            let text = format!(
                "{idle} contexts{holds} were not used for {} or more, up to {}, and {young} more were made \
                 meanwhile",
                in_words(thresholds.idle),
                in_words(oldest)
            );
            let mut finding = Finding::new(Name::ContextGrowth, now, pid, text);
            finding.numbers =
                vec![("idle", idle as i64), ("young", young as i64), ("oldest_ns", oldest as i64)];
            finding.numbers.extend(charge.map(|it| ("idle_charge", it as i64)));
            finding.stack = stack;
            // What is not told may have been its use.
            finding.doubt = doubt.or_else(|| self.uses_unknown.then_some(Doubt::LeftOut));
            self.find_once(finding, innermost, 0);
        }
    }

    /// Its ring is not mapped, no thread destroys it, and the process lives.
    pub(super) fn leaked(&mut self, event: &Event, ctx: Handle) {
        let key = (self.space(event.pid), ctx.0);
        let place = self.leaving.iter().position(|(of, _)| *of == key);
        let context = match place {
            Some(place) => Some(self.leaving.remove(place).1),
            None => self.contexts.remove(&key),
        };
        let Some(context) = context else { return };
        self.tell_leak(&context, event.time, "its ring was unmapped, not destroyed", None);
        self.forget(context, event.time, End::Leaked);
    }

    fn tell_leak(&mut self, context: &Context, time: u64, why: &str, doubt: Option<Doubt>) {
        let charge = context.charge;
        let holds = charge.map_or_else(String::new, |it| format!(" ({it} of fs.aio-nr)"));
        let age = in_words(time.saturating_sub(context.since));
        let made = if context.adopted { "adopted" } else { "made" };
        let text = format!(
            "context {} at {:#x}{holds}, {made} {age} ago: {why}; it is lost until the process ends",
            context.name.id,
            context.handle().0
        );
        let mut finding = Finding::new(Name::ContextLeak, time, context.pid, text);
        finding.context = Some(context.name);
        finding.doubt = context.doubt.or(doubt);
        finding.numbers = charge.map(|it| ("charge", i64::from(it))).into_iter().collect();
        finding.stack.clone_from(&context.stack);
        self.find(finding, context.place, 0);
    }

    /// The contexts that were not used for a while, by process.
    pub fn idle_contexts(&self) -> Map<u32, Vec<Handle>> {
        let mut idle: Map<u32, Vec<Handle>> = Map::default();
        let threshold = self.settings.thresholds.idle;
        for (_, context) in self.contexts.in_any_order() {
            if self.now.saturating_sub(context.used) >= threshold {
                idle.entry(context.pid).or_default().push(context.handle());
            }
        }
        idle
    }

    /// Their handles are nowhere in the memory that the process can write.
    pub(super) fn unreferenced(&mut self, event: &Event, handles: &[Handle]) {
        for handle in handles {
            let key = (self.space(event.pid), handle.0);
            // A scan finds the same ones again.
            let Some(mut context) = self.contexts.remove(&key) else { continue };
            if !std::mem::replace(&mut context.leak_told, true) {
                let why = "its handle is nowhere in the memory of the process";
                // It may be in a register, or in another form.
                self.tell_leak(&context, event.time, why, Some(Doubt::Scan));
            }
            self.contexts.insert(key, context);
        }
    }
}
