//! The names of the programs and maps in the BPF objects, and where the programs are attached. Each
//! stands only here. A host test of the `aiotrace` crate checks that the built object has each of
//! them.

use crate::{abi::Syscall, arch};

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// To a BTF tracepoint (tp_btf).
    Tracepoint,
    /// To the entry of a kernel function, by a trampoline (fentry).
    Entry,
    /// To the return of a kernel function, by a trampoline (fexit).
    Return,
    /// To the entry of a kernel function, by a kprobe.
    KprobeEntry,
    /// To the return of a kernel function, by a kretprobe.
    KprobeReturn,
}

/// One BPF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program's name in the object.
    pub name: &'static str,
    /// How it is attached.
    pub hook: Hook,
    /// The tracepoint, without the kernel's prefix `btf_trace_`, or the kernel function.
    pub at: &'static str,
}

impl Program {
    const fn new(name: &'static str, hook: Hook, at: &'static str) -> Self {
        Self { name, hook, at }
    }
}

/// Follow processes. They are part of every probe set, and attached first, so that a child that is
/// born during the attach is followed. Nothing is recorded before all programs are attached
/// ([`SWITCHES`]), so a call that was not seen entered is the first of its thread.
pub const LIFETIME: [Program; 3] = [
    Program::new("process_fork", Hook::Tracepoint, "sched_process_fork"),
    Program::new("process_exec", Hook::Tracepoint, "sched_process_exec"),
    Program::new("process_exit", Hook::Tracepoint, "sched_process_exit"),
];

/// See the calls from the tracepoints of all system calls; in the order of attaching. (With fault
/// rules, [`Judges::calls`] takes the place of the second.)
pub const CALLS_BY_TRACEPOINT: [Program; 2] = [
    Program::new("sys_exit", Hook::Tracepoint, "sys_exit"),
    Program::new("sys_enter", Hook::Tracepoint, "sys_enter"),
];

/// The programs at the functions that serve the calls: first all returns, then all entries. Their
/// names begin with the way in which they are attached.
macro_rules! calls {
    ($prefix:literal, $return:ident, $entry:ident) => {
        calls!(@ $prefix, $return, $entry,
            "setup" 0, "destroy" 1, "submit" 2, "getevents" 3, "pgetevents" 4, "cancel" 5)
    };
    (@ $prefix:literal, $return:ident, $entry:ident, $($call:literal $at:literal),*) => {
        [
            $(Program::new(
                concat!($prefix, "exit_io_", $call),
                Hook::$return,
                arch::FUNCTIONS[$at],
            ),)*
            $(Program::new(
                concat!($prefix, "enter_io_", $call),
                Hook::$entry,
                arch::FUNCTIONS[$at],
            ),)*
        ]
    };
}

/// The programs for calls of 32-bit programs: the return and the entry of each call; `None` where the
/// function for 64-bit programs serves them. A kernel may have none of these functions.
macro_rules! compat_calls {
    ($prefix:literal, $return:ident, $entry:ident) => {
        compat_calls!(@ $prefix, $return, $entry,
            "setup" 0, "destroy" 1, "submit" 2, "getevents" 3, "pgetevents" 4, "pgetevents64" 5,
            "cancel" 6)
    };
    (@ $prefix:literal, $return:ident, $entry:ident, $($call:literal $at:literal),*) => {
        [$(match arch::COMPAT_FUNCTIONS[$at] {
            Some(at) => Some([
                Program::new(concat!($prefix, "exit32_io_", $call), Hook::$return, at),
                Program::new(concat!($prefix, "enter32_io_", $call), Hook::$entry, at),
            ]),
            None => None,
        }),*]
    };
}

/// See the calls at the kernel functions that serve them; in the order of attaching.
pub const CALLS_BY_TRAMPOLINE: [Program; 12] = calls!("", Return, Entry);

/// See the calls of 32-bit programs at the kernel functions that serve them.
pub const COMPAT_CALLS_BY_TRAMPOLINE: [Option<[Program; 2]>; 7] = compat_calls!("", Return, Entry);

/// See the calls at the same functions, by kprobes. Kprobes run with preemption off. Trampolines do
/// not: on a kernel that can be preempted, the kernel skips a program if another thread was
/// preempted inside of it:
/// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/bpf/trampoline.c?h=v6.12.117#n907>.
/// Kretprobes miss returns if very many calls are inside of a function at a time; [`UNSEEN_EXITS`]
/// sees those.
pub const CALLS_BY_KPROBE: [Program; 12] = calls!("kprobe_", KprobeReturn, KprobeEntry);

/// See the calls of 32-bit programs by kprobes.
pub const COMPAT_CALLS_BY_KPROBE: [Option<[Program; 2]>; 7] =
    compat_calls!("kprobe_", KprobeReturn, KprobeEntry);

/// Attached with the programs above: sees the returns that they do not see, because a seccomp
/// filter answered the call, or because the call began before the attach.
pub const UNSEEN_EXITS: Program = Program::new("unseen_exit", Hook::Tracepoint, "sys_exit");

/// What probes inside of the kernel's AIO code can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Completions at the time when they happen, even those that the program reaps by itself.
    Completions,
    /// The errno of every refused iocb.
    Refused,
    /// Contexts that end.
    Gone,
    /// Contexts whose ring is moved.
    Moved,
}

impl Feature {
    /// All features.
    pub const ALL: [Self; 4] = [Self::Completions, Self::Refused, Self::Gone, Self::Moved];

    /// The programs of the feature, attached by trampolines.
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

