//! The operations of AIO: `IOCB_CMD_*` of include/uapi/linux/aio_abi.h
//! (<https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/include/uapi/linux/aio_abi.h?h=v6.12.117>).

/// Reads into one buffer.
pub const PREAD: u16 = 0;
/// Writes from one buffer.
pub const PWRITE: u16 = 1;
/// Writes the file to its disk.
pub const FSYNC: u16 = 2;
/// Writes the content of the file to its disk.
pub const FDSYNC: u16 = 3;
/// Waits until a descriptor is ready.
pub const POLL: u16 = 5;
/// Reads into several buffers.
pub const PREADV: u16 = 7;
/// Writes from several buffers.
pub const PWRITEV: u16 = 8;

/// Whether the operation reads or writes a range of a file.
pub const fn moves_data(opcode: u16) -> bool {
    matches!(opcode, PREAD | PWRITE | PREADV | PWRITEV)
}

/// Whether the operation writes a range of a file.
pub const fn is_write(opcode: u16) -> bool {
    matches!(opcode, PWRITE | PWRITEV)
}

/// Whether the operation takes iovecs: then `aio_nbytes` is their number.
pub const fn is_vectored(opcode: u16) -> bool {
    matches!(opcode, PREADV | PWRITEV)
}
