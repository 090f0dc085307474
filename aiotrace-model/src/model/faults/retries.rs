//! Calls that may be retries, and completions of retries.

use std::collections::{BTreeMap, BTreeSet};

use aiotrace_common::synchronous::Does;

use super::{
    Faults, NO_REQUEST,
    attempt::Attempt,
    covered::Fared,
    follow::owed_after,
    watched::{Kind, Piece, Want, Watched, places, wants_of_call, wants_of_completion, written},
};
use crate::{
    event::{Args, Handle, IoEvent, Iocb, SpaceId},
    model::{
        Doubt, Subject,
        owed::{Owed, Place, does},
        requests::Request,
        verdict::Half,
    },
};

impl Faults {
    /// Whatever it is a retry of is told, or goes on.
    pub fn attempt(&mut self, attempt: &Attempt<'_>) {
        self.forget_retries();
        if self.watched.is_empty() {
            return self.remember(attempt);
        }
        let touched = match attempt.args {
            Args::Submit { ctx, iocbs, truncated, .. } => {
                self.identify(attempt, *ctx, iocbs);
                self.submitted(attempt, *ctx, iocbs, *truncated)
            }
            args => self.called(attempt, args),
        };
        for number in touched {
            self.retried(number, attempt);
        }
        if let Args::Getevents { list, changed, .. } = attempt.args {
            self.reaped(attempt, list, changed);
        }
    }

    /// What follows begins with no retry.
    pub(super) fn forget_retries(&mut self) {
        self.handed.clear();
        self.met.clear();
        self.origin = None;
    }

    /// Remembers the requests that were accepted, or that a context was made.
    fn remember(&mut self, attempt: &Attempt<'_>) {
        self.makes_context(attempt, false);
        let Args::Submit { iocbs, .. } = attempt.args else { return };
        if self.history.is_none() {
            return;
        }
        let twins = attempt.refused(iocbs);
        for place in attempt.places(iocbs).take(attempt.accepted()).flatten() {
            self.uses(attempt.space, place, &twins);
        }
    }

    /// A request was accepted that is no retry for sure. One beside which an equal one met a fault says nothing of that.
    fn uses(&mut self, space: SpaceId, place: Place, twins: &BTreeSet<Place>) {
        if let Some(history) = self.history.as_mut().filter(|_| !twins.contains(&place)) {
            history.did(space, place);
        }
    }

    /// Whether the program makes requests like those of a fault at other times, too, or contexts, or the calls that have done
    /// what was left: then what comes after it may be the next one, and no retry.
    pub(super) fn is_used(&self, watched: &Watched) -> bool {
        let Some(history) = &self.history else { return false };
        let is_called = watched.did.iter().any(|it| history.had(watched.space, *it));
        if is_called || self.makes_more(watched) {
            return true;
        }
        // A request whose completion is changed was accepted itself.
        let is_accepted = matches!(watched.kind, Kind::Completion { .. });
        let had = |it| match is_accepted {
            true => history.had_again(watched.space, it),
            false => history.had(watched.space, it),
        };
        watched.places.iter().any(|it| had(*it) || it.greater().is_some_and(had))
    }

    /// Completions that were changed before their io_submit returned: only now it is known what they were.
    fn identify(&mut self, attempt: &Attempt<'_>, ctx: Handle, iocbs: &[Option<Iocb>]) {
        for iocb in iocbs.iter().take(attempt.accepted()).flatten() {
            let request = Request::new(iocb, (attempt.entered, 0), (0, 0));
            let Some(request) = request.filter(|it| it.opcode.is_some()) else { continue };
            let changed = Want::Iocb(ctx, request.iocb);
            for (number, _) in self.wanting(attempt.space, changed, attempt.time) {
                let Some(watched) = self.watched.get_mut(&number) else { continue };
                let is_meant = watched.time >= attempt.entered;
                let Kind::Completion { subject: subject @ None, is_owed, owed, own, .. } =
                    &mut watched.kind
                else {
                    continue;
                };
                if is_meant {
                    self.met.push(request.iocb);
                    (*subject, *is_owed) = (Subject::of(&request), !request.is_poll());
                    let left = owed_after(&request, watched.ret, *own);
                    super::insert(&mut self.ranges, attempt.space, &left, (number, NO_REQUEST));
                    *owed = Some(Box::new(left));
                    watched.written = written(&watched.kind);
                    watched.places = places(&watched.kind);
                    self.sharers.identified.push(number);
                    let wants = wants_of_completion(&request, watched.ret);
                    watched.wants.extend(&wants);
                    for want in wants {
                        let of_it = self.wanted.entry((attempt.space, want)).or_default();
                        of_it.push((number, NO_REQUEST));
                    }
                    self.was_set_since(number);
                }
            }
        }
    }

