//! Copies the user stack at a call. A program without frame pointers can be unwound only with
//! tables, and these are in its files. (The kernel's own walk along frame pointers also leaves out
//! the function that called the stub of the system call.)
//!
//! A busy program submits from the same few places. So the reader tells the probe which words of a
//! stack decided how it was unwound, and as long as they are the same, the probe sends no copy: the
//! record has 72 bytes instead of 20 KiB.

use aiotrace_common::{
    abi::Syscall,
    arch::Place,
    record::{Kind, KnownStack, PAGE, STACK_PAGES, STACK_VARIANTS, Stack, StackKey, Thread},
};
use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
};

use crate::{records, settings::setting, user};

/// The stacks that the reader knows, and fills in: 4.5 MiB.
#[map]
static KNOWN_STACKS: LruHashMap<StackKey, KnownStack> = LruHashMap::with_max_entries(4096, 0);

#[repr(C)]
struct Scratch {
    record: Stack,
    pages: [[u8; PAGE]; STACK_PAGES],
    key: StackKey,
    /// How many pages are to be copied.
    wanted: u32,
    /// How many bytes the record and its pages have.
    size: u32,
}

/// The time up to which copies at io_submit have used their allowance: each copy uses [`PAUSE`].
#[map]
static PAID_UNTIL: Array<u64> = Array::with_max_entries(1, 0);

/// Nanoseconds for each copy at io_submit: 200 MB a second. The reader needs some 5 ms to tell the
/// first stacks of a busy program; copies of all of them would fill the ring buffer until then.
const PAUSE: u64 = 100_000;

/// Allows a burst of 64 copies (1.25 MiB), so that a program that runs only for a moment has its
/// stacks, too.
const BURST: u64 = 64 * PAUSE;

/// One for io_setup and one for io_submit: see [`crate::ring::Moment`] for why each probe has its
/// own.
#[map]
static STACK_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(2, 0);

/// Sends the stack, if the settings ask for it at this call.
#[inline(always)]
pub fn entered(thread: &mut Thread, syscall: Syscall, place: impl FnOnce() -> Place) {
    let (slot, wanted) = match syscall {
        Syscall::Setup => (0, setting!(setup_stack_pages)),
        Syscall::Submit => (1, setting!(submit_stack_pages)),
        _ => return,
    };
    if wanted == 0 {
        return;
    }
    let Some(scratch) = STACK_SCRATCH.get_ptr_mut(slot) else { return };
    let Place { ip, sp, bp, link } = place();
    // SAFETY: scratch memory of this CPU and program.
    let scratch = unsafe { &mut *scratch };
    scratch.wanted = wanted;
    let record = &mut scratch.record;
    record.header = records::first_header(thread, Kind::Stack, 0, thread.entered);
    let at = &mut record.place;
    (at.ip, at.sp, at.bp, at.link) = (ip, sp, bp, link);
    (record.space, record.known) = (thread.space, 0);
    scratch.key = StackKey { space: thread.space, place: Place { ip, sp, bp, link }, variant: 0 };
    for variant in 0..STACK_VARIANTS {
        scratch.key.variant = variant;
        if is_known(slot) != 0 {
            scratch.wanted = 0;
            break;
        }
    }
    if scratch.wanted != 0 && slot == 1 && !may_copy(thread.entered) {
        return;
    }
    send_stack(slot);
    thread.seq = scratch.record.header.seq;
}

/// Whether a copy is allowed at this time. (It does no harm if two threads decide at once.)
#[inline(always)]
fn may_copy(time: u64) -> bool {
    let Some(paid) = PAID_UNTIL.get_ptr_mut(0) else { return false };
    // SAFETY: a map value.
    let paid = unsafe { &mut *paid };
    let next = (*paid).max(time.saturating_sub(BURST)) + PAUSE;
    let is_time = next <= time;
    if is_time {
        *paid = next;
    }
    is_time
}

/// Whether the reader knows the stack; then its number is put into the record. See [`records`] for
/// why this is a function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_known(slot: u32) -> u32 {
    let Some(scratch) = STACK_SCRATCH.get_ptr_mut(slot) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { record, key, .. } = unsafe { &mut *scratch };
    let Some(known) = KNOWN_STACKS.get_ptr(&*key) else { return 0 };
    // SAFETY: a map value; the reader replaces it as a whole.
    let known = unsafe { &*known };
    for (index, word) in known.words.iter().enumerate() {
        if index as u64 >= known.count {
            break;
        }
        let mut value = 0u64;
        if user::read_or_fail(&mut value, word.address) != 0 || value != word.value {
            return 0;
        }
    }
    record.known = known.id;
    1
}

/// Copies the pages and sends them. See [`records`] for why this is a function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_stack(slot: u32) -> u32 {
    let Some(scratch) = STACK_SCRATCH.get_ptr_mut(slot) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { record, pages, wanted, size, .. } = unsafe { &mut *scratch };
    let first = record.place.sp & !(PAGE as u64 - 1);
    let wanted = *wanted;
    (record.pages, record.read) = (0, 0);
    *size = size_of::<Stack>() as u32;
    for (index, page) in pages.iter_mut().enumerate() {
        if index as u32 >= wanted {
            break;
        }
        // Go on after a page that is not there: it may belong to a large buffer that was never
        // written to.
        let failed = user::read_or_fail(page, first.wrapping_add((index * PAGE) as u64));
        if failed == 0 {
            record.read |= 1 << index;
            record.pages = index as u32 + 1;
            *size = (size_of::<Stack>() + (index + 1) * PAGE) as u32;
        }
    }
    records::next(&mut record.header, false);
    let size = user::unknown(size) as usize;
    if size > size_of::<Stack>() + STACK_PAGES * PAGE {
        return 0;
    }
    // SAFETY: the pages follow the record.
    unsafe { records::emit_bytes(scratch.cast(), size) };
    0
}
