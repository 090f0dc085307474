//! The operations of AIO: `IOCB_CMD_*` of include/uapi/linux/aio_abi.h
//! (<https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/include/uapi/linux/aio_abi.h?h=v6.12.117>).

use std::fmt;

use aiotrace_common::abi;

/// What a request asks for, as its iocb has it: any number. (The constants are those that the kernel knows.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Opcode(pub u16);

impl Opcode {
    /// That of an iocb.
    pub const fn of(iocb: &abi::Iocb) -> Self {
        Self(iocb.opcode)
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads into one buffer.
pub const PREAD: Opcode = Opcode(0);
/// Writes from one buffer.
pub const PWRITE: Opcode = Opcode(1);
/// Writes the file to its disk.
pub const FSYNC: Opcode = Opcode(2);
/// Writes the content of the file to its disk.
pub const FDSYNC: Opcode = Opcode(3);
/// Waits until a descriptor is ready.
pub const POLL: Opcode = Opcode(5);
/// Nothing: the kernel refuses it.
pub const NOOP: Opcode = Opcode(6);
/// Reads into several buffers.
pub const PREADV: Opcode = Opcode(7);
/// Writes from several buffers.
pub const PWRITEV: Opcode = Opcode(8);

/// Whether the operation reads or writes a range of a file.
pub const fn moves_data(opcode: Opcode) -> bool {
    matches!(opcode, PREAD | PWRITE | PREADV | PWRITEV)
}

/// Whether the operation writes a range of a file.
pub const fn is_write(opcode: Opcode) -> bool {
    matches!(opcode, PWRITE | PWRITEV)
}

/// Whether the operation takes iovecs: then `aio_nbytes` is their number.
pub const fn is_vectored(opcode: Opcode) -> bool {
    matches!(opcode, PREADV | PWRITEV)
}
