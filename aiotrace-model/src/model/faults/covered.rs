//! Requests that do what is left of others, all of it or a part: several merged into one, one in pieces, the rest of a short
//! one, with vectors or without.

use aiotrace_common::synchronous::Does;

use super::{
    Faults, NO_REQUEST,
    attempt::Attempt,
    watched::{Kind, Piece, Want, Watched},
};
use crate::event::{Handle, SpaceId};
use crate::model::{
    Doubt,
    owed::{Done, Owed, Place, does, is_vague, reach},
    requests::Request,
    verdict::Half,
};

/// Requests that do what a completion left, of a fault.
const MOST_PIECES: usize = 64;

/// What io_submit made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fared {
    /// The kernel took it.
    Accepted,
    /// A fault met it.
    Injected,
    /// The kernel did not take it.
    Refused,
}

impl Faults {
    /// A request was submitted that is not the same as one that is left, and may do it all the same. Which faults had it
    /// retried, and when the latest was of which it does something for sure.
    pub(super) fn cover(
        &mut self,
        attempt: &Attempt<'_>,
        ctx: Handle,
        request: &Request,
        fared: Fared,
    ) -> (Vec<u64>, Option<u64>) {
        let (mut touched, mut certain) = (Vec::new(), None);
        if does(request) == Some(Does::Sync) && fared == Fared::Accepted {
            self.synced(attempt, request.fd);
        }
        for (number, place) in self.over(attempt.space, request) {
            let is_before = |it: &&mut Watched| it.time <= attempt.entered;
            let Some(watched) = self.watched.get_mut(&number).filter(is_before) else { continue };
            let is_of_another = watched.current() != ctx && watched.over.is_none();
            let Some(owed) = watched.owed_mut(place) else { continue };
            // The same one is found by what it is.
            let is_same = Place::of(&owed.request) == Place::of(request);
            if is_same || does(&owed.request) != does(request) {
                continue;
            }
            if is_of_another {
                if fared == Fared::Accepted {
                    owed.covered_by(request, Some(Doubt::OtherContext));
                }
                continue;
            }
            // What one with unknown vectors is about is told when it completes.
            let known = Some(request).filter(|it| !is_vague(it));
            let why = known.and_then(|it| owed.why_other_memory(reach(it).0, it.memory().as_ref()));
            if fared != Fared::Accepted {
                let is_all = owed.clone().covered_by(request, None) == Done::All;
                if is_all && fared == Fared::Injected {
                    watched.next_fault = true;
                    watched.retries = watched.retries.max(u64::from(place != NO_REQUEST));
                    self.comes_again(number, attempt, ctx, why);
                    self.take(number, place);
                    touched.push(number);
                }
                continue;
            }
            let is_same_number = request.fd == owed.request.fd;
            if is_same_number && owed.overlaps(reach(request)) {
                let fault = self.comes_again(number, attempt, ctx, why);
                certain = certain.max(fault.filter(|_| !is_vague(request)));
            }
            if self.is_retried_by(number, place, request) {
                touched.push(number);
            }
            // A look shows whose file it is, but not which of its requests did what.
            let owed = self.watched.get_mut(&number).and_then(|it| it.owed_mut(place));
            if let Some(owed) = owed.filter(|it| it.is_through(request.fd)) {
                owed.done_vaguely(request.fd);
                self.sharers.looks_for(request.fd);
            }
        }
        (touched, certain)
    }

    /// A sync was accepted, which may be of the file of what is left.
    fn synced(&mut self, attempt: &Attempt<'_>, fd: u32) {
        let mut is_through = false;
        for number in &self.owing {
            let watched = self.watched.get_mut(number);
            let is_its =
                |it: &&mut Watched| it.space == attempt.space && it.time <= attempt.entered;
            let Some(watched) = watched.filter(is_its) else { continue };
            watched.kind.each_owed(|it| {
                it.synced_through(fd);
                is_through |= it.is_through(fd);
            });
        }
        if is_through {
            self.sharers.looks_for(fd);
        }
    }

