//! The probes. This file has only the entry points: each calls the function that does the work, and
//! counts its error as a loss.
//!
//! The trampoline set hooks the kernel functions that serve the AIO calls, and functions inside of
//! them; other system calls cost nothing more. The syscall set hooks the tracepoints of all system
//! calls, BTF-typed (tp_btf): compared to the `syscalls:*` tracepoints (docs/internals/probes.md
//! has the measurement) they cost less per AIO call, need no tracefs, and see calls that seccomp
//! denies. [`aiotrace_common::names`] says which probe belongs to which set.
#![no_std]
#![no_main]
#![expect(internal_features, reason = "an atomic addition")]
#![feature(core_intrinsics, asm_experimental_arch)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a value would be copied to the stack, which has 512 bytes"
)]

mod atomic;
mod faults;
mod lost;
mod probes;
mod records;
mod registers;
mod ring;
mod stack;
mod switches;
mod targets;
mod threads;

use aiotrace_common::{
    abi::{Abi, Syscall},
    arch,
    fault::mechanism,
    record::{Lost, Thread},
};
use aiotrace_ebpf::{arch::abi_served, kernel, settings, task, user};
use aya_ebpf::{
    EbpfContext as _,
    macros::{btf_tracepoint, fentry, fexit, kprobe, kretprobe},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};

use crate::{
    probes::{
        calls::{self, Unseen},
        complete, context, fault, lifetime, synchronous,
    },
    registers::{arguments, arguments_at, number, place, place_at},
    settings::setting,
    task::Task,
};

/// The AIO call with this number.
#[inline(always)]
fn aio_call(number: u64) -> Option<(Syscall, Abi)> {
    arch::any_aio_call(number, task::in_compat_syscall)
}

#[btf_tracepoint(function = "sys_enter")]
fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    entered(&ctx, |_, _| ());
    0
}

/// An AIO call is entered. `judge` asks the fault rules about it.
#[inline(always)]
fn entered(ctx: &BtfTracePointContext, judge: impl FnOnce(&mut Thread, Syscall)) {
    if let Some((syscall, abi)) = aio_call(ctx.arg(1)) {
        let regs = ctx.arg(0);
        let (args, place) = (|| arguments(syscall, abi, regs), || place(regs));
        if let Some(Some(thread)) = settle(calls::enter(syscall, abi, args, place)) {
            judge(thread, syscall);
        }
    }
}

#[btf_tracepoint(function = "sys_exit")]
fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let regs = ctx.arg(0);
    let number = number(regs);
    if let Some((syscall, abi)) = aio_call(number) {
        let args = || arguments(syscall, abi, regs);
        calls::exit(syscall, abi, args, ctx.arg(1), Unseen::Tell);
    } else if synchronous::are_told() {
        synchronous::left(regs, number, ctx.arg(1));
    }
    0
}

/// Records the calls that [`sys_exit`] sees and that trampolines and kprobes do not see.
#[btf_tracepoint(function = "sys_exit")]
fn unseen_exit(ctx: BtfTracePointContext) -> i32 {
    let regs = ctx.arg(0);
    let number = number(regs);
    if let Some((syscall, abi)) = aio_call(number)
        && !calls::was_left(abi)
    {
        let args = || arguments(syscall, abi, regs);
        calls::exit(syscall, abi, args, ctx.arg(1), Unseen::Tell);
    }
    0
}

/// The kernel functions that serve the calls, and the probes at their entry and at their return.
macro_rules! trampolines {
    ($($enter:ident, $exit:ident, $syscall:ident, $abi:ident;)*) => {
        $(
            #[fentry]
            fn $enter(ctx: FEntryContext) -> i32 {
                let regs = if setting!(registers_on_stack) == 0 {
                    ctx.arg(0)
                } else {
                    core::ptr::null()
                };
                let (syscall, abi) = (Syscall::$syscall, abi_served(Abi::$abi));
                let args = || arguments(syscall, abi, regs);
                settle(calls::enter(syscall, abi, args, || place(regs)));
                0
            }

            #[fexit]
            fn $exit(ctx: FExitContext) -> i32 {
                let regs = if setting!(registers_on_stack) == 0 {
                    ctx.arg(0)
                } else {
                    core::ptr::null()
                };
                let (syscall, abi) = (Syscall::$syscall, abi_served(Abi::$abi));
                let args = || arguments(syscall, abi, regs);
                calls::exit(syscall, abi, args, ctx.arg(1), Unseen::Missed);
                0
            }
        )*
    };
}

