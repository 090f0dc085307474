//! A request that the kernel did not accept, or whose completion a fault changed: how the same request is recognised
//! when it comes again, and what of it synchronous calls have done.
//!
//! The address of its iocb is no evidence, because pools and stacks reuse it. If the iocb carries another request,
//! this one was put aside, or dropped.

use aiotrace_common::synchronous::{Call, Does};

mod elsewhere;
mod memory;
mod place;

use self::elsewhere::{Known, Through};
pub use self::place::Place;
use super::{Doubt, finding::Subject, ranges::MOST_MOVED, requests::Request};
use crate::event::{Synchronous, Vectors};
use crate::opcode::{self, FDSYNC, FSYNC, POLL, PREAD, PREADV, PWRITE, PWRITEV};

/// What synchronous calls have done of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing.
    Not,
    /// A part of it is done, or may be done.
    Touched,
    /// All of it is done.
    All,
}

/// Most ranges of a request that are missing, and most vectored requests that may do it.
const MOST_PIECES: usize = 128;

/// What a request does to a file; `None`: it is a poll, or its iocb could not be read.
pub fn does(request: &Request) -> Option<Does> {
    Some(match request.opcode? {
        PREAD | PREADV => Does::Read,
        PWRITE | PWRITEV => Does::Write,
        FSYNC | FDSYNC => Does::Sync,
        _ => return None,
    })
}

/// The bytes that a request is about: from the first one to the last possible one.
pub fn reach(request: &Request) -> (u64, u64) {
    let start = request.offset.max(0) as u64;
    let length = match request.opcode {
        Some(PREADV | PWRITEV) => request.vectors.as_ref().map_or(MOST_MOVED, Vectors::length),
        _ => request.nbytes,
    };
    (start, start.saturating_add(length))
}

/// Whether a request has vectors whose lengths are unknown.
pub fn is_vague(request: &Request) -> bool {
    request.opcode.is_some_and(opcode::is_vectored) && request.vectors.is_none()
}

/// Whether a call may read, write or sync files without showing which.
fn may_do_unseen(call: &Synchronous, does: Does) -> bool {
    match call.call {
        Call::IoUringSetup => call.ret >= 0,
        Call::IoUringEnter => call.ret > 0,
        Call::Msync => does == Does::Sync && call.ret >= 0,
        Call::Fallocate => false,
        _ => does != Does::Sync && call.ret > 0,
    }
}

/// Whether a call was asked for a number of bytes, and moves less only where the file ends.
fn is_asked(call: &Synchronous) -> bool {
    call.call.does() == Does::Read && !call.call.is_vectored()
}

/// The range of a file that a call has moved from there on. A read that moves less than it was asked for has reached the end of
/// the file.
fn moved_by(call: &Synchronous, offset: u64) -> (u64, u64) {
    let moved = call.ret.max(0) as u64;
    let length = if is_asked(call) { moved.max(call.count) } else { moved };
    (offset, offset.saturating_add(length))
}

/// Whether a call gives up this descriptor.
pub fn gives_up(call: &Synchronous, fd: u32) -> bool {
    let last = if call.call == Call::CloseRange { call.count } else { u64::from(call.fd) };
    (u64::from(call.fd)..=last).contains(&u64::from(fd))
}

/// A request that somebody owes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The request.
    pub request: Request,
    /// How often it was submitted again and refused.
    pub tries: u64,
    /// Its iocb carries another request by now.
    pub is_replaced: bool,
    /// Why it may have been done all the same.
    pub doubt: Option<Doubt>,
    /// The range that it is about; for vectors of unknown lengths, the first byte stands for all.
    span: (u64, u64),
    is_vague: bool,
    /// The parts of the range that nobody has done: from, up to.
    missing: Vec<(u64, u64)>,
    /// Its descriptor was closed or replaced since: the number may belong to another file.
    is_closed: bool,
    /// Other requests have done a part of it.
    is_partly: bool,
    /// Vectored requests that may do it when they complete.
    vectors: Vec<Vectored>,
    /// What has done it may have been something else, with the same place in the file.
    again: Option<Doubt>,
    /// Other descriptors through which the same was done: they may be of the same file.
    through: Vec<Through>,
    /// Other descriptors that were looked at.
    known: Vec<Known>,
}

