//! The first line of a trace, and the lines of all events but calls.

use super::{
    Decimal, FaultObject, Hex, Name, Ring,
    described::{line, part},
};

line! {
    /// `start`: the first line.
    StartLine at "When the trace began" {
        /// The version of aiotrace.
        version: Name,
        /// Add to any `ts` for nanoseconds since 1970 UTC.
        wall_offset_ns: Decimal,
        /// Add to any `ts` for nanoseconds of CLOCK_BOOTTIME, the clock of the starts of processes.
        boot_offset_ns: Decimal,
        /// The machine that was traced.
        machine: MachineObject,
        /// The probe set: `trampoline`, `kprobe`, `syscall`, or `syscall+trampoline`, `syscall+kprobe`
        /// ([kernels.md](kernels.md)); `ptrace` with `--source ptrace`.
        probes: Name,
        /// What this probe set cannot see, in words.
        lacks: Vec<Name>,
        /// The faults that were asked for; null: none.
        faults: Option<FaultsObject>,
    }
}

part! {
    /// A machine.
    "" MachineObject {
        /// as Rust names it: `x86_64`, `aarch64`
        arch: Name,
        /// bytes of a page
        page_size: u64,
        /// its release; null: unknown, as for the next two
        kernel: Option<Name>,
        host: Option<Name>,
        /// the same for all traces until the machine boots again
        boot_id: Option<Name>,
    }
}
part! {
    /// The faults of a trace.
    "" FaultsObject {
        /// in decimal digits
        seed: String,
        /// nothing is made: the faults are only announced
        dry_run: bool,
        rules: Vec<RuleObject>,
    }
}
part! {
    /// A fault rule.
    "" RuleObject {
        /// counted from 1
        rule: u32,
        /// as it was written
        text: String,
        /// the mechanism that delivers the fault
        mechanism: Name,
    }
}

line! {
    /// `completion`: a request completed.
    CompletionLine at "When it happened, or, where `since` is not null, when it was seen" {
        /// The process whose context it is.
        pid: u32,
        /// The context's handle.
        ctx: Hex,
        /// null: `ts` is exact. Otherwise the request completed after this time and before `ts`; `"0"` if not even
        /// that is known.
        since: Option<Decimal>,
        /// As in [io_event](#io_event); null, with `obj`, `res`, `errno` and `res2`, if the entry could not be read.
        data: Option<Hex>,
        /// The iocb's address.
        obj: Option<Hex>,
        /// A count, a poll mask, or a negative errno.
        res: Option<i64>,
        /// Name of the errno in `res`.
        errno: Option<Name>,
        /// Almost always 0.
        res2: Option<i64>,
        /// `res` is a fault made by aiotrace.
        injected: bool,
        /// With `fault`: the result that the kernel gave. Otherwise null.
        was: Option<i64>,
        /// The rule that changed the completion, or would have.
        fault: Option<FaultObject>,
        /// The context had ended before the request completed: the completion goes into no ring, and the program
        /// never sees it.
        discarded: bool,
    }
}

line! {
    /// `refused`: io_submit refused an iocb. The line stands before that of the call.
    RefusedLine at "When that was" {
        /// The process.
        pid: u32,
        /// The thread.
        tid: u32,
        /// The context's handle.
        ctx: Hex,
        /// Which of the call's iocbs, from 0: all before it were accepted, all after it were not looked at.
        index: u64,
        /// The iocb's address.
        iocb: Option<Hex>,
        /// The negative errno. The program does not get it if io_submit accepts some of the iocbs: a short io_submit
        /// returns their number.
        ret: i64,
        /// Name of the errno in `ret`.
        errno: Option<Name>,
    }
}

line! {
    /// `context_gone`: a context ended.
    ContextGoneLine at "When that was" {
        /// A process that used it.
        pid: u32,
        /// The context's handle.
        ctx: Hex,
        /// What ended the context.
        how: Name = ["destroy", "exit", "exec"],
        /// Requests accepted and not completed; null if aiotrace did not see all of them, or lost records.
        in_flight: Option<u64>,
        /// `in_flight` is an upper bound: nobody looked at the ring between the last call and the end, and requests
        /// may have completed meanwhile (`exit` and `exec`, without exact completion times).
        at_most: bool,
    }
}

