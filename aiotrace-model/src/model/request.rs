//! One request, and how it completed.

use aiotrace_common::abi;

use super::appends::RWF_APPEND;
use crate::{
    event::{Address, IoEvent, Iocb, Vectors},
    opcode::{self, Opcode},
};

/// One iocb from its io_submit on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The address of the iocb: the program's pointer, which it uses again and again. The kernel copies the iocb, so
    /// one iocb may have several requests at a time.
    pub iocb: u64,
    /// `aio_data`, by which a program tells such requests apart; `None` if it was not read before the call.
    pub data: Option<u64>,
    /// `IOCB_CMD_*`; `None` if the iocb could not be read.
    pub opcode: Option<Opcode>,
    /// `RWF_*`
    pub rw_flags: u32,
    /// Descriptor.
    pub fd: u32,
    /// The offset, as the program gave it.
    pub offset: i64,
    /// The length, as the program gave it.
    pub nbytes: u64,
    /// The buffer, as the program gave it; for a poll, the events.
    pub buf: u64,
    /// Of a vectored request: its iovecs, if they were read.
    pub vectors: Option<Vectors>,
    /// When io_submit was entered; 0 if that was not seen.
    pub entered: u64,
    /// When io_submit returned.
    pub returned: u64,
    /// Number of the io_submit in the context, which tells two iocbs of one call from two calls.
    pub call: u64,
    /// Index of the iocb in the call.
    pub index: usize,
}

impl Request {
    /// The request of an iocb that was submitted.
    pub fn new(
        iocb: &Iocb,
        (entered, returned): (u64, u64),
        (call, index): (u64, usize),
    ) -> Option<Self> {
        let value = iocb.value;
        Some(Self {
            iocb: iocb.address?.0,
            data: value.filter(|_| !iocb.read_late).map(|it| it.data),
            opcode: value.as_ref().map(Opcode::of),
            rw_flags: value.map_or(0, |it| it.rw_flags),
            fd: value.map_or(0, |it| it.fildes),
            offset: value.map_or(0, |it| it.offset),
            nbytes: value.map_or(0, |it| it.nbytes),
            buf: value.map_or(0, |it| it.buf),
            vectors: iocb.vectors.clone(),
            entered,
            returned,
            call,
            index,
        })
    }

    /// Where in memory its data is, if that is known.
    pub fn memory(&self) -> Option<Vectors> {
        match self.opcode? {
            opcode::PREAD | opcode::PWRITE => Some(Vectors::one(Address(self.buf), self.nbytes)),
            opcode::PREADV | opcode::PWRITEV => self.vectors.clone(),
            _ => None,
        }
    }

    /// Whether the request writes to the end of the file, whatever its offset is.
    pub fn appends(&self) -> bool {
        self.rw_flags & RWF_APPEND != 0 && self.opcode.is_some_and(opcode::is_write)
    }

    /// Whether a completion with this data may belong to the request.
    pub fn may_be(&self, data: u64) -> bool {
        self.data.is_none_or(|own| own == data)
    }

    /// Whether the program cannot tell the completions of two requests apart.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.data.zip(other.data).is_none_or(|(own, other)| own == other)
    }

    /// Whether the request was submitted with this content. (An iocb that was not read before the call may have had
    /// another one.)
    pub fn has(&self, it: &abi::Iocb) -> bool {
        let own = (self.data, self.opcode, self.fd, self.offset, self.nbytes, self.buf);
        own == (Some(it.data), Some(Opcode::of(it)), it.fildes, it.offset, it.nbytes, it.buf)
    }

    /// Whether the request changes a file.
    pub fn is_write(&self) -> bool {
        self.opcode.is_some_and(opcode::is_write)
    }

    /// Whether the request pends by design until something happens.
    pub fn is_poll(&self) -> bool {
        self.opcode == Some(opcode::POLL)
    }
}

/// A completion, as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The entry of the ring.
    pub event: IoEvent,
    /// The request completed after this time; 0 if that is unknown. The same as `time` if the time is exact.
    pub after: u64,
    /// The request completed at this time, or earlier.
    pub time: u64,
    /// The completion was in the ring by this time: the look at the ring whose event has `time` was over then.
    pub until: u64,
    /// The completion was reaped before it was seen, so its time is unknown.
    pub is_late: bool,
}

impl Completed {
    /// Whether the time is only an upper bound.
    pub fn is_bound(&self) -> bool {
        self.after != self.time
    }
}

/// A request and how it completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The request.
    pub request: Request,
    /// Its completion.
    pub completed: Completed,
    /// When io_submit was entered with the same iocb and data once more, while this request was in flight.
    pub again: Option<u64>,
}

/// A completion that was not seen to be reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreaped {
    /// Its position in the order of completions.
    pub place: i64,
    /// When the completion was seen.
    pub time: u64,
    /// The request completed after this time; the same as `time` if that is exact.
    pub after: u64,
}