/// A vectored request that has not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Vectored {
    iocb: u64,
    offset: i64,
    /// Why it may not be a retry.
    doubt: Option<Doubt>,
}

impl Owed {
    /// A request of which everything is missing.
    pub fn new(request: Request) -> Self {
        Self::after(request, 0, None)
    }

    /// The part of a request after the first `moved` bytes; `own`: what the kernel itself moved, if it was seen.
    pub fn after(request: Request, moved: u64, own: Option<u64>) -> Self {
        let start = request.offset.max(0) as u64;
        let length = match request.opcode {
            // The file ends where the kernel's own read did.
            Some(PREAD) => Some(own.map_or(request.nbytes, |own| own.min(request.nbytes))),
            Some(PWRITE) => Some(request.nbytes),
            Some(PREADV | PWRITEV) => {
                let known = request.vectors.as_ref().map(Vectors::length);
                known.or(own.filter(|it| *it > 0))
            }
            _ => None,
        };
        let is_vague = length.is_none();
        let span = match length {
            Some(length) => (start.saturating_add(moved), start.saturating_add(length)),
            None => (start, start.saturating_add(1)),
        };
        let missing = Some(span).filter(|it| it.0 < it.1).into_iter().collect();
        let doubt = (request.opcode == Some(POLL)).then_some(Doubt::Poll);
        let (tries, is_replaced, is_closed, is_partly) = (0, false, false, false);
        let (vectors, again, through, known) = (Vec::new(), None, Vec::new(), Vec::new());
        Self {
            request,
            tries,
            is_replaced,
            doubt,
            span,
            is_vague,
            missing,
            is_closed,
            is_partly,
            vectors,
            again,
            through,
            known,
        }
    }

    /// The request for messages.
    pub fn subject(&self) -> Option<Subject> {
        Subject::of(&self.request)
    }

    /// What the request does, and its range of the file, if it reads or writes one.
    pub fn span(&self) -> Option<(Does, (u64, u64))> {
        let does = does(&self.request).filter(|it| *it != Does::Sync)?;
        Some((does, self.span))
    }

    /// Why it may have been done all the same.
    pub fn why(&self) -> Option<Doubt> {
        let may_be = (!self.vectors.is_empty()).then_some(Doubt::UnknownLength);
        let partly = (self.is_partly && self.is_left()).then_some(Doubt::Partly);
        let other = (!self.through.is_empty()).then_some(Doubt::OtherDescriptor);
        self.doubt.or(may_be).or(partly).or(other)
    }

    /// Whether a part of it is missing.
    pub fn is_left(&self) -> bool {
        !self.missing.is_empty()
    }

    /// The same request was submitted again: whether it is doubtful that this is a retry, because the descriptor may
    /// lead to another file now.
    pub fn is_doubtful(&mut self) -> bool {
        if self.is_closed {
            self.doubt.get_or_insert(Doubt::Closed);
        }
        self.is_closed
    }

    /// The data of the file were synced, and the request was to sync all of the file.
    pub fn is_synced_in_part(&mut self) {
        self.doubt.get_or_insert(Doubt::Fdatasync);
    }

    /// A process that was made in the meantime may do the request.
    pub fn forked(&mut self) {
        self.doubt.get_or_insert(Doubt::Forked);
    }

    /// Takes a synchronous call of a child process, which had the same files when it was made.
    pub fn done_by_child(&mut self, call: &Synchronous) -> Done {
        match call.call.does() {
            // The child closes its own descriptor; what its descriptors lead to later is not followed.
            Does::Close => {
                if gives_up(call, self.request.fd) {
                    self.forked();
                }
                Done::Not
            }
            _ => {
                let own = std::mem::take(&mut self.through);
                let done = self.done_by(call);
                // The number is one of the child's.
                if !std::mem::replace(&mut self.through, own).is_empty() {
                    self.doubt.get_or_insert(Doubt::OtherDescriptor);
                }
                done
            }
        }
    }