    /// The faults of which it retries something.
    fn submitted(
        &mut self,
        attempt: &Attempt<'_>,
        ctx: Handle,
        iocbs: &[Option<Iocb>],
        truncated: u64,
    ) -> BTreeSet<u64> {
        let mut touched = BTreeSet::new();
        let of = (ctx, attempt.tid);
        let accepted = attempt.accepted();
        let mut is_unread = truncated > 0;
        if is_unread {
            self.given.add(attempt.space, of, None);
        }
        let twins = attempt.refused(iocbs);
        // When the latest fault was of which what is refused is a retry for sure; `None`: not all of it is.
        let mut origin = Some(0);
        for (index, iocb) in iocbs.iter().enumerate() {
            let request =
                iocb.as_ref().and_then(|it| Request::new(it, (attempt.entered, 0), (0, 0)));
            let known = request.and_then(|it| Some((Place::of(&it)?, it)));
            let Some((place, request)) = known else {
                is_unread = true;
                origin = None;
                self.given.add(attempt.space, of, None);
                continue;
            };
            // The same of this one.
            let mut certain = None;
            // Of equal ones each time another one: those last that may have been submitted again. (One sync does all.)
            let is_sync = does(&request) == Some(Does::Sync);
            let mut wanting: BTreeMap<(u64, Option<u32>), (bool, u32)> = BTreeMap::new();
            for (number, place) in self.wanting_this(attempt, place) {
                let owed = self.watched.get_mut(&number).and_then(|it| it.owed_mut(place));
                let it = (owed.is_some_and(|it| it.why().is_some()), place);
                let one = (number, is_sync.then_some(place));
                let first = wanting.entry(one).or_insert(it);
                *first = it.min(*first);
            }
            for ((number, _), (_, place)) in wanting {
                if self.is_of_another(number, place, ctx) {
                    continue;
                }
                touched.insert(number);
                let owed = self.watched.get_mut(&number).and_then(|it| it.owed_mut(place));
                let doubt = owed.and_then(|it| it.why_another(&request));
                certain = certain.max(self.comes_again(number, attempt, ctx, doubt));
                self.tried(number, place, &request, index < accepted, attempt.is_injected);
            }
            let fared = match (index < accepted, attempt.is_injected) {
                (true, _) => Fared::Accepted,
                (false, true) => Fared::Injected,
                (false, false) => Fared::Refused,
            };
            let (covered, of_covered) = self.cover(attempt, ctx, &request, fared);
            touched.extend(covered);
            certain = certain.max(of_covered);
            self.given.add(attempt.space, of, certain);
            if index >= accepted {
                origin = origin.zip(certain).map(|(one, other)| one.max(other));
            } else {
                self.refilled(attempt, &request);
                if certain.is_none() {
                    self.uses(attempt.space, place, &twins);
                }
                self.replaced(attempt, ctx, &request);
            }
        }
        self.origin = origin.filter(|it| *it > 0);
        if is_unread {
            // One of those may have been a retry.
            self.unsure(Some(attempt.space), Doubt::Unread);
        }
        touched
    }

    /// Who wants a request like this. A sync of a whole file is one of its data, too, and that is not the other.
    fn wanting_this(&mut self, attempt: &Attempt<'_>, place: Place) -> Vec<(u64, u32)> {
        let wanting = |place| self.wanting(attempt.space, Want::Request(place), attempt.entered);
        let mut all = wanting(place);
        all.extend(place.lesser().into_iter().flat_map(wanting));
        let more: Vec<_> = place.greater().into_iter().flat_map(wanting).collect();
        for (number, place) in more {
            let owed = self.watched.get_mut(&number).and_then(|it| it.owed_mut(place));
            owed.into_iter().for_each(Owed::is_synced_in_part);
        }
        all
    }

