//! Goes through the iocbs or the events of a call.

use aiotrace_common::{
    abi::{Abi, IoEvent},
    record::ITEMS_PER_CALL,
};

/// How many items one function goes through. Another function calls it [`PARTS`] times, because the
/// verifier of Linux 6.1 keeps at most 8,192 jumps that it has yet to walk:
/// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/bpf/verifier.c?h=v6.12.117#n189>
pub const PART: u32 = 64;
/// How many parts a call has, at most: see [`PART`].
pub const PARTS: u32 = ITEMS_PER_CALL as u32 / PART;

/// The size of an event in bytes.
pub const EVENT: u64 = size_of::<IoEvent>() as u64;

/// The size of a pointer to an iocb in bytes.
#[inline(always)]
pub fn pointer(abi: u32) -> u64 {
    if Abi::from_number(abi).is_32_bit() { 4 } else { 8 }
}

/// Makes a function that does the same for each of `count` items, the first of which is at `first`,
/// and returns the bits that were set for any of them. It works in two steps, see [`PART`].
macro_rules! for_each {
    (
        $(#[$doc:meta])*
        $all:ident, $some:ident, ($($known:ident: $type:ty),*), $size:expr, |$at:ident| $each:expr
    ) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $all($($known: $type,)* first: u64, count: u32) -> u32 {
            let mut bits = 0;
            for part in 0..each::PARTS {
                let before = part * each::PART;
                if before >= count {
                    break;
                }
                let first = first.wrapping_add(u64::from(before) * $size);
                bits |= $some($($known,)* first, count - before);
            }
            bits
        }

        /// The same for the first items, at most [`each::PART`] of them.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $some($($known: $type,)* first: u64, count: u32) -> u32 {
            let mut bits = 0;
            for index in 0..each::PART {
                if index >= count {
                    break;
                }
                let $at = first.wrapping_add(u64::from(index) * $size);
                bits |= $each;
            }
            bits
        }
    };
}

pub(super) use for_each;
