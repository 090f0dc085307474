//! The faults of a trace: each is watched until it is known what the program made of it.
//!
//! ```text
//!  call or completion with a fault -> watched -> retried (a call that it wants)
//!                                            |-> lost, leaked, gave up, exited, died (the process ends)
//!                                            |-> hung, gave up, lost (time passes; may be told anew)
//!                                            `-> undecided (the trace ends)
//! ```
//! A retry that meets a fault ends the first: so there is never more than one for a request.

mod endings;
mod follow;
mod retries;
mod watched;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use watched::{Kind, Want, Watched, wants_of};

use super::{
    Map,
    requests::Request,
    rules::Rules,
    verdict::{Cause, FaultRow, Outcome, Verdict},
};
use crate::event::ExitStatus;

/// Faults watched one by one at a time.
pub const MOST_FAULTS: usize = 4096;
/// Requests refused by these.
const MOST_REFUSED: usize = 65_536;
/// Verdicts that wait to be told.
const MOST_UNTOLD: usize = 65_536;
/// Kinds of faults in the report.
const MOST_ROWS: usize = 1024;
/// Completions remembered, in case one of them turns out to be changed.
const MOST_COMPLETIONS: usize = 65_536;
/// In the index, what is no request.
const NO_REQUEST: u32 = u32::MAX;

/// What an address space did since a fault.
#[derive(Clone, Copy, Debug, Default)]
struct Activity {
    /// AIO calls.
    calls: u64,
    /// The last one returned.
    last: u64,
}

/// All faults.
#[derive(Default)]
pub struct Faults {
    pub rules: Rules,
    next: u64,
    /// By number: the oldest first.
    watched: BTreeMap<u64, Watched>,
    /// Those of which something was told that may be revised.
    told: BTreeSet<u64>,
    /// Who wants it: numbers of faults, with the request's place in the call.
    wanted: Map<(u64, Want), Vec<(u64, u32)>>,
    active: Map<u64, Activity>,
    /// Requests in `watched`.
    refused: usize,
    rows: BTreeMap<(u32, Cause, Option<i64>), FaultRow>,
    new: VecDeque<Verdict>,
    /// The last request of each iocb that completed.
    completed: Map<(u64, u64), Request>,
    /// Completions that were changed before they were seen: by iocb, the result given and the kernel's.
    changed: Map<(u64, u64), (i64, i64)>,
}

impl Faults {
    /// A verdict that was not told yet.
    pub fn untold(&mut self) -> Option<Verdict> {
        self.new.pop_front()
    }

    /// Whether time may tell something.
    pub fn is_waiting(&self) -> bool {
        self.told.len() < self.watched.len()
    }

    /// For the report.
    pub fn rows(&self) -> Vec<FaultRow> {
        self.rows.values().cloned().collect()
    }

    fn row(&mut self, rule: u32, cause: Cause, ret: Option<i64>) -> &mut FaultRow {
        // A short io_submit takes any number.
        let ret = ret.map(|it| if matches!(cause, Cause::Call(_)) { it.min(0) } else { it });
        let is_known = self.rows.contains_key(&(rule, cause, ret));
        let ret = ret.filter(|_| is_known || self.rows.len() < MOST_ROWS);
        self.rows.entry((rule, cause, ret)).or_insert_with(|| FaultRow::new(rule, cause, ret))
    }

    /// Watches it from now on, if there is room.
    fn watch(&mut self, mut watched: Watched) {
        let size = match &watched.kind {
            Kind::Submit { left, .. } => left.len(),
            _ => 0,
        };
        while (self.watched.len() >= MOST_FAULTS || self.refused + size > MOST_REFUSED)
            && let Some(oldest) = self.told.first().copied()
        {
            self.drop(oldest);
        }
        let has_room = self.watched.len() < MOST_FAULTS && self.refused + size <= MOST_REFUSED;
        let row = self.row(watched.fault.rule, watched.cause, Some(watched.ret));
        row.made += 1;
        if !has_room {
            row.not_followed += 1;
            return;
        }
        let fresh = Activity { calls: 0, last: watched.time };
        watched.calls = self.active.entry(watched.space).or_insert(fresh).calls;
        let number = self.next;
        self.next += 1;
        self.refused += size;
        for want in &watched.wants {
            let of_it = self.wanted.entry((watched.space, *want)).or_default();
            of_it.push((number, NO_REQUEST));
        }
        if let Kind::Submit { left, .. } = &watched.kind {
            for (place, (request, _)) in left {
                for want in wants_of(watched.handle, request).into_iter().flatten() {
                    let of_it = self.wanted.entry((watched.space, want)).or_default();
                    of_it.push((number, *place));
                }
            }
        }
        self.watched.insert(number, watched);
    }

