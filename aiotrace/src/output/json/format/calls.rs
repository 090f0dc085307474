//! The lines of the six calls, and what they are made of.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Decimal, Hex, Name,
    described::{Described, Objects, Words, call, line, part},
};

call! {
    /// `io_setup`: the program makes a context.
    SetupLine {
        /// The arguments.
        args: SetupArgs,
        /// What `*ctxp` holds after the call: the handle if `ret` is 0, else whatever was there. null if it could not
        /// be read.
        handle: Option<Hex>,
        /// The functions that led to the call, the innermost first. null for 32-bit calls and for calls that were not
        /// entered.
        stack: Option<Vec<FunctionObject>>,
        /// The outer functions are unknown: the stack is deeper than what is copied of it (at least 16 KiB), or than
        /// 128 functions, or it cannot be unwound, or the process had ended when aiotrace looked at it.
        stack_truncated: bool,
        /// The call site; null if no function of the stack is known.
        site: Option<SiteObject>,
    }
}

call! {
    /// `io_destroy`: the program ends a context.
    DestroyLine {
        /// The arguments.
        args: DestroyArgs,
        /// As in io_setup. Absent without `--stacks`, and with `--source bpf`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack: Option<Vec<FunctionObject>>,
        /// As in io_setup; absent without `stack`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack_truncated: Option<bool>,
        /// As in io_setup; absent without `stack`, and if no function of the stack is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        site: Option<SiteObject>,
    }
}

call! {
    /// `io_submit`: the program gives requests to the kernel.
    SubmitLine {
        /// The arguments.
        args: SubmitArgs,
        /// The iocbs as they were when the call was entered, in order, the first 4,096 of them. An item is null if
        /// its record was lost.
        iocbs: Vec<Option<IocbObject>>,
        /// How many more iocbs there were.
        truncated: u64,
        /// The ring when the call was entered; null if it could not be read.
        ring_before: Option<Ring>,
        /// As in io_setup. Absent without `--stacks`, and for a call whose stack was not copied: until aiotrace knows
        /// the places from which a busy program submits (some milliseconds), it copies a burst of 64 stacks, and then
        /// one in 100 us.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack: Option<Vec<FunctionObject>>,
        /// As in io_setup; absent without `stack`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack_truncated: Option<bool>,
        /// As in io_setup; absent without `stack`, and if no function of the stack is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        site: Option<SiteObject>,
    }
}

call! {
    /// `io_getevents` and `io_pgetevents`: the program reaps completions.
    GeteventsLine {
        /// The arguments; only io_pgetevents has `sigset`.
        args: GeteventsArgs,
        /// The value of the timeout; null if there is none or it could not be read: `args.timeout` tells which.
        timeout: Option<Timeout>,
        /// The value of the signal set of io_pgetevents; null if `args.sigset` is `"0x0"`, and for io_getevents.
        sigset: Option<SigsetObject>,
        /// The events returned, the first 4,096 of them. An item is null where it could not be read.
        events: Vec<Option<EventObject>>,
        /// How many more events there were.
        truncated: u64,
        /// As in io_setup. Absent without `--stacks`, and with `--source bpf`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack: Option<Vec<FunctionObject>>,
        /// As in io_setup; absent without `stack`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack_truncated: Option<bool>,
        /// As in io_setup; absent without `stack`, and if no function of the stack is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        site: Option<SiteObject>,
    }
}

call! {
    /// `io_cancel`: the program cancels a request.
    CancelLine {
        /// The arguments; the kernel does not use `result`.
        args: CancelArgs,
        /// The iocb as it was when the call returned; null if it could not be read.
        iocb: Option<IocbObject>,
        /// As in io_setup. Absent without `--stacks`, and with `--source bpf`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack: Option<Vec<FunctionObject>>,
        /// As in io_setup; absent without `stack`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack_truncated: Option<bool>,
        /// As in io_setup; absent without `stack`, and if no function of the stack is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        site: Option<SiteObject>,
    }
}

line! {
    /// `unfinished`: a call has not returned.
    UnfinishedLine at "When this was found" {
        /// The process.
        pid: u32,
        /// The thread.
        tid: u32,
        /// Name of the call.
        call: Name = CALLS,
        /// When it was entered; null with `blocked_at_attach`.
        entered: Option<Decimal>,
        /// `ts` - `entered`; null if `entered` is.
        age_ns: Option<u64>,
        /// `blocked_at_attach`: the thread was already in the call when recording began; `trace_ends`: the call is
        /// still in the kernel at the end of the trace. (A thread that is killed in a call returns from it first,
        /// with `EINTR`: that is an ordinary line.)
        why: Name = ["blocked_at_attach", "trace_ends"],
        /// As in the line of the call itself.
        args: AnyArgs,
        /// io_submit: its iocbs; an item is null if its record was lost, and the list is empty with
        /// `blocked_at_attach`. null for the other calls.
        iocbs: Option<Vec<Option<IocbObject>>>,
    }
}

/// The names of the calls.
const CALLS: [&str; 6] =
    ["io_setup", "io_destroy", "io_submit", "io_getevents", "io_pgetevents", "io_cancel"];

part! {
    /// Arguments of io_setup.
    "" SetupArgs { nr_events: u32, ctxp: Hex, }
}
part! {
    /// Arguments of io_destroy.
    "" DestroyArgs { ctx: Hex, }
}
part! {
    /// Arguments of io_submit.
    "" SubmitArgs { ctx: Hex, nr: i64, iocbpp: Hex, }
}
part! {
    /// Arguments of io_getevents and io_pgetevents.
    "" GeteventsArgs {
        ctx: Hex,
        min_nr: i64,
        nr: i64,
        events: Hex,
        timeout: Hex,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sigset: Option<Hex>,
    }
}
part! {
    /// Arguments of io_cancel.
    "" CancelArgs { ctx: Hex, iocb: Hex, result: Hex, }
}

