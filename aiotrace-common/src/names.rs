//! The names of programs and maps in the BPF object. They stand once: here. A host test of the
//! `aiotrace` crate checks that the built object holds each of them.

/// One BPF program and the BTF tracepoint it is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program's name in the object.
    pub name: &'static str,
    /// The tracepoint, without the kernel's `btf_trace_` prefix.
    pub tracepoint: &'static str,
}

/// The syscall probe set, in the order of attaching: lifetime first, so that a child born during
/// the attach is followed; nothing is recorded before all are attached ([`ARMED`]), so that a call whose
/// beginning was not seen is the first of its thread.
pub const SYSCALL_SET: [Program; 5] = [
    Program { name: "process_fork", tracepoint: "sched_process_fork" },
    Program { name: "process_exec", tracepoint: "sched_process_exec" },
    Program { name: "process_exit", tracepoint: "sched_process_exit" },
    Program { name: "sys_exit", tracepoint: "sys_exit" },
    Program { name: "sys_enter", tracepoint: "sys_enter" },
];

/// The ring buffer that carries the records.
pub const RECORDS: &str = "RECORDS";
/// One number: 1 from when all programs are attached until the first is detached, else 0. Then
/// calls whose beginning was not seen, and new threads, are not recorded.
pub const ARMED: &str = "ARMED";
/// The traced processes, by id.
pub const TARGETS: &str = "TARGETS";
/// One slot per thread that has made an AIO call.
pub const THREADS: &str = "THREADS";
/// The contexts seen, with the last tail of their ring.
pub const CONTEXTS: &str = "CONTEXTS";
/// What was lost, by cause, per CPU.
pub const LOST: &str = "LOST";
/// Where the probes build records that do not fit the stack, per CPU.
pub const SCRATCH: [&str; 3] = ["IOCB_SCRATCH", "EVENT_SCRATCH", "RING_SCRATCH"];
/// The read-only settings.
pub const SETTINGS: &str = "SETTINGS";
