//! Calls that may be retries, and completions of retries.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Faults, NO_REQUEST,
    covered::Fared,
    follow::owed_after,
    watched::{Kind, Piece, Want, wants_of_call, wants_of_completion, written},
};
use crate::{
    errno,
    event::{Args, IoEvent, Iocb},
    model::{
        Doubt, Subject,
        owed::{Owed, Place},
        requests::Request,
        verdict::Half,
    },
};

const EINPROGRESS: i64 = -(errno::EINPROGRESS as i64);

/// A call that may be a retry.
pub struct Attempt<'a> {
    /// Where.
    pub space: u64,
    /// By which thread.
    pub tid: u32,
    /// When it was entered.
    pub entered: u64,
    /// When it returned.
    pub time: u64,
    /// Which call.
    pub args: &'a Args,
    /// `None`: it has not returned.
    pub ret: Option<i64>,
    /// A fault met it.
    pub is_injected: bool,
}

impl Attempt<'_> {
    /// How many requests an io_submit accepted, the first ones.
    fn accepted(&self) -> usize {
        self.ret.unwrap_or(0).clamp(0, i64::from(u32::MAX)) as usize
    }

    fn has_succeeded(&self) -> bool {
        let is_cancel = matches!(self.args, Args::Cancel { .. });
        self.ret.is_some_and(|ret| ret >= 0 || is_cancel && ret == EINPROGRESS) && !self.is_injected
    }
}

impl Faults {
    /// Whatever it is a retry of is told, or goes on.
    pub fn attempt(&mut self, attempt: &Attempt<'_>) {
        if self.watched.is_empty() {
            // What a fault left some of is remembered when the fault is watched: see `follow`.
            if !attempt.is_injected {
                self.remember(attempt);
            }
            return;
        }
        let touched = match attempt.args {
            Args::Submit { ctx, iocbs, truncated, .. } => {
                self.identify(attempt, ctx.0, iocbs);
                self.submitted(attempt, ctx.0, iocbs, *truncated)
            }
            args => self.called(attempt, args),
        };
        for number in touched {
            self.retried(number, attempt);
        }
        if let Args::Getevents { list, changed, .. } = attempt.args {
            self.reaped(attempt.space, list, changed);
        }
    }

    /// Remembers the requests that were accepted.
    pub(super) fn remember(&mut self, attempt: &Attempt<'_>) {
        let (Some(history), Args::Submit { iocbs, .. }) = (&mut self.history, attempt.args) else {
            return;
        };
        let requests = iocbs.iter().take(attempt.accepted()).flatten();
        let requests = requests.filter_map(|it| Request::new(it, (attempt.entered, 0), (0, 0)));
        for place in requests.filter_map(|it| Place::of(&it)) {
            history.accepted(attempt.space, place);
        }
    }

    /// Whether the program has made requests like those of a fault before: then what comes after it may be the next one, and
    /// no retry.
    pub(super) fn is_used(&self, space: u64, kind: &Kind) -> bool {
        let Some(history) = &self.history else { return false };
        // A request whose completion is changed was accepted itself.
        let is_accepted = matches!(kind, Kind::Completion { .. });
        let owed = kind.owed();
        let mut places = owed.iter().filter_map(|(_, it)| Place::of(&it.request));
        places.any(
            |it| {
                if is_accepted { history.had_again(space, it) } else { history.had(space, it) }
            },
        )
    }

    /// Completions that were changed before their io_submit returned: only now it is known what they were.
    fn identify(&mut self, attempt: &Attempt<'_>, ctx: u64, iocbs: &[Option<Iocb>]) {
        for iocb in iocbs.iter().take(attempt.accepted()).flatten() {
            let request = Request::new(iocb, (attempt.entered, 0), (0, 0));
            let Some(request) = request.filter(|it| it.opcode.is_some()) else { continue };
            let changed = Want::Iocb(ctx, request.iocb);
            for (number, _) in self.wanting(attempt.space, changed, attempt.time) {
                let Some(watched) = self.watched.get_mut(&number) else { continue };
                let is_meant = watched.time >= attempt.entered;
                let Kind::Completion { subject: subject @ None, is_write, owed, own, .. } =
                    &mut watched.kind
                else {
                    continue;
                };
                if is_meant {
                    (*subject, *is_write) = (Subject::of(&request), request.is_write());
                    let left = owed_after(&request, watched.ret, *own);
                    super::insert(&mut self.ranges, attempt.space, &left, (number, NO_REQUEST));
                    *owed = Some(Box::new(left));
                    watched.written = written(&watched.kind);
                    let had =
                        |it| self.history.as_ref().is_some_and(|all| all.had(attempt.space, it));
                    watched.is_used = Place::of(&request).is_some_and(had);
                    watched.placeless.retain(|(fd, _)| watched.written.contains(fd));
                    let wants = wants_of_completion(&request, watched.ret);
                    watched.wants.extend(&wants);
                    for want in wants {
                        let of_it = self.wanted.entry((attempt.space, want)).or_default();
                        of_it.push((number, NO_REQUEST));
                    }
                }
            }
        }
    }

