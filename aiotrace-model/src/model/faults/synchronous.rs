//! Synchronous calls of a program, some of which do what io_submit did not take, or what failed by a fault.

use aiotrace_common::synchronous::{Call, Does};

use super::{
    Faults, NO_REQUEST,
    sharers::without,
    watched::{Kind, Watched},
};
use crate::{
    any_order::AnyOrder as _,
    event::{self, Args, Event, SpaceId, Synchronous},
    model::{
        Doubt, Model, TOLD_WITHIN,
        owed::{Done, Owed, does, gives_up, reach},
        requests::Request,
        verdict::Half,
    },
};

/// Requests that are compared with what other processes left, in a second: each with each.
const MOST_COMPARED_IN_A_SECOND: u32 = 1 << 20;
/// Calls remembered that have done requests of one fault.
const MOST_DID: usize = 16;

/// What calls have in common that move the same data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Like(Call, u32, Option<i64>, u64);

impl Like {
    fn of(call: &Synchronous) -> Self {
        Self(call.call, call.fd, call.offset, call.count)
    }
}

impl Model {
    /// Up to when the synchronous calls of the traced processes need not be watched for what happened; `None`: they must
    /// be watched on. (A fault or a short io_submit after that time is not known here yet.)
    pub fn settled_up_to(&self) -> Option<u64> {
        let has_short = self.spaces.in_any_order().any(|it| it.1.needs_synchronous());
        // What happened in other threads at the same time is told by now.
        let is_all_told = self.now >= self.provoked.saturating_add(TOLD_WITHIN);
        (!has_short && self.faults.owing.is_empty() && is_all_told).then_some(self.provoked)
    }

    /// Synchronous calls are watched from this time on, because of something that is left.
    pub(super) fn provoke(&mut self, time: u64) {
        // Whoever asked may have stopped watching them.
        if self.settled_up_to().is_some() {
            self.faults.sharers.begin(time);
        }
        self.provoked = self.provoked.max(time);
    }

    /// A synchronous call returned.
    pub(in crate::model) fn synchronous(&mut self, event: &Event, call: &Synchronous) {
        let space = self.space(event.pid);
        self.synchronous_of(space, (event.time, event.tid), call, None);
        self.ask_for_others(event.pid);
        // Its files are those of its parents, too.
        let parents = self.faults.children.parents(space);
        self.faults.called_elsewhere(space, &parents, call);
        for (number, of) in self.spaces.in_any_order_mut().filter(|it| it.1.has_short()) {
            if *number != space {
                of.called_elsewhere(call, parents.iter().find(|it| it.0 == *number).map(|it| it.1));
            }
        }
        for (parent, since) in parents {
            self.synchronous_of(parent, (event.time, event.tid), call, Some(since));
        }
    }

    /// io_submit accepted requests: perhaps of the file of what another process left, which may have the file open.
    pub(super) fn submitted_elsewhere(&mut self, space: SpaceId, time: u64, call: &event::Call) {
        // Most traces have nothing that is left.
        if self.provoked == 0 {
            return;
        }
        let Args::Submit { iocbs, .. } = &call.args else { return };
        let watched = &self.faults.watched;
        let is_other = |it: &&u64| watched.get(it).is_some_and(|it| it.space != space);
        let others: Vec<u64> = self.faults.owing.iter().filter(is_other).copied().collect();
        let in_faults: usize =
            others.iter().filter_map(|it| Some(watched.get(it)?.kind.count_owed())).sum();
        let of_others = self.spaces.in_any_order().filter(|it| *it.0 != space);
        let left = in_faults + of_others.map(|it| it.1.count_short()).sum::<usize>();
        if left == 0 {
            return;
        }
        let accepted = usize::try_from(call.ret).unwrap_or(0);
        let requests = iocbs.iter().take(accepted).flatten();
        let requests = requests.filter_map(|it| Request::new(it, (0, 0), (0, 0)));
        // What another process reads is not done for this one.
        let done: Vec<(Does, (u64, u64))> = requests
            .filter_map(|it| Some((does(&it).filter(|it| *it != Does::Read)?, reach(&it))))
            .collect();
        let cost = u32::try_from(left.saturating_mul(done.len())).unwrap_or(u32::MAX);
        if !self.comparisons.take_many(time, cost, MOST_COMPARED_IN_A_SECOND) {
            self.faults.uncompared = self.faults.uncompared.max(time);
            return;
        }
        for (does, range) in done {
            for number in &others {
                let watched = self.faults.watched.get_mut(number);
                watched.into_iter().for_each(|it| {
                    it.kind.each_owed(|owed| owed.done_elsewhere(does, range));
                });
            }
            for (_, of) in self.spaces.in_any_order_mut().filter(|it| *it.0 != space) {
                of.done_elsewhere(does, range);
            }
        }
    }

