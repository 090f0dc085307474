//! The line of a call: its arguments, what it returned, and notes on it.

use std::io::Write;

use super::{
    CALL, DIM, ERROR, NOTE, SHORT, Text,
    words::{address, count, field, flags, function, hex, number, signal_set, timespec},
};
use crate::{
    errno,
    event::{
        Args, Call, Effect, Entry, Event, Fault, IOCB_FLAGS, IoEvent, Iocb, POLL_EVENTS, RW_FLAGS,
        Ring, Stack, Syscall, errno_name, opcode_name,
    },
    fault::Acts,
    opcode::{self, Opcode},
    output::escape::escape,
    stacks::Site,
};

impl<W: Write> Text<W> {
    pub(super) fn call(&mut self, event: &Event, call: &Call) {
        self.arguments(event, &call.args, call.ret < 0);
        self.result(call);
        if call.compat {
            self.lines.line.extend_from_slice(b" (32-bit)");
        }
        match call.entry {
            Entry::Seen => (),
            Entry::BeforeAttach => self.styled(NOTE, " (began before the attach)"),
            Entry::Denied => self.styled(NOTE, " (denied: seccomp answered, not the kernel's AIO)"),
            Entry::Missed => self.styled(NOTE, " (its beginning was missed)"),
        }
        if let Some(fault) = call.fault {
            let delays = self.rules.acts(fault.rule) == Some(Acts::Delay);
            let done = if delays { "DELAYED" } else { "INJECTED" };
            self.fault(fault, done);
        }
        if let Some(entered) = call.entered {
            self.lines.line.extend_from_slice(b" <");
            crate::words::duration(&mut self.lines.line, event.time.saturating_sub(entered));
            self.lines.line.push(b'>');
        }
        if self.options.verbose {
            self.rings(call);
        }
        if let Some(stack) =
            call.stack.as_ref().filter(|_| self.options.verbose || self.options.stacks)
        {
            self.stack(event.pid, stack);
            if let Some(site) = Site::of(call.args.syscall(), event.pid, stack, &self.symbols) {
                self.lines.line.push(b'\n');
                self.styled(DIM, &format!("    site {}", site.id));
            }
        }
    }

    /// Writes what a fault rule did: ` (INJECTED: rule 1)`.
    pub(super) fn fault(&mut self, Fault { rule, effect }: Fault, done: &str) {
        let text = match effect {
            Effect::Done => format!(" ({done}: rule {rule})"),
            Effect::Unsure => {
                format!(" ({done}: rule {rule}, unless the program had read it before)")
            }
            Effect::WouldBe => format!(" (would be {done}: rule {rule})"),
            Effect::Missed => format!(" (not {done}: rule {rule} cannot act here)"),
        };
        self.styled(NOTE, &text);
    }

    pub(super) fn result(&mut self, call: &Call) {
        self.lines.line.extend_from_slice(b" = ");
        if call.ret >= 0 {
            number(&mut self.lines.line, call.ret);
            return;
        }
        // What the program sees through the raw system call: -1 and errno.
        match errno_name(call.ret) {
            Some(name) if call.ret <= -512 => {
                self.styled(NOTE, "? ");
                self.styled(NOTE, name);
                self.lines
                    .line
                    .extend_from_slice(b" (the program sees EINTR, or the call starts again)");
            }
            Some(name) => {
                self.styled_bytes(ERROR, |line| {
                    line.extend_from_slice(b"-1 ");
                    line.extend_from_slice(name.as_bytes());
                });
                let text = errno::text(-call.ret as i32).unwrap_or_default();
                let _ = write!(self.lines.line, " ({text})");
            }
            None => number(&mut self.lines.line, call.ret),
        }
    }

