//! Chooses the calls that are recorded although calls are counted: those that the user asks for
//! (`--only`, `--sample`), and those that findings need.

use aiotrace_common::{
    abi::{Abi, Syscall},
    record::{ITEMS_PER_CALL, Thread},
    settings::ABSENT,
};
use aya_ebpf::{macros::map, maps::PerCpuArray};

use super::each::{self, for_each};
use crate::{probes::calls::now, settings::setting, user};

/// When a call was last recorded only because findings need it: see [`may_tell`].
#[map]
static LAST_TOLD: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// How many calls could have been recorded since the last one that was, by call: see [`sampled`].
#[map]
static SINCE_TOLD: PerCpuArray<u32> = PerCpuArray::with_max_entries(7, 0);

/// Nanoseconds between two calls that one processor records because findings need them: recording
/// must not slow down a program that fails all the time.
const PAUSE: u64 = 1_000_000;

/// Results that are no failures of the target, or that are reported by other means: a success of
/// io_cancel, a signal, a full ring.
const EINPROGRESS: i64 = -115;
const EINTR: i64 = -4;
const EAGAIN: i64 = -11;
/// From here on, errnos are internal to the kernel: it restarts the call.
const RESTART: i64 = -512;

/// Whether a call that begins is counted and not recorded.
#[inline(always)]
pub fn is_counted_only(thread: &Thread, syscall: Syscall) -> bool {
    if !matches!(syscall, Syscall::Submit | Syscall::Getevents | Syscall::Pgetevents) {
        return false;
    }
    if setting!(sample) == 0 || setting!(only_errors) != 0 {
        return true;
    }
    if !asks_for_requests() {
        return !sampled(syscall);
    }
    // Look at the iocbs here: they may be others when the call returns.
    !(matches!(syscall, Syscall::Submit) && has_request(thread) && sampled(syscall))
}

/// Whether a call that was only counted is recorded, as its result is known: because the user asked
/// for it, or because findings need it.
#[inline(always)]
pub fn is_told_after_all(thread: &Thread, syscall: Syscall, ret: i64, took: u64) -> bool {
    let is_submit = matches!(syscall, Syscall::Submit);
    if setting!(sample) == 0 {
        let is_slow = is_submit && took >= setting!(slow_submit);
        let is_failure =
            ret < 0 && ret > RESTART && ret != EINPROGRESS && ret != EINTR && ret != EAGAIN;
        return (is_failure || is_slow) && may_tell();
    }
    let is_wanted = if is_submit {
        let is_error = ret < (thread.args[1] as i64).max(0);
        setting!(only_errors) != 0 && is_error && (!asks_for_requests() || has_request(thread))
    } else if ret < 0 {
        setting!(only_errors) != 0 && !asks_for_requests()
    } else if setting!(only_errors) != 0 || asks_for_requests() {
        find_event(thread.args[3], ret.clamp(0, ITEMS_PER_CALL as i64) as u32) != 0
    } else {
        false
    };
    is_wanted && sampled(syscall)
}

/// Whether the requests of a call decide if it is recorded.
#[inline(always)]
fn asks_for_requests() -> bool {
    setting!(only_ops) != 0 || setting!(only_fd) != ABSENT
}

/// Whether it is this call's turn to be recorded: one call in every `sample`, counted for each call
/// by name and on each processor. (If the names shared a count, a program that submits and reaps in
/// turn might have only one of the two recorded.)
#[inline(always)]
fn sampled(syscall: Syscall) -> bool {
    let Some(since) = SINCE_TOLD.get_ptr_mut(syscall as u32) else { return false };
    // SAFETY: a map value of this CPU; if two programs meet here, one call more or less is
    // recorded.
    let since = unsafe { &mut *since };
    *since += 1;
    let is_its_turn = *since >= setting!(sample);
    if is_its_turn {
        *since = 0;
    }
    is_its_turn
}

/// Whether the thread's io_submit has a request that the user asks for.
#[inline(always)]
fn has_request(thread: &Thread) -> bool {
    let count = (thread.args[1] as i64).clamp(0, ITEMS_PER_CALL as i64) as u32;
    find_request(thread.abi, thread.args[2], count) != 0
}

for_each! {
    /// Whether the user asks for one of these requests.
    find_request, find_some_request, (abi: u32), each::pointer(abi), |at| is_request(at, abi)
}

/// Whether the user asks for the request whose iocb the pointer at `pointer` points to.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_request(pointer: u64, abi: u32) -> u32 {
    let mut iocb = 0;
    let failed = user::read_pointer(&mut iocb, pointer, Abi::from_number(abi));
    if failed != 0 { 0 } else { is_meant(iocb) as u32 }
}

for_each! {
    /// Whether the user asks for one of these events.
    find_event, find_some_event, (), each::EVENT, |at| is_event(at)
}

/// Whether the user asks for the event at this address: by its result, and by the present content
/// of its iocb.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_event(at: u64) -> u32 {
    let mut event = core::mem::MaybeUninit::<[u64; 4]>::uninit();
    let failed = user::read_or_fail(&mut event, at);
    // SAFETY: the helper has written it; zeros if it could not read.
    let [_, iocb, res, _] = unsafe { event.assume_init() };
    let is_error = (res as i64) < 0;
    if failed != 0 || (setting!(only_errors) != 0 && !is_error) {
        return 0;
    }
    (!asks_for_requests() || is_meant(iocb)) as u32
}

/// Whether the user asks for the request of the iocb at this address.
#[inline(always)]
fn is_meant(iocb: u64) -> bool {
    let mut word = 0u64;
    // The opcode, the priority and the descriptor.
    if user::read_or_fail(&mut word, iocb.wrapping_add(16)) != 0 {
        return false;
    }
    let (opcode, fd) = (word as u32 & 0xffff, (word >> 32) as u32);
    let ops = setting!(only_ops);
    (ops == 0 || (opcode < 32 && ops & 1 << (opcode & 31) != 0))
        && (setting!(only_fd) == ABSENT || setting!(only_fd) == fd)
}

#[inline(always)]
fn may_tell() -> bool {
    let Some(last) = LAST_TOLD.get_ptr_mut(0) else { return false };
    let time = now();
    // SAFETY: a map value of this CPU; it does no harm if two programs meet here.
    let last = unsafe { &mut *last };
    let is_time = time.wrapping_sub(*last) >= PAUSE;
    if is_time {
        *last = time;
    }
    is_time
}