    /// `child`: a child that was made then made the call.
    fn synchronous_of(
        &mut self,
        space: SpaceId,
        (time, tid): (u64, u32),
        call: &Synchronous,
        child: Option<u64>,
    ) {
        self.faults.synchronous(space, (time, tid), call, child);
        if let Some(space) = self.spaces.get_mut(&space).filter(|it| it.has_short()) {
            space.synchronous(call, time, child);
        }
    }
}

impl Watched {
    /// A call that returned then gave up a descriptor, or unmapped memory.
    fn gave_up(&mut self, call: &Synchronous, time: u64) {
        self.unseen.gave_up(call, time);
        // A descriptor that was looked at meanwhile may have been another one.
        let began = call.entered.unwrap_or(0);
        if self.here.iter().any(|it| gives_up(call, it.0) && it.1 >= began) {
            self.again.get_or_insert(Doubt::OtherDescriptor);
        }
    }

    /// Whether some of what is left may have been done through this descriptor.
    pub(super) fn is_through(&self, fd: u32) -> bool {
        self.kind.owed().any(|it| it.1.is_through(fd))
    }

    /// Whether it is about requests.
    pub(super) fn is_about_requests(&self) -> bool {
        matches!(self.kind, Kind::Submit { .. } | Kind::Completion { .. })
    }
}

impl Faults {
    pub(super) fn synchronous(
        &mut self,
        space: SpaceId,
        (time, tid): (u64, u32),
        call: &Synchronous,
        child: Option<u64>,
    ) {
        if let Some(activity) = self.active.get_mut(&space) {
            activity.last = activity.last.max(time);
        }
        if child.is_none() {
            let does = call.call.does();
            if does == Does::Map {
                self.sharers.maps(space);
            }
            if matches!(does, Does::Unmap | Does::Close) {
                let of_it = self.watched.values_mut().filter(|it| it.space == space);
                of_it.for_each(|it| it.gave_up(call, time));
            }
            if does == Does::Close {
                self.sharers.gave_up(space, call);
                without(&mut self.paths, space, call);
                self.placeless.gave_up(space, call);
            }
            if does == Does::Unmap {
                return;
            }
        }
        let began = call.entered.unwrap_or(time);
        if call.call.does() == Does::Append {
            self.appends(space, time);
            return;
        }
        // Which faults, and which of their requests.
        let mut done: Vec<(u64, Option<u32>)> = Vec::new();
        let mut is_touched = false;
        for number in &self.owing {
            let Some(watched) = self.watched.get_mut(number) else { continue };
            // A child that was there before has files of its own.
            if watched.space != space || watched.time > child.unwrap_or(began).min(began) {
                continue;
            }
            if watched.settled.is_some() {
                continue;
            }
            let may_write = matches!(call.call.does(), Does::Write | Does::Unseen) && call.ret > 0;
            if may_write && watched.kind.syncs() {
                // The next sync is about this, too.
                watched.since.goes_on(Doubt::Submitted);
            }
            if child.is_none() && watched.kind.owed().any(|it| it.1.is_refilled(call)) {
                watched.since.goes_on(Doubt::Refilled);
            }
            let sharers = &mut self.sharers;
            let mut done_by = |it: &mut Owed| {
                let done = match child {
                    Some(_) => it.done_by_child(call),
                    None => it.done_by(call),
                };
                is_touched |= done != Done::Not;
                let is_through = done == Done::Touched && child.is_none() && it.is_through(call.fd);
                if is_through && !sharers.did(space, (time, tid), call) {
                    it.done_vaguely(call.fd);
                }
                done
            };
            match &mut watched.kind {
                Kind::Submit { left, .. } => {
                    let all = left.iter_mut().filter_map(|(place, it)| {
                        (done_by(it) == Done::All).then_some((*number, Some(*place)))
                    });
                    done.extend(all);
                }
                // What was submitted again is not done otherwise.
                Kind::Completion { owed: Some(owed), pieces, .. }
                    if owed.is_left() || pieces.is_empty() =>
                {
                    let is_all = done_by(owed) == Done::All;
                    let is_over = pieces.iter().all(|it| it.is_done);
                    done.extend((is_all && is_over).then_some((*number, None)));
                    if is_all && !is_over {
                        watched.done = Some((call.call, watched.done.map_or(0, |it| it.1) + 1));
                    }
                }
                _ => (),
            }
        }
        // It is made for another reason, and perhaps has been or will be in place of what was left, too.
        if let Some(history) = self.history.as_mut().filter(|_| !is_touched && call.ret > 0) {
            history.did(space, Like::of(call));
        }
        // One sync(2) may be what several wanted.
        for (number, place) in done {
            self.done(number, place, call, (began, tid));
        }
    }