    /// Takes a synchronous call of the same process.
    pub fn done_by(&mut self, call: &Synchronous) -> Done {
        let Some(does) = does(&self.request) else { return Done::Not };
        match call.call.does() {
            Does::Close => {
                self.closed(call);
                return Done::Not;
            }
            Does::Unseen if call.call == Call::Fallocate && does == Does::Write => (),
            Does::Unseen if may_do_unseen(call, does) => {
                self.doubt.get_or_insert(Doubt::Unseen);
                return Done::Touched;
            }
            // It may have got what the request was to get.
            Does::Receive if does == Does::Read && call.fd == self.request.fd => {
                self.doubt.get_or_insert(Doubt::Stream);
                return Done::Touched;
            }
            // What is stored to the mapping, or read from it, is not seen.
            Does::Map if does == Does::Read || does == Does::Write && call.count > 0 => (),
            it if it != does || call.ret < 0 => return Done::Not,
            _ => (),
        }
        let is_same = self.request.fd == call.fd && !self.is_closed
            || self.is_same_file(call.fd) == Some(true)
            || call.call == Call::Sync;
        if !is_same && call.call == Call::Syncfs {
            self.doubt.get_or_insert(Doubt::Syncfs);
            return Done::Touched;
        }
        if !is_same && self.is_same_file(call.fd) == Some(false) {
            return Done::Not;
        }
        if matches!(call.call, Call::Mmap | Call::Fallocate) {
            let doubt = if call.call == Call::Mmap { Doubt::Mapped } else { Doubt::Unseen };
            match is_same {
                true => drop(self.doubt.get_or_insert(doubt)),
                false => self.done_through(call.fd),
            }
            return Done::Touched;
        }
        let done = match (does, call.offset) {
            (Does::Sync, _) => {
                let is_enough = self.request.opcode == Some(FDSYNC) || call.call != Call::Fdatasync;
                if is_same && !is_enough {
                    self.is_synced_in_part();
                }
                if is_enough { Done::All } else { Done::Touched }
            }
            (_, Some(offset)) => {
                let range = moved_by(call, offset.max(0) as u64);
                match (self.may_cover(range), is_same) {
                    (false, _) => Done::Not,
                    (true, true) => self.called(call, range),
                    (true, false) => self.clone().called(call, range),
                }
            }
            (_, None) if is_same => {
                self.doubt = Some(Doubt::UnknownPlace);
                Done::Touched
            }
            // The number may lead to the same file again.
            (_, None) if call.fd == self.request.fd || self.may_be_moved_by(call) => Done::Touched,
            (_, None) => Done::Not,
        };
        if is_same || done == Done::Not {
            return done;
        }
        self.done_through(call.fd);
        Done::Touched
    }

    /// Takes a call that moved data of this range.
    fn called(&mut self, call: &Synchronous, range: (u64, u64)) -> Done {
        let why = self.why_other_memory(range.0, call.memory.as_ref());
        let done = self.cover(range);
        if done != Done::Not {
            self.again = self.again.or(why);
            // The rest may be beyond the end of the file.
            self.is_partly |= is_asked(call) && (call.ret.max(0) as u64) < call.count;
        }
        done
    }

    /// Takes another accepted request of the same process, which is not the same request. A vectored one shows what
    /// it did when it completes. `doubt`: why it may not be a retry.
    pub fn covered_by(&mut self, later: &Request, doubt: Option<Doubt>) -> Done {
        let range = reach(later);
        if does(later).is_none() || does(later) != does(&self.request) || !self.overlaps(range) {
            return Done::Not;
        }
        if later.appends() != self.request.appends() {
            return Done::Not;
        }
        let is_same = later.fd == self.request.fd && !self.is_closed;
        if !is_same && doubt.is_none() && !is_vague(later) {
            let is_other = self.is_same_file(later.fd) == Some(false);
            if !is_other {
                self.done_through(later.fd);
            }
            return if is_other { Done::Not } else { Done::Touched };
        }
        let doubt = doubt.or((!is_same).then(|| self.why_other(later.fd)));
        if !is_vague(later) {
            return self.cover_perhaps(range, doubt);
        }
        match self.vectors.len() < MOST_PIECES {
            true => self.vectors.push(Vectored { iocb: later.iocb, offset: later.offset, doubt }),
            false => self.doubt = Some(Doubt::UnknownLength),
        }
        Done::Touched
    }