    /// The faults of which it retries something.
    fn submitted(
        &mut self,
        attempt: &Attempt<'_>,
        ctx: u64,
        iocbs: &[Option<Iocb>],
        truncated: u64,
    ) -> BTreeSet<u64> {
        let mut touched = BTreeSet::new();
        let accepted = attempt.accepted();
        let mut is_unread = truncated > 0;
        if accepted > 0 {
            self.submitted_since(attempt.space, ctx);
        }
        for (index, iocb) in iocbs.iter().enumerate() {
            let request =
                iocb.as_ref().and_then(|it| Request::new(it, (attempt.entered, 0), (0, 0)));
            let Some(request) = request else {
                is_unread = true;
                continue;
            };
            let Some(place) = Place::of(&request) else {
                is_unread = true;
                continue;
            };
            let want = Want::Request(place);
            // Of equal ones each time another one: those last that may have been submitted again.
            let mut wanting: BTreeMap<u64, (bool, u32)> = BTreeMap::new();
            for (number, place) in self.wanting(attempt.space, want, attempt.entered) {
                let owed = self.watched.get_mut(&number).and_then(|it| it.owed_mut(place));
                let it = (owed.is_some_and(|it| it.why().is_some()), place);
                let first = wanting.entry(number).or_insert(it);
                *first = it.min(*first);
            }
            let is_retry = !wanting.is_empty();
            for (number, (_, place)) in wanting {
                if self.is_of_another(number, place, ctx) {
                    continue;
                }
                touched.insert(number);
                self.tried(number, place, &request, index < accepted, attempt.is_injected);
            }
            let fared = match (index < accepted, attempt.is_injected) {
                (true, _) => Fared::Accepted,
                (false, true) => Fared::Injected,
                (false, false) => Fared::Refused,
            };
            touched.extend(self.cover((attempt.space, ctx), attempt.entered, &request, fared));
            if index < accepted {
                if !is_retry
                    && !attempt.is_injected
                    && let Some(history) = &mut self.history
                {
                    history.accepted(attempt.space, place);
                }
                self.replaced(attempt, ctx, &request);
            }
        }
        if is_unread {
            // One of those may have been a retry.
            self.unsure(Some(attempt.space), Doubt::Unread);
        }
        touched
    }

    /// Whether the fault was in another context, which is still there, or the descriptor may be of another file now: then it is
    /// not known whether this is a retry.
    fn is_of_another(&mut self, number: u64, place: u32, ctx: u64) -> bool {
        let Some(watched) = self.watched.get_mut(&number) else { return false };
        if watched.owed_mut(place).is_some_and(Owed::is_doubtful) {
            return true;
        }
        if watched.handle == ctx || watched.moved == Some(ctx) || watched.over.is_some() {
            return false;
        }
        if let Some(owed) = watched.owed_mut(place) {
            owed.doubt = Some(Doubt::OtherContext);
        }
        true
    }

    /// The iocb of a request that was refused carries another one, which was accepted.
    fn replaced(&mut self, attempt: &Attempt<'_>, ctx: u64, request: &Request) {
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
        // What was done already is only done once more.
        if !is_accepted || completed.is_some() {
            return;
        }
        // The last one counts.
        let before: Vec<Piece> = pieces.extract_if(.., |it| it.range.is_none()).collect();
        let (range, is_vectored, is_done, is_reaped) = (None, false, false, false);
        pieces.push(Piece { iocb: request.iocb, range, is_vectored, is_done, is_reaped });
        if let Some(owed) = owed {
            owed.cover_all();
        }
        for it in before.iter().filter(|it| it.iocb != request.iocb) {
            self.no_completion(number, it.iocb);
        }
        self.want_completion(number, request.iocb);
    }

    fn called(&mut self, attempt: &Attempt<'_>, args: &Args) -> BTreeSet<u64> {
        let mut touched = BTreeSet::new();
        let has_succeeded = attempt.has_succeeded();
        for want in wants_of_call(args) {
            for (number, _) in self.wanting(attempt.space, want, attempt.entered) {
                let Some(watched) = self.watched.get_mut(&number) else { continue };
                if want == Want::AnySetup {
                    // The pool that failed, or another one: that is not known.
                    if watched.retries == 0 && !touched.contains(&number) {
                        watched.doubt.get_or_insert(Doubt::OtherSetup);
                    }
                    continue;
                }
                let is_retry =
                    !matches!(want, Want::Destroy(_)) || matches!(watched.kind, Kind::Destroy);
                if !is_retry {
                    if has_succeeded {
                        watched.over.get_or_insert(attempt.time);
                    }
                    continue;
                }
                if matches!(want, Want::Reap(_)) && !watched.waits_again(attempt) {
                    continue;
                }
                watched.succeeded |= has_succeeded;
                watched.next_fault |= attempt.is_injected;
                touched.insert(number);
            }
        }
        touched
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
    fn reaped(&mut self, space: u64, list: &[Option<IoEvent>], changed: &[u32]) {
        for (index, event) in list.iter().enumerate() {
            let Some(event) = event else { continue };
            self.delivered(space, event);
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
    pub fn completed(&mut self, space: u64, request: &Request, res: i64, time: u64) {
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
    pub fn was_given(&mut self, space: u64, event: &IoEvent) {
        let key = (space, event.obj, event.data);
        if self.changed.get(&key).is_some_and(|it| it.0 == event.res) {
            self.changed.remove(&key);
        }
    }

    /// What the kernel gave, if a source saw a result that is ours.
    pub fn own_result(&mut self, space: u64, event: &IoEvent) -> i64 {
        match self.changed.remove(&(space, event.obj, event.data)) {
            Some((given, own)) if given == event.res => own,
            _ => event.res,
        }
    }
}
