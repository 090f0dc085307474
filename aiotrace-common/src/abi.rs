//! The kernel's own formats: syscall numbers, `struct iocb`, `struct io_event`, the ring header.
//!
//! Source: include/uapi/linux/aio_abi.h and fs/aio.c (`struct aio_ring`) of Linux 6.12:
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
    /// All six, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Setup, Self::Destroy, Self::Getevents, Self::Submit, Self::Cancel, Self::Pgetevents];

    /// The call with this x86-64 number (arch/x86/entry/syscalls/syscall_64.tbl).
    #[inline(always)]
    pub const fn from_x86_64(number: u64) -> Option<Self> {
        match number {
            206 => Some(Self::Setup),
            207 => Some(Self::Destroy),
            208 => Some(Self::Getevents),
            209 => Some(Self::Submit),
            210 => Some(Self::Cancel),
            333 => Some(Self::Pgetevents),
            _ => None,
        }
    }

    /// The name as in the manual.
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

/// How a call came into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Abi {
    /// A 64-bit call.
    X86_64 = 0,
    /// A 32-bit call: pointers of four bytes, `struct timespec` of two longs of four.
    I386 = 1,
    /// A 32-bit call whose timespec is that of 64 bits (io_pgetevents_time64).
    I386Time64 = 2,
}

impl Abi {
    /// From the number kept in a thread's slot.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::I386,
            2 => Self::I386Time64,
            _ => Self::X86_64,
        }
    }

    /// The arguments that a call means by its registers, of which a 32-bit program uses half.
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
        !matches!(self, Self::X86_64)
    }
}

/// The AIO call with this i386 number (arch/x86/entry/syscalls/syscall_32.tbl).
#[inline(always)]
pub const fn from_i386(number: u64) -> Option<(Syscall, Abi)> {
    Some(match number {
        245 => (Syscall::Setup, Abi::I386),
        246 => (Syscall::Destroy, Abi::I386),
        247 => (Syscall::Getevents, Abi::I386),
        248 => (Syscall::Submit, Abi::I386),
        249 => (Syscall::Cancel, Abi::I386),
        385 => (Syscall::Pgetevents, Abi::I386),
        416 => (Syscall::Pgetevents, Abi::I386Time64),
        _ => return None,
    })
}

/// `struct iocb` as the program wrote it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Iocb {
    /// The program's own value, given back in the event.
    pub data: u64,
    /// Written by the kernel.
    pub key: u32,
    /// `RWF_*`
    pub rw_flags: u32,
    /// `IOCB_CMD_*`
    pub opcode: u16,
    /// I/O priority, with `IOCB_FLAG_IOPRIO`
    pub reqprio: i16,
    /// The file descriptor.
    pub fildes: u32,
    /// The buffer; an iovec array for the vectored calls; the event mask for poll.
    pub buf: u64,
    /// Bytes; the number of iovecs for the vectored calls.
    pub nbytes: u64,
    /// Position in the file.
    pub offset: i64,
    /// Must be zero.
    pub reserved2: u64,
    /// `IOCB_FLAG_*`
    pub flags: u32,
    /// An eventfd to signal, with `IOCB_FLAG_RESFD`
    pub resfd: u32,
}

/// `struct io_event`: one completion.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct IoEvent {
    /// `aio_data` of the iocb.
    pub data: u64,
    /// Address of the iocb.
    pub obj: u64,
    /// Result: a count, or a negative errno.
    pub res: i64,
    /// Second result; almost always 0.
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
    /// Number of `io_event` entries.
    pub nr: u32,
    /// Next entry to reap.
    pub head: u32,
    /// Next entry to be written.
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

    /// Entries that a ring can have: twice the most that io_setup can be asked for, and what fills up its pages
    /// (`ioctx_alloc` and `aio_setup_ring` of fs/aio.c).
    pub const MOST_ENTRIES: u32 = 2 * 4_194_304 + 4096;

    /// Whether it may be of a ring. (It is memory of the program, which can write any number there.)
    #[inline(always)]
    pub const fn is_ring(&self) -> bool {
        self.magic == Self::MAGIC && self.nr != 0 && self.nr <= Self::MOST_ENTRIES
    }

    /// How many entries are from one position up to another in a ring of `nr`; both must be in it.
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
