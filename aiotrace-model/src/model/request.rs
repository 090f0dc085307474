//! One request, and how it completed.

use aiotrace_common::abi;

use crate::event::{IoEvent, Iocb};

/// One iocb from its io_submit on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The iocb's address: the program's pointer, used again and again. The kernel copies what is there, so one
    /// iocb may be of several requests at a time.
    pub iocb: u64,
    /// `aio_data`, by which a program tells such requests apart; `None` if it was not read before the call.
    pub data: Option<u64>,
    /// `IOCB_CMD_*`; `None` if the iocb could not be read.
    pub opcode: Option<u16>,
    /// `RWF_*`
    pub rw_flags: u32,
    /// Descriptor.
    pub fd: u32,
    /// As the program gave it.
    pub offset: i64,
    /// As the program gave it.
    pub nbytes: u64,
    /// As the program gave it: of a poll, the events.
    pub buf: u64,
    /// When io_submit was entered; 0 if that was not seen.
    pub entered: u64,
    /// When it returned.
    pub returned: u64,
    /// Which io_submit of the context, so that two iocbs of one call are told from two calls.
    pub call: u64,
    /// Which iocb of the call.
    pub index: usize,
}

impl Request {
    /// From an iocb of an io_submit.
    pub fn new(
        iocb: &Iocb,
        (entered, returned): (u64, u64),
        (call, index): (u64, usize),
    ) -> Option<Self> {
        let value = iocb.value;
        Some(Self {
            iocb: iocb.address?.0,
            data: value.filter(|_| !iocb.read_late).map(|it| it.data),
            opcode: value.map(|it| it.opcode),
            rw_flags: value.map_or(0, |it| it.rw_flags),
            fd: value.map_or(0, |it| it.fildes),
            offset: value.map_or(0, |it| it.offset),
            nbytes: value.map_or(0, |it| it.nbytes),
            buf: value.map_or(0, |it| it.buf),
            entered,
            returned,
            call,
            index,
        })
    }

    /// Whether a completion with this data may be its own.
    pub fn may_be(&self, data: u64) -> bool {
        self.data.is_none_or(|own| own == data)
    }

    /// Whether the program cannot tell the completions of the two apart.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.data.zip(other.data).is_none_or(|(own, other)| own == other)
    }

    /// Whether it was submitted with this content. What was not read before the call may have been another one.
    pub fn has(&self, it: &abi::Iocb) -> bool {
        let own = (self.data, self.opcode, self.fd, self.offset, self.nbytes, self.buf);
        own == (Some(it.data), Some(it.opcode), it.fildes, it.offset, it.nbytes, it.buf)
    }

    /// Whether it changes a file.
    pub fn is_write(&self) -> bool {
        matches!(self.opcode, Some(1 | 8))
    }

    /// Whether it pends until something happens, by design.
    pub fn is_poll(&self) -> bool {
        matches!(self.opcode, Some(5))
    }
}

/// A completion, as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// What the ring says.
    pub event: IoEvent,
    /// It happened after this; 0 if that is not known. The same as `time` if it is exact.
    pub after: u64,
    /// It happened at this time, or before.
    pub time: u64,
    /// It was in the ring by this time for sure: the look at the ring that is told with `time` was over then.
    pub until: u64,
    /// It was reaped before it was seen: when it happened is not known.
    pub is_late: bool,
}

impl Completed {
    /// It is only known that it did not happen later.
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
    /// The same iocb was in flight once more, with the same data: when io_submit was entered with it.
    pub again: Option<u64>,
}

/// Completed and not known to be reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreaped {
    /// Its place in the order of completions.
    pub place: i64,
    /// When it was seen to complete.
    pub time: u64,
    /// It completed after this; the same as `time` if that is exact.
    pub after: u64,
}
