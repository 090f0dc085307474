//! The least that tracing AIO calls with tracepoints can cost: probes that do nothing, and probes
//! that send empty records of 64 bytes. They are for `cargo xtask bench` and no part of aiotrace.
#![no_std]
#![no_main]

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

/// io_setup, io_destroy, io_getevents, io_submit and io_cancel have consecutive numbers:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/arch/x86/entry/syscalls/syscall_64.tbl#L218>
const CALLS: core::ops::RangeInclusive<u64> = 206..=210;

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
    let registers: *const u64 = ctx.arg(0);
    // SAFETY: the kernel's `struct pt_regs`, whose word 15 is orig_ax; BTF lets the verifier check it.
    send(unsafe { *registers.add(15) });
    0
}

#[inline(always)]
fn send(call: u64) {
    // SAFETY: a plain read of an initialized static; volatile, because the loader changes it.
    let target = unsafe { core::ptr::read_volatile(&raw const TARGET) };
    if !CALLS.contains(&call) || (bpf_get_current_pid_tgid() >> 32) as u32 != target {
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