    /// A request was accepted: perhaps it reads something else into the memory of a write that is left.
    pub(super) fn refilled(&mut self, attempt: &Attempt<'_>, request: &Request) {
        if does(request) != Some(Does::Read) {
            return;
        }
        for number in &self.owing {
            let watched = self.watched.get_mut(number);
            let may_be = |it: &&mut Watched| {
                it.space == attempt.space && it.time <= attempt.entered && !it.written.is_empty()
            };
            let Some(watched) = watched.filter(may_be) else { continue };
            if watched.kind.owed().any(|it| it.1.is_refilled_by(request)) {
                watched.since.goes_on(Doubt::Refilled);
            }
        }
    }

    /// What is left that this request may overlap.
    fn over(&self, space: SpaceId, request: &Request) -> Vec<(u64, u32)> {
        let is_write = match does(request) {
            Some(Does::Read) => false,
            Some(Does::Write) => true,
            _ => return Vec::new(),
        };
        self.ranges.get(&(space, is_write)).map_or_else(Vec::new, |it| it.over(reach(request)))
    }

    /// It was accepted: whether it does all that is left of the other, or the rest of that.
    fn is_retried_by(&mut self, number: u64, place: u32, request: &Request) -> bool {
        let Some(watched) = self.watched.get_mut(&number) else { return false };
        let why = is_vague(request).then_some(Doubt::Vectors);
        if let Kind::Completion { owed: Some(owed), pieces, completed: None, .. } =
            &mut watched.kind
        {
            if pieces.len() >= MOST_PIECES {
                owed.doubt.get_or_insert(Doubt::TooMany);
                return false;
            }
            let done = owed.covered_by(request, why);
            if done == Done::Not || request.fd != owed.request.fd || owed.is_doubtful() {
                return false;
            }
            pieces.push(Piece {
                iocb: request.iocb,
                range: Some(reach(request)),
                is_vague: is_vague(request),
                is_done: false,
                is_reaped: false,
            });
            self.want_completion(number, request.iocb);
            return done == Done::All;
        }
        let Kind::Submit { left, .. } = &mut watched.kind else { return false };
        match left.get_mut(&place).map(|it| it.covered_by(request, why)) {
            Some(Done::All) => {
                watched.retries = watched.retries.max(1);
                self.take(number, place);
                true
            }
            _ => false,
        }
    }

    /// A request with vectors has completed, and tells what it has done of what io_submit had refused. Which faults had it
    /// retried.
    pub(super) fn uncovered(&mut self, space: SpaceId, request: &Request, res: i64) -> Vec<u64> {
        let mut touched = Vec::new();
        if !is_vague(request) || self.ranges.is_empty() {
            return touched;
        }
        for (number, place) in self.over(space, request) {
            let Some(watched) = self.watched.get_mut(&number) else { continue };
            let done = watched.owed_mut(place).and_then(|it| it.completed(request, res));
            if done == Some(Done::All) && place != NO_REQUEST {
                watched.retries = watched.retries.max(1);
                self.take(number, place);
                touched.push(number);
            }
        }
        touched
    }