    /// A process that is none of these made a call: perhaps to the file of a fault, which it may have opened since.
    fn called_elsewhere(&mut self, space: SpaceId, parents: &[(SpaceId, u64)], call: &Synchronous) {
        for number in &self.owing {
            let Some(watched) = self.watched.get_mut(number) else { continue };
            let is_child = parents.iter().any(|it| it.0 == watched.space && watched.time <= it.1);
            if watched.space != space && !is_child {
                watched.kind.each_owed(|owed| owed.called_elsewhere(call));
            }
        }
    }

    /// A synchronous call that began then has done one of the requests.
    fn done(
        &mut self,
        number: u64,
        place: Option<u32>,
        call: &Synchronous,
        (began, tid): (u64, u32),
    ) {
        if let Some(watched) = self.watched.get_mut(&number) {
            let owed = watched.owed_mut(place.unwrap_or(NO_REQUEST));
            let other = owed.and_then(|it| it.why_again());
            watched.again = watched.again.or(other);
        }
        if let Some(place) = place {
            self.take(number, place);
        }
        let Some(watched) = self.watched.get_mut(&number) else { return };
        // What the program does after other requests may be its next one.
        let others = self.given.requests(watched.space, watched.current(), &watched.since);
        watched.after.get_or_insert(began.saturating_sub(watched.time));
        // When the program got a completion is not always known.
        let is_known = !matches!(watched.kind, Kind::Completion { is_delivered: false, .. });
        let late = (is_known && watched.since.is_late(began)).then_some(Doubt::Late);
        // What another thread syncs may be what was written before.
        let is_early = call.call.does() == Does::Sync && call.entered.is_none();
        let early = (is_early && tid != watched.tid).then_some(Doubt::AnotherThread);
        watched.again = watched.again.or(watched.since.is_refilled()).or(late).or(early).or(others);
        if is_known {
            watched.since.came_then(began, began);
        }
        if call.call.does() != Does::Sync && watched.did.len() < MOST_DID {
            watched.did.push(Like::of(call));
        }
        let (_, count) = watched.done.unwrap_or((call.call, 0));
        watched.done = Some((call.call, count + 1));
        let is_all = match &watched.kind {
            Kind::Submit { left, unnamed } => left.is_empty() && *unnamed == 0,
            _ => true,
        };
        if is_all {
            let half = if watched.retries > 0 { Half::Retried } else { Half::Done };
            watched.succeeded |= half == Half::Retried && !watched.next_fault;
            self.settle(number, half);
        }
    }
}
