//! The lines of calls and completions, which are nearly all lines of a trace. They are put together by hand, because
//! serde_json takes three times as long. A test reads them back, so they agree with the types of the format.

use std::io::{self, Write};

use super::{
    Json, VERSION,
    faults::effect,
    pieces::{decimal, hex, list, number, optional, put, string, text},
};
use crate::{
    event::{self, Args, Call, Entry, Event, Syscall, errno_name, opcode_name},
    opcode::Opcode,
    output::{lines::Lines, paths::Paths},
    stacks::{Named, Site, Symbolizer},
};

impl<W: Write> Json<W> {
    /// Writes a call that returned.
    pub(super) fn call(&mut self, event: &Event, call: &Call) -> io::Result<()> {
        let Self { lines: Lines { line, .. }, paths, symbols, rules, compat, .. } = self;
        let pid = event.pid;
        head(line, event, call, rules.injected(call));
        arguments(line, &call.args);
        match &call.args {
            Args::Setup { stored, .. } => {
                put(line, ",\"handle\":");
                optional(line, stored.as_ref(), |line, handle| hex(line, handle.0));
                stack(line, symbols, pid, call);
            }
            Args::Destroy { .. } => optional_stack(line, symbols, pid, call),
            Args::Submit { iocbs: list, truncated, .. } => {
                put(line, ",\"iocbs\":");
                iocbs(line, paths, event, list);
                number(line, ",\"truncated\":", *truncated);
                put(line, ",\"ring_before\":");
                optional(line, call.ring_before.as_ref(), ring);
                optional_stack(line, symbols, pid, call);
            }
            Args::Getevents {
                timeout_value,
                sigset_value,
                list: events,
                truncated,
                changed,
                ..
            } => {
                put(line, ",\"timeout\":");
                optional(line, timeout_value.as_ref(), |line, it| {
                    number(line, "{\"tv_sec\":", it.sec);
                    number(line, ",\"tv_nsec\":", it.nsec);
                    line.push(b'}');
                });
                put(line, ",\"sigset\":");
                optional(line, sigset_value.as_ref(), |line, it| {
                    put(line, "{\"sigmask\":");
                    hex(line, it.address.0);
                    number(line, ",\"sigsetsize\":", it.size);
                    put(line, ",\"mask\":");
                    optional(line, it.mask.as_ref(), |line, mask| hex(line, *mask));
                    line.push(b'}');
                });
                put(line, ",\"events\":");
                let mut index = 0;
                list(line, events, |line, it| {
                    let is_injected = changed.contains(&index);
                    optional(line, it.as_ref(), |line, it| io_event(line, it, is_injected));
                    index += 1;
                });
                number(line, ",\"truncated\":", *truncated);
                optional_stack(line, symbols, pid, call);
            }
            Args::Cancel { iocb: address, value, .. } => {
                put(line, ",\"iocb\":");
                let known = event::Iocb {
                    address: Some(*address),
                    value: *value,
                    read_late: false,
                    vectors: None,
                };
                let known = value.map(|_| known);
                optional(line, known.as_ref(), |line, it| iocb(line, paths, event, it));
                optional_stack(line, symbols, pid, call);
            }
        }
        put(line, ",\"ring\":");
        optional(line, call.ring.as_ref(), ring);
        if call.compat {
            put(line, ",\"abi\":\"");
            put(line, compat);
            put(line, "\"");
        }
        put(line, "}");
        self.lines.end()
    }

    /// Writes a request that completed.
    pub(super) fn completion(
        &mut self,
        event: &Event,
        completion: &event::Completion,
    ) -> io::Result<()> {
        let Self { lines: Lines { line, .. }, .. } = self;
        number(line, "{\"v\":", VERSION);
        put(line, ",\"event\":\"completion\",\"ts\":");
        decimal(line, event.time);
        number(line, ",\"pid\":", event.pid);
        put(line, ",\"ctx\":");
        hex(line, completion.ctx.0);
        put(line, ",\"since\":");
        optional(line, completion.since.as_ref(), |line, since| decimal(line, *since));
        put(line, ",\"data\":");
        match &completion.event {
            Some(it) => io_event_fields(line, it),
            None => put(line, "null,\"obj\":null,\"res\":null,\"errno\":null,\"res2\":null"),
        }
        put(line, ",\"injected\":false,\"was\":null,\"fault\":null,\"discarded\":");
        put(line, if completion.discarded { "true}" } else { "false}" });
        self.lines.end()
    }
}

