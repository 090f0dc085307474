//! What is told of a fault, once and again if it turns out to be otherwise.

use super::{
    Faults,
    watched::{Told, Watched},
};
use crate::model::{
    Doubt,
    verdict::{Going, Half, Outcome, Verdict, WATCHED},
};

/// Verdicts that wait to be told.
const MOST_UNTOLD: usize = 65_536;
/// Faults in a row whose verdicts may be revised. (A program that tries one request more often at once tries it again.)
const MOST_IN_ROW: usize = 16;

/// Until when synchronous calls are watched for the requests of a fault that had its effect then.
pub(super) fn watched_until(time: u64) -> u64 {
    time.saturating_add(WATCHED)
}

impl Faults {
    /// It is known what became of the requests.
    pub(super) fn settle(&mut self, number: u64, half: Half) {
        self.stop(number);
        let Some(watched) = self.watched.get_mut(&number) else { return };
        watched.settled = Some(half);
        if !watched.did.is_empty() && watched.told.is_none() {
            // Whether these calls are made at other times, too, shows until it is told.
            self.owing.insert(number);
        }
        let hands_over = half == Half::Retried && watched.next_fault && !watched.succeeded;
        // It is told at once. A descriptor that was looked at after what has been heard may have become another one before the
        // look.
        let is_ahead = watched.here.iter().any(|it| it.1 >= self.heard);
        if is_ahead && (hands_over || watched.told.is_some()) {
            watched.again.get_or_insert(Doubt::OtherDescriptor);
        }
        if hands_over {
            // The next fault's verdict goes on from here.
            let half = watched.half(self.watches);
            self.close(number, half, None, None);
        } else if watched.told.is_some() {
            let half = watched.half(self.watches);
            self.tell(number, half, Some(Going::Running), None);
        } else {
            self.settled.insert(number);
        }
    }

    /// Its first half is known, and the process still runs.
    pub(super) fn tell_running(&mut self, number: u64) {
        if let Some(watched) = self.watched.get(&number).filter(|it| it.settled.is_some()) {
            let half = watched.half(self.watches);
            self.tell(number, half, Some(Going::Running), None);
        }
    }

    /// It was told that the process hangs, and it has gone on since.
    pub(super) fn is_back(&self, watched: &Watched) -> bool {
        let calls = self.active.get(&watched.space).map_or(0, |it| it.calls);
        watched.told.is_some_and(|it| it.going == Some(Going::Hung) && it.calls < calls)
    }

    /// The last word on it.
    pub(super) fn close(
        &mut self,
        number: u64,
        half: (Half, Option<Doubt>),
        going: Option<Going>,
        ended: Option<u64>,
    ) {
        self.tell(number, half, going, ended);
        self.drop(number);
    }

