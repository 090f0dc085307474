//! What makes two requests the same one.

use crate::{
    model::requests::Request,
    opcode::{FDSYNC, FSYNC, Opcode, POLL},
};

/// What a request does, whatever its iocb is: two requests with equal places are the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    opcode: Opcode,
    fd: u32,
    offset: i64,
    /// Bytes, number of iovecs, or the events of a poll.
    amount: u64,
    /// It writes to the end of the file, whatever its offset is.
    appends: bool,
}

impl Place {
    /// The place of a request; `None`: its iocb could not be read.
    pub fn of(request: &Request) -> Option<Self> {
        let opcode = request.opcode?;
        let (offset, amount) = match opcode {
            POLL => (0, request.buf),
            // A sync is about the whole file.
            FSYNC | FDSYNC => (0, 0),
            _ => (request.offset, request.nbytes),
        };
        Some(Self { opcode, fd: request.fd, offset, amount, appends: request.appends() })
    }

    /// What a sync of the whole file does, too: that of its data.
    pub fn lesser(self) -> Option<Self> {
        (self.opcode == FSYNC).then_some(Self { opcode: FDSYNC, ..self })
    }

    /// What does as much as a sync of a file's data, and more.
    pub fn greater(self) -> Option<Self> {
        (self.opcode == FDSYNC).then_some(Self { opcode: FSYNC, ..self })
    }
}