/// How the beginning of a call is known.
fn entry(entry: Entry) -> &'static str {
    match entry {
        Entry::Seen => "seen",
        Entry::BeforeAttach => "before_attach",
        Entry::Denied => "denied",
        Entry::Missed => "missed",
    }
}

fn head(line: &mut Vec<u8>, event: &Event, call: &Call, is_injected: bool) {
    number(line, "{\"v\":", VERSION);
    text(line, ",\"event\":", call.args.syscall().name());
    put(line, ",\"ts\":");
    decimal(line, event.time);
    number(line, ",\"pid\":", event.pid);
    number(line, ",\"tid\":", event.tid);
    match call.entered {
        Some(entered) => {
            put(line, ",\"entered\":");
            decimal(line, entered);
            number(line, ",\"duration_ns\":", event.time.saturating_sub(entered));
        }
        None => put(line, ",\"entered\":null,\"duration_ns\":null"),
    }
    text(line, ",\"entry\":", entry(call.entry));
    number(line, ",\"ret\":", call.ret);
    errno(line, call.ret);
    put(line, if is_injected { ",\"injected\":true" } else { ",\"injected\":false" });
    put(line, ",\"fault\":");
    optional(line, call.fault.as_ref(), |line, fault| {
        number(line, "{\"rule\":", fault.rule);
        text(line, ",\"effect\":", effect(*fault));
        line.push(b'}');
    });
}

fn arguments(line: &mut Vec<u8>, args: &Args) {
    let address = |line: &mut Vec<u8>, key: &str, value: u64| {
        put(line, key);
        hex(line, value);
    };
    put(line, ",\"args\":");
    match args {
        Args::Setup { nr_events, ctxp, .. } => {
            number(line, "{\"nr_events\":", *nr_events);
            address(line, ",\"ctxp\":", ctxp.0);
        }
        Args::Destroy { ctx } => address(line, "{\"ctx\":", ctx.0),
        Args::Submit { ctx, nr, iocbpp, .. } => {
            address(line, "{\"ctx\":", ctx.0);
            number(line, ",\"nr\":", *nr);
            address(line, ",\"iocbpp\":", iocbpp.0);
        }
        Args::Getevents { syscall, ctx, min_nr, nr, events, timeout, sigset, .. } => {
            address(line, "{\"ctx\":", ctx.0);
            number(line, ",\"min_nr\":", *min_nr);
            number(line, ",\"nr\":", *nr);
            address(line, ",\"events\":", events.0);
            address(line, ",\"timeout\":", timeout.0);
            if *syscall == event::Syscall::Pgetevents {
                address(line, ",\"sigset\":", sigset.0);
            }
        }
        Args::Cancel { ctx, iocb, result, .. } => {
            address(line, "{\"ctx\":", ctx.0);
            address(line, ",\"iocb\":", iocb.0);
            address(line, ",\"result\":", result.0);
        }
    }
    line.push(b'}');
}

fn iocbs(line: &mut Vec<u8>, paths: &mut Paths, event: &Event, items: &[Option<event::Iocb>]) {
    list(line, items, |line, it| {
        optional(line, it.as_ref(), |line, it| iocb(line, paths, event, it));
    });
}

