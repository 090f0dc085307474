//! The lines of the six calls, and what they are made of.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Decimal, Hex, Name,
    described::{Described, Objects, Words, call, line, part},
};

call! {
    /// `io_setup`: a context is to be made.
    SetupLine {
        /// The arguments.
        args: SetupArgs,
        /// What `*ctxp` holds after the call: the handle if `ret` is 0, else whatever was there. null if it could not be
        /// read.
        handle: Option<Hex>,
        /// Where in the program it was called, the innermost function first. null for 32-bit calls and for calls that
        /// were not entered.
        stack: Option<Vec<FunctionObject>>,
        /// The outer functions are not known: the stack is deeper than what is copied of it (at least 16 KiB), or than
        /// 128 functions, or it cannot be unwound, or the process had ended when aiotrace looked at it.
        stack_truncated: bool,
    }
}

call! {
    /// `io_destroy`: a context is to end.
    DestroyLine {
        /// The arguments.
        args: DestroyArgs,
    }
}

call! {
    /// `io_submit`: requests are given to the kernel.
    SubmitLine {
        /// The arguments.
        args: SubmitArgs,
        /// As they were when the call was entered, in order, the first 4,096 of them. An item is null where its record
        /// was lost.
        iocbs: Vec<Option<IocbObject>>,
        /// How many more there were.
        truncated: u64,
        /// The ring when the call was entered; null if it could not be read.
        ring_before: Option<Ring>,
        /// As in io_setup; not there without `--stacks`, and where there is no stack: until aiotrace knows the places a
        /// busy program submits from (some milliseconds), a burst of 64 and then one in 100 us are looked at.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack: Option<Vec<FunctionObject>>,
        /// As in io_setup; not there without `stack`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack_truncated: Option<bool>,
    }
}

call! {
    /// `io_getevents` and `io_pgetevents`: completions are reaped.
    GeteventsLine {
        /// The arguments; only io_pgetevents has `sigset`.
        args: GeteventsArgs,
        /// What the timeout holds; null if there is none or it could not be read: `args.timeout` tells which.
        timeout: Option<Timeout>,
        /// What the signal set of io_pgetevents holds; null if `args.sigset` is `"0x0"`, and for io_getevents.
        sigset: Option<SigsetObject>,
        /// The events returned, the first 4,096 of them. An item is null where it could not be read.
        events: Vec<Option<EventObject>>,
        /// How many more there were.
        truncated: u64,
    }
}

call! {
    /// `io_cancel`: a request is to be given up.
    CancelLine {
        /// The arguments; the kernel does not use `result`.
        args: CancelArgs,
        /// As it was when the call returned; null if it could not be read.
        iocb: Option<IocbObject>,
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
        /// `blocked_at_attach`: the thread was already in it when recording began; `trace_ends`: it is still in the
        /// kernel at the end of the trace. (A thread that is killed in a call does return from it first, with `EINTR`:
        /// that is an ordinary line.)
        why: Name = ["blocked_at_attach", "trace_ends"],
        /// As in the line of the call itself.
        args: AnyArgs,
        /// Of io_submit: its iocbs, empty with `blocked_at_attach`, where an item is null if its record was lost; null
        /// for the other calls.
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
        /// Where it is: the program's pointer; null if the pointer could not be read.
        address: Option<Hex>,
        /// `yes`; `late`: its memory was not there when the call was entered and was read when it returned, so the
        /// program may have changed it in between; `no`: it could not be read, and all fields below are null.
        read: Name = ["yes", "late", "no"],
        /// aio_data, the program's own.
        data: Option<Hex>,
        /// aio_key, written by the kernel.
        key: Option<u32>,
        /// aio_rw_flags, `RWF_*`.
        rw_flags: Option<u32>,
        /// aio_lio_opcode.
        opcode: Option<u16>,
        /// Its name: `pread` `pwrite` `fsync` `fdsync` `poll` `noop` `preadv` `pwritev`; null if it has none.
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
    /// A rule, and what became of its fault.
    "fault of a call" FaultObject {
        /// Which rule, from 1.
        rule: u32,
        /// `done`: the program got the fault, or the delay; `unsure`: a completion was changed in the ring, and the
        /// program, which reaps from it by itself, may have read it before; `dry_run`: it would have; `missed`: the
        /// mechanism could not bring it about for this call.
        effect: Name = ["done", "unsure", "dry_run", "missed"],
    }
}
part! {
    /// A function in progress, or one that was inlined into the next of the list.
    "function" FunctionObject {
        /// Where it goes on, as the process has it: after the system call, or after the call.
        address: Hex,
        /// Path of the file with its code, as the process had it; null if it is in none, or the process had ended when
        /// aiotrace looked at it.
        module: Option<String>,
        /// The address in that file, as its symbols have it (what addr2line takes). Of a caller, the last byte of the
        /// call. null if `module` is.
        offset: Option<Hex>,
        /// Its name, demangled; null if it is not known. Names come from the symbols and the debug information of the
        /// file, or of one in /usr/lib/debug that belongs to it.
        function: Option<String>,
        /// Source file, if there is debug information.
        file: Option<String>,
        /// Line of the call there.
        line: Option<u32>,
        /// It was inlined into the next function of the list, which has the same `address`.
        inlined: bool,
    }
}
part! {
    /// A ring at one moment.
    "ring" Ring {
        /// Next entry to reap.
        head: u32,
        /// Next entry to be written.
        tail: u32,
        /// Entries of the ring; larger than what io_setup was asked for.
        nr: u32,
    }
}