    /// Takes the completion of a vectored request: what it did, if it was one of those that may do this request.
    pub fn completed(&mut self, later: &Request, res: i64) -> Option<Done> {
        let is_it = |it: &Vectored| (it.iocb, it.offset) == (later.iocb, later.offset);
        let Vectored { doubt, .. } = self.vectors.remove(self.vectors.iter().position(is_it)?);
        let start = later.offset.max(0) as u64;
        Some(self.cover_perhaps((start, start.saturating_add(res.max(0) as u64)), doubt))
    }

    /// Another request has moved this range; with `doubt`, perhaps that of another file.
    fn cover_perhaps(&mut self, range: (u64, u64), doubt: Option<Doubt>) -> Done {
        let Some(doubt) = doubt else {
            let done = self.cover(range);
            self.is_partly |= done != Done::Not;
            return done;
        };
        if !self.overlaps(range) {
            return Done::Not;
        }
        self.doubt.get_or_insert(doubt);
        Done::Touched
    }

    /// All of the request was submitted again.
    pub fn cover_all(&mut self) {
        self.missing.clear();
    }

    /// A request that was to do this range has not done it: the range is missing again, as far as it belongs to this
    /// request.
    pub fn uncover(&mut self, (from, to): (u64, u64)) {
        let range = (from.max(self.span.0), to.min(self.span.1));
        if range.0 >= range.1 {
            return;
        }
        self.missing.push(range);
        if self.missing.len() > MOST_PIECES {
            self.missing = vec![self.span];
        }
    }

    /// Whether some of it that is missing is in this range.
    pub fn overlaps(&self, (from, to): (u64, u64)) -> bool {
        self.missing.iter().any(|it| it.0 < to && from < it.1)
    }

    /// Whether somebody who has moved this range has done a part of it.
    fn may_cover(&self, (from, to): (u64, u64)) -> bool {
        self.overlaps((from, to)) || self.is_nothing() && (from..=to).contains(&self.span.0)
    }

    /// A request of no bytes misses nothing: a call at its offset has done it.
    fn is_nothing(&self) -> bool {
        self.span.0 >= self.span.1
    }

    /// Somebody has moved this range.
    fn cover(&mut self, (from, to): (u64, u64)) -> Done {
        if self.is_vague {
            // The length of the request is unknown, so only its beginning can be compared.
            let is_begun = self.overlaps((from, to));
            if is_begun {
                self.doubt = Some(Doubt::UnknownLength);
            }
            return if is_begun { Done::Touched } else { Done::Not };
        }
        let before = self.left();
        let outside = self.missing.iter().flat_map(|(start, end)| {
            [(*start, (*end).min(from)), ((*start).max(to), *end)]
                .into_iter()
                .filter(|it| it.0 < it.1)
        });
        let outside: Vec<(u64, u64)> = outside.collect();
        if outside.len() > MOST_PIECES {
            self.doubt = Some(Doubt::Partly);
            return Done::Touched;
        }
        self.missing = outside;
        let is_nothing = self.is_nothing() && (from..=to).contains(&self.span.0);
        match self.left() {
            0 if before > 0 || is_nothing => Done::All,
            left if left < before => Done::Touched,
            _ => Done::Not,
        }
    }

    fn left(&self) -> u64 {
        self.missing.iter().fold(0, |sum, (start, end)| sum.saturating_add(end - start))
    }
}

#[cfg(test)]
mod tests;