    /// Whether the fault was in another context, which is still there, or the descriptor may be of another file now: then it is
    /// not known whether this is a retry.
    fn is_of_another(&mut self, number: u64, place: u32, ctx: Handle) -> bool {
        let Some(watched) = self.watched.get_mut(&number) else { return false };
        if watched.owed_mut(place).is_some_and(Owed::is_doubtful) {
            return true;
        }
        if watched.current() == ctx || watched.over.is_some() {
            return false;
        }
        if let Some(owed) = watched.owed_mut(place) {
            owed.doubt = Some(Doubt::OtherContext);
        }
        true
    }

    /// The iocb of a request that was refused carries another one, which was accepted.
    fn replaced(&mut self, attempt: &Attempt<'_>, ctx: Handle, request: &Request) {
        let iocb = Want::Iocb(ctx, request.iocb);
        for (number, place) in self.wanting(attempt.space, iocb, attempt.entered) {
            let Some(watched) = self.watched.get_mut(&number) else { continue };
            if let Kind::Submit { left, .. } = &mut watched.kind
                && let Some(owed) = left.get_mut(&place)
            {
                owed.is_replaced = true;
            }
        }
    }

    fn tried(
        &mut self,
        number: u64,
        place: u32,
        request: &Request,
        is_accepted: bool,
        is_injected: bool,
    ) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        let meets_fault = !is_accepted && is_injected;
        watched.next_fault |= meets_fault;
        if let Kind::Submit { left, .. } = &mut watched.kind
            && let Some(owed) = left.get_mut(&place)
        {
            // The requests of a call may be tried again in several calls.
            owed.tries += 1;
            watched.retries = watched.retries.max(owed.tries);
        }
        let Kind::Completion { owed, pieces, completed, .. } = &mut watched.kind else {
            if is_accepted || meets_fault {
                self.take(number, place);
            }
            return;
        };
        if !is_accepted {
            return;
        }
        if completed.is_some() || pieces.iter().any(|it| it.range.is_none()) {
            // It has come again, and nothing failed since: so it is made for another reason.
            watched.again = watched.again.or(Some(Doubt::Used));
        }
        // What was done already is only done once more.
        if completed.is_some() {
            return;
        }
        // The last one counts.
        let before: Vec<Piece> = pieces.extract_if(.., |it| it.range.is_none()).collect();
        let (range, is_vague, is_done, is_reaped) = (None, false, false, false);
        pieces.push(Piece { iocb: request.iocb, range, is_vague, is_done, is_reaped });
        if let Some(owed) = owed {
            owed.cover_all();
        }
        for it in before.iter().filter(|it| it.iocb != request.iocb) {
            self.no_completion(number, it.iocb);
        }
        self.want_completion(number, request.iocb);
        if self.met.contains(&request.iocb)
            && let Some(it) = self.watched.get_mut(&number)
        {
            // It completed before its io_submit returned, and met the next fault.
            it.next_fault = true;
        }
    }

    fn called(&mut self, attempt: &Attempt<'_>, args: &Args) -> BTreeSet<u64> {
        let mut touched = BTreeSet::new();
        let has_succeeded = attempt.has_succeeded();
        for want in wants_of_call(args) {
            for (number, _) in self.wanting(attempt.space, want, attempt.entered) {
                let Some(watched) = self.watched.get_mut(&number) else { continue };
                if want == Want::AnySetup {
                    if touched.contains(&number) {
                        continue;
                    }
                    let Some(fewer) = watched.since.fewer(attempt) else {
                        // The pool that failed, or another one: that is not known.
                        if watched.retries == 0 {
                            watched.doubt.get_or_insert(Doubt::OtherSetup);
                        }
                        continue;
                    };
                    watched.fewer = Some(fewer);
                }
                let is_retry =
                    !matches!(want, Want::Destroy(_)) || matches!(watched.kind, Kind::Destroy);
                if !is_retry {
                    if has_succeeded {
                        watched.over.get_or_insert(attempt.time);
                    }
                    continue;
                }
                if matches!(want, Want::Reap(_)) && watched.since.is_of_another(attempt) {
                    // It waits for itself, or instead of the other.
                    watched.doubt.get_or_insert(Doubt::AnotherThread);
                    continue;
                }
                self.is_called_again(number, attempt, want);
                let Some(watched) = self.watched.get_mut(&number) else { continue };
                watched.succeeded |= has_succeeded;
                watched.next_fault |= attempt.is_injected;
                touched.insert(number);
            }
        }
        if let Args::Setup { stored: Some(handle), .. } = args
            && has_succeeded
        {
            self.given_again(attempt, *handle);
        }
        self.makes_context(attempt, !touched.is_empty());
        touched
    }

    /// A context was made at this address: what had it before, and was not destroyed as far as seen, is another one.
    fn given_again(&mut self, attempt: &Attempt<'_>, handle: Handle) {
        let is_meant = |it: &&mut Watched| {
            it.space == attempt.space && it.current() == handle && it.over.is_none()
        };
        for it in self.watched.values_mut().filter(is_meant) {
            if it.time <= attempt.entered && it.settled.is_none() {
                it.doubt.get_or_insert(Doubt::Reused);
                it.again.get_or_insert(Doubt::Reused);
            }
        }
    }

    /// A context ends with requests that nobody has reaped.
    pub(in crate::model) fn leaves_unreaped(&mut self, space: SpaceId, handle: Handle) {
        let is_meant = |it: &&mut Watched| it.space == space && it.current() == handle;
        for it in self.watched.values_mut().filter(is_meant).filter(|it| it.waits()) {
            it.again.get_or_insert(Doubt::Unreaped);
        }
    }

    fn retried(&mut self, number: u64, attempt: &Attempt<'_>) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        watched.retries += u64::from(!matches!(watched.kind, Kind::Submit { .. }));
        self.retried_then(number, attempt.entered);
    }

    /// A retry began then.
    fn retried_then(&mut self, number: u64, entered: u64) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        let after = entered.saturating_sub(watched.time);
        watched.after.get_or_insert(after);
        let is_over = match &watched.kind {
            Kind::Call | Kind::Destroy => watched.succeeded || watched.next_fault,
            Kind::Submit { left, .. } if left.is_empty() => {
                watched.succeeded = !watched.next_fault;
                true
            }
            Kind::Submit { .. } => false,
            Kind::Completion { .. } => watched.next_fault,
        };
        if is_over {
            self.settle(number, Half::Retried);
        }
    }

    /// The program has these.
    fn reaped(&mut self, attempt: &Attempt<'_>, list: &[Option<IoEvent>], changed: &[u32]) {
        let space = attempt.space;
        for (index, event) in list.iter().enumerate() {
            let Some(event) = event else { continue };
            self.delivered(space, event, (attempt.tid, attempt.time));
            if changed.iter().any(|it| *it as usize == index) {
                continue;
            }
            for (number, _) in self.wanting(space, Want::Completion(event.obj), u64::MAX) {
                let half = self.came_back(number, (event.obj, None), event.res, None);
                half.into_iter().for_each(|half| self.settle(number, half));
            }
        }
    }

    /// As the kernel says.
    pub fn completed(&mut self, space: SpaceId, request: &Request, res: i64, time: u64) {
        self.asked.completed(request);
        for (number, _) in self.wanting(space, Want::Completion(request.iocb), request.entered) {
            let half = self.came_back(number, (request.iocb, Some(request)), res, Some(time));
            half.into_iter().for_each(|half| self.settle(number, half));
        }
        for number in self.uncovered(space, request, res) {
            self.retried_then(number, request.entered);
        }
    }

    /// The program got this, and nobody will see it again.
    pub fn was_given(&mut self, space: SpaceId, event: &IoEvent) {
        let key = (space, event.obj, event.data);
        if self.changed.get(&key).is_some_and(|it| it.0 == event.res) {
            self.changed.remove(&key);
        }
    }

    /// What the kernel gave, if a source saw a result that is ours.
    pub fn own_result(&mut self, space: SpaceId, event: &IoEvent) -> i64 {
        match self.changed.remove(&(space, event.obj, event.data)) {
            Some((given, own)) if given == event.res => own,
            _ => event.res,
        }
    }
}
