//! What is known of an address space, and so of the processes that use it: forked children have one of their own,
//! children of vfork share it.

mod places;
mod short;

use std::collections::VecDeque;

use aiotrace_common::synchronous::Does;

use self::short::MOST_OWED;
pub use self::{places::Places, short::Short};
use super::{
    Doubt, Map,
    appends::Appends,
    finding::{ContextId, ContextRef},
    findings::reads_past_end::Rows,
    inline::Files,
    owed::{Owed, is_vague},
    polls::Polls,
    requests::Request,
};
use crate::event::{Handle, SpaceId, Synchronous, Ways};

/// Most destroyed handles remembered for an address space.
const MOST_DESTROYED: usize = 4096;
/// Handles whose rings were moved, likewise.
const MOST_MOVED: usize = 1024;
/// Short submits that wait for their rest.
const MOST_SHORT: usize = 64;
/// Most requests kept of all short submits of an address space.
const MOST_OWED_IN_ALL: usize = 4 * MOST_OWED;
/// Most cancelled iocbs remembered.
const MOST_CANCELLED: usize = 256;

/// An address space, and the processes that use it.
#[derive(Debug, Default)]
pub struct Space {
    /// The processes that use it.
    pub users: Vec<u32>,
    /// It made 32-bit calls, whose iovecs have another form.
    pub is_compat: bool,
    /// An event about it was lost.
    pub lost: bool,
    /// A context of it has leaked: it exists until the process ends.
    pub has_leaked: bool,
    /// The address space that it is a copy of, which process that was, and when fork(2) was called.
    pub parent: Option<(SpaceId, u32, u64)>,
    /// It was seen from its beginning on, with all its contexts.
    pub is_whole: bool,
    /// A process that is not traced was made, and shares it: it may live longer than those that are known.
    pub is_shared: bool,
    /// When a handle was used that nobody was seen to make: a ring of it was moved, perhaps, and it is not known which.
    pub strayed: Option<u64>,
    /// When each destroyed handle was destroyed.
    destroyed: Map<Handle, u64>,
    /// Where its ring was moved, by handle.
    moved: Map<Handle, Handle>,
    /// Short submits whose rest was not submitted again.
    short: VecDeque<Short>,
    /// It has made processes that are not traced, which may have ended before anybody could look.
    pub has_untraced: bool,
    /// How the requests to its files complete.
    pub files: Files,
    /// Its descriptors with pending polls.
    pub polls: Polls,
    /// Its files that are written to at their ends.
    pub appends: Appends,
    /// Rows of its reads that gave nothing.
    pub rows: Rows,
    /// Iocbs whose io_cancel worked.
    cancelled: VecDeque<Cancelled>,
    /// Contexts that ended with it, until they are reported.
    pub released: Option<Released>,
    /// The places that made contexts which ended.
    pub ended_at: Places,
    /// When its last process left it.
    pub ended: Option<u64>,
    /// The name that this had then.
    pub name: Option<Vec<u8>>,
}

/// An iocb whose io_cancel worked.
#[derive(Clone, Copy, Debug)]
pub struct Cancelled {
    /// The context: each has its own requests at an address.
    pub context: ContextId,
    /// The address of the iocb.
    pub iocb: u64,
    /// When the call returned.
    pub time: u64,
}

/// Contexts that ended with their process.
#[derive(Clone, Debug)]
pub struct Released {
    /// The process.
    pub pid: u32,
    /// Its name then: any bytes.
    pub process: Vec<u8>,
    /// The end of the first one.
    pub time: u64,
    /// How many contexts.
    pub contexts: u64,
    /// What they took from fs.aio-nr, if it is known for each.
    pub charge: Option<u64>,
    /// The process ran another program.
    pub by_exec: bool,
    /// Why they may not have ended.
    pub doubt: Option<Doubt>,
}

impl Space {
    /// Why everything about this address space is unsure, if it is.
    pub fn doubt(&self) -> Option<Doubt> {
        self.lost.then_some(Doubt::Lost)
    }

    /// Notes that io_destroy ended a context.
    pub fn destroyed(&mut self, handle: Handle, time: u64) {
        if self.destroyed.len() >= MOST_DESTROYED {
            self.destroyed.clear();
        }
        self.destroyed.insert(handle, time);
    }

    /// Its ring was moved.
    pub fn moved(&mut self, from: Handle, to: Handle) {
        if self.moved.len() >= MOST_MOVED {
            self.moved.clear();
        }
        self.moved.insert(from, to);
    }

    /// Where the ring was moved that had this handle.
    pub fn moved_to(&self, handle: Handle) -> Option<Handle> {
        self.moved.get(&handle).copied()
    }

    /// The handle is another context's. When it was destroyed.
    pub fn given_again(&mut self, handle: Handle) -> Option<u64> {
        self.moved.remove(&handle);
        self.destroyed.remove(&handle)
    }

    /// When this handle was destroyed.
    pub fn when_destroyed(&self, handle: Handle) -> Option<u64> {
        self.destroyed.get(&handle).copied()
    }

    /// Adds a short submit. `watches`: synchronous calls are watched. Returns those that are not followed any longer, because there are too many.
    #[must_use]
    pub fn short(
        &mut self,
        time: u64,
        (pid, tid): (u32, u32),
        context: ContextRef,
        (given, accepted): (u64, u64),
        rest: impl Iterator<Item = Request>,
        watches: bool,
    ) -> Vec<Short> {
        let of = (time, (pid, tid), context, (given, accepted));
        let Some(short) = Short::new(of, rest, watches) else {
            // None of the requests could be read, so nothing can be said about them.
            return Vec::new();
        };
        // The oldest short submits are given up.
        let mut sum = short.kept();
        let has_room = |it: &&Short| {
            sum += it.kept();
            sum <= MOST_OWED_IN_ALL
        };
        let room = self.short.iter().take_while(has_room).count();
        let given_up = self.short.split_off(room.min(MOST_SHORT - 1));
        self.short.push_front(short);
        given_up.into()
    }

