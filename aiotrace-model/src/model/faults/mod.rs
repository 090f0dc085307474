//! The faults of a trace: each is watched until it is known what became of the requests and how the process went on.
//!
//! ```text
//!  call or completion with a fault -> watched -> settled: retried (a call that it wants), done (synchronous calls)
//!                                     |              |
//!                                     `--------------+-> told when the process ends
//!                                                    |-> told when five seconds have passed (may be told anew)
//!                                                    `-> told when the trace ends
//! ```
//! A retry that meets a fault ends the first: so there is never more than one for a request.

mod again;
mod asked;
mod attempt;
mod covered;
mod endings;
mod follow;
mod forked;
mod history;
mod placeless;
mod retries;
mod setups;
mod sharers;
mod synchronous;
mod telling;
mod watched;
mod whose;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aiotrace_common::synchronous::Does;
use sharers::note;
use watched::{Kind, Want, Watched, wants_of};

use super::{
    Map,
    owed::Owed,
    ranges::Ranges,
    rules::Rules,
    unseen::Unseen,
    verdict::{Cause, FaultRow, RuleRow, Verdict},
};
use crate::event::SpaceId;

/// Faults watched one by one at a time.
pub const MOST_FAULTS: usize = 4096;
/// Requests refused by these.
const MOST_REFUSED: usize = 65_536;
/// Kinds of faults in the report.
const MOST_ROWS: usize = 1024;
/// Completions remembered, in case one of them turns out to be changed.
const MOST_COMPLETIONS: usize = 65_536;
/// A path that was looked up holds this long; nanoseconds.
const FRESH: u64 = 1_000_000_000;
/// In the index, what is no request.
const NO_REQUEST: u32 = u32::MAX;

/// Where a descriptor led: when that was looked up, and what was found.
type Led = (u64, Option<Vec<u8>>);

/// What an address space did since a fault.
#[derive(Clone, Copy, Debug, Default)]
struct Activity {
    /// AIO calls.
    calls: u64,
    /// The last one, or the last synchronous one, returned.
    last: u64,
    /// A thread was in io_submit at the last look.
    is_in_submit: bool,
}

/// All faults.
#[derive(Default)]
pub struct Faults {
    pub rules: Rules,
    pub asked: asked::Asked,
    next: u64,
    /// By number: the oldest first.
    watched: BTreeMap<u64, Watched>,
    /// Those of which something was told that may be revised.
    told: BTreeSet<u64>,
    /// Those of which only the second half is not known yet.
    settled: BTreeSet<u64>,
    /// Who wants it: numbers of faults, with the request's place in the call.
    wanted: Map<(SpaceId, Want), Vec<(u64, u32)>>,
    /// What of files is left to be read or written, by address space and direction: numbers of faults, with the request's
    /// place in the call.
    ranges: Map<(SpaceId, bool), Ranges<(u64, u32)>>,
    active: Map<SpaceId, Activity>,
    children: forked::Children,
    /// Requests in `watched`.
    refused: usize,
    rows: BTreeMap<(u32, Cause, Option<i64>), FaultRow>,
    new: VecDeque<Verdict>,
    /// By iocb and data: the last completion that was told.
    completed: Map<(SpaceId, u64, u64), whose::Told>,
    /// Completions that were changed before they were seen: by iocb and data, the result given and the kernel's.
    changed: Map<(SpaceId, u64, u64), (i64, i64)>,
    /// By iocb and data: the fault whose result io_getevents has not given yet.
    undelivered: Map<(SpaceId, u64, u64), u64>,
    /// Where descriptors lead, of requests that faults met; and when that was looked up.
    paths: Map<(SpaceId, u32), Led>,
    placeless: placeless::Placeless,
    /// What was looked up of files.
    sharers: sharers::Sharers,
    /// Those of which a synchronous call may do what is left.
    owing: BTreeSet<u64>,
    /// Synchronous calls are watched after a fault.
    watches: bool,
    /// The time of the last event.
    pub now: u64,
    /// The time of the last event that tells what a program did.
    pub heard: u64,
    /// Requests of contexts that met faults.
    given: again::Given,
    /// What the last io_submit was refused are all retries for sure, after a fault at this time or before.
    origin: Option<u64>,
    /// Verdicts on faults whose retry has just met the next one, which is watched next.
    handed: Vec<Verdict>,
    /// The iocbs of the last io_submit whose completions met faults before it returned.
    met: Vec<u64>,
    /// Requests so far, if there are rules.
    history: Option<Box<history::History>>,
    /// What other processes submitted up to then was not compared with what is left, not all of it.
    pub uncompared: u64,
    /// `--timeout` ends the program: what it makes of faults from now on says nothing.
    is_timed_out: bool,
}

