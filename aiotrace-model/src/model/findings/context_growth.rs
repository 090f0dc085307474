//! context-growth: contexts grow in number while old ones stay idle.

use super::{Basis, holding};
use crate::{
    any_order::AnyOrder as _,
    event::{SpaceId, Stack},
    model::{Context, Doubt, Finding, Map, Model, Severity, context::INNERMOST},
    words::{duration::in_words, number::thousands},
};

/// Contexts that are not used any more, while new ones are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextGrowth {
    /// How many contexts have not been used for a while.
    idle: u64,
    /// What these take from fs.aio-nr, if it is known for each.
    idle_charge: Option<u64>,
    /// How many were made in the meantime.
    young: u64,
    /// How long the context that is idle longest has not been used, nanoseconds.
    oldest: u64,
    /// How long is a while, nanoseconds.
    threshold: u64,
}

impl Basis for ContextGrowth {
    const NAME: &'static str = "context-growth";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["idle", "idle_charge", "young", "oldest_ns"];

    fn message(&self) -> String {
        let Self { idle, idle_charge, young, oldest, threshold } = *self;
        let [idle, young] = [idle, young].map(thousands);
        format!(
            "{idle} contexts{} were not used for {} or more, up to {}, and {young} more were made \
             meanwhile",
            holding(idle_charge),
            in_words(threshold),
            in_words(oldest)
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        let charge = self.idle_charge.map(|it| ("idle_charge", it as i64));
        let young = [("young", self.young as i64), ("oldest_ns", self.oldest as i64)];
        [("idle", self.idle as i64)].into_iter().chain(charge).chain(young).collect()
    }
}

/// The contexts that were made at one place.
#[derive(Default)]
struct Growing {
    innermost: u64,
    pid: u32,
    /// How many have not been used for a while.
    idle: u64,
    /// What these take from fs.aio-nr, as far as it is known.
    idle_charge: u64,
    has_unknown_charge: bool,
    /// When the first and the last of these were made.
    made: Option<(u64, u64)>,
    young: u64,
    oldest: u64,
    /// The stack that made the context that is idle longest.
    stack: Option<Stack>,
    doubt: Option<Doubt>,
}

impl Growing {
    fn add(&mut self, context: &Context, now: u64, idle: u64) {
        (self.innermost, self.pid) = (context.innermost, context.pid);
        // Without stacks, all contexts seem to be made at one place.
        let is_place = context
            .stack
            .as_ref()
            .is_some_and(|it| !it.truncated || it.frames.len() >= INNERMOST);
        self.doubt = self.doubt.or(context.doubt).or((!is_place).then_some(Doubt::NoStack));
        self.young += u64::from(now.saturating_sub(context.since) < idle);
        let unused = now.saturating_sub(context.used);
        // A thread that waits for completions, or a request in flight, uses the context without a call.
        let is_used = context.look.awaited.is_some() || context.requests.in_flight() > 0;
        if unused < idle || is_used {
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

    /// How long it took to make the idle contexts.
    fn span(&self) -> u64 {
        self.made.map_or(0, |(first, last)| last - first)
    }
}

impl Model {
    /// Finds places where many contexts are idle and new ones are still made: not a pool that was made at once.
    pub(in crate::model) fn growth(&mut self) {
        let (now, thresholds) = (self.faults.heard, self.settings.thresholds);
        if (self.contexts.len() as u64) < thresholds.growth {
            return;
        }
        let mut whole: Map<(SpaceId, u64), Growing> = Map::default();
        let mut innermost: Map<(SpaceId, u64), Growing> = Map::default();
        for ((space, _), context) in self.contexts.in_any_order().filter(|(_, it)| !it.adopted) {
            let whole = whole.entry((*space, context.place)).or_default();
            let innermost = innermost.entry((*space, context.innermost)).or_default();
            whole.add(context, now, thresholds.idle);
            innermost.add(context, now, thresholds.idle);
        }
        // The same frames may make a pool for one caller and busy contexts for another. So only contexts that were
        // made little by little count, and none at a place whose contexts end.
        let is_leak = |((space, innermost), it): &((SpaceId, u64), Growing)| {
            let ends = self.spaces.get(space).is_some_and(|it| it.ended_at.may_have(*innermost));
            it.span() >= thresholds.idle && !ends
        };
        let innermost: Vec<Growing> =
            innermost.into_any_order().filter(is_leak).map(|it| it.1).collect();
        let all = whole.into_any_order().map(|it| it.1).chain(innermost);
        for it in all.filter(|it| it.idle >= thresholds.growth && it.young >= 2) {
            let Growing { innermost, pid, idle, young, oldest, stack, doubt, .. } = it;
            let idle_charge = (!it.has_unknown_charge).then_some(it.idle_charge);
            let threshold = thresholds.idle;
            let evidence = ContextGrowth { idle, idle_charge, young, oldest, threshold };
            let mut finding = Finding::new(evidence, now, pid);
            finding.stack = stack;
            // A call without an event may have used the context.
            finding.doubt = doubt.or_else(|| self.uses_unknown.then_some(Doubt::LeftOut));
            self.find_once(finding, innermost, 0);
        }
    }
}