    /// Writes the arguments of a call; of a `failed` call, all that may be the reason.
    pub(super) fn arguments(&mut self, event: &Event, args: &Args, failed: bool) {
        let with_key = failed || self.options.verbose;
        self.styled(CALL, args.syscall().name());
        self.lines.line.push(b'(');
        match args {
            Args::Setup { nr_events, ctxp, stored } => {
                number(&mut self.lines.line, *nr_events);
                self.lines.line.extend_from_slice(b", ");
                match stored {
                    // Only a failed call leaves 0 there.
                    Some(handle) if handle.0 != 0 => {
                        self.lines.line.push(b'[');
                        hex(&mut self.lines.line, handle.0);
                        self.lines.line.push(b']');
                    }
                    _ => address(&mut self.lines.line, *ctxp),
                }
            }
            Args::Destroy { ctx } => hex(&mut self.lines.line, ctx.0),
            Args::Submit { ctx, nr, iocbpp, iocbs, truncated } => {
                hex(&mut self.lines.line, ctx.0);
                self.lines.line.extend_from_slice(b", ");
                number(&mut self.lines.line, *nr);
                self.lines.line.extend_from_slice(b", ");
                if iocbs.is_empty() {
                    address(&mut self.lines.line, *iocbpp);
                } else {
                    let fd_before = &mut None;
                    self.list(iocbs, *truncated, |text, iocb| {
                        text.iocb(event, iocb, fd_before, with_key);
                    });
                }
            }
            Args::Getevents {
                ctx,
                min_nr,
                nr,
                events,
                timeout,
                timeout_value,
                sigset,
                sigset_value,
                list,
                truncated,
                changed,
                ..
            } => {
                hex(&mut self.lines.line, ctx.0);
                for value in [min_nr, nr] {
                    self.lines.line.extend_from_slice(b", ");
                    number(&mut self.lines.line, *value);
                }
                self.lines.line.extend_from_slice(b", ");
                if list.is_empty() {
                    address(&mut self.lines.line, *events);
                } else {
                    let mut index = 0;
                    self.list(list, *truncated, |text, it| {
                        match it {
                            Some(it) => text.io_event(event.pid, it, changed.contains(&index)),
                            None => text.lines.line.extend_from_slice(b"?"),
                        }
                        index += 1;
                    });
                }
                self.lines.line.extend_from_slice(b", ");
                timespec(&mut self.lines.line, *timeout, *timeout_value);
                if args.syscall() == Syscall::Pgetevents {
                    self.lines.line.extend_from_slice(b", ");
                    signal_set(&mut self.lines.line, *sigset, *sigset_value);
                }
            }
            Args::Cancel { ctx, iocb, result, value } => {
                hex(&mut self.lines.line, ctx.0);
                self.lines.line.extend_from_slice(b", ");
                let iocb =
                    Iocb { address: Some(*iocb), value: *value, read_late: false, vectors: None };
                self.iocb(event, &Some(iocb), &mut None, with_key);
                self.lines.line.extend_from_slice(b", ");
                address(&mut self.lines.line, *result);
            }
        }
        self.lines.line.push(b')');
    }

    pub(super) fn list<T>(
        &mut self,
        items: &[T],
        truncated: u64,
        mut show: impl FnMut(&mut Self, &T),
    ) {
        let shown = if self.options.verbose { items.len() } else { items.len().min(SHORT) };
        self.lines.line.push(b'[');
        for (index, item) in items[..shown].iter().enumerate() {
            if index > 0 {
                self.lines.line.extend_from_slice(b", ");
            }
            show(self, item);
        }
        let hidden = (items.len() - shown) as u64 + truncated;
        if hidden > 0 {
            let _ = write!(self.lines.line, ", ... {hidden} more");
        }
        self.lines.line.push(b']');
    }

