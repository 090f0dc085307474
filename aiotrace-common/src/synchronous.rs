//! The system calls that matter for what io_submit did not take: those that do the work of a
//! request without AIO (read(2), pwrite(2), fsync(2) and the like), those that may do it unseen,
//! and those after which a descriptor is another one. They are watched only for a while, to tell a
//! program that does this work with them from one that drops it.

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::{abi::Abi, arch};

/// A call that is watched.
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
#[expect(missing_docs, reason = "each is the call it is named after")]
pub enum Call {
    Read = 1,
    Write = 2,
    Pread = 3,
    Pwrite = 4,
    Preadv = 5,
    Pwritev = 6,
    Preadv2 = 7,
    Pwritev2 = 8,
    Fsync = 9,
    Fdatasync = 10,
    Readv = 11,
    Writev = 12,
    Sync = 13,
    Syncfs = 14,
    Sendfile = 15,
    CopyFileRange = 16,
    Splice = 17,
    IoUringEnter = 18,
    Close = 19,
    Dup2 = 20,
    Dup3 = 21,
    CloseRange = 22,
    Mmap = 23,
    Munmap = 24,
    Msync = 25,
    Fallocate = 26,
    IoUringSetup = 27,
    Fcntl = 28,
    Recvfrom = 29,
}

/// What a call does to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// It reads.
    Read,
    /// It writes.
    Write,
    /// It waits until what was written is on the disk.
    Sync,
    /// It moves data, or has others move it, and the probes do not see where.
    Unseen,
    /// It gives up a descriptor, so that another file may get its number.
    Close,
    /// It maps a file, and what is read from or stored to the mapping is not seen.
    Map,
    /// It unmaps memory, so that a look at the mappings comes too late.
    Unmap,
    /// It sets O_APPEND, so that writes go to the end of the file, whatever their offset is.
    Append,
    /// It puts what it gets from a socket into memory.
    Receive,
}

/// `RWF_APPEND`: <https://elixir.bootlin.com/linux/v6.12.117/source/include/uapi/linux/fs.h#L362>
const RWF_APPEND: u64 = 0x10;
/// `MAP_SHARED`, which is a part of `MAP_SHARED_VALIDATE`, too, and `MAP_ANONYMOUS`:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/include/uapi/linux/mman.h#L17>
const MAP_SHARED: u64 = 1;
const MAP_ANONYMOUS: u64 = 0x20;
/// `PROT_WRITE`: <https://elixir.bootlin.com/linux/v6.12.117/source/include/uapi/asm-generic/mman-common.h#L11>
const PROT_WRITE: u64 = 2;
/// `F_SETFL` and `O_APPEND`, on x86 and on arm:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/include/uapi/asm-generic/fcntl.h#L37>
const F_SETFL: u32 = 4;
const O_APPEND: u64 = 0o2000;

impl Call {
    /// All calls.
    pub const ALL: [Self; 29] = [
        Self::Read,
        Self::Write,
        Self::Pread,
        Self::Pwrite,
        Self::Preadv,
        Self::Pwritev,
        Self::Preadv2,
        Self::Pwritev2,
        Self::Fsync,
        Self::Fdatasync,
        Self::Readv,
        Self::Writev,
        Self::Sync,
        Self::Syncfs,
        Self::Sendfile,
        Self::CopyFileRange,
        Self::Splice,
        Self::IoUringEnter,
        Self::Close,
        Self::Dup2,
        Self::Dup3,
        Self::CloseRange,
        Self::Mmap,
        Self::Munmap,
        Self::Msync,
        Self::Fallocate,
        Self::IoUringSetup,
        Self::Fcntl,
        Self::Recvfrom,
    ];

    /// The call with this number, in the table of 64-bit or of 32-bit calls.
    #[inline(always)]
    pub const fn from_number(abi: Abi, number: u64) -> Option<Self> {
        if abi.is_32_bit() { arch::compat_synchronous(number) } else { arch::synchronous(number) }
    }