    /// It waits for the completion of this iocb.
    pub(super) fn want_completion(&mut self, number: u64, iocb: u64) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        let want = Want::Completion(iocb);
        if watched.wants.contains(&want) {
            return;
        }
        watched.wants.push(want);
        let space = watched.space;
        self.wanted.entry((space, want)).or_default().push((number, NO_REQUEST));
    }

    /// It does not wait for the completion of this iocb any more.
    pub(super) fn no_completion(&mut self, number: u64, iocb: u64) {
        let want = Want::Completion(iocb);
        let Some(watched) = self.watched.get_mut(&number) else { return };
        if let Some(at) = watched.wants.iter().position(|it| *it == want) {
            watched.wants.remove(at);
        }
        let space = watched.space;
        self.unwant(space, want, number, NO_REQUEST);
    }

    /// A piece completed: what became of the fault, if all are done and reaped. Without a time: it was reaped.
    /// `request`: which one it was, if that is known.
    pub(super) fn came_back(
        &mut self,
        number: u64,
        (iocb, request): (u64, Option<&Request>),
        res: i64,
        time: Option<u64>,
    ) -> Option<Half> {
        let watched = self.watched.get_mut(&number)?;
        let is_done_otherwise = watched.done.is_some();
        let Kind::Completion { owed, pieces, completed, .. } = &mut watched.kind else {
            return None;
        };
        // Of those with this iocb the oldest comes first.
        let is_it = |it: &Piece| {
            it.iocb == iocb && if time.is_none() { !it.is_reaped } else { !it.is_done }
        };
        let at = pieces.iter().position(is_it)?;
        if res < 0 {
            let piece = pieces.remove(at);
            *completed = None;
            if let Some(owed) = owed {
                owed.piece_completed(&piece, request, res);
            }
            self.no_completion(number, iocb);
            return None;
        }
        let mut is_unwanted = false;
        let piece = &mut pieces[at];
        if !std::mem::replace(&mut piece.is_done, true)
            && let Some(owed) = owed
            && !owed.piece_completed(piece, request, res)
        {
            // It was about another part of the file.
            pieces.remove(at);
            is_unwanted = pieces.iter().all(|it| it.iocb != iocb);
            if pieces.is_empty() {
                let is_over = is_done_otherwise && !owed.is_left();
                self.no_completion(number, iocb);
                return is_over.then_some(Half::Done);
            }
        } else {
            pieces[at].is_reaped |= time.is_none();
        }
        let is_left = owed.as_deref().is_some_and(Owed::is_left);
        let is_done = !is_left && pieces.iter().all(|it| it.is_done);
        let is_reaped = is_done && pieces.iter().all(|it| it.is_reaped);
        if is_done {
            *completed = time.or(*completed);
            watched.retries = watched.retries.max(1);
            if let Some(request) = request {
                watched.after.get_or_insert(request.entered.saturating_sub(watched.time));
            }
            watched.succeeded |= is_reaped;
        }
        if is_unwanted {
            self.no_completion(number, iocb);
        }
        is_reaped.then_some(Half::Retried)
    }
}

impl Owed {
    /// A piece completed with this result: what it was to do, and has not, is missing again. One with vectors tells now
    /// what it has done: false, if that is nothing of this.
    fn piece_completed(&mut self, piece: &Piece, request: Option<&Request>, res: i64) -> bool {
        match piece.range {
            None if res < 0 => self.uncover((0, u64::MAX)),
            // A write of the whole that was short itself.
            None if does(&self.request) == Some(Does::Write) => {
                let from = request.map_or(0, |it| it.offset.max(0) as u64);
                if request.is_some() {
                    self.uncover((from.saturating_add(res as u64), u64::MAX));
                }
            }
            None => (),
            Some((from, _)) if piece.is_vague => {
                let known =
                    Request { iocb: piece.iocb, offset: from as i64, ..self.request.clone() };
                return self.completed(request.unwrap_or(&known), res) != Some(Done::Not);
            }
            // A read that moves less than asked has seen the end of the file.
            Some(_) if res > 0 && does(&self.request) == Some(Does::Read) => (),
            Some((from, to)) => self.uncover((from.saturating_add(res.max(0) as u64), to)),
        }
        true
    }
}

impl Watched {
    /// What of it is left: one of the requests of an io_submit, or that of a completion.
    pub(super) fn owed_mut(&mut self, place: u32) -> Option<&mut Owed> {
        match &mut self.kind {
            Kind::Submit { left, .. } => left.get_mut(&place),
            Kind::Completion { owed, .. } => owed.as_deref_mut(),
            Kind::Call | Kind::Destroy => None,
        }
    }
}
