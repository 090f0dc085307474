//! Whose completion a fault changed. The iocb alone does not tell: it may be another request's by now, and where the
//! completion was there before io_submit returned, its own request is not known yet.

use super::{
    Faults, MOST_COMPLETIONS,
    watched::{Kind, Watched},
};
use crate::{
    event::{Handle, IoEvent, SpaceId},
    model::{Doubt, Model, requests::Request},
};

/// The last completion of an iocb that was told, until io_getevents gives it to the program.
pub struct Told {
    event: IoEvent,
    /// Whose it is; `None`: that is known when io_submit returns.
    request: Option<Request>,
}

impl Faults {
    /// A completion was told, as the kernel made it, and whose it is, if that is known.
    pub fn told(&mut self, space: SpaceId, event: IoEvent, request: Option<&Request>) {
        if !self.rules.change_completions() {
            return;
        }
        if self.completed.len() >= MOST_COMPLETIONS {
            self.completed.clear();
        }
        let told = Told { event, request: request.cloned() };
        self.completed.insert((space, event.obj, event.data), told);
    }

    /// io_submit returned, and a completion that was told before is this request's.
    pub fn told_before(&mut self, space: SpaceId, event: &IoEvent, request: &Request) {
        if let Some(told) = self.completed.get_mut(&(space, event.obj, event.data))
            && told.event == *event
        {
            told.request.get_or_insert_with(|| request.clone());
        }
    }

    /// io_getevents gave these to the program, which may use the iocbs again.
    pub fn given(&mut self, space: SpaceId, list: &[Option<IoEvent>]) {
        if self.completed.is_empty() {
            return;
        }
        for it in list.iter().flatten() {
            self.completed.remove(&(space, it.obj, it.data));
        }
    }

    /// This fault has changed this completion, and io_getevents has not given it yet. `by_hand`: the program reaps from
    /// this ring by itself.
    pub(super) fn is_undelivered(
        &mut self,
        number: u64,
        (space, event): (SpaceId, &IoEvent),
        by_hand: bool,
    ) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        if by_hand {
            watched.doubt.get_or_insert(Doubt::InRing);
        }
        if self.undelivered.len() >= MOST_COMPLETIONS {
            self.undelivered.clear();
        }
        self.undelivered.insert((space, event.obj, event.data), number);
    }

    /// io_getevents gave this to the program, in this thread and at this time.
    pub fn delivered(&mut self, space: SpaceId, event: &IoEvent, (tid, time): (u32, u64)) {
        let number = self.undelivered.remove(&(space, event.obj, event.data));
        let Some(number) = number else { return };
        let Some(watched) = self.watched.get_mut(&number) else { return };
        let given = watched.ret;
        if let Kind::Completion { is_delivered, .. } = &mut watched.kind
            && event.res == given
        {
            *is_delivered = true;
            watched.doubt.take_if(|it| *it == Doubt::InRing);
            self.begins(number, tid, time);
        }
    }

    /// The program reaps from this ring by itself: it may have read results before they were changed.
    pub fn may_be_read(&mut self, space: SpaceId, handle: Handle) {
        let is_its = |it: &&mut Watched| {
            let of_ring = it.current() == handle;
            let is_open = matches!(it.kind, Kind::Completion { is_delivered: false, .. });
            it.space == space && of_ring && is_open
        };
        for watched in self.watched.values_mut().filter(is_its) {
            watched.doubt.get_or_insert(Doubt::InRing);
        }
    }

    /// Whose this completion is, as the kernel made it; `in_flight`: the oldest request in flight that it may be of.
    pub fn whose(
        &self,
        space: SpaceId,
        own: &IoEvent,
        in_flight: Option<Request>,
    ) -> Option<Request> {
        let told = self.completed.get(&(space, own.obj, own.data)).filter(|it| it.event == *own);
        told.map_or(in_flight, |it| it.request.clone())
    }
}

impl Model {
    /// A call on a context was told, or its ring was looked at: perhaps that shows that the program reaps by itself.
    pub(in crate::model) fn reaped_by_hand(&mut self, key: (SpaceId, Handle)) {
        if self.faults.watched.is_empty() {
            return;
        }
        let Some(context) = self.contexts.get_mut(&key) else { return };
        let is_seen = context.is_reaped_by_hand();
        // Else it was a thread that had not returned from io_getevents yet.
        if !std::mem::replace(&mut context.was_reaped_by_hand, is_seen) && is_seen {
            self.faults.may_be_read(key.0, key.1);
        }
    }
}
