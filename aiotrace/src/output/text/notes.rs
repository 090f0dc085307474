//! Events that are no calls: most of them have a line between `+++`.

use std::io::Write;

use super::{
    CALL, ERROR, NOTE, Text, signal,
    words::{address, hex, number},
};
use crate::{
    errno,
    event::{
        Adopted, Change, Changed, Completion, Event, ExitStatus, Gone, How, Moved, Process,
        Refused, Synchronous, Unfinished, Why, errno_name,
    },
    output::escape::escape,
};

impl<W: Write> Text<W> {
    /// Writes `completion(ctx, {...})`, and if its time is not exact, how long before the completion may have
    /// happened.
    pub(super) fn completion(&mut self, event: &Event, completion: &Completion) {
        self.styled(CALL, "completion");
        self.lines.line.push(b'(');
        hex(&mut self.lines.line, completion.ctx.0);
        self.lines.line.extend_from_slice(b", ");
        match &completion.event {
            Some(it) => self.io_event(event.pid, it, false),
            None => self.lines.line.extend_from_slice(b"unread"),
        }
        self.lines.line.push(b')');
        match completion.since {
            None => (),
            Some(0) => self.lines.line.extend_from_slice(b" <some time before>"),
            Some(since) => {
                self.lines.line.extend_from_slice(b" <in the last ");
                crate::words::duration(&mut self.lines.line, event.time.saturating_sub(since));
                self.lines.line.push(b'>');
            }
        }
    }

    /// Writes `completion of iocb 0x55d0c8: res=-5 EIO (INJECTED: rule 1), the kernel gave res=4096`.
    pub(super) fn changed(&mut self, changed: &Changed) {
        self.styled(CALL, "completion");
        self.lines.line.extend_from_slice(b" of iocb ");
        hex(&mut self.lines.line, changed.event.obj);
        self.lines.line.push(b':');
        self.res(changed.res);
        self.fault(changed.fault, "INJECTED");
        self.lines.line.extend_from_slice(b", the kernel gave");
        self.res(changed.event.res);
    }

    /// Writes a system call that is not AIO: `pwrite(fd 3, offset=4096, nbytes=1024) = 1024`.
    pub(super) fn synchronous(&mut self, event: &Event, call: &Synchronous) {
        self.styled(CALL, call.call.name());
        let line = &mut self.lines.line;
        line.push(b'(');
        if call.fd != u32::MAX {
            let _ = write!(line, "fd={}", call.fd as i32);
        }
        if let Some(path) = self.paths.now(event.pid, call.fd, event.time) {
            line.extend_from_slice(b" (now ");
            escape(line, path);
            line.push(b')');
        }
        if let Some(offset) = call.offset {
            let _ = write!(line, ", offset={offset}");
        }
        if call.call.is_placed() {
            let what = if call.call.is_vectored() { "iovcnt" } else { "nbytes" };
            let _ = write!(line, ", {what}={}", call.count);
        }
        line.extend_from_slice(b") = ");
        match errno_name(call.ret) {
            Some(name) => self.styled(ERROR, name),
            None => number(line, call.ret),
        }
        self.styled(NOTE, " (synchronous)");
    }

    pub(super) fn refused(&mut self, refused: &Refused) {
        self.styled(NOTE, "+++ refused");
        let line = &mut self.lines.line;
        let _ = write!(line, " iocbs[{}]", refused.index);
        if let Some(at) = refused.iocb {
            line.push(b' ');
            address(line, at);
        }
        line.extend_from_slice(b": ");
        match errno_name(refused.ret) {
            Some(name) => {
                let text = errno::text(-refused.ret as i32).unwrap_or_default();
                let text = format!("{name} ({text})");
                self.styled(ERROR, &text);
            }
            None => number(line, refused.ret),
        }
        self.styled(NOTE, " +++");
    }

    pub(super) fn gone(&mut self, gone: &Gone) {
        self.styled(NOTE, "+++ context ");
        hex(&mut self.lines.line, gone.ctx.0);
        let how = match gone.how {
            How::Destroy => " destroyed",
            How::Exit => " gone: the process exits",
            How::Exec => " gone: the process runs a new program",
        };
        self.styled(NOTE, how);
        self.styled(NOTE, &left_in_flight(gone.in_flight, gone.at_most));
        self.styled(NOTE, " +++");
    }

