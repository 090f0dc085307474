//! The names of programs and maps in the BPF object, and where the programs are attached. They stand
//! once: here. A host test of the `aiotrace` crate checks that the built object holds each of them.

use crate::abi::Syscall;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// To a BTF tracepoint (tp_btf).
    Tracepoint,
    /// To the entry of a kernel function, by a trampoline (fentry).
    Entry,
    /// To its return, by a trampoline (fexit).
    Return,
    /// To its entry, by a kprobe.
    KprobeEntry,
    /// To its return, by a kretprobe.
    KprobeReturn,
}

/// One BPF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program's name in the object.
    pub name: &'static str,
    /// How it is attached.
    pub hook: Hook,
    /// The tracepoint, without the kernel's `btf_trace_` prefix, or the kernel function.
    pub at: &'static str,
}

impl Program {
    const fn new(name: &'static str, hook: Hook, at: &'static str) -> Self {
        Self { name, hook, at }
    }
}

/// Follows processes. With every probe set, and attached first, so that a child born during the
/// attach is followed; nothing is recorded before all are attached ([`SWITCHES`]), so that a call whose
/// beginning was not seen is the first of its thread.
pub const LIFETIME: [Program; 3] = [
    Program::new("process_fork", Hook::Tracepoint, "sched_process_fork"),
    Program::new("process_exec", Hook::Tracepoint, "sched_process_exec"),
    Program::new("process_exit", Hook::Tracepoint, "sched_process_exit"),
];

/// The calls, seen from the tracepoints of every system call, in the order of attaching. (With fault rules,
/// [`Judges::calls`] is in the place of the second.)
pub const CALLS_BY_TRACEPOINT: [Program; 2] = [
    Program::new("sys_exit", Hook::Tracepoint, "sys_exit"),
    Program::new("sys_enter", Hook::Tracepoint, "sys_enter"),
];

/// The kernel function that serves a native call.
#[cfg(not(target_arch = "aarch64"))]
macro_rules! native {
    ($call:literal) => {
        concat!("__x64_sys_io_", $call)
    };
}

/// The same on arm64. (The loader refuses arm64 until somebody has run it there.)
#[cfg(target_arch = "aarch64")]
macro_rules! native {
    ($call:literal) => {
        concat!("__arm64_sys_io_", $call)
    };
}

/// The programs at the functions that serve the calls: all returns, then all entries. Their names begin
/// with how they are attached.
macro_rules! calls {
    ($prefix:literal, $return:ident, $entry:ident) => {
        calls!(@ $prefix, $return, $entry, "setup" "destroy" "submit" "getevents" "pgetevents" "cancel")
    };
    (@ $prefix:literal, $return:ident, $entry:ident, $($call:literal)*) => {
        [
            $(Program::new(
                concat!($prefix, "exit_io_", $call),
                Hook::$return,
                native!($call),
            ),)*
            $(Program::new(
                concat!($prefix, "enter_io_", $call),
                Hook::$entry,
                native!($call),
            ),)*
        ]
    };
}

/// The same for calls of 32-bit programs; return and entry of each, a kernel may have none of them.
macro_rules! compat_calls {
    ($prefix:literal, $return:ident, $entry:ident) => {
        compat_calls!(@ $prefix, $return, $entry,
            "setup" "__ia32_compat_sys_io_setup",
            "destroy" "__ia32_sys_io_destroy",
            "submit" "__ia32_compat_sys_io_submit",
            "getevents" "__ia32_sys_io_getevents_time32",
            "pgetevents" "__ia32_compat_sys_io_pgetevents",
            "pgetevents64" "__ia32_compat_sys_io_pgetevents_time64",
            "cancel" "__ia32_sys_io_cancel")
    };
    (@ $prefix:literal, $return:ident, $entry:ident, $($call:literal $at:literal),*) => {
        [$([
            Program::new(concat!($prefix, "exit32_io_", $call), Hook::$return, $at),
            Program::new(concat!($prefix, "enter32_io_", $call), Hook::$entry, $at),
        ]),*]
    };
}

/// The calls, seen at the kernel functions that serve them, in the order of attaching.
pub const CALLS_BY_TRAMPOLINE: [Program; 12] = calls!("", Return, Entry);

/// The same for calls of 32-bit programs.
pub const COMPAT_CALLS_BY_TRAMPOLINE: [[Program; 2]; 7] = compat_calls!("", Return, Entry);