line! {
    /// `context_moved`: a context has got another handle. A handle is the address of the ring, which mremap(2) moves.
    ContextMovedLine at "When that was" {
        /// The process.
        pid: u32,
        /// The handle until then.
        from: Hex,
        /// The handle from then on.
        to: Hex,
    }
}

line! {
    /// `context_adopted`: a context existed before the attach.
    ContextAdoptedLine at "When that was found" {
        /// The process.
        pid: u32,
        /// The context's handle.
        ctx: Hex,
        /// The context's charge, which is what it takes from fs.aio-nr; null without BPF's list of contexts.
        charge: Option<u32>,
        /// The context's requests in flight, as the kernel counts them; null without BPF's list of contexts, where
        /// the kernel does not tell (no CONFIG_KALLSYMS_ALL), or if the number changed while it was read.
        in_flight: Option<u32>,
        /// The ring at that moment; null if it cannot be read, because it is unmapped, for instance.
        ring: Option<Ring>,
    }
}

line! {
    /// `process`: a process was attached to, was seen, forked, executed, exited.
    ProcessLine at "When that was" {
        /// The process; fork: the parent.
        pid: u32,
        /// The thread; exit: the one that ended last.
        tid: u32,
        /// `attached`: the process was given with `-p`, or found with a context or in a call when the trace began;
        /// `exit_waits`: it is in exit and has not ended, because the thread waits there for AIO requests in flight
        /// (written at the beginning and at the end of a trace); `seen`: the thread makes its first AIO call in this
        /// program, as far as aiotrace has seen; `fork`; `exec`; `exit`: the last thread is gone.
        change: Name = ["attached", "exit_waits", "seen", "fork", "exec", "exit"],
        /// Name of the process, at most 15 bytes.
        name: String,
        /// Name of the thread.
        thread_name: String,
        /// When the process started, nanoseconds of CLOCK_BOOTTIME; `attached`: to 10 ms. Together with `pid` it
        /// identifies the process.
        started: Option<Decimal>,
        /// A number without meaning of its own, equal for processes that share an address space at the same time;
        /// fork: the child's. It may be used again later. null if it is unknown, and always with `attached`.
        space: Option<Hex>,
        /// fork: the child.
        child: Option<u32>,
        /// fork: whether the child is traced.
        followed: Option<bool>,
        /// exec: the path as given to the kernel, at most 127 bytes.
        path: Option<String>,
        /// exit: the status given to exit; null if a signal killed it.
        exit_code: Option<i32>,
        /// exit: the signal that killed it, `"SIGKILL"`.
        signal: Option<String>,
    }
}

line! {
    /// `synchronous`: a call that reads, writes or syncs a file without AIO. Written only while aiotrace watches such
    /// calls.
    SynchronousLine at "When it returned" {
        /// The process.
        pid: u32,
        /// The thread.
        tid: u32,
        /// When it was entered; null with probes.
        entered: Option<Decimal>,
        /// Name of the call.
        call: Name,
        /// The descriptor (for dup2 and dup3 the one that is replaced; 4294967295: none).
        fd: u32,
        /// What the descriptor points to at the time of writing the line.
        path_now: Option<String>,
        /// The offset in the file; null if it is unknown.
        offset: Option<i64>,
        /// Where in memory its data is, or the first part of it; null if that is not known.
        memory: Option<Hex>,
        /// Bytes asked for; for a call with iovecs, their number; for close_range, the last descriptor; for mmap, 1 if
        /// what is stored there goes to the file; 0 for the others.
        count: u64,
        /// Bytes moved, or what else the call returned, or a negative errno.
        ret: i64,
        /// Name of the errno in `ret`.
        errno: Option<Name>,
    }
}

line! {
    /// `lost`: records of a thread never reached aiotrace.
    LostLine at "When the next one came" {
        /// The process of the thread; 0 if it is unknown whose records they were.
        pid: u32,
        /// The thread; 0 if it is unknown whose records they were.
        tid: u32,
        /// How many records are missing between the thread's last line and its next; 0 if it is unknown whose they
        /// were.
        records: u64,
    }
}
