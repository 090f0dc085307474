//! A request that the kernel did not take, or whose completion a fault changed: what would be the same request again, and what
//! of it synchronous calls have done.
//!
//! The address of its iocb is no evidence: pools and stacks reuse it. If the iocb carries another request, this one
//! was put aside, or dropped.

use aiotrace_common::synchronous::Does;

use super::{Doubt, finding::Subject, requests::Request};
use crate::event::Synchronous;

const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
const POLL: u16 = 5;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;

/// What a request does, wherever its iocb is: two with the same are the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    opcode: u16,
    fd: u32,
    offset: i64,
    /// Bytes, iovecs, or the events of a poll.
    amount: u64,
}

impl Place {
    /// `None`: its iocb could not be read.
    pub fn of(request: &Request) -> Option<Self> {
        let opcode = request.opcode?;
        let (offset, amount) = match opcode {
            POLL => (0, request.buf),
            // It is about the whole file.
            FSYNC | FDSYNC => (0, 0),
            _ => (request.offset, request.nbytes),
        };
        Some(Self { opcode, fd: request.fd, offset, amount })
    }
}

/// What synchronous calls make of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing.
    Not,
    /// A part of it is done, or it is in doubt.
    Touched,
    /// All of it is done.
    All,
}

/// A request that somebody owes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The request.
    pub request: Request,
    /// How often it was submitted again, and refused.
    pub tries: u64,
    /// Its iocb carries another request by now.
    pub is_replaced: bool,
    /// Why it may have been done all the same.
    pub doubt: Option<Doubt>,
    /// What of it no synchronous call has done: from, up to.
    missing: Vec<(u64, u64)>,
}

impl Owed {
    /// All of it.
    pub fn new(request: Request) -> Self {
        Self::after(request, 0)
    }

    /// What is left of it after so many bytes.
    pub fn after(request: Request, moved: u64) -> Self {
        let start = request.offset.max(0) as u64;
        let missing = match request.opcode {
            Some(PREAD | PWRITE) => {
                let rest = (start.saturating_add(moved), start.saturating_add(request.nbytes));
                Some(rest).filter(|it| it.0 < it.1).into_iter().collect()
            }
            _ => Vec::new(),
        };
        let doubt = (request.opcode == Some(POLL)).then_some(Doubt::Poll);
        Self { request, tries: 0, is_replaced: false, doubt, missing }
    }

    /// For messages.
    pub fn subject(&self) -> Option<Subject> {
        Subject::of(&self.request)
    }

    /// A synchronous call of the same process.
    pub fn done_by(&mut self, call: &Synchronous) -> Done {
        let does = match self.request.opcode {
            Some(PREAD | PREADV) => Does::Read,
            Some(PWRITE | PWRITEV) => Does::Write,
            Some(FSYNC | FDSYNC) => Does::Sync,
            _ => return Done::Not,
        };
        if call.ret < 0 || call.call.does() != does {
            return Done::Not;
        }
        let is_same = self.request.fd == call.fd;
        let done = match (does, call.offset) {
            (Does::Sync, _) => {
                use aiotrace_common::synchronous::Call::Fsync;
                let is_enough = self.request.opcode == Some(FDSYNC) || call.call == Fsync;
                if is_enough { Done::All } else { Done::Not }
            }
            (_, Some(offset)) if is_same => self.cover(call, offset.max(0) as u64),
            (_, Some(offset)) => self.clone().cover(call, offset.max(0) as u64),
            (_, None) if is_same => {
                self.doubt = Some(Doubt::UnknownPlace);
                Done::Touched
            }
            (_, None) => Done::Not,
        };
        if is_same || done == Done::Not {
            return done;
        }
        self.doubt.get_or_insert(Doubt::OtherDescriptor);
        Done::Touched
    }

