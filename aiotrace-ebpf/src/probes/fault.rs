//! Faults: the decision at the entry of a call, and the mechanisms that carry it out. Each
//! mechanism acts only on decisions that were made for it.

use aiotrace_common::{
    abi::{Abi, IoEvent, Syscall},
    fault::{Counters, Facts, action, effect, mechanism, what},
    record::{Changed, Kind, Thread},
};
use aya_ebpf::{
    helpers::generated::{bpf_override_return, bpf_probe_write_user},
    macros::map,
    maps::PerCpuArray,
};

use crate::{
    faults,
    probes::{calls::now, synchronous},
    records,
    task::current_kernel_ids,
    threads,
    user::{self, unknown},
};

/// How many requests or events of a call are looked at, at most.
const MOST_LOOKED_AT: u32 = 256;

/// The thread's slot, if the thread is in this call; `None`: in any AIO call.
#[inline(always)]
fn in_call(syscall: Option<Syscall>) -> Option<&'static mut Thread> {
    let thread = threads::of(current_kernel_ids().tid)?;
    // SAFETY: the slot belongs to the running thread.
    let thread = unsafe { &mut *thread };
    let is_meant = match syscall {
        Some(syscall) => thread.syscall == syscall as u32,
        None => thread.syscall != 0,
    };
    is_meant.then_some(thread)
}

/// Asks the rules about a call that was just entered and is recorded.
#[inline(always)]
pub fn judge(
    thread: &mut Thread,
    syscall: Syscall,
    ordinal: impl FnOnce(u32) -> u64,
    mut by: impl Counters,
) {
    let what = what::call(syscall);
    let are_about = faults::are_about(what);
    // Processes are numbered at their first AIO call of any kind, so that the ordinal does not
    // depend on which calls the rules are about.
    if !are_about && !faults::have_odds() {
        return;
    }
    let Some(since) = faults::since_armed(thread.entered) else { return };
    let process = ordinal(thread.kernel_pid);
    if !are_about {
        return;
    }
    thread.requests = 0;
    if faults::ask_for_requests(what) {
        match syscall {
            Syscall::Submit => look_at_requests(thread, Abi::from_number(thread.abi)),
            Syscall::Cancel => thread.requests = describing(thread.args[1]),
            _ => (),
        }
    }
    let facts = Facts {
        what,
        tid: thread.tid,
        ctx: if matches!(syscall, Syscall::Setup) { 0 } else { thread.args[0] },
        nr: if matches!(syscall, Syscall::Submit) { thread.args[1] as i64 } else { 0 },
        since,
        process,
        requests: unknown(&thread.requests),
    };
    faults::decide(&facts, &mut by, &mut thread.verdict);
    let verdict = unknown(&thread.verdict);
    let Some((action, value, mechanism)) = faults::rule(verdict) else { return };
    if faults::are_dry() {
        thread.fault = verdict | effect::DRY_RUN;
        return;
    }
    thread.mechanism = mechanism;
    thread.submitting = 0;
    thread.refuse = 0;
    let accepts = action == action::ACCEPT;
    thread.accept = if accepts { value as u64 } else { 0 };
    thread.errno = if accepts { -(EAGAIN as i64) } else { value };
}

/// The errno that refuses the rest of a short io_submit; the target does not see it.
const EAGAIN: i32 = 11;

/// Finds the rules that one of the call's requests meets.
#[inline(always)]
fn look_at_requests(thread: &mut Thread, abi: Abi) {
    let width = if abi.is_32_bit() { 4 } else { 8 };
    let count = (thread.args[1] as i64).clamp(0, i64::from(MOST_LOOKED_AT)) as u32;
    for index in 0..MOST_LOOKED_AT {
        if index >= count {
            break;
        }
        let mut address = 0;
        user::read_pointer(
            &mut address,
            thread.args[2].wrapping_add(u64::from(index) * width),
            abi,
        );
        let rules = describing(address);
        thread.requests = unknown(&thread.requests) | rules;
    }
}

/// The rules that the iocb at this address meets. A global function, as in [`crate::records`]: the
/// verifier walks through the rules only once, and not for each request.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn describing(iocb: u64) -> u32 {
    // `aio_lio_opcode`, `aio_reqprio` and `aio_fildes`.
    let mut words = [0u32; 2];
    if user::read_or_fail(&mut words, user::or_nowhere(iocb).wrapping_add(16)) != 0 {
        return 0;
    }
    faults::describing(words[0] as u16, words[1])
}

/// Runs in place of the system call's function: the value that the call returns, or 0 to let the
/// kernel's function run.
#[inline(always)]
pub fn fail_call(mechanism: u32) -> i64 {
    let Some(thread) = in_call(None) else { return 0 };
    if thread.verdict == 0 || thread.fault != 0 || thread.mechanism != mechanism {
        return 0;
    }
    thread.fault = thread.verdict;
    thread.errno
}

/// [`fail_call`] for a kprobe, which changes the registers instead.
#[inline(always)]
pub fn override_call(regs: *mut core::ffi::c_void) {
    let errno = fail_call(mechanism::OVERRIDE);
    if errno != 0 {
        // SAFETY: the registers of the probe.
        unsafe { bpf_override_return(regs.cast(), errno as u64) };
    }
}