    /// What is known of it now, if that is another verdict than the one that was told. `ended`: when the process
    /// did.
    pub(super) fn tell(
        &mut self,
        number: u64,
        (half, doubt): (Half, Option<Doubt>),
        going: Option<Going>,
        ended: Option<u64>,
    ) {
        let is_used = self.watched.get(&number).is_some_and(|it| self.is_used(it));
        let now = ended.unwrap_or(self.now);
        let is_young = self.watched.get(&number).is_some_and(|it| it.since.is_young(now));
        let is_uncompared = self.watched.get(&number).is_some_and(|it| it.time <= self.uncompared);
        let (half, doubt) = match half {
            Half::Lost if is_uncompared => (Half::Unsure, Some(Doubt::TooMany)),
            // What seems to be a retry, or to do the same, may be its next one.
            Half::Retried | Half::Done if is_used => (Half::Unsure, Some(Doubt::Used)),
            // What met the next fault is judged with that.
            Half::Retried | Half::Done if going.is_some() && is_young => {
                (Half::Unsure, Some(Doubt::Periodic))
            }
            _ => (half, doubt),
        };
        let Some(it) = self.watched.get_mut(&number) else { return };
        let (left, first) = if half == Half::Lost { it.lost() } else { it.left() };
        // It is not known whether it was a retry: what came of it is.
        let is_doubtful = half == Half::Unsure && left == 0 && it.retries > 0;
        let came_again = half == Half::Retried || is_doubtful;
        let succeeded = came_again && (it.succeeded || it.has_completed().is_some());
        let is_done = matches!(half, Half::Retried | Half::Done | Half::GaveUp | Half::Leaked);
        let lost = if is_done { 0 } else { left };
        let outcome = Outcome::of(half, going);
        let next_fault = it.next_fault && came_again;
        let path = first.and_then(|first| self.paths.get(&(it.space, first.fd))?.1.clone());
        let verdict = Verdict {
            path,
            time: it.time,
            told: it.time,
            pid: it.pid,
            process: Vec::new(),
            tid: it.tid,
            fault: it.fault,
            cause: it.cause,
            ret: it.ret,
            outcome,
            half,
            doubt,
            going,
            later: ended.map(|ended| ended.saturating_sub(it.time)),
            succeeded,
            next_fault,
            retries: it.retries,
            after: it.after,
            fewer: it.fewer,
            done: it.done,
            lost,
            first,
            context: it.context,
            anew: it.told.is_some(),
        };
        let is_in_vain = half == Half::Retried && !succeeded && !next_fault;
        let is_well = half == Half::Retried && succeeded;
        let is_tried = half == Half::Open && it.retries > 0;
        // Synchronous calls are watched until the verdict; if that is that something is lost, for longer.
        let is_watched = half == Half::Lost && ended.is_none() && now < watched_until(verdict.time);
        if half != Half::Open && !is_watched {
            self.owing.remove(&number);
        }
        self.settled.remove(&number);
        let calls = self.active.get(&it.space).map_or(0, |it| it.calls);
        let earlier = std::mem::take(&mut it.before);
        let now = Told {
            outcome,
            half,
            going,
            lost,
            is_in_vain,
            is_well,
            is_tried,
            next_fault,
            calls,
            doubt,
        };
        let before = it.told.replace(now);
        self.told.insert(number);
        let row = self.row(verdict.fault.rule, verdict.cause, Some(verdict.ret));
        if let Some(it) = before {
            row.count((it.outcome, it.half, it.going), it.lost, false);
            row.in_vain -= u64::from(it.is_in_vain);
            row.succeeded -= u64::from(it.is_well);
            row.tried -= u64::from(it.is_tried);
        }
        row.count((outcome, half, going), lost, true);
        row.in_vain += u64::from(is_in_vain);
        row.succeeded += u64::from(is_well);
        row.tried += u64::from(is_tried);
        let done_by = verdict.done.map(|it| it.0);
        row.is_done_by_several |=
            done_by.is_some_and(|it| row.done_by.is_some_and(|first| first != it));
        row.done_by = row.done_by.or(done_by);
        if half == Half::Retried {
            row.within = row.within.max(verdict.after);
        }
        // That it ended as was to be expected is in the report.
        let said = |it: Told| (it.outcome, it.half, it.lost, it.next_fault);
        if next_fault && half == Half::Retried {
            self.handed.extend(earlier);
            self.handed.push(verdict.clone());
            let most = self.handed.len().saturating_sub(MOST_IN_ROW);
            self.handed.drain(..most);
        } else if is_doubtful {
            earlier.into_iter().for_each(|it| self.doubts(it, doubt));
        } else if let Some(it) = self.watched.get_mut(&number) {
            it.before = earlier;
        }
        let is_news = before.is_none_or(|it| said(it) != said(now));
        if is_news && self.new.len() < MOST_UNTOLD {
            self.new.push_back(verdict);
        }
    }

    /// What came again after this fault met the next one, and after that it is not known whether it was a retry.
    fn doubts(&mut self, before: Verdict, doubt: Option<Doubt>) {
        let outcome = Outcome::of(Half::Unsure, before.going);
        let now = Verdict { half: Half::Unsure, outcome, doubt, anew: true, ..before.clone() };
        let row = self.row(now.fault.rule, now.cause, Some(now.ret));
        row.count((before.outcome, before.half, before.going), before.lost, false);
        row.count((now.outcome, now.half, now.going), now.lost, true);
        if self.new.len() < MOST_UNTOLD {
            self.new.push_back(now);
        }
    }
}
