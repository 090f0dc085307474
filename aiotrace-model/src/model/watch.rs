//! Findings that come from silence: nothing completes, is reaped or used for some time.

use super::{Map, Model, Question, SECOND, Subject, requests::Request};
use crate::{any_order::AnyOrder as _, event::Handle};

/// If the last call on a context is this long ago, the context is worth a look from outside.
const QUIET: u64 = SECOND / 2;
/// Most contexts looked at in one tick.
const MOST_LOOKS: usize = 64;

impl Model {
    /// Takes note that time has passed: all that happened up to `now` is told. (0: no more than was told.)
    pub fn handle_timeout(&mut self, now: u64) {
        self.now = self.now.max(now);
        self.faults.heard = self.faults.heard.max(now);
        self.moment = self.now;
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
        self.ask_for_threads();
        self.look_at_polls();
        self.ask_for_refusals();
        self.judge_files(None, false);
        self.judge_appends(None, false);
        self.pollers.forget_before(self.now.saturating_sub(2 * SECOND));
        self.growth();
    }

    fn look_around(&mut self) {
        let (now, exact) = (self.now, self.settings.exact_completions);
        // A look may be newer than what is known of the calls.
        let heard = self.faults.heard;
        let thresholds = self.settings.thresholds;
        let (mut due, mut stuck, mut unreaped) = (Vec::new(), Vec::new(), Vec::new());
        let live = self.contexts.in_any_order_mut();
        let leaving = self.leaving.iter_mut().map(|(key, context)| (&*key, context));
        for ((space, _), context) in live.chain(leaving) {
            // (When the call of one began that was in progress at the attach is not known.)
            let is_known = |it: &&Request| it.entered != 0 && it.opcode.is_some();
            let known = context.requests.iter().filter(|it| !it.is_poll()).filter(is_known);
            let oldest = known.min_by_key(|it| (it.entered, it.call, it.index));
            let since = |time: u64| heard.saturating_sub(time);
            let late = oldest.filter(|it| since(it.entered) >= thresholds.stuck);
            let late = late.map(|it| (it.entered, Subject::of(it)));
            let waits = context.requests.oldest_unreaped().map(|it| it.time);
            let waits = waits.filter(|time| since(*time) >= thresholds.unreaped);
            // Only a look at the ring itself shows what the program did without a call.
            let looked = context.look.confirmed;
            let mut wants_look = context.look.pace.is_due(now) && since(context.used) >= QUIET;
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
                    // A thread that waits for more completions reaps these together with the others.
                    Some(ring) if context.look.is_awaited(ring.unreaped()) => wants_look = true,
                    Some(ring) if looked >= time.saturating_add(thresholds.unreaped) => {
                        unreaped.push((context.name, context.pid, time, ring));
                    }
                    _ => wants_look = true,
                }
            }
            if wants_look && due.len() < MOST_LOOKS {
                due.push((context.pid, context.handle()));
                context.look.pace.looks(now);
            }
        }
        for (pid, ctx) in due {
            self.ask(Question::Ring { pid, ctx });
        }
        for (_, name, pid, entered, subject) in stuck {
            if let Some(subject) = subject {
                self.is_stuck((name, pid), subject, entered);
            }
        }
        for (name, pid, time, ring) in unreaped {
            self.is_unreaped((name, pid), ring, time);
        }
    }

    /// Contexts that have not been used for a while, by process.
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
}