    fn unwant(&mut self, space: u64, want: Want, number: u64, place: u32) {
        if let Some(list) = self.wanted.get_mut(&(space, want)) {
            list.retain(|it| *it != (number, place));
            if list.is_empty() {
                self.wanted.remove(&(space, want));
            }
        }
    }

    /// Who wants this, and had its fault before then.
    fn wanting(&self, space: u64, want: Want, before: u64) -> Vec<(u64, u32)> {
        let list = self.wanted.get(&(space, want)).map_or(&[][..], Vec::as_slice);
        let is_before =
            |it: &&(u64, u32)| self.watched.get(&it.0).is_some_and(|w| w.time <= before);
        list.iter().filter(is_before).copied().collect()
    }

    /// A request that was refused is not watched any more.
    fn take(&mut self, number: u64, place: u32) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        let Kind::Submit { left, .. } = &mut watched.kind else { return };
        let Some((request, _)) = left.remove(&place) else { return };
        let (space, handle) = (watched.space, watched.handle);
        self.refused -= 1;
        for want in wants_of(handle, &request).into_iter().flatten() {
            self.unwant(space, want, number, place);
        }
    }

    fn drop(&mut self, number: u64) {
        self.told.remove(&number);
        let Some(watched) = self.watched.remove(&number) else { return };
        for want in &watched.wants {
            self.unwant(watched.space, *want, number, NO_REQUEST);
        }
        if let Kind::Submit { left, .. } = &watched.kind {
            self.refused -= left.len();
            for (place, (request, _)) in left {
                for want in wants_of(watched.handle, request).into_iter().flatten() {
                    self.unwant(watched.space, want, number, *place);
                }
            }
        }
    }

    /// The last word on it.
    fn close(&mut self, number: u64, outcome: Outcome, exit: Option<ExitStatus>) {
        self.tell(number, outcome, exit);
        self.drop(number);
    }

    /// What is known of it now.
    fn tell(&mut self, number: u64, outcome: Outcome, exit: Option<ExitStatus>) {
        let Some(it) = self.watched.get_mut(&number) else { return };
        let (left, first) = it.left();
        let is_retried = outcome == Outcome::Retried;
        let succeeded = is_retried && (it.succeeded || it.has_completed().is_some());
        let lost = if is_retried { 0 } else { left };
        let verdict = Verdict {
            time: it.time,
            pid: it.pid,
            process: Vec::new(),
            tid: it.tid,
            fault: it.fault,
            cause: it.cause,
            ret: it.ret,
            outcome,
            succeeded,
            next_fault: it.next_fault && is_retried,
            retries: it.retries,
            after: it.after,
            lost,
            first,
            context: it.context,
            exit,
            anew: it.told.is_some(),
        };
        let before = it.told.replace((outcome, lost));
        self.told.insert(number);
        let row = self.row(verdict.fault.rule, verdict.cause, Some(verdict.ret));
        if let Some((outcome, lost)) = before {
            row.count(outcome, false);
            row.lost -= if outcome == Outcome::Lost { lost } else { 0 };
        }
        row.count(outcome, true);
        match outcome {
            Outcome::Retried => {
                row.within = row.within.max(verdict.after);
                row.in_vain += u64::from(!succeeded && !verdict.next_fault);
            }
            Outcome::Lost => {
                row.lost += lost;
                row.silent += u64::from(exit == Some(ExitStatus::Code(0)));
            }
            _ => (),
        }
        if self.new.len() < MOST_UNTOLD {
            self.new.push_back(verdict);
        }
    }
}