/// Arguments of any call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each is named after its call")]
pub enum AnyArgs {
    Setup(SetupArgs),
    Submit(SubmitArgs),
    Getevents(GeteventsArgs),
    Cancel(CancelArgs),
    Destroy(DestroyArgs),
}

impl Described for AnyArgs {
    fn words() -> Words {
        Words::of("object")
    }

    fn schema(all: &mut Objects) -> Value {
        json!({"oneOf": [
            SetupArgs::schema(all),
            SubmitArgs::schema(all),
            GeteventsArgs::schema(all),
            CancelArgs::schema(all),
            DestroyArgs::schema(all),
        ]})
    }
}

part! {
    /// A `struct timespec`.
    "" Timeout { tv_sec: i64, tv_nsec: i64, }
}
part! {
    /// The signal set of io_pgetevents.
    "" SigsetObject {
        /// where the mask is
        sigmask: Hex,
        /// bytes
        sigsetsize: u64,
        /// bit n-1 is signal n; null if it could not be read
        mask: Option<Hex>,
    }
}
part! {
    /// An iocb.
    "iocb" IocbObject {
        /// The iocb's address, which is the program's pointer; null if the pointer could not be read.
        address: Option<Hex>,
        /// `yes`; `late`: the memory of the iocb was not present when the call was entered and was read when it
        /// returned, so the program may have changed it in between; `no`: the iocb could not be read, and all fields
        /// below are null.
        read: Name = ["yes", "late", "no"],
        /// aio_data, the program's own.
        data: Option<Hex>,
        /// aio_key, written by the kernel.
        key: Option<u32>,
        /// aio_rw_flags, `RWF_*`.
        rw_flags: Option<u32>,
        /// aio_lio_opcode.
        opcode: Option<u16>,
        /// Name of the opcode: `pread` `pwrite` `fsync` `fdsync` `poll` `noop` `preadv` `pwritev`; null if it has
        /// none.
        op: Option<Name>,
        /// aio_reqprio.
        reqprio: Option<i16>,
        /// aio_fildes, signed.
        fd: Option<i32>,
        /// What the file descriptor points to at the time of writing the line, or up to a second before: **it may be
        /// another file than at the call**. null if it cannot be looked up.
        path_now: Option<String>,
        /// aio_buf; preadv and pwritev: the iovec array; poll: the event mask.
        buf: Option<Hex>,
        /// aio_nbytes; preadv and pwritev: number of iovecs.
        nbytes: Option<u64>,
        /// aio_offset, signed.
        offset: Option<i64>,
        /// Must be 0.
        reserved2: Option<Hex>,
        /// aio_flags, `IOCB_FLAG_*`.
        flags: Option<u32>,
        /// aio_resfd, signed; used with flag 1.
        resfd: Option<i32>,
    }
}
part! {
    /// An io_event.
    "io_event" EventObject {
        /// aio_data of the iocb.
        data: Hex,
        /// The iocb's address.
        obj: Hex,
        /// A count, a poll mask, or a negative errno.
        res: i64,
        /// Name of the errno in `res`.
        errno: Option<Name>,
        /// Almost always 0.
        res2: i64,
        /// A fault rule changed it.
        injected: bool,
    }
}
part! {
    /// The rule that acted on a call, and what became of its fault.
    "fault of a call" FaultObject {
        /// Which rule, from 1.
        rule: u32,
        /// `done`: the program got the fault, or the delay; `unsure`: a completion was changed in the ring, but the
        /// program reaps from the ring by itself and may have read the completion before; `dry_run`: the program
        /// would have got the fault; `missed`: the mechanism could not deliver the fault to this call.
        effect: Name = ["done", "unsure", "dry_run", "missed"],
    }
}
part! {
    /// A function of a stack, or one that was inlined into the next function of the list.
    "function" FunctionObject {
        /// The address at which the function goes on in the process: after the system call, or after the call of the
        /// function inside.
        address: Hex,
        /// Path of the file with the function's code, as the process had it; null if the code is in no file, or the
        /// process had ended when aiotrace looked at it.
        module: Option<String>,
        /// The address in that file, as its symbols have it (what addr2line takes). For a caller, that of the last
        /// byte of the call. null if `module` is.
        offset: Option<Hex>,
        /// Name of the function, demangled; null if it is unknown. Names come from the symbols and the debug
        /// information of the file, or of one in /usr/lib/debug that belongs to it.
        function: Option<String>,
        /// Source file, if there is debug information.
        file: Option<String>,
        /// The line of the call in the source file.
        line: Option<u32>,
        /// The function was inlined into the next function of the list, which has the same `address`.
        inlined: bool,
    }
}
part! {
    /// A call site: the call, and the functions of the program's own code that led to it (at most eight, without the C
    /// library, libaio and what was inlined).
    "call site" SiteObject {
        /// The id: eight digits, for the condition `site=`. It is the same in each run, and after a rebuild by the same
        /// compiler. io_getevents and io_pgetevents count as one call.
        id: Name,
        /// The call and its innermost functions, for people.
        name: String,
    }
}
part! {
    /// A ring at one moment.
    "ring" Ring {
        /// Next entry to reap.
        head: u32,
        /// Next entry to be written.
        tail: u32,
        /// Number of entries of the ring; larger than what io_setup was asked for.
        nr: u32,
    }
}
