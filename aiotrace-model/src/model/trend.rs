//! Contexts that will be context-growth if they go on like this: the report describes them, for a trace that is too
//! short for the finding.
//!
//! ```text
//!  first context made        middle                 now
//!  |---- old: none used -----|---- young: still made ----|
//!             since soon after the middle
//! ```

use super::{Map, Model, Name, SECOND, report::Trend};
use crate::any_order::AnyOrder as _;
use crate::event::SpaceId;

/// Least number of contexts in each half.
const ENOUGH: u64 = 4;
/// In a shorter time than this, the program may only be starting.
const SHORTEST: u64 = 2 * SECOND;

#[derive(Default)]
struct Group {
    pid: u32,
    first: u64,
    newest: u64,
    last_used: u64,
    old: u64,
    young: u64,
}

impl Model {
    /// Places that make contexts all the time, of which none ended and the older half lies idle.
    pub(super) fn trends(&self) -> Vec<Trend> {
        if self.uses_unknown {
            return Vec::new();
        }
        let made =
            || self.contexts.in_any_order().filter(|(_, it)| !it.adopted && it.doubt.is_none());
        let mut groups: Map<(SpaceId, u64), Group> = Map::default();
        for ((space, _), it) in made() {
            let new = || Group { pid: it.pid, first: it.since, ..Group::default() };
            let group = groups.entry((*space, it.innermost)).or_insert_with(new);
            group.first = group.first.min(it.since);
            group.newest = group.newest.max(it.since);
        }
        for ((space, _), it) in made() {
            let Some(group) = groups.get_mut(&(*space, it.innermost)) else { continue };
            if it.since <= group.middle(self.now) {
                group.old += 1;
                group.last_used = group.last_used.max(it.used);
            } else {
                group.young += 1;
            }
        }
        let mut trends: Vec<Trend> = groups
            .in_any_order()
            .filter(|((space, innermost), it)| {
                let is_found = self.findings.has(&(Name::ContextGrowth, it.pid, *innermost, 0));
                let span = self.now.saturating_sub(it.first);
                let is_idle = it.last_used <= it.middle(self.now) + span / 4;
                let goes_on = it.newest >= self.now - span / 4;
                let ended =
                    self.spaces.get(space).is_none_or(|it| it.ended_at.may_have(*innermost));
                let is_enough = it.old >= ENOUGH && it.young >= ENOUGH;
                !is_found && span >= SHORTEST && is_idle && goes_on && !ended && is_enough
            })
            .map(|(_, it)| Trend {
                pid: it.pid,
                process: self.names.get(&it.pid).cloned().unwrap_or_default(),
                made: it.old + it.young,
                unused: it.old,
                unused_for: self.now.saturating_sub(it.last_used),
                within: self.now.saturating_sub(it.first),
            })
            .collect();
        trends.sort_by_key(|it| (std::cmp::Reverse(it.made), it.pid));
        trends
    }
}

impl Group {
    fn middle(&self, now: u64) -> u64 {
        self.first + now.saturating_sub(self.first) / 2
    }
}