    /// Writes an iocb. `fd_before`: the file of the iocb before this one, whose path need not be repeated.
    /// `with_key`: with the field that only io_cancel looks at.
    pub(super) fn iocb(
        &mut self,
        event: &Event,
        iocb: &Option<Iocb>,
        fd_before: &mut Option<u32>,
        with_key: bool,
    ) {
        let Some(iocb) = iocb else {
            self.lines.line.extend_from_slice(b"{lost}");
            return;
        };
        let Some(at) = iocb.address else {
            self.lines.line.extend_from_slice(b"{pointer unread}");
            return;
        };
        let Some(value) = iocb.value else {
            self.lines.line.push(b'{');
            address(&mut self.lines.line, at);
            self.lines.line.extend_from_slice(b" unread}");
            return;
        };
        self.lines.line.push(b'{');
        hex(&mut self.lines.line, at.0);
        self.lines.line.push(b' ');
        let opcode = Opcode::of(&value);
        match opcode_name(opcode) {
            Some(name) => self.lines.line.extend_from_slice(name.as_bytes()),
            None => {
                let _ = write!(self.lines.line, "opcode={opcode}");
            }
        }
        self.lines.line.extend_from_slice(b" fd=");
        number(&mut self.lines.line, value.fildes as i32);
        if *fd_before != Some(value.fildes) {
            *fd_before = Some(value.fildes);
            if let Some(path) = self.paths.now(event.pid, value.fildes, event.time) {
                self.lines.line.extend_from_slice(b" (now ");
                escape(&mut self.lines.line, path);
                self.lines.line.push(b')');
            }
        }
        let line = &mut self.lines.line;
        match opcode {
            opcode::POLL => {
                line.extend_from_slice(b" events=");
                flags(line, value.buf, &POLL_EVENTS);
                unless_zero(line, "nbytes", value.nbytes);
                unless_zero(line, "offset", value.offset as u64);
            }
            opcode::FSYNC | opcode::FDSYNC => {
                // These fields should be 0; if one is not, it is the reason why the iocb is refused.
                if value.buf != 0 {
                    field(line, "buf", value.buf);
                }
                unless_zero(line, "nbytes", value.nbytes);
                unless_zero(line, "offset", value.offset as u64);
            }
            opcode::PREADV | opcode::PWRITEV => {
                field(line, "iov", value.buf);
                count(line, "iovcnt", value.nbytes);
                count(line, "offset", value.offset);
            }
            _ => {
                field(line, "buf", value.buf);
                count(line, "nbytes", value.nbytes);
                count(line, "offset", value.offset);
            }
        }
        if value.data != 0 {
            field(line, "data", value.data);
        }
        if with_key {
            unless_zero(line, "key", u64::from(value.key));
        }
        if value.rw_flags != 0 {
            line.extend_from_slice(b" rw_flags=");
            flags(line, u64::from(value.rw_flags), &RW_FLAGS);
        }
        if value.flags != 0 {
            line.extend_from_slice(b" flags=");
            flags(line, u64::from(value.flags), &IOCB_FLAGS);
        }
        if value.flags & 1 != 0 {
            count(line, "resfd", value.resfd as i32);
        }
        if value.reqprio != 0 {
            count(line, "reqprio", value.reqprio);
        }
        if value.reserved2 != 0 {
            field(line, "reserved2", value.reserved2);
        }
        if iocb.read_late {
            line.extend_from_slice(b" read_late");
        }
        line.push(b'}');
    }

    pub(super) fn io_event(&mut self, pid: u32, event: &IoEvent, is_injected: bool) {
        self.lines.line.push(b'{');
        hex(&mut self.lines.line, event.obj);
        if event.data != 0 {
            field(&mut self.lines.line, "data", event.data);
        }
        if event.res > 0 && self.polls.has(pid, event.obj) {
            self.lines.line.extend_from_slice(b" res=");
            flags(&mut self.lines.line, event.res as u64, &POLL_EVENTS);
        } else {
            self.res(event.res);
        }
        if event.res2 != 0 {
            count(&mut self.lines.line, "res2", event.res2);
        }
        if is_injected {
            self.styled(NOTE, " INJECTED");
        }
        self.lines.line.push(b'}');
    }

    pub(super) fn rings(&mut self, call: &Call) {
        let show = |line: &mut Vec<u8>, label: &str, ring: Option<Ring>| {
            if let Some(ring) = ring {
                let Ring { head, tail, nr } = ring;
                let unreaped = ring.unreaped();
                let _ =
                    write!(line, " {label}[head={head} tail={tail} nr={nr} unreaped={unreaped}]");
            }
        };
        show(&mut self.lines.line, "ring_before", call.ring_before);
        show(&mut self.lines.line, "ring", call.ring);
    }

    /// Writes a line for each function of a stack of a process: `at function (file:line)`.
    pub(super) fn stack(&mut self, pid: u32, stack: &Stack) {
        for named in self.symbols.describe(pid, stack) {
            self.lines.line.push(b'\n');
            self.styled_bytes(DIM, |line| {
                line.extend_from_slice(b"    at ");
                function(line, &named);
            });
        }
        if stack.truncated {
            self.lines.line.push(b'\n');
            self.styled(DIM, "    ... (its callers are not known)");
        }
    }

    pub(super) fn res(&mut self, res: i64) {
        count(&mut self.lines.line, "res", res);
        if let Some(name) = errno_name(res) {
            self.lines.line.push(b' ');
            self.styled(ERROR, name);
        }
    }
}

fn unless_zero(line: &mut Vec<u8>, name: &str, value: u64) {
    if value != 0 {
        count(line, name, value as i64);
    }
}
