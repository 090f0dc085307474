//! The probes: entry points only. Each asks a body to do the work and turns its error into a
//! counter.
//!
//! They are BTF-typed raw tracepoints (tp_btf). Measured against the `syscalls:*` tracepoints
//! (docs/architecture.md) they cost less per AIO call, need no tracefs, see calls denied by
//! seccomp, and are not skipped while another BPF program runs on the CPU.
#![no_std]
#![no_main]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a value would be copied to the stack, which has 512 bytes"
)]

mod lost;
mod probes;
mod records;
mod ring;
mod settings;
mod targets;
mod task;
mod threads;
mod user;

use aiotrace_common::{
    abi::{Syscall, is_i386_aio},
    record::Lost,
};
use aya_ebpf::{bindings::pt_regs, macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    probes::{calls, lifetime},
    task::Task,
};

#[btf_tracepoint(function = "sys_enter")]
fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    let number: u64 = ctx.arg(1);
    if let Some(syscall) = Syscall::from_x86_64(number) {
        settle(calls::enter(syscall, ctx.arg::<*const pt_regs>(0)));
    } else if is_i386_aio(number) {
        settle(calls::enter_compat());
    }
    0
}

#[btf_tracepoint(function = "sys_exit")]
fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let regs: *const pt_regs = ctx.arg(0);
    // SAFETY: the tracepoint's first argument is a valid pt_regs; the verifier checks the access.
    let number = unsafe { (*regs).orig_rax };
    if let Some(syscall) = Syscall::from_x86_64(number) {
        settle(calls::exit(syscall, regs, ctx.arg(1)));
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

/// Every failure becomes a counter.
#[inline(always)]
fn settle(result: Result<(), Lost>) {
    if let Err(cause) = result {
        lost::count(cause);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// bpf_probe_read_kernel and friends are for GPL-compatible programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