/// The same functions, by kprobes. They run with preemption off, which the others do not on kernels that
/// can be preempted: there the kernel skips a program that another thread was preempted in. Returns of
/// many calls at a time are missed; [`UNSEEN_EXITS`] sees those.
pub const CALLS_BY_KPROBE: [Program; 12] = calls!("kprobe_", KprobeReturn, KprobeEntry);

/// The same for calls of 32-bit programs.
pub const COMPAT_CALLS_BY_KPROBE: [[Program; 2]; 7] =
    compat_calls!("kprobe_", KprobeReturn, KprobeEntry);

/// With those: calls that are left without their having seen it, because a
/// seccomp filter answered, or because they began before the attach.
pub const UNSEEN_EXITS: Program = Program::new("unseen_exit", Hook::Tracepoint, "sys_exit");

/// What is seen inside of the kernel's AIO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Completions when they happen, also those the program reaps itself.
    Completions,
    /// The errno of every iocb that is refused.
    Refused,
    /// Contexts that end.
    Gone,
    /// Contexts whose ring is moved.
    Moved,
}

impl Feature {
    /// All.
    pub const ALL: [Self; 4] = [Self::Completions, Self::Refused, Self::Gone, Self::Moved];

    /// Its programs, attached by trampolines.
    pub const fn by_trampoline(self) -> &'static [Program] {
        match self {
            Self::Completions => {
                const {
                    &[
                        Program::new("context_alloc", Hook::Return, "ioctx_alloc"),
                        Program::new("context_lookup", Hook::Return, "lookup_ioctx"),
                        Program::new("complete", Hook::Entry, "aio_complete"),
                    ]
                }
            }
            Self::Refused => const { &[Program::new("submit_one", Hook::Return, "io_submit_one")] },
            Self::Gone => const { &[Program::new("context_kill", Hook::Entry, "kill_ioctx")] },
            Self::Moved => {
                const { &[Program::new("ring_mremap", Hook::Return, "aio_ring_mremap")] }
            }
        }
    }

    /// Its programs, attached by kprobes, which the kernel skips while another BPF program runs on
    /// the processor.
    pub const fn by_kprobe(self) -> &'static [Program] {
        match self {
            Self::Completions => {
                const {
                    &[
                        Program::new("kprobe_context_alloc", Hook::KprobeReturn, "ioctx_alloc"),
                        Program::new("kprobe_context_lookup", Hook::KprobeReturn, "lookup_ioctx"),
                        Program::new("kprobe_complete", Hook::KprobeEntry, "aio_complete"),
                    ]
                }
            }
            Self::Refused => {
                const { &[Program::new("kprobe_submit_one", Hook::KprobeReturn, "io_submit_one")] }
            }
            Self::Gone => {
                const { &[Program::new("kprobe_context_kill", Hook::KprobeEntry, "kill_ioctx")] }
            }
            Self::Moved => {
                const { &[Program::new("kprobe_ring_mremap", Hook::KprobeEntry, "aio_ring_mremap")] }
            }
        }
    }
}

/// The ring buffer that carries the records.
pub const RECORDS: &str = "RECORDS";
/// Two numbers. The first: 1 from when all programs are attached until the first is detached, else 0.
/// Then calls whose beginning was not seen, and new threads, are not recorded. The second: 1 while the
/// reader sleeps until a record wakes it; else it comes by itself.
pub const SWITCHES: &str = "SWITCHES";
/// Two times: see [`WATCH_PROVOKED`] and [`WATCH_SETTLED`].
pub const WATCH: &str = "WATCH";
/// Its entries.
pub const WATCH_WORDS: u32 = 2;
/// Which of them: when a fault or a short io_submit was the last reason to tell synchronous calls.
pub const WATCH_PROVOKED: u32 = 0;
/// Which of them: up to when it is settled what became of the requests.
pub const WATCH_SETTLED: u32 = 1;
/// The traced processes, by id.
pub const TARGETS: &str = "TARGETS";
/// One slot per thread that has made an AIO call.
pub const THREADS: &str = "THREADS";
/// Which of these slots are taken, and by which thread.
pub const TAKEN: &str = "TAKEN";
/// The contexts seen, with the last tail of their ring.
pub const CONTEXTS: &str = "CONTEXTS";
/// Whose a `struct kioctx` is, by its address.
pub const OWNERS: &str = "OWNERS";
/// The `struct kioctx` of a ring, by the address of its file.
pub const RING_FILES: &str = "RING_FILES";
/// Stacks that were unwound, by the registers.
pub const KNOWN_STACKS: &str = "KNOWN_STACKS";
/// The fault rules: [`Armed`](crate::fault::Armed), read-only.
pub const FAULTS: &str = "FAULTS";
/// One [`Pulse`](crate::fault::Pulse).
pub const PULSE: &str = "PULSE";