    /// The name in the manual.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Pread => "pread",
            Self::Pwrite => "pwrite",
            Self::Preadv => "preadv",
            Self::Pwritev => "pwritev",
            Self::Preadv2 => "preadv2",
            Self::Pwritev2 => "pwritev2",
            Self::Fsync => "fsync",
            Self::Fdatasync => "fdatasync",
            Self::Readv => "readv",
            Self::Writev => "writev",
            Self::Sync => "sync",
            Self::Syncfs => "syncfs",
            Self::Sendfile => "sendfile",
            Self::CopyFileRange => "copy_file_range",
            Self::Splice => "splice",
            Self::IoUringEnter => "io_uring_enter",
            Self::Close => "close",
            Self::Dup2 => "dup2",
            Self::Dup3 => "dup3",
            Self::CloseRange => "close_range",
            Self::Mmap => "mmap",
            Self::Munmap => "munmap",
            Self::Msync => "msync",
            Self::Fallocate => "fallocate",
            Self::IoUringSetup => "io_uring_setup",
            Self::Fcntl => "fcntl",
            Self::Recvfrom => "recvfrom",
        }
    }

    /// What the call does.
    pub const fn does(self) -> Does {
        match self {
            Self::Read | Self::Pread | Self::Readv | Self::Preadv | Self::Preadv2 => Does::Read,
            Self::Write | Self::Pwrite | Self::Writev | Self::Pwritev | Self::Pwritev2 => {
                Does::Write
            }
            Self::Fsync | Self::Fdatasync | Self::Sync | Self::Syncfs => Does::Sync,
            Self::Sendfile
            | Self::CopyFileRange
            | Self::Splice
            | Self::IoUringEnter
            | Self::Msync
            | Self::Fallocate
            | Self::IoUringSetup => Does::Unseen,
            Self::Mmap => Does::Map,
            Self::Munmap => Does::Unmap,
            Self::Fcntl => Does::Append,
            Self::Recvfrom => Does::Receive,
            Self::Close | Self::Dup2 | Self::Dup3 | Self::CloseRange => Does::Close,
        }
    }

    /// Whether the call is given iovecs, not bytes.
    pub const fn is_vectored(self) -> bool {
        matches!(
            self,
            Self::Readv
                | Self::Writev
                | Self::Preadv
                | Self::Pwritev
                | Self::Preadv2
                | Self::Pwritev2
        )
    }

    /// Whether the call reads or writes at a known place: at an offset that it is given, or at the
    /// position of the descriptor.
    pub const fn is_placed(self) -> bool {
        matches!(self.does(), Does::Read | Does::Write)
    }

    /// The descriptor, from the registers of arguments; -1 if the call has none.
    #[inline(always)]
    pub const fn fd(self, args: &[u64; 6]) -> u32 {
        match self {
            Self::Sync | Self::Munmap | Self::Msync | Self::IoUringSetup => u32::MAX,
            Self::Mmap => args[4] as u32,
            // The descriptor that the call replaces.
            Self::Dup2 | Self::Dup3 => args[1] as u32,
            _ => args[0] as u32,
        }
    }

    /// Whether a call that gives up descriptors with these arguments did so. (close(2) gives up an
    /// open descriptor even if it returns an error. Descriptors that CLOSE_RANGE_CLOEXEC marks stay
    /// open.)
    #[inline(always)]
    pub const fn gave_up(self, args: &[u64; 6], ret: i64) -> bool {
        const EBADF: i64 = -9;
        const CLOSE_RANGE_CLOEXEC: u64 = 4;
        match self {
            Self::Close => ret != EBADF,
            Self::Dup2 | Self::Dup3 => ret >= 0 && args[0] as u32 != args[1] as u32,
            Self::CloseRange => ret >= 0 && args[2] & CLOSE_RANGE_CLOEXEC == 0,
            _ => false,
        }
    }

    /// Whether a call that returned this is told: a close or a dup that gave up a descriptor, an mmap
    /// of a file, an fcntl that set O_APPEND, and of those that make no difference if they fail, one
    /// that worked.
    #[inline(always)]
    pub const fn is_told(self, args: &[u64; 6], ret: i64) -> bool {
        let is_error = ret < 0 && ret >= -4095;
        match self {
            Self::Mmap => !is_error && args[3] & MAP_ANONYMOUS == 0,
            Self::Munmap | Self::Msync | Self::Fallocate | Self::IoUringSetup => !is_error,
            Self::Close | Self::Dup2 | Self::Dup3 | Self::CloseRange => self.gave_up(args, ret),
            Self::Fcntl => !is_error && args[1] as u32 == F_SETFL && args[2] & O_APPEND != 0,
            Self::Recvfrom => !is_error && ret > 0,
            _ => true,
        }
    }

    /// Whether the call is given memory, to read or to write.
    const fn has_memory(self) -> bool {
        self.is_placed() || matches!(self.does(), Does::Receive)
    }

    /// Where in memory a read puts its data, and a write has it; of a vectored call, where its
    /// iovecs are; 0 for other calls.
    #[inline(always)]
    pub const fn memory(self, abi: Abi, args: &[u64; 6]) -> u64 {
        let mask = if abi.is_32_bit() { 0xffff_ffff } else { u64::MAX };
        if self.has_memory() { args[1] & mask } else { 0 }
    }

    /// Whether the call writes to the end of the file, whatever offset it is given.
    #[inline(always)]
    pub const fn appends(self, args: &[u64; 6]) -> bool {
        matches!(self, Self::Pwritev2) && args[5] & RWF_APPEND != 0
    }

    /// Whether the call moves data at the position of the descriptor.
    #[inline(always)]
    pub const fn is_at_position(self, abi: Abi, args: &[u64; 6]) -> bool {
        self.is_placed() && !self.appends(args) && self.offset(abi, args).is_none()
    }

    /// The number of bytes or iovecs that are asked for; for close_range the last descriptor; for
    /// mmap 1, if stores go to the file; for other calls 0.
    #[inline(always)]
    pub const fn count(self, abi: Abi, args: &[u64; 6]) -> u64 {
        let mask = if abi.is_32_bit() { 0xffff_ffff } else { u64::MAX };
        match self {
            Self::CloseRange => args[1] & 0xffff_ffff,
            Self::Mmap => (args[3] & MAP_SHARED != 0 && args[2] & PROT_WRITE != 0) as u64,
            _ if self.has_memory() => args[2] & mask,
            _ => 0,
        }
    }

    /// The position in the file, from the registers of arguments; `None` if it is the position of
    /// the descriptor, or the end of the file. (A 64-bit call uses one register, a 32-bit call two, as `pos_from_hilo` puts
    /// them together:
    /// <https://elixir.bootlin.com/linux/v6.12.117/source/fs/read_write.c#L1123>)
    #[inline(always)]
    pub const fn offset(self, abi: Abi, args: &[u64; 6]) -> Option<i64> {
        let offset = match abi {
            Abi::Native => args[3] as i64,
            _ => {
                let low = arch::compat_position(self);
                ((args[low + 1] & 0xffff_ffff) << 32 | args[low] & 0xffff_ffff) as i64
            }
        };
        match self {
            Self::Pread | Self::Pwrite | Self::Preadv | Self::Pwritev => Some(offset),
            _ if self.appends(args) => None,
            // With -1, preadv2 and pwritev2 use the position of the descriptor.
            Self::Preadv2 | Self::Pwritev2 if offset != -1 => Some(offset),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{aarch64, x86_64};

    #[test]
    fn each_call_has_a_number_in_both_tables() {
        type Table = fn(u64) -> Option<Call>;
        let count = |of: Table| (0..600).filter_map(of).count();
        assert_eq!(count(x86_64::synchronous), Call::ALL.len());
        assert_eq!(count(x86_64::compat_synchronous), Call::ALL.len() + 2, "sendfile64, fcntl64");
        assert_eq!(count(aarch64::synchronous), Call::ALL.len() - 1, "it has no dup2");
        assert_eq!(count(aarch64::compat_synchronous), Call::ALL.len() + 3, "recv, too");
        let tables: [Table; 4] = [
            x86_64::synchronous,
            x86_64::compat_synchronous,
            aarch64::synchronous,
            aarch64::compat_synchronous,
        ];
        for (number, table) in tables.into_iter().enumerate() {
            for call in Call::ALL.into_iter().filter(|it| number != 2 || *it != Call::Dup2) {
                assert!((0..600).any(|it| table(it) == Some(call)), "{number}: {call:?}");
            }
        }
    }

    #[test]
    fn not_every_call_gives_a_descriptor_up() {
        let args = |fd, other, flags| [fd, other, flags, 0, 0, 0];
        assert!(Call::Close.gave_up(&args(3, 0, 0), -5), "close(2): EIO");
        assert!(!Call::Close.gave_up(&args(3, 0, 0), -9), "it was not open");
        assert!(Call::Dup2.gave_up(&args(4, 3, 0), 3));
        assert!(!Call::Dup2.gave_up(&args(3, 3, 0), 3), "dup2(2): nothing is done");
        assert!(!Call::Dup3.gave_up(&args(4, 3, 0), -9));
        assert!(Call::CloseRange.gave_up(&args(3, 9, 0), 0));
        assert!(!Call::CloseRange.gave_up(&args(3, 9, 4), 0), "marked only");
        assert!(!Call::CloseRange.gave_up(&args(9, 3, 0), -22));
    }

    #[test]
    fn not_every_mapping_is_of_a_file() {
        let mmap = |prot, flags, fd: u64, ret| {
            let args = [0, 4096, prot, flags, fd, 0];
            let told = Call::Mmap.is_told(&args, ret);
            told.then(|| (Call::Mmap.fd(&args), Call::Mmap.count(Abi::Native, &args)))
        };
        assert_eq!(mmap(3, 1, 5, 0x7f00_0000_0000), Some((5, 1)), "MAP_SHARED");
        assert_eq!(mmap(3, 3, 5, 0x7f00_0000_0000), Some((5, 1)), "MAP_SHARED_VALIDATE");
        assert_eq!(mmap(3, 2, 5, 0x7f00_0000_0000), Some((5, 0)), "MAP_PRIVATE");
        assert_eq!(mmap(1, 1, 5, 0x7f00_0000_0000), Some((5, 0)), "PROT_READ");
        assert_eq!(mmap(3, 0x22, u64::MAX, 0x7f00_0000_0000), None, "MAP_ANONYMOUS");
        assert_eq!(mmap(3, 1, 5, -13), None, "EACCES");
        assert!(Call::Msync.is_told(&[0; 6], 0) && !Call::Msync.is_told(&[0; 6], -12));
    }

    #[test]
    fn of_fcntl_only_what_sets_o_append_is_told() {
        let fcntl = |command, flags, ret| Call::Fcntl.is_told(&[3, command, flags, 0, 0, 0], ret);
        assert!(fcntl(4, 0o2001, 0));
        assert!(!fcntl(4, 0o4001, 0), "O_NONBLOCK");
        assert!(!fcntl(3, 0o2000, 0o2001), "F_GETFL");
        assert!(!fcntl(4, 0o2000, -9), "EBADF");
    }

    #[test]
    fn what_is_appended_has_no_place() {
        let args = [3, 0x1000, 1, 4096, 0, 0x10];
        assert_eq!(Call::Pwritev2.offset(Abi::Native, &args), None);
        assert!(!Call::Pwritev2.is_at_position(Abi::Native, &args));
        assert_eq!(
            Call::Preadv2.offset(Abi::Native, &args),
            Some(4096),
            "it says nothing of reads"
        );
        let anywhere = [3, 0x1000, 1, u64::MAX, 0, 0];
        assert!(Call::Pwritev2.is_at_position(Abi::Native, &anywhere));
        let write = [3, 0xf_0000_1000, 1, 0, 0, 0];
        assert_eq!(Call::Write.memory(Abi::Compat, &write), 0x1000);
        assert_eq!(Call::Recvfrom.memory(Abi::Compat, &write), 0x1000);
        assert_eq!(Call::Fcntl.memory(Abi::Compat, &write), 0);
    }

    #[test]
    fn an_offset_has_one_register_or_two() {
        let args = [3, 0, 4096, 0x1_0000_2000, 7, 9];
        assert_eq!(Call::Pwrite.offset(Abi::Native, &args), Some(0x1_0000_2000));
        assert_eq!(Call::Pwritev.offset(Abi::Compat, &args), Some(0x7_0000_2000));
        let place = (x86_64::compat_position(Call::Pread), aarch64::compat_position(Call::Pread));
        assert_eq!(place, (3, 4), "the EABI leaves a register out");
        assert_eq!(Call::Write.offset(Abi::Native, &args), None);
        let anywhere = [3, 0, 1, u64::MAX, u64::MAX, 0];
        assert_eq!(Call::Preadv2.offset(Abi::Native, &anywhere), None);
        assert_eq!(Call::Preadv.offset(Abi::Native, &anywhere), Some(-1));
    }
}