impl Faults {
    /// None yet. `watches`: synchronous calls are watched after one.
    pub fn new(watches: bool) -> Self {
        Self { watches, ..Self::default() }
    }

    /// Whether it is to be looked up where a descriptor leads.
    fn wants_path(&self, space: SpaceId, fd: u32, time: u64) -> bool {
        let known = self.paths.get(&(space, fd));
        known.is_none_or(|(since, _)| time.saturating_sub(*since) > FRESH)
    }

    /// That was looked up.
    pub fn leads_to(&mut self, space: SpaceId, fd: u32, time: u64, path: Option<&[u8]>) {
        note(&mut self.paths, (space, fd), (time, path.map(<[u8]>::to_vec)));
    }

    /// What may do without being seen what a fault left undone then.
    fn unseen(&self, time: u64, kind: &Kind) -> Unseen {
        match self.watches {
            true => Unseen::new(time, kind.owed().map(|it| &it.1.request)),
            false => Unseen::default(),
        }
    }

    /// A verdict that was not told yet.
    pub fn untold(&mut self) -> Option<Verdict> {
        self.new.pop_front()
    }

    /// Whether time may tell something.
    pub fn is_waiting(&self) -> bool {
        self.told.len() < self.watched.len()
    }

    /// For the report: each rule, also one that never acted.
    pub fn rules(&self) -> Vec<RuleRow> {
        self.asked.rows(self.rows.values())
    }

    /// For the report.
    pub fn rows(&self) -> Vec<FaultRow> {
        let is_hopeless = !self.rows.values().any(FaultRow::may_be_well);
        let row = |it: &FaultRow| FaultRow { is_hopeless, ..it.clone() };
        self.rows.values().map(row).collect()
    }

    fn row(&mut self, rule: u32, cause: Cause, ret: Option<i64>) -> &mut FaultRow {
        // A short io_submit takes any number.
        let ret = ret.map(|it| if matches!(cause, Cause::Call(_)) { it.min(0) } else { it });
        let is_known = self.rows.contains_key(&(rule, cause, ret));
        let ret = ret.filter(|_| is_known || self.rows.len() < MOST_ROWS);
        self.rows.entry((rule, cause, ret)).or_insert_with(|| FaultRow::new(rule, cause, ret))
    }

    /// Watches it from now on, if there is room.
    fn watch(&mut self, mut watched: Watched) -> Option<u64> {
        let size = match &watched.kind {
            Kind::Submit { left, .. } => left.len(),
            _ => 0,
        };
        while (self.watched.len() >= MOST_FAULTS || self.refused + size > MOST_REFUSED)
            && let Some(oldest) = self.told.first().copied()
        {
            self.drop(oldest);
        }
        // In a flood of faults there is no time to wait for how the process goes on.
        while self.watched.len() >= MOST_FAULTS
            && let Some(oldest) = self.settled.first().copied()
        {
            self.tell_running(oldest);
            self.drop(oldest);
        }
        let has_room = self.watched.len() < MOST_FAULTS
            && self.refused + size <= MOST_REFUSED
            && !self.is_timed_out;
        let row = self.row(watched.fault.rule, watched.cause, Some(watched.ret));
        row.made += 1;
        if !has_room {
            row.not_followed += 1;
            return None;
        }
        let fresh = Activity { calls: 0, last: watched.time, is_in_submit: false };
        watched.calls = self.active.entry(watched.space).or_insert(fresh).calls;
        let number = self.next;
        self.next += 1;
        self.refused += size;
        for want in &watched.wants {
            let of_it = self.wanted.entry((watched.space, *want)).or_default();
            of_it.push((number, NO_REQUEST));
        }
        if let Kind::Submit { left, .. } = &watched.kind {
            for (place, request) in left {
                for want in wants_of(watched.handle, &request.request).into_iter().flatten() {
                    let of_it = self.wanted.entry((watched.space, want)).or_default();
                    of_it.push((number, *place));
                }
            }
        }
        for (place, owed) in watched.kind.owed() {
            insert(&mut self.ranges, watched.space, owed, (number, place));
        }
        if watched.is_about_requests() {
            self.owing.insert(number);
        }
        watched.before = std::mem::take(&mut self.handed);
        let (tid, time) = (watched.tid, watched.time);
        self.watched.insert(number, watched);
        self.begins(number, tid, time);
        self.was_set_since(number);
        let origin = self.origin.take();
        self.goes_on_from(number, origin);
        Some(number)
    }

