//! The least that tracing AIO calls with tracepoints can cost: probes that do nothing, and probes
//! that send empty records of 64 bytes. They are for `cargo xtask bench` and no part of aiotrace.
#![no_std]
#![no_main]

use aiotrace_common::arch::aio_call;
use aiotrace_ebpf::arch;
use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, map},
    maps::{Array, RingBuf},
    programs::BtfTracePointContext,
};

/// As large as aiotrace's ring buffer.
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

#[map]
static LOST: Array<u64> = Array::with_max_entries(1, 0);

/// The process that is traced. The loader fills it in.
#[unsafe(no_mangle)]
static TARGET: u32 = 0;

/// 64 bytes: half of what aiotrace sends for a pair of calls.
type Record = [u64; 8];

#[btf_tracepoint(function = "sys_enter")]
fn empty_enter(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sys_exit")]
fn empty_exit(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sys_enter")]
fn ring_enter(ctx: BtfTracePointContext) -> i32 {
    send(ctx.arg(1));
    0
}

#[btf_tracepoint(function = "sys_exit")]
fn ring_exit(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the kernel's `struct pt_regs`; BTF lets the verifier check it.
    send(unsafe { arch::number(ctx.arg(0)) });
    0
}

#[inline(always)]
fn send(call: u64) {
    // SAFETY: a plain read of an initialized static; volatile, because the loader changes it.
    let target = unsafe { core::ptr::read_volatile(&raw const TARGET) };
    if aio_call(call).is_none() || (bpf_get_current_pid_tgid() >> 32) as u32 != target {
        return;
    }
    match RECORDS.reserve::<Record>(0) {
        Some(mut record) => {
            record.write([call; 8]);
            // BPF_RB_NO_WAKEUP: the reader polls, as aiotrace's reader does.
            record.submit(1);
        }
        None => {
            if let Some(lost) = LOST.get_ptr_mut(0) {
                // SAFETY: a map value; the target has only one thread.
                unsafe { *lost += 1 };
            }
        }
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
