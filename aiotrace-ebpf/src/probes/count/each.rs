//! Something is done with each iocb of a call, or with each event.

use aiotrace_common::{
    abi::{Abi, IoEvent},
    record::ITEMS_PER_CALL,
};

/// Items that one function goes through. Another calls it [`PARTS`] times: 6.1 remembers no more than 8,192
/// jumps that it has still to look at.
pub const PART: u32 = 64;
/// See [`PART`].
pub const PARTS: u32 = ITEMS_PER_CALL as u32 / PART;

/// Bytes of an event.
pub const EVENT: u64 = size_of::<IoEvent>() as u64;

/// Bytes of a pointer to an iocb.
#[inline(always)]
pub fn pointer(abi: u32) -> u64 {
    if Abi::from_number(abi).is_32_bit() { 4 } else { 8 }
}

/// A function that does the same with each of `count` items, the first of which is at `first`, and gives the
/// bits of what that gives. In two steps, see [`PART`].
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

        /// The same with the first of them, at most [`each::PART`].
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