    fn unwant(&mut self, space: SpaceId, want: Want, number: u64, place: u32) {
        if let Some(list) = self.wanted.get_mut(&(space, want)) {
            list.retain(|it| *it != (number, place));
            if list.is_empty() {
                self.wanted.remove(&(space, want));
            }
        }
    }

    /// Who wants this, and had its fault before then.
    fn wanting(&self, space: SpaceId, want: Want, before: u64) -> Vec<(u64, u32)> {
        let list = self.wanted.get(&(space, want)).map_or(&[][..], Vec::as_slice);
        let is_before =
            |it: &&(u64, u32)| self.watched.get(&it.0).is_some_and(|w| w.time <= before);
        list.iter().filter(is_before).copied().collect()
    }

    /// A request that was refused is not watched any more.
    fn take(&mut self, number: u64, place: u32) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        let Kind::Submit { left, .. } = &mut watched.kind else { return };
        let Some(owed) = left.remove(&place) else { return };
        let (space, handle) = (watched.space, watched.current());
        self.refused -= 1;
        for want in wants_of(handle, &owed.request).into_iter().flatten() {
            self.unwant(space, want, number, place);
        }
        self.remove(space, &owed, (number, place));
    }

    /// It is not left to be read or written any more.
    fn remove(&mut self, space: SpaceId, owed: &Owed, of: (u64, u32)) {
        let Some((does, (start, _))) = owed.span() else { return };
        let key = (space, does == Does::Write);
        if let Some(ranges) = self.ranges.get_mut(&key) {
            ranges.remove(start, of);
            if ranges.is_empty() {
                self.ranges.remove(&key);
            }
        }
    }

    fn drop(&mut self, number: u64) {
        self.told.remove(&number);
        self.settled.remove(&number);
        self.stop(number);
        self.watched.remove(&number);
        if self.watched.is_empty() {
            self.given.forget();
        }
    }

    /// Nothing that follows is a retry of it.
    fn stop(&mut self, number: u64) {
        self.owing.remove(&number);
        let Some(watched) = self.watched.get_mut(&number) else { return };
        let wants = std::mem::take(&mut watched.wants);
        let (space, handle) = (watched.space, watched.current());
        let left: Vec<(u32, Owed)> = match &mut watched.kind {
            Kind::Submit { left, .. } => std::mem::take(left).into_iter().collect(),
            Kind::Completion { owed: Some(owed), .. } => {
                let owed = owed.clone();
                self.remove(space, &owed, (number, NO_REQUEST));
                Vec::new()
            }
            _ => Vec::new(),
        };
        for want in wants {
            self.unwant(space, want, number, NO_REQUEST);
        }
        for (place, owed) in left {
            for want in wants_of(handle, &owed.request).into_iter().flatten() {
                self.unwant(space, want, number, place);
            }
            self.remove(space, &owed, (number, place));
            self.refused -= 1;
        }
    }
}

/// It is left to be read or written.
fn insert(
    ranges: &mut Map<(SpaceId, bool), Ranges<(u64, u32)>>,
    space: SpaceId,
    owed: &Owed,
    of: (u64, u32),
) {
    if let Some((does, range)) = owed.span() {
        ranges.entry((space, does == Does::Write)).or_default().insert(range, of);
    }
}