fn iocb(line: &mut Vec<u8>, paths: &mut Paths, event: &Event, it: &event::Iocb) {
    put(line, "{\"address\":");
    optional(line, it.address.as_ref(), |line, address| hex(line, address.0));
    let Some(value) = it.value else {
        put(
            line,
            ",\"read\":\"no\",\"data\":null,\"key\":null,\"rw_flags\":null,\"opcode\":null,\
             \"op\":null,\"reqprio\":null,\"fd\":null,\"path_now\":null,\"buf\":null,\
             \"nbytes\":null,\"offset\":null,\"reserved2\":null,\"flags\":null,\"resfd\":null}",
        );
        return;
    };
    text(line, ",\"read\":", if it.read_late { "late" } else { "yes" });
    put(line, ",\"data\":");
    hex(line, value.data);
    number(line, ",\"key\":", value.key);
    number(line, ",\"rw_flags\":", value.rw_flags);
    number(line, ",\"opcode\":", value.opcode);
    match opcode_name(Opcode(value.opcode)) {
        Some(name) => text(line, ",\"op\":", name),
        None => put(line, ",\"op\":null"),
    }
    number(line, ",\"reqprio\":", value.reqprio);
    number(line, ",\"fd\":", value.fildes as i32);
    put(line, ",\"path_now\":");
    match paths.now(event.pid, value.fildes, event.time) {
        Some(path) => string(line, path),
        None => put(line, "null"),
    }
    put(line, ",\"buf\":");
    hex(line, value.buf);
    number(line, ",\"nbytes\":", value.nbytes);
    number(line, ",\"offset\":", value.offset);
    put(line, ",\"reserved2\":");
    hex(line, value.reserved2);
    number(line, ",\"flags\":", value.flags);
    number(line, ",\"resfd\":", value.resfd as i32);
    line.push(b'}');
}

fn errno(line: &mut Vec<u8>, ret: i64) {
    match errno_name(ret) {
        Some(name) => text(line, ",\"errno\":", name),
        None => put(line, ",\"errno\":null"),
    }
}

fn ring(line: &mut Vec<u8>, ring: &event::Ring) {
    number(line, "{\"head\":", ring.head);
    number(line, ",\"tail\":", ring.tail);
    number(line, ",\"nr\":", ring.nr);
    line.push(b'}');
}

/// For calls whose stack is copied only if that is asked for.
fn optional_stack(line: &mut Vec<u8>, symbols: &Symbolizer, pid: u32, call: &Call) {
    if call.stack.is_some() {
        stack(line, symbols, pid, call);
    }
}

fn stack(line: &mut Vec<u8>, symbols: &Symbolizer, pid: u32, call: &Call) {
    let stack = call.stack.as_ref();
    put(line, ",\"stack\":");
    optional(line, stack, |line, stack| list(line, &symbols.describe(pid, stack), function));
    let is_truncated = stack.is_some_and(|it| it.truncated);
    put(line, ",\"stack_truncated\":");
    put(line, if is_truncated { "true" } else { "false" });
    let site = stack.and_then(|it| Site::of(call.args.syscall(), pid, it, symbols));
    let show = |line: &mut Vec<u8>, it: &Site| {
        text(line, ",\"site\":{\"id\":", &it.id.to_string());
        put(line, ",\"name\":");
        string(line, it.name.as_bytes());
        line.push(b'}');
    };
    match site {
        Some(site) => show(line, &site),
        // The lines of other calls lack what is unknown.
        None if call.args.syscall() == Syscall::Setup => put(line, ",\"site\":null"),
        None => (),
    }
}

fn function(line: &mut Vec<u8>, named: &Named) {
    put(line, "{\"address\":");
    hex(line, named.address);
    put(line, ",\"module\":");
    optional(line, named.module.as_ref(), |line, it| string(line, &it.path));
    put(line, ",\"offset\":");
    optional(line, named.offset.as_ref(), |line, it| hex(line, *it));
    put(line, ",\"function\":");
    optional(line, named.function.as_ref(), |line, it| string(line, it.as_bytes()));
    put(line, ",\"file\":");
    optional(line, named.file.as_ref(), |line, it| string(line, it.as_bytes()));
    put(line, ",\"line\":");
    optional(line, named.line.as_ref(), |line, it| number(line, "", *it));
    put(line, ",\"inlined\":");
    put(line, if named.inlined { "true}" } else { "false}" });
}

fn io_event(line: &mut Vec<u8>, event: &event::IoEvent, is_injected: bool) {
    put(line, "{\"data\":");
    io_event_fields(line, event);
    put(line, if is_injected { ",\"injected\":true}" } else { ",\"injected\":false}" });
}

/// Writes the fields of an io_event from the value of `data` on; its key is written already.
fn io_event_fields(line: &mut Vec<u8>, event: &event::IoEvent) {
    hex(line, event.data);
    put(line, ",\"obj\":");
    hex(line, event.obj);
    number(line, ",\"res\":", event.res);
    errno(line, event.res);
    number(line, ",\"res2\":", event.res2);
}