    /// The programs of the feature, attached by kprobes. The kernel skips these while another BPF
    /// program runs on the processor:
    /// <https://elixir.bootlin.com/linux/v6.12.117/source/kernel/trace/bpf_trace.c#L116>
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
/// Two numbers. The first is 1 from when all programs are attached until the first is detached, and
/// else 0: while it is 0, new threads and calls that were not seen entered are not recorded. The
/// second is 1 while the reader sleeps until a record wakes it; while it is 0, the reader polls.
pub const SWITCHES: &str = "SWITCHES";
/// Two times: see [`WATCH_PROVOKED`] and [`WATCH_SETTLED`].
pub const WATCH: &str = "WATCH";
/// The number of entries of [`WATCH`].
pub const WATCH_WORDS: u32 = 2;
/// The entry of [`WATCH`] with the time when a fault or a short io_submit last gave a reason to
/// record synchronous calls.
pub const WATCH_PROVOKED: u32 = 0;
/// The entry of [`WATCH`] with the time up to which aiotrace knows what became of all requests.
pub const WATCH_SETTLED: u32 = 1;
/// The traced processes, by id.
pub const TARGETS: &str = "TARGETS";
/// One slot per thread that has made an AIO call.
pub const THREADS: &str = "THREADS";
/// Which of these slots are taken, and by which thread.
pub const TAKEN: &str = "TAKEN";
/// The contexts that were seen, with the last tail of their rings.
pub const CONTEXTS: &str = "CONTEXTS";
/// The owner of each `struct kioctx`, by its address.
pub const OWNERS: &str = "OWNERS";
/// The `struct kioctx` of each ring, by the address of the ring's file.
pub const RING_FILES: &str = "RING_FILES";
/// The stacks that were unwound, by the registers.
pub const KNOWN_STACKS: &str = "KNOWN_STACKS";
/// The fault rules: [`Armed`](crate::fault::Armed), read-only.
pub const FAULTS: &str = "FAULTS";
/// One [`Pulse`](crate::fault::Pulse).
pub const PULSE: &str = "PULSE";

/// The programs for fault rules. Those that count need atomic additions that give the sum, which
/// Linux 5.10 does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judges {
    /// Records that a call is entered, and decides which rule acts on it.
    pub calls: Program,
    /// Decides about the completions that io_getevents returns, before they are recorded, and
    /// writes their new results.
    pub write: Program,
    /// Decides about completions like `write`, but only says what it would do.
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

/// The programs for rules that do not depend on a count.
pub const JUDGES_ALWAYS: Judges = judges!("always");
/// The programs for all rules.
pub const JUDGES_COUNTING: Judges = judges!("counting");
/// Returns the errno in place of the system call. In the object it is an fentry program, because
/// the loader library does not know fmod_ret; aiotrace loads it as an fmod_ret program, once for
/// each function.
pub const FMOD_RET: &str = "fail_call";
/// [`FMOD_RET`], as a kprobe.
pub const OVERRIDE: &str = "override_call";
/// Finds the request that is to be refused; by a trampoline or by a kprobe.
pub const SUBMIT_ONE: [Program; 2] = [
    Program::new("count_submit_one", Hook::Entry, "io_submit_one"),
    Program::new("kprobe_count_submit_one", Hook::KprobeEntry, "io_submit_one"),
];
/// Refuses the request. The program is loaded as [`FMOD_RET`] is.
pub const FILE_PERMISSION: &str = "refuse_request";
/// The kernel function in whose place [`FILE_PERMISSION`] runs.
pub const FILE_PERMISSION_AT: &str = "security_file_permission";

/// The kernel functions that serve the native calls.
pub const CALLS: [(Syscall, &str); 6] = [
    (Syscall::Setup, arch::FUNCTIONS[0]),
    (Syscall::Destroy, arch::FUNCTIONS[1]),
    (Syscall::Submit, arch::FUNCTIONS[2]),
    (Syscall::Getevents, arch::FUNCTIONS[3]),
    (Syscall::Pgetevents, arch::FUNCTIONS[4]),
    (Syscall::Cancel, arch::FUNCTIONS[5]),
];

/// The counts of calls: [`CallRow`](crate::counts::CallRow).
pub const CALL_ROWS: &str = "CALL_ROWS";
/// The rows of [`CALL_ROWS`] that belong to nobody.
pub const FREE_CALL_ROWS: &str = "FREE_CALL_ROWS";
/// The counts of requests by context: [`ContextRow`](crate::counts::ContextRow).
pub const CONTEXT_ROWS: &str = "CONTEXT_ROWS";
/// The rows of [`CONTEXT_ROWS`] that belong to nobody.
pub const FREE_CONTEXT_ROWS: &str = "FREE_CONTEXT_ROWS";
/// The row of each context in [`CONTEXT_ROWS`].
pub const CONTEXT_PLACES: &str = "CONTEXT_PLACES";
/// The requests in flight, in sets of [`started`](crate::started).
pub const STARTED: &str = "STARTED";
/// The row that has the latencies of an operation in a context.
pub const LATENCY_PLACES: &str = "LATENCY_PLACES";
/// How often each errno was returned.
pub const ERRORS: &str = "ERRORS";
/// What was lost, by cause and CPU.
pub const LOST: &str = "LOST";
/// The maps in which the probes build records that do not fit the stack, per CPU.
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

/// The program of the object for `aiotrace ls`. It is attached to nothing: reading its iterator
/// walks all tasks.
pub const LIST_CONTEXTS: &str = "list_contexts";
/// The ring buffer with the contexts that [`LIST_CONTEXTS`] found.
pub const LISTED: &str = "LISTED";
/// Where the next walk goes on: see [`crate::record::Cursor`].
pub const CURSOR: &str = "CURSOR";
