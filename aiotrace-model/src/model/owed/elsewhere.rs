//! What was done through other descriptors, and by other processes: perhaps to the file of a request. A look at a descriptor shows
//! whether it leads there, if the look was over before the descriptor was closed.

use aiotrace_common::synchronous::Does;

use super::{Owed, does, gives_up, may_do_unseen};
use crate::{event::Synchronous, model::Doubt};

/// Other descriptors of which something is known, at most.
const MOST_OTHERS: usize = 8;

/// A descriptor that may be of the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Through {
    fd: u32,
    /// What was done through it is not remembered, not all of it.
    is_vague: bool,
}

/// What a look at a descriptor has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    fd: u32,
    /// It is of the file of the request.
    is_here: bool,
    /// When the look was over.
    until: u64,
    /// When the look at the request's own descriptor was.
    of_own: u64,
}

impl Owed {
    /// Whether a look at this descriptor may remove a doubt.
    pub fn is_through(&self, fd: u32) -> bool {
        self.through.iter().any(|it| it.fd == fd) && !self.is_closed
    }

    /// A look shows whether that descriptor is of the same file. Returns whether it is. With when this look was over, and that at
    /// the request's own descriptor.
    pub fn leads(&mut self, fd: u32, is_here: bool, (until, of_own): (u64, u64)) -> bool {
        if !self.is_through(fd) || self.known.len() >= MOST_OTHERS {
            return false;
        }
        if is_here && self.through.iter().any(|it| it.fd == fd && it.is_vague) {
            return false;
        }
        self.through.retain(|it| it.fd != fd);
        self.known.push(Known { fd, is_here, until, of_own });
        is_here
    }

    /// Whether a descriptor is known to be of the same file, or of another one.
    pub(super) fn is_same_file(&self, fd: u32) -> Option<bool> {
        self.known.iter().find(|it| it.fd == fd).map(|it| it.is_here)
    }

    /// A process that is none of these made a call: perhaps to the same file.
    pub fn called_elsewhere(&mut self, call: &Synchronous) {
        let by = call.call.does();
        let Some(does) = does(&self.request).filter(|it| *it != Does::Read) else { return };
        let is_like = match by {
            Does::Unseen => may_do_unseen(call, does),
            Does::Map => does == Does::Write && call.count > 0,
            _ => by == does && call.ret >= 0,
        };
        let from = call.offset.map_or(0, |it| it.max(0) as u64);
        let to = call.offset.map_or(u64::MAX, |_| from.saturating_add(call.ret.max(0) as u64));
        if is_like {
            self.done_elsewhere(does, (from, to));
        }
    }

    /// A process that is none of these has done this to a range of a file: perhaps of the same one.
    pub fn done_elsewhere(&mut self, by: Does, range: (u64, u64)) {
        let does = does(&self.request).filter(|it| *it != Does::Read && *it == by);
        if does.is_some_and(|it| it == Does::Sync || self.overlaps(range)) {
            self.doubt.get_or_insert(Doubt::SharedFile);
        }
    }

    /// The same was done through this descriptor.
    pub(super) fn done_through(&mut self, fd: u32) {
        if fd == self.request.fd || self.through.len() >= MOST_OTHERS {
            self.doubt.get_or_insert(self.why_other(fd));
        } else if !self.through.iter().any(|it| it.fd == fd) {
            self.through.push(Through { fd, is_vague: false });
        }
    }

    /// A sync was accepted, through this descriptor.
    pub fn synced_through(&mut self, fd: u32) {
        let is_sync = does(&self.request) == Some(Does::Sync);
        if is_sync && fd != self.request.fd && self.is_same_file(fd) != Some(false) {
            self.done_through(fd);
            self.done_vaguely(fd);
        }
    }

    /// Not all is remembered that was done through this descriptor: if it is of the same file, that remains unsure.
    pub fn done_vaguely(&mut self, fd: u32) {
        self.through.iter_mut().filter(|it| it.fd == fd).for_each(|it| it.is_vague = true);
    }

    /// A descriptor was given up: what was looked up of its number may be of another file.
    pub(super) fn closed(&mut self, call: &Synchronous) {
        let is_own = gives_up(call, self.request.fd);
        self.is_closed |= is_own;
        if self.through.extract_if(.., |it| gives_up(call, it.fd)).count() > 0 {
            self.doubt.get_or_insert(Doubt::OtherDescriptor);
        }
        // A look that came before shows what the descriptor was.
        let began = call.entered.unwrap_or(0);
        let is_late = is_own && self.known.iter().any(|it| it.of_own >= began);
        if self.known.extract_if(.., |it| gives_up(call, it.fd)).any(|it| it.until >= began)
            || is_late
        {
            self.doubt.get_or_insert(Doubt::OtherDescriptor);
        }
    }

    /// Why a call through this descriptor may be about another file.
    pub(super) fn why_other(&self, fd: u32) -> Doubt {
        if fd == self.request.fd { Doubt::Closed } else { Doubt::OtherDescriptor }
    }
}
