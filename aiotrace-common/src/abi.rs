//! The kernel's own formats: `struct iocb`, `struct io_event`, the ring header.
//!
//! They come from include/uapi/linux/aio_abi.h and fs/aio.c (`struct aio_ring`) of Linux 6.12:
//! <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/aio_abi.h>,
//! <https://elixir.bootlin.com/linux/v6.12/source/fs/aio.c#L62>.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// The six system calls of Linux native AIO.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    TryFromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(u32)]
pub enum Syscall {
    /// `io_setup(nr_events, ctxp)`
    Setup = 1,
    /// `io_destroy(ctx)`
    Destroy = 2,
    /// `io_getevents(ctx, min_nr, nr, events, timeout)`
    Getevents = 3,
    /// `io_submit(ctx, nr, iocbpp)`
    Submit = 4,
    /// `io_cancel(ctx, iocb, result)`
    Cancel = 5,
    /// `io_pgetevents(ctx, min_nr, nr, events, timeout, sigset)`
    Pgetevents = 6,
}

impl Syscall {
    /// All six, in the order of the numbers above.
    pub const ALL: [Self; 6] =
        [Self::Setup, Self::Destroy, Self::Getevents, Self::Submit, Self::Cancel, Self::Pgetevents];

    /// The name in the manual.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Setup => "io_setup",
            Self::Destroy => "io_destroy",
            Self::Getevents => "io_getevents",
            Self::Submit => "io_submit",
            Self::Cancel => "io_cancel",
            Self::Pgetevents => "io_pgetevents",
        }
    }
}

/// The way by which a call came into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Abi {
    /// A 64-bit call.
    Native = 0,
    /// A 32-bit call: pointers have four bytes, and `struct timespec` has two longs of four bytes.
    Compat = 1,
    /// A 32-bit call whose timespec is that of a 64-bit call (io_pgetevents_time64).
    CompatTime64 = 2,
}

impl Abi {
    /// The ABI with this number, as a thread's slot keeps it.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Compat,
            2 => Self::CompatTime64,
            _ => Self::Native,
        }
    }

    /// The arguments of a call, from its registers. A 32-bit call uses only half of each register.
    #[inline(always)]
    pub fn meant(self, syscall: Syscall, mut args: [u64; 6]) -> [u64; 6] {
        if !self.is_32_bit() {
            return args;
        }
        for arg in &mut args {
            *arg &= 0xffff_ffff;
        }
        // `int nr` and `long min_nr` have signs.
        let signed = |arg: u64| arg as u32 as i32 as u64;
        if matches!(syscall, Syscall::Submit | Syscall::Getevents | Syscall::Pgetevents) {
            args[1] = signed(args[1]);
        }
        if matches!(syscall, Syscall::Getevents | Syscall::Pgetevents) {
            args[2] = signed(args[2]);
        }
        args
    }

    /// Whether pointers have four bytes.
    #[inline(always)]
    pub const fn is_32_bit(self) -> bool {
        !matches!(self, Self::Native)
    }
}

/// `struct iocb`, as the program wrote it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Iocb {
    /// A value of the program, which the completion gives back.
    pub data: u64,
    /// The kernel writes it.
    pub key: u32,
    /// `RWF_*`
    pub rw_flags: u32,
    /// `IOCB_CMD_*`
    pub opcode: u16,
    /// The I/O priority, with `IOCB_FLAG_IOPRIO`.
    pub reqprio: i16,
    /// The file descriptor.
    pub fildes: u32,
    /// The buffer; for vectored operations an array of iovecs, for poll the event mask.
    pub buf: u64,
    /// The number of bytes; for vectored operations the number of iovecs.
    pub nbytes: u64,
    /// The position in the file.
    pub offset: i64,
    /// Must be zero.
    pub reserved2: u64,
    /// `IOCB_FLAG_*`
    pub flags: u32,
    /// An eventfd to signal, with `IOCB_FLAG_RESFD`.
    pub resfd: u32,
}

/// `struct io_event`: one completion.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct IoEvent {
    /// The iocb's `aio_data`.
    pub data: u64,
    /// The address of the iocb.
    pub obj: u64,
    /// The result: a count, or a negative errno.
    pub res: i64,
    /// A second result; it is almost always 0.
    pub res2: i64,
}

/// The head of a completion ring, at the address that is the context's handle.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RingHeader {
    /// The kernel's index into the table of contexts.
    pub id: u32,
    /// The number of `io_event` entries.
    pub nr: u32,
    /// The next entry to reap.
    pub head: u32,
    /// The next entry to be written.
    pub tail: u32,
    /// [`RingHeader::MAGIC`]
    pub magic: u32,
    /// 1
    pub compat_features: u32,
    /// 0
    pub incompat_features: u32,
    /// 32
    pub header_length: u32,
}

impl RingHeader {
    /// `AIO_RING_MAGIC`
    pub const MAGIC: u32 = 0xa10a_10a1;

    /// The most entries that a ring can have: twice the most that io_setup can be asked for, and
    /// what fills up the last page.
    /// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n769>,
    /// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n493>
    pub const MOST_ENTRIES: u32 = 2 * 4_194_304 + 4096;

    /// Whether this may be the header of a ring. (It is memory of the program, which can write any
    /// number into it.)
    #[inline(always)]
    pub const fn is_ring(&self) -> bool {
        self.magic == Self::MAGIC && self.nr != 0 && self.nr <= Self::MOST_ENTRIES
    }

    /// The number of entries from one position up to another in a ring of `nr` entries; both
    /// positions must be less than `nr`.
    #[inline(always)]
    pub const fn distance(from: u32, to: u32, nr: u32) -> u32 {
        if from <= to { to - from } else { nr - from + to }
    }
}

/// `struct __kernel_timespec`
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Timespec {
    /// Seconds
    pub sec: i64,
    /// Nanoseconds
    pub nsec: i64,
}