trampolines! {
    enter_io_setup, exit_io_setup, Setup, Native;
    enter_io_destroy, exit_io_destroy, Destroy, Native;
    enter_io_submit, exit_io_submit, Submit, Native;
    enter_io_getevents, exit_io_getevents, Getevents, Native;
    enter_io_pgetevents, exit_io_pgetevents, Pgetevents, Native;
    enter_io_cancel, exit_io_cancel, Cancel, Native;
    enter32_io_setup, exit32_io_setup, Setup, Compat;
    enter32_io_destroy, exit32_io_destroy, Destroy, Compat;
    enter32_io_submit, exit32_io_submit, Submit, Compat;
    enter32_io_getevents, exit32_io_getevents, Getevents, Compat;
    enter32_io_pgetevents, exit32_io_pgetevents, Pgetevents, Compat;
    enter32_io_pgetevents64, exit32_io_pgetevents64, Pgetevents, CompatTime64;
    enter32_io_cancel, exit32_io_cancel, Cancel, Compat;
}

/// The same kernel functions, hooked by kprobes.
macro_rules! kprobes {
    ($($enter:ident, $exit:ident, $syscall:ident, $abi:ident;)*) => {
        $(
            #[kprobe]
            fn $enter(ctx: ProbeContext) -> u32 {
                let (syscall, abi) = (Syscall::$syscall, abi_served(Abi::$abi));
                if let Some(regs) = ctx.arg::<*const u8>(0) {
                    let args = || arguments_at(syscall, abi, regs);
                    settle(calls::enter(syscall, abi, args, || place_at(regs)));
                }
                0
            }

            #[kretprobe]
            fn $exit(ctx: RetProbeContext) -> u32 {
                let (syscall, abi) = (Syscall::$syscall, abi_served(Abi::$abi));
                // Only a call that was seen entered is recorded here, so its arguments are known.
                calls::exit(syscall, abi, || [0; 6], ctx.ret(), Unseen::Ignore);
                0
            }
        )*
    };
}

kprobes! {
    kprobe_enter_io_setup, kprobe_exit_io_setup, Setup, Native;
    kprobe_enter_io_destroy, kprobe_exit_io_destroy, Destroy, Native;
    kprobe_enter_io_submit, kprobe_exit_io_submit, Submit, Native;
    kprobe_enter_io_getevents, kprobe_exit_io_getevents, Getevents, Native;
    kprobe_enter_io_pgetevents, kprobe_exit_io_pgetevents, Pgetevents, Native;
    kprobe_enter_io_cancel, kprobe_exit_io_cancel, Cancel, Native;
    kprobe_enter32_io_setup, kprobe_exit32_io_setup, Setup, Compat;
    kprobe_enter32_io_destroy, kprobe_exit32_io_destroy, Destroy, Compat;
    kprobe_enter32_io_submit, kprobe_exit32_io_submit, Submit, Compat;
    kprobe_enter32_io_getevents, kprobe_exit32_io_getevents, Getevents, Compat;
    kprobe_enter32_io_pgetevents, kprobe_exit32_io_pgetevents, Pgetevents, Compat;
    kprobe_enter32_io_pgetevents64, kprobe_exit32_io_pgetevents64, Pgetevents, CompatTime64;
    kprobe_enter32_io_cancel, kprobe_exit32_io_cancel, Cancel, Compat;
}

// `struct kioctx *ioctx_alloc(unsigned nr_events)`. The return value follows the arguments;
// `FExitContext::ret` would need Linux 5.17.
#[fexit(function = "ioctx_alloc")]
fn context_alloc(ctx: FExitContext) -> i32 {
    context::allocated(ctx.arg(1));
    0
}

#[kretprobe]
fn kprobe_context_alloc(ctx: RetProbeContext) -> u32 {
    context::allocated(ctx.ret());
    0
}

// `struct kioctx *lookup_ioctx(unsigned long ctx_id)`
#[fexit(function = "lookup_ioctx")]
fn context_lookup(ctx: FExitContext) -> i32 {
    context::used(ctx.arg(1));
    0
}

#[kretprobe]
fn kprobe_context_lookup(ctx: RetProbeContext) -> u32 {
    context::used(ctx.ret());
    0
}

// `void aio_complete(struct aio_kiocb *iocb)`
#[fentry(function = "aio_complete")]
fn complete(ctx: FEntryContext) -> i32 {
    complete::completed(ctx.arg(0));
    0
}

#[kprobe]
fn kprobe_complete(ctx: ProbeContext) -> u32 {
    if let Some(request) = ctx.arg(0) {
        complete::completed(request);
    }
    0
}

// `int io_submit_one(struct kioctx *ctx, struct iocb __user *user_iocb, bool compat)`
#[fexit(function = "io_submit_one")]
fn submit_one(ctx: FExitContext) -> i32 {
    complete::submitted(ctx.arg(1), ctx.arg(3));
    0
}

#[kretprobe]
fn kprobe_submit_one(ctx: RetProbeContext) -> u32 {
    complete::submitted(0, ctx.ret());
    0
}

