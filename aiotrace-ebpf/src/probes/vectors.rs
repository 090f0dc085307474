//! The iovecs of vectored requests, which say from where in memory a request takes its data, or
//! where it puts them. They are recorded while fault rules are armed, because a request that comes
//! again with other memory may be another one.

use aiotrace_common::{
    abi::{Abi, Iocb},
    record::{Header, Kind, MOST_VECTORS, Thread, Vectors, flag},
};
use aya_ebpf::{macros::map, maps::PerCpuArray};

use crate::{faults, records, user};

/// `IOCB_CMD_PREADV` and `IOCB_CMD_PWRITEV`:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/include/uapi/linux/aio_abi.h#L45>
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;

/// Room for a record, and for the iovecs behind it.
#[repr(C)]
pub struct With<T> {
    /// The number of iovecs.
    count: u32,
    reserved: u32,
    pub record: T,
    vectors: [u8; MOST_VECTORS * 16],
}

impl<T> With<T> {
    /// Reads `count` iovecs at `address`, of two words of four bytes each with `narrow`, else of
    /// eight. Returns how many there are now: all, or none.
    #[inline(always)]
    pub fn read(&mut self, address: u64, count: u64, narrow: bool) -> u32 {
        self.count = 0;
        if count == 0 || count > MOST_VECTORS as u64 {
            return 0;
        }
        let bytes = (count as u32) << if narrow { 3 } else { 4 };
        // SAFETY: the array has room for the most iovecs.
        if unsafe { user::read_into(&raw mut self.vectors, bytes, address) } {
            self.count = count as u32;
        }
        self.count
    }

    /// There are no iovecs.
    #[inline(always)]
    pub fn empty(&mut self) -> u32 {
        self.count = 0;
        0
    }

    /// Sends the record and the iovecs that were read.
    #[inline(always)]
    pub fn send(&self, narrow: bool) {
        let count = user::unknown(&self.count);
        if count > MOST_VECTORS as u32 {
            return;
        }
        let bytes = count << if narrow { 3 } else { 4 };
        let size = size_of::<T>() + bytes as usize;
        // SAFETY: the array follows the record, and has room for the most iovecs.
        unsafe { records::emit_bytes((&raw const self.record).cast(), size) };
    }
}

/// One for each probe: 64-bit calls and 32-bit calls.
#[map]
static VECTOR_SCRATCH: PerCpuArray<With<Vectors>> = PerCpuArray::with_max_entries(2, 0);

/// Whether iovecs are recorded.
#[inline(always)]
pub fn are_told() -> bool {
    faults::are_armed()
}

/// Records the iovecs of the only request of a call.
#[inline(always)]
pub fn of_one(thread: &Thread) {
    let header = Header {
        kind: Kind::Vectors,
        flags: 0,
        seq: 0,
        time: thread.entered,
        pid: thread.pid,
        tid: thread.tid,
    };
    of(header, 0, &thread.iocb, Abi::from_number(thread.abi).is_32_bit());
}

/// Records the iovecs of a request; `header` is that of another record of the same call.
#[inline(always)]
pub fn of(header: Header, index: u32, iocb: &Iocb, narrow: bool) {
    if iocb.opcode != PREADV && iocb.opcode != PWRITEV {
        return;
    }
    let Some(scratch) = VECTOR_SCRATCH.get_ptr_mut(narrow as u32) else { return };
    // SAFETY: scratch memory of this CPU and program.
    let scratch = unsafe { &mut *scratch };
    let flags = if narrow { flag::COMPAT } else { 0 };
    let count = scratch.read(iocb.buf, iocb.nbytes, narrow);
    let header = Header { kind: Kind::Vectors, flags, seq: 0, ..header };
    scratch.record = Vectors { header, index, count };
    if count != 0 {
        scratch.send(narrow);
    }
}