/// `io_submit_one` begins with the next request.
#[inline(always)]
pub fn begin_request() {
    let Some(thread) = in_call(Some(Syscall::Submit)) else { return };
    if thread.verdict == 0 || thread.mechanism != mechanism::FILE_PERMISSION {
        return;
    }
    thread.refuse = (u64::from(thread.submitting) == thread.accept) as u32;
    thread.submitting = thread.submitting.wrapping_add(1);
}

/// Runs in place of `security_file_permission`, which every read and write of the thread passes. A
/// stacked file system asks it again for the file below; only the first time counts.
/// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/read_write.c?h=v6.12.117#n470>
#[inline(always)]
pub fn refuse_request() -> i64 {
    let Some(thread) = in_call(Some(Syscall::Submit)) else { return 0 };
    // The request to be refused may never come here (a poll, a bad descriptor). Then its verdict must
    // not hit a later one: `refuse` is 0 for that.
    if thread.verdict == 0 || thread.refuse == 0 || thread.fault != 0 {
        return 0;
    }
    thread.refuse = 0;
    thread.fault = thread.verdict;
    thread.errno
}

/// The io_getevents whose events are judged. (Only one of the probes that use it is attached at a
/// time.)
#[map]
static REAPED: PerCpuArray<Reaped> = PerCpuArray::with_max_entries(1, 0);

#[repr(C)]
struct Reaped {
    /// The address of the first event.
    events: u64,
    ctx: u64,
    /// As in [`Facts`].
    since: u64,
    process: u64,
    /// The number of the rule that acts: [`faults::decide`] wants it in a map.
    chosen: u32,
    reserved: u32,
}

/// io_getevents returns events, and the probe that records them has not run yet. `judge` is called
/// for each event.
#[inline(always)]
pub fn results(
    syscall: Syscall,
    ret: i64,
    ordinal: impl FnOnce(u32) -> u64,
    judge: impl Fn(u32) -> u32,
) {
    if !matches!(syscall, Syscall::Getevents | Syscall::Pgetevents)
        || ret <= 0
        || !faults::are_about(what::COMPLETE)
    {
        return;
    }
    let Some(thread) = in_call(Some(syscall)) else { return };
    let Some(since) = faults::since_armed(now()) else { return };
    let Some(reaped) = REAPED.get_ptr_mut(0) else { return };
    let process = ordinal(thread.kernel_pid);
    let (events, ctx) = (thread.args[3], thread.args[0]);
    // SAFETY: scratch memory of this CPU and program.
    unsafe { *reaped = Reaped { events, ctx, since, process, chosen: 0, reserved: 0 } };
    let count = ret.clamp(0, i64::from(MOST_LOOKED_AT)) as u32;
    for index in 0..MOST_LOOKED_AT {
        if index >= count {
            break;
        }
        judge(index);
    }
}

/// The bodies of the loops over events: see [`crate::records`] for why they are functions.
macro_rules! each_event {
    ($($name:ident, $write:literal, $counters:expr;)*) => {
        $(
            /// Judges the event with this index.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name(index: u32) -> u32 {
                event(index, $write, $counters);
                0
            }
        )*
    };
}

each_event! {
    write_event_always, true, faults::Uncounted;
    tell_event_always, false, faults::Uncounted;
    write_event_counting, true, faults::Counting::here();
    tell_event_counting, false, faults::Counting::here();
}

#[inline(always)]
fn event(index: u32, write: bool, mut by: impl Counters) {
    let Some(reaped) = REAPED.get_ptr_mut(0) else { return };
    // SAFETY: scratch memory of this CPU and program.
    let Reaped { events, ctx, since, process, chosen, .. } = unsafe { &mut *reaped };
    let Some(thread) = in_call(None) else { return };
    let address = events.wrapping_add(u64::from(index) * size_of::<IoEvent>() as u64);
    let mut event = IoEvent { data: 0, obj: 0, res: 0, res2: 0 };
    if user::read_or_fail(&mut event, address) != 0 {
        return;
    }
    let mut requests = 0;
    if faults::ask_for_requests(what::COMPLETE) {
        // The target may already use the memory of the iocb for another request; `aio_data` tells
        // them apart.
        let mut data = 0u64;
        let failed = user::read_or_fail(&mut data, user::or_nowhere(event.obj));
        if failed == 0 && data == event.data {
            requests = describing(event.obj);
        }
    }
    let (tid, ctx) = (thread.tid, *ctx);
    let facts =
        Facts { what: what::COMPLETE, tid, ctx, nr: 0, since: *since, process: *process, requests };
    *chosen = 0;
    faults::decide(&facts, &mut by, chosen);
    let rule = unknown(chosen);
    let Some((_, res, _)) = faults::rule(rule) else { return };
    let effect = if write {
        let place = address.wrapping_add(core::mem::offset_of!(IoEvent, res) as u64);
        let size = size_of::<i64>() as u32;
        // SAFETY: the helper checks the address.
        let failed =
            unsafe { bpf_probe_write_user(place as *mut _, (&raw const res).cast(), size) };
        if failed == 0 { 0 } else { effect::MISSED }
    } else {
        effect::DRY_RUN
    };
    let header = records::header(thread, Kind::Changed, 0, now());
    if effect == 0 {
        synchronous::provoke(header.time);
    }
    records::emit(|record: *mut Changed| {
        // SAFETY: room in the ring buffer.
        unsafe {
            *record = Changed { header, handle: ctx, event, res, fault: rule | effect, index };
        }
    });
}