    /// A call that moved something at this place.
    fn cover(&mut self, call: &Synchronous, offset: u64) -> Done {
        let moved = call.ret.max(0) as u64;
        if matches!(self.request.opcode, Some(PREADV | PWRITEV)) {
            // How long it is is not known: only its beginning can be compared.
            if offset != self.request.offset.max(0) as u64 {
                return Done::Not;
            }
            if call.call.is_vectored() && call.count == self.request.nbytes {
                return Done::All;
            }
            self.doubt = Some(Doubt::UnknownLength);
            return Done::Touched;
        }
        // A read that moves less than asked has seen the end of the file.
        let is_asked = call.call.does() == Does::Read && !call.call.is_vectored();
        let length = if is_asked { moved.max(call.count) } else { moved };
        let (from, to) = (offset, offset.saturating_add(length));
        let before: u64 = self.left();
        let missing = std::mem::take(&mut self.missing).into_iter();
        let outside = missing.flat_map(|(start, end)| {
            [(start, end.min(from)), (start.max(to), end)].into_iter().filter(|it| it.0 < it.1)
        });
        self.missing = outside.collect();
        match self.left() {
            0 if before > 0 || (from..=to).contains(&(self.request.offset.max(0) as u64)) => {
                Done::All
            }
            left if left < before => Done::Touched,
            _ => Done::Not,
        }
    }

    fn left(&self) -> u64 {
        self.missing.iter().fold(0, |sum, (start, end)| sum.saturating_add(end - start))
    }
}

#[cfg(test)]
mod tests {
    use aiotrace_common::synchronous::Call;

    use super::*;

    fn owed(opcode: u16, offset: i64, nbytes: u64) -> Owed {
        let iocb = crate::event::Iocb {
            address: Some(crate::event::Address(1)),
            value: Some(aiotrace_common::abi::Iocb {
                opcode,
                fildes: 3,
                offset,
                nbytes,
                ..Default::default()
            }),
            read_late: false,
        };
        Owed::new(Request::new(&iocb, (0, 0), (0, 0)).unwrap())
    }

    fn call(call: Call, fd: u32, offset: Option<i64>, count: u64, ret: i64) -> Synchronous {
        Synchronous { call, entered: None, fd, offset, count, ret }
    }

    #[test]
    fn the_same_range_is_done_at_once_or_in_pieces_and_not_by_another_kind() {
        let mut write = owed(PWRITE, 4096, 1024);
        assert_eq!(write.done_by(&call(Call::Pread, 3, Some(4096), 1024, 1024)), Done::Not);
        assert_eq!(write.done_by(&call(Call::Pwrite, 3, Some(0), 4096, 4096)), Done::Not);
        assert_eq!(write.done_by(&call(Call::Pwrite, 3, Some(4096), 1024, -5)), Done::Not);
        assert_eq!(write.done_by(&call(Call::Pwrite, 3, Some(4608), 512, 512)), Done::Touched);
        assert_eq!(write.done_by(&call(Call::Pwritev, 3, Some(4000), 2, 608)), Done::All);
        let mut short = owed(PWRITE, 0, 1024);
        assert_eq!(short.done_by(&call(Call::Pwrite, 3, Some(0), 1024, 1000)), Done::Touched);
    }

    #[test]
    fn a_read_at_the_end_of_the_file_is_done() {
        assert_eq!(
            owed(PREAD, 0, 1024).done_by(&call(Call::Pread, 3, Some(0), 1024, 10)),
            Done::All
        );
    }

    #[test]
    fn what_cannot_be_told_is_in_doubt() {
        let doubt = |mut owed: Owed, call: Synchronous| {
            assert_eq!(owed.done_by(&call), Done::Touched);
            owed.doubt
        };
        let write = || owed(PWRITE, 4096, 1024);
        let place = call(Call::Write, 3, None, 1024, 1024);
        assert_eq!(doubt(write(), place), Some(Doubt::UnknownPlace));
        let other = call(Call::Pwrite, 4, Some(4096), 1024, 1024);
        assert_eq!(doubt(write(), other), Some(Doubt::OtherDescriptor));
        let length = call(Call::Pwrite, 3, Some(4096), 1024, 1024);
        assert_eq!(doubt(owed(PWRITEV, 4096, 2), length), Some(Doubt::UnknownLength));
    }

    #[test]
    fn a_sync_is_done_by_one_that_does_as_much() {
        let sync = |opcode, by| owed(opcode, 0, 0).done_by(&call(by, 3, None, 0, 0));
        assert_eq!(sync(FSYNC, Call::Fsync), Done::All);
        assert_eq!(sync(FSYNC, Call::Fdatasync), Done::Not);
        assert_eq!(sync(FDSYNC, Call::Fsync), Done::All);
        assert_eq!(sync(FDSYNC, Call::Fdatasync), Done::All);
    }
}