    pub(super) fn adopted(&mut self, adopted: &Adopted) {
        self.styled(NOTE, "+++ adopted context ");
        hex(&mut self.lines.line, adopted.ctx.0);
        let mut text = String::new();
        if let Some(charge) = adopted.charge {
            text.push_str(&format!(", {charge} of fs.aio-nr"));
        }
        match adopted.ring {
            Some(ring) => {
                let (room, unreaped) = (ring.nr.saturating_sub(1), ring.unreaped());
                text.push_str(&format!(", room for {room}, {unreaped} unreaped"));
            }
            None => text.push_str(", its ring cannot be read"),
        }
        if let Some(count @ 1..) = adopted.in_flight {
            text.push_str(&format!(", {count} in flight"));
        }
        self.styled(NOTE, &text);
        self.styled(NOTE, " +++");
    }

    pub(super) fn moved(&mut self, moved: &Moved) {
        self.styled(NOTE, "+++ context ");
        hex(&mut self.lines.line, moved.from.0);
        self.styled(NOTE, " is now ");
        hex(&mut self.lines.line, moved.to.0);
        self.styled(NOTE, " (its ring was moved) +++");
    }

    pub(super) fn unfinished(&mut self, event: &Event, call: &Unfinished) {
        self.arguments(event, &call.args, false);
        self.lines.line.push(b' ');
        let why = match call.why {
            Why::BlockedAtAttach => "<unfinished: blocked since before the attach>",
            Why::TraceEnds | Why::Reported => "<unfinished: still in the kernel",
        };
        self.styled(NOTE, why);
        if let Some(entered) = call.entered {
            self.lines.line.extend_from_slice(b" after ");
            crate::words::duration(&mut self.lines.line, event.time.saturating_sub(entered));
            self.lines.line.push(b'>');
        }
    }

    pub(super) fn process(&mut self, event: &Event, process: &Process) -> bool {
        if process.change != Change::Attached || !self.names.contains_key(&event.pid) {
            // A thread may have a name of its own; the name of the process is that of its leader.
            self.name(event.pid, &process.name);
        }
        let before = self.lines.line.len();
        self.begin(event);
        match &process.change {
            // A thread that makes AIO calls shows in its calls.
            Change::Seen => {
                self.lines.line.truncate(before);
                return false;
            }
            Change::Attached => self.styled(NOTE, "+++ attached +++"),
            Change::Fork { child, followed } => {
                if *followed {
                    self.name(*child, &process.name);
                }
                let followed = if *followed { "traced" } else { "not traced" };
                let text = format!("+++ created process {child} ({followed}) +++");
                self.styled(NOTE, &text);
            }
            Change::Exec { path } => {
                self.paths.forget(event.pid);
                self.styled_bytes(NOTE, |line| {
                    line.extend_from_slice(b"+++ runs \"");
                    escape(line, path);
                    line.extend_from_slice(b"\" +++");
                });
            }
            Change::ExitWaits => self.styled(
                NOTE,
                "+++ is in exit, and waits there for AIO requests in flight (exit_aio, state D: it cannot be \
                 killed) +++",
            ),
            Change::Exit { status } => {
                let text = match status {
                    ExitStatus::Code(code) => format!("+++ exited with {code} +++"),
                    ExitStatus::Signal(number) => format!("+++ killed by {} +++", signal(*number)),
                };
                self.styled(NOTE, &text);
                self.names.remove(&event.pid);
                self.paths.forget(event.pid);
            }
        }
        true
    }
}

/// The requests that were in flight when contexts ended, after a comma; empty if there were none.
pub(super) fn left_in_flight(count: Option<u64>, at_most: bool) -> String {
    let most = if at_most { "at most " } else { "" };
    match count {
        None => ", requests in flight unknown".to_owned(),
        Some(0) => String::new(),
        Some(1) => format!(", {most}1 request in flight"),
        Some(count) => format!(", {most}{count} requests in flight"),
    }
}