    /// Takes requests that were submitted to a context, of which `accepted` were accepted: they may
    /// be the rest of a short submit. `unread`: some could not be read.
    pub fn submitted(
        &mut self,
        context: ContextId,
        requests: &[Request],
        accepted: usize,
        unread: bool,
    ) {
        if self.short.is_empty() {
            return;
        }
        for request in requests {
            for short in &mut self.short {
                short.submitted(context, request, request.index < accepted);
            }
        }
        self.short.iter_mut().for_each(|it| it.unread |= unread);
        self.short.retain(|it| it.left() > 0);
    }

    /// Takes a completion of a request that may have done the rest of a short submit.
    pub fn completed(&mut self, request: &Request, res: i64) {
        if !is_vague(request) || self.short.is_empty() {
            return;
        }
        let before = self.short.iter_mut().filter(|it| it.time <= request.entered);
        before.for_each(|it| it.completed(request, res));
        self.short.retain(|it| it.left() > 0);
    }

    /// By what else the file of a descriptor may be read or written was looked up; the look began then.
    pub fn has_ways(&mut self, fd: u32, time: u64, ways: Ways) {
        let ways = Ways { below: ways.below || self.has_untraced, ..ways };
        self.short.iter_mut().for_each(|it| it.unseen.looked(fd, time, ways));
    }

    /// Takes a synchronous call that may have done the rest of a short submit; `child`: a child made it that was made
    /// at this time.
    pub fn synchronous(&mut self, call: &Synchronous, time: u64, child: Option<u64>) {
        if child.is_none() {
            self.short.iter_mut().for_each(|it| it.unseen.gave_up(call, time));
        }
        let is_meant =
            |it: &&mut Short| it.watched.is_none() && child.is_none_or(|since| it.time <= since);
        self.short.iter_mut().filter(is_meant).for_each(|it| it.synchronous(call, child.is_some()));
        self.short.retain(|it| it.left() > 0);
    }

    /// Another process has made a synchronous call; `child`: it is a child, made at this time, which has the same files if
    /// that was after the short submit.
    pub fn called_elsewhere(&mut self, call: &Synchronous, child: Option<u64>) {
        for short in self.short.iter_mut().filter(|it| child.is_none_or(|since| it.time > since)) {
            short.rest.iter_mut().flatten().for_each(|it| it.called_elsewhere(call));
        }
    }

    /// Another process has done this to a range of a file.
    pub fn done_elsewhere(&mut self, by: Does, range: (u64, u64)) {
        let all = self.short.iter_mut().flat_map(|it| it.rest.iter_mut().flatten());
        all.for_each(|it| it.done_elsewhere(by, range));
    }

    /// A child that was made at this time has the same files, and is not watched, or goes on.
    pub fn forked(&mut self, since: u64) {
        for short in self.short.iter_mut().filter(|it| it.time <= since) {
            short.rest.iter_mut().flatten().for_each(Owed::forked);
        }
    }

    /// The descriptors of the newest short submit that are to be looked at.
    pub fn unseen_fds(&self) -> Vec<u32> {
        self.short.front().map_or_else(Vec::new, |it| it.unseen.fds().to_vec())
    }

    /// Notes that a context has ended.
    pub fn context_ended(&mut self, context: ContextId) {
        let of_it = self.short.iter_mut().filter(|it| it.context.id == context);
        of_it.for_each(|it| it.is_orphan = true);
    }

    /// Notes a call of the process: if it comes long enough after a short submit, no synchronous call will do the
    /// rest any more.
    pub fn active(&mut self, time: u64, patience: u64) {
        for short in &mut self.short {
            if time >= short.time.saturating_add(patience) {
                short.watched.get_or_insert(time);
            }
        }
    }

    /// Whether a synchronous call may still do the rest of a short submit.
    pub fn needs_synchronous(&self) -> bool {
        self.ended.is_none() && self.short.iter().any(|it| it.watched.is_none())
    }

    /// Notes an io_cancel that worked.
    pub fn cancelled(&mut self, cancelled: Cancelled) {
        self.cancelled.truncate(MOST_CANCELLED - 1);
        self.cancelled.push_front(cancelled);
    }

    /// Whether a request that completed was cancelled. (Its iocb may be used again.)
    pub fn take_cancelled(&mut self, context: ContextId, request: &Request) -> bool {
        let is_its = |it: &Cancelled| {
            it.context == context && it.iocb == request.iocb && it.time > request.entered
        };
        let place = self.cancelled.iter().position(is_its);
        place.and_then(|place| self.cancelled.remove(place)).is_some()
    }

    /// How many requests of short submits are kept.
    pub fn count_short(&self) -> usize {
        self.short.iter().map(Short::kept).sum()
    }

    /// Whether the rest of a short submit is still to be done.
    pub fn has_short(&self) -> bool {
        !self.short.is_empty()
    }

    /// Takes out the short submits whose rest will not be submitted again.
    pub fn dropped(&mut self, is_meant: impl Fn(&Short) -> bool) -> Vec<Short> {
        let (meant, other): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.short).into_iter().partition(|it| is_meant(it));
        self.short = other;
        meant.into()
    }
}