// `int kill_ioctx(struct mm_struct *mm, struct kioctx *ctx, struct ctx_rq_wait *wait)`
#[fentry(function = "kill_ioctx")]
fn context_kill(ctx: FEntryContext) -> i32 {
    context::killed(ctx.arg(0), ctx.arg(1));
    0
}

#[kprobe]
fn kprobe_context_kill(ctx: ProbeContext) -> u32 {
    if let (Some(space), Some(kioctx)) = (ctx.arg(0), ctx.arg(1)) {
        context::killed(space, kioctx);
    }
    0
}

// `int aio_ring_mremap(struct vm_area_struct *vma)`
#[fexit(function = "aio_ring_mremap")]
fn ring_mremap(ctx: FExitContext) -> i32 {
    context::moved(ctx.arg(0), ctx.arg(1));
    0
}

#[kprobe]
fn kprobe_ring_mremap(ctx: ProbeContext) -> u32 {
    if let Some(area) = ctx.arg(0) {
        // `aio_ring_mremap` fails only for a context that is being destroyed, so success is
        // assumed:
        // <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n354>
        context::moved(area, 0);
    }
    0
}

#[btf_tracepoint(function = "sched_process_fork")]
fn process_fork(ctx: BtfTracePointContext) -> i32 {
    settle(lifetime::fork(Task::at(ctx.arg(1))));
    0
}

#[btf_tracepoint(function = "sched_process_exec")]
fn process_exec(ctx: BtfTracePointContext) -> i32 {
    settle(lifetime::exec(Task::at(ctx.arg(0)), ctx.arg(1), ctx.arg(2)));
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
fn process_exit(ctx: BtfTracePointContext) -> i32 {
    settle(lifetime::exit(Task::at(ctx.arg(0))));
    0
}

/// The probes for fault rules: one set for rules that count, one for rules that need not. The probe
/// that records a call's entry also asks the rules: a probe of their own would have to find the
/// thread again, which costs more than the rules do.
macro_rules! judges {
    ($($enter:ident, $write:ident $write_event:ident, $tell:ident $tell_event:ident, $counters:expr,
       $ordinal:expr;)*) => {
        $(
            #[btf_tracepoint(function = "sys_enter")]
            fn $enter(ctx: BtfTracePointContext) -> i32 {
                entered(&ctx, |thread, syscall| fault::judge(thread, syscall, $ordinal, $counters));
                0
            }

            #[btf_tracepoint(function = "sys_exit")]
            fn $write(ctx: BtfTracePointContext) -> i32 {
                if let Some(syscall) = call_left(&ctx) {
                    fault::results(syscall, ctx.arg(1), $ordinal, |index| fault::$write_event(index));
                }
                0
            }

            #[btf_tracepoint(function = "sys_exit")]
            fn $tell(ctx: BtfTracePointContext) -> i32 {
                if let Some(syscall) = call_left(&ctx) {
                    fault::results(syscall, ctx.arg(1), $ordinal, |index| fault::$tell_event(index));
                }
                0
            }
        )*
    };
}

judges! {
    sys_enter_always, write_always write_event_always, tell_always tell_event_always,
        faults::Uncounted, |_| 0;
    sys_enter_counting, write_counting write_event_counting, tell_counting tell_event_counting,
        faults::Counting::here(), faults::ordinal;
}

/// The AIO call that returns.
#[inline(always)]
fn call_left(ctx: &BtfTracePointContext) -> Option<Syscall> {
    let regs = ctx.arg(0);
    let number = number(regs);
    aio_call(number).map(|(syscall, _)| syscall)
}

// An fmod_ret program, see `names::FMOD_RET`. The target gets all 64 bits of what it returns.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/fail_call")]
extern "C" fn fail_call(_: *mut core::ffi::c_void) -> i64 {
    fault::fail_call(mechanism::FMOD_RET)
}

#[kprobe]
fn override_call(ctx: ProbeContext) -> u32 {
    fault::override_call(ctx.as_ptr());
    0
}

#[fentry(function = "io_submit_one")]
fn count_submit_one(_: FEntryContext) -> i32 {
    fault::begin_request();
    0
}

#[kprobe]
fn kprobe_count_submit_one(_: ProbeContext) -> u32 {
    fault::begin_request();
    0
}

// An fmod_ret program, see `names::FILE_PERMISSION`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/refuse_request")]
extern "C" fn refuse_request(_: *mut core::ffi::c_void) -> i64 {
    fault::refuse_request()
}

/// Counts an error as a loss.
#[inline(always)]
fn settle<T>(result: Result<T, Lost>) -> Option<T> {
    result.map_err(lost::count).ok()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// bpf_probe_read_kernel and other helpers are only for programs under a GPL-compatible license.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