/// What the fault rules need. The programs that count need atomic additions that give the sum, which 5.10
/// does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judges {
    /// Records that a call is entered, and decides which rule acts on it.
    pub calls: Program,
    /// Decides on the completions that io_getevents returns, before the recorder sees them, and writes them
    /// anew.
    pub write: Program,
    /// The same; only tells.
    pub tell: Program,
}

macro_rules! judges {
    ($how:literal) => {
        Judges {
            calls: Program::new(concat!("sys_enter_", $how), Hook::Tracepoint, "sys_enter"),
            write: Program::new(concat!("write_", $how), Hook::Tracepoint, "sys_exit"),
            tell: Program::new(concat!("tell_", $how), Hook::Tracepoint, "sys_exit"),
        }
    };
}

/// For rules that do not depend on a count.
pub const JUDGES_ALWAYS: Judges = judges!("always");
/// For all.
pub const JUDGES_COUNTING: Judges = judges!("counting");
/// Returns the errno in the place of the system call. It stands in the object as an fentry program, because
/// the loader library knows no fmod_ret; it is loaded as one for each function.
pub const FMOD_RET: &str = "fail_call";
/// The same as a kprobe.
pub const OVERRIDE: &str = "override_call";
/// Finds the request that is to be refused; by a trampoline or by a kprobe.
pub const SUBMIT_ONE: [Program; 2] = [
    Program::new("count_submit_one", Hook::Entry, "io_submit_one"),
    Program::new("kprobe_count_submit_one", Hook::KprobeEntry, "io_submit_one"),
];
/// Refuses it: as [`FMOD_RET`].
pub const FILE_PERMISSION: &str = "refuse_request";
/// The kernel function it stands in for.
pub const FILE_PERMISSION_AT: &str = "security_file_permission";

/// The kernel function of a native call, by its name without `io_`.
pub const CALLS: [(Syscall, &str); 6] = [
    (Syscall::Setup, native!("setup")),
    (Syscall::Destroy, native!("destroy")),
    (Syscall::Submit, native!("submit")),
    (Syscall::Getevents, native!("getevents")),
    (Syscall::Pgetevents, native!("pgetevents")),
    (Syscall::Cancel, native!("cancel")),
];

/// Calls that are counted: [`CallRow`](crate::counts::CallRow).
pub const CALL_ROWS: &str = "CALL_ROWS";
/// Those that are nobody's.
pub const FREE_CALL_ROWS: &str = "FREE_CALL_ROWS";
/// Contexts whose requests are counted: [`ContextRow`](crate::counts::ContextRow).
pub const CONTEXT_ROWS: &str = "CONTEXT_ROWS";
/// Those that are nobody's.
pub const FREE_CONTEXT_ROWS: &str = "FREE_CONTEXT_ROWS";
/// Which of them a context has.
pub const CONTEXT_PLACES: &str = "CONTEXT_PLACES";
/// Requests in flight: sets of [`started`](crate::started).
pub const STARTED: &str = "STARTED";
/// Which row has the latencies of an operation in a context.
pub const LATENCY_PLACES: &str = "LATENCY_PLACES";
/// How often which errno came.
pub const ERRORS: &str = "ERRORS";
/// What was lost, by cause, per CPU.
pub const LOST: &str = "LOST";
/// Where the probes build records that do not fit the stack, per CPU.
pub const SCRATCH: [&str; 6] = [
    "IOCB_SCRATCH",
    "SUBMITTED_SCRATCH",
    "ONE_SCRATCH",
    "EVENT_SCRATCH",
    "RING_SCRATCH",
    "STACK_SCRATCH",
];
/// The read-only settings.
pub const SETTINGS: &str = "SETTINGS";

/// The program of the list object (`aiotrace ls`), attached to nothing: reading it walks all tasks.
pub const LIST_CONTEXTS: &str = "list_contexts";
/// The ring buffer with what it found.
pub const LISTED: &str = "LISTED";
/// Where it goes on: see [`crate::record::Cursor`].
pub const CURSOR: &str = "CURSOR";
