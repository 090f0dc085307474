//! What is known of a process, or rather of its address space: forked children have their own, children
//! of vfork share it.

use std::collections::VecDeque;

use super::{
    Map,
    finding::{ContextRef, Subject},
    requests::Request,
};

/// Handles that were destroyed, remembered for each address space.
const MOST_DESTROYED: usize = 4096;
/// Short submits that wait for their rest.
const MOST_SHORT: usize = 64;
/// Iocbs remembered that were asked to be cancelled.
const MOST_CANCELLED: usize = 256;
/// Files whose way to complete is watched.
const MOST_FILES: usize = 1024;

/// An address space, and who uses it.
#[derive(Debug, Default)]
pub struct Space {
    /// Its processes.
    pub users: Vec<u32>,
    /// Something of it was lost.
    pub lost: bool,
    /// When it was destroyed, by handle.
    destroyed: Map<u64, u64>,
    /// Short submits whose rest was not submitted again.
    short: VecDeque<Short>,
    /// By descriptor: how its requests complete.
    files: Map<u32, InlineCount>,
    /// What it asked to cancel.
    cancelled: VecDeque<Cancelled>,
    /// Contexts that ended with it, until that is told.
    pub released: Option<Released>,
    /// When its last process left it.
    pub ended: Option<u64>,
}

/// An iocb that io_cancel was called with, and it worked.
#[derive(Clone, Copy, Debug)]
pub struct Cancelled {
    /// The context, by its number: each has requests of its own at an address.
    pub context: u64,
    /// Its address.
    pub iocb: u64,
    /// When the call returned.
    pub time: u64,
}

/// Contexts that ended with their process.
#[derive(Clone, Copy, Debug)]
pub struct Released {
    /// The process.
    pub pid: u32,
    /// The end of the first one.
    pub time: u64,
    /// How many.
    pub contexts: u64,
    /// What they took from fs.aio-nr, as far as known.
    pub charge: u64,
    /// It ran another program.
    pub by_exec: bool,
}

/// The rest of a short submit.
#[derive(Debug)]
pub struct Short {
    /// When the call returned.
    pub time: u64,
    /// Thread.
    pub tid: u32,
    /// Process.
    pub pid: u32,
    /// Context.
    pub context: ContextRef,
    /// How many were given and accepted.
    pub given: u64,
    /// Accepted.
    pub accepted: u64,
    rest: Map<u64, Place>,
    /// For a program that copies its iocbs: which ones do this. Some may be submitted again by now.
    places: Map<Place, Vec<u64>>,
}

/// What a request does, wherever its iocb is.
pub type Place = (Option<u16>, u32, i64, u64);

/// See [`Place`].
pub fn place(request: &Request) -> Place {
    (request.opcode, request.fd, request.offset, request.nbytes)
}

impl Short {
    /// How many were never submitted again.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Maybe one of those.
    fn submitted(&mut self, request: &Request) {
        let place = place(request);
        if self.rest.get(&request.iocb) != Some(&place)
            && let Some(copied) = self.places.get_mut(&place)
        {
            while let Some(iocb) = copied.pop() {
                if self.rest.remove(&iocb).is_some() {
                    return;
                }
            }
        }
        // Also if it is another request now: the program has changed what it wants.
        self.rest.remove(&request.iocb);
    }

    /// One of those.
    pub fn example(&self) -> Option<Subject> {
        let (iocb, (opcode, fd, offset, nbytes)) = self.rest.iter().min_by_key(|it| it.0)?;
        Some(Subject { iocb: *iocb, opcode: (*opcode)?, fd: *fd, offset: *offset, nbytes: *nbytes })
    }
}

/// How requests to a file complete.
#[derive(Clone, Copy, Debug, Default)]
pub struct InlineCount {
    /// Looked at: the last request of each io_submit.
    pub calls: u64,
    /// Of these, complete before io_submit returned.
    pub inline: u64,
}

impl Space {
    /// io_destroy ended it.
    pub fn destroyed(&mut self, handle: u64, time: u64) {
        if self.destroyed.len() >= MOST_DESTROYED {
            self.destroyed.clear();
        }
        self.destroyed.insert(handle, time);
    }

    /// The handle is another context's. When it was destroyed.
    pub fn given_again(&mut self, handle: u64) -> Option<u64> {
        self.destroyed.remove(&handle)
    }

    /// When that handle was destroyed.
    pub fn when_destroyed(&self, handle: u64) -> Option<u64> {
        self.destroyed.get(&handle).copied()
    }

    /// io_submit accepted fewer than it was given.
    pub fn short(
        &mut self,
        time: u64,
        (pid, tid): (u32, u32),
        context: ContextRef,
        (given, accepted): (u64, u64),
        rest: impl Iterator<Item = Request>,
    ) {
        let rest: Map<u64, Place> = rest.map(|it| (it.iocb, place(&it))).collect();
        let mut places: Map<Place, Vec<u64>> = Map::default();
        for (iocb, place) in &rest {
            places.entry(*place).or_default().push(*iocb);
        }
        self.short.truncate(MOST_SHORT - 1);
        self.short.push_front(Short { time, tid, pid, context, given, accepted, rest, places });
    }

    /// These were submitted: what was left of a short submit is not dropped.
    pub fn submitted<'a>(&mut self, requests: impl Iterator<Item = &'a Request>) {
        if self.short.is_empty() {
            return;
        }
        for request in requests {
            for short in &mut self.short {
                short.submitted(request);
            }
        }
        self.short.retain(|it| !it.rest.is_empty());
    }

    /// io_cancel worked.
    pub fn cancelled(&mut self, cancelled: Cancelled) {
        self.cancelled.truncate(MOST_CANCELLED - 1);
        self.cancelled.push_front(cancelled);
    }

    /// A request completed: whether it was cancelled. (Its iocb may be used again.)
    pub fn take_cancelled(&mut self, context: u64, request: &Request) -> bool {
        let is_its = |it: &Cancelled| {
            it.context == context && it.iocb == request.iocb && it.time > request.entered
        };
        let place = self.cancelled.iter().position(is_its);
        place.and_then(|place| self.cancelled.remove(place)).is_some()
    }

    /// Whether the rest of a short submit was not submitted again yet.
    pub fn has_short(&self) -> bool {
        !self.short.is_empty()
    }

    /// Short submits whose rest will not be submitted again.
    pub fn dropped(&mut self, is_meant: impl Fn(&Short) -> bool) -> Vec<Short> {
        let (meant, other): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.short).into_iter().partition(|it| is_meant(it));
        self.short = other;
        meant.into()
    }

    /// The last request of an io_submit completed inside of it, or not.
    pub fn inline(&mut self, fd: u32, is_inline: bool) -> InlineCount {
        if self.files.len() >= MOST_FILES {
            self.files.clear();
        }
        let count = self.files.entry(fd).or_default();
        count.calls += 1;
        count.inline += u64::from(is_inline);
        *count
    }
}
