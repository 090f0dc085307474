//! All events but calls and completions, in JSON.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use super::{
    AnyArgs, CancelArgs, ContextAdoptedLine, ContextGoneLine, ContextMovedLine, Decimal,
    DestroyArgs, GeteventsArgs, Hex, IocbObject, Json, LostLine, ProcessLine, RefusedLine, Ring,
    SetupArgs, SubmitArgs, UnfinishedLine, VERSION,
};
use crate::{
    event::{
        self, Adopted, Args, Change, Event, ExitStatus, Gone, How, Moved, Refused, Syscall,
        Unfinished, Why, errno_name, opcode_name,
    },
    opcode::Opcode,
    output::{escape::escaped, paths::Paths, text::signal},
};

impl<W: Write> Json<W> {
    pub(super) fn unfinished(&mut self, event: &Event, call: &Unfinished) -> io::Result<()> {
        let iocbs = match &call.args {
            Args::Submit { iocbs, .. } => {
                let of = |it: &Option<event::Iocb>| {
                    it.as_ref().map(|it| iocb(&mut self.paths, event, it))
                };
                Some(iocbs.iter().map(of).collect())
            }
            _ => None,
        };
        self.write(&UnfinishedLine {
            v: VERSION,
            event: "unfinished".into(),
            ts: event.time.into(),
            pid: event.pid,
            tid: event.tid,
            call: call.args.syscall().name().into(),
            entered: call.entered.map(Decimal::from),
            age_ns: call.entered.map(|it| event.time.saturating_sub(it)),
            why: match call.why {
                Why::BlockedAtAttach => "blocked_at_attach",
                Why::TraceEnds | Why::Reported => "trace_ends",
            }
            .into(),
            args: arguments(&call.args),
            iocbs,
        })
    }

    pub(super) fn refused(&mut self, event: &Event, refused: &Refused) -> io::Result<()> {
        self.write(&RefusedLine {
            v: VERSION,
            event: "refused".into(),
            ts: event.time.into(),
            pid: event.pid,
            tid: event.tid,
            ctx: Hex(refused.ctx.0),
            index: refused.index,
            iocb: refused.iocb.map(|it| Hex(it.0)),
            ret: refused.ret,
            errno: errno_name(refused.ret).map(Cow::from),
        })
    }

    pub(super) fn gone(&mut self, event: &Event, gone: &Gone) -> io::Result<()> {
        self.write(&ContextGoneLine {
            v: VERSION,
            event: "context_gone".into(),
            ts: event.time.into(),
            pid: event.pid,
            ctx: Hex(gone.ctx.0),
            how: match gone.how {
                How::Destroy => "destroy",
                How::Exit => "exit",
                How::Exec => "exec",
            }
            .into(),
            in_flight: gone.in_flight,
            at_most: gone.at_most,
        })
    }

    pub(super) fn moved(&mut self, event: &Event, moved: &Moved) -> io::Result<()> {
        self.write(&ContextMovedLine {
            v: VERSION,
            event: "context_moved".into(),
            ts: event.time.into(),
            pid: event.pid,
            from: Hex(moved.from.0),
            to: Hex(moved.to.0),
        })
    }

    pub(super) fn adopted(&mut self, event: &Event, adopted: &Adopted) -> io::Result<()> {
        self.write(&ContextAdoptedLine {
            v: VERSION,
            event: "context_adopted".into(),
            ts: event.time.into(),
            pid: event.pid,
            ctx: Hex(adopted.ctx.0),
            charge: adopted.charge,
            in_flight: adopted.in_flight,
            ring: adopted.ring.map(|it| Ring { head: it.head, tail: it.tail, nr: it.nr }),
        })
    }

    pub(super) fn lost(&mut self, event: &Event, records: u64) -> io::Result<()> {
        self.write(&LostLine {
            v: VERSION,
            event: "lost".into(),
            ts: event.time.into(),
            pid: event.pid,
            tid: event.tid,
            records,
        })
    }

    pub(super) fn process(&mut self, event: &Event, process: &event::Process) -> io::Result<()> {
        let (change, mut child, mut path, mut exit) = (&process.change, None, None, None);
        let name = match change {
            Change::Attached => "attached",
            Change::Seen => "seen",
            Change::ExitWaits => "exit_waits",
            Change::Fork { child: pid, followed } => {
                child = Some((*pid, *followed));
                "fork"
            }
            Change::Exec { path: given } => {
                path = Some(escaped(given));
                self.paths.forget(event.pid);
                "exec"
            }
            Change::Exit { status } => {
                exit = Some(*status);
                self.paths.forget(event.pid);
                "exit"
            }
        };
        self.write(&ProcessLine {
            v: VERSION,
            event: "process".into(),
            ts: event.time.into(),
            pid: event.pid,
            tid: event.tid,
            change: name.into(),
            name: escaped(&process.name),
            thread_name: escaped(&process.thread_name),
            started: process.started.map(Decimal::from),
            space: process.space.map(|it| Hex(it.0)),
            child: child.map(|(pid, _)| pid),
            followed: child.map(|(_, followed)| followed),
            path,
            exit_code: match exit {
                Some(ExitStatus::Code(code)) => Some(code),
                _ => None,
            },
            signal: match exit {
                Some(ExitStatus::Signal(number)) => Some(signal(number)),
                _ => None,
            },
        })
    }
}

fn arguments(args: &Args) -> AnyArgs {
    match args {
        Args::Setup { nr_events, ctxp, .. } => {
            AnyArgs::Setup(SetupArgs { nr_events: *nr_events, ctxp: Hex(ctxp.0) })
        }
        Args::Destroy { ctx } => AnyArgs::Destroy(DestroyArgs { ctx: Hex(ctx.0) }),
        Args::Submit { ctx, nr, iocbpp, .. } => {
            AnyArgs::Submit(SubmitArgs { ctx: Hex(ctx.0), nr: *nr, iocbpp: Hex(iocbpp.0) })
        }
        Args::Getevents { syscall, ctx, min_nr, nr, events, timeout, sigset, .. } => {
            AnyArgs::Getevents(GeteventsArgs {
                ctx: Hex(ctx.0),
                min_nr: *min_nr,
                nr: *nr,
                events: Hex(events.0),
                timeout: Hex(timeout.0),
                sigset: (*syscall == Syscall::Pgetevents).then_some(Hex(sigset.0)),
            })
        }
        Args::Cancel { ctx, iocb, result, .. } => AnyArgs::Cancel(CancelArgs {
            ctx: Hex(ctx.0),
            iocb: Hex(iocb.0),
            result: Hex(result.0),
        }),
    }
}

fn iocb(paths: &mut Paths, event: &Event, it: &event::Iocb) -> IocbObject {
    let value = it.value.as_ref();
    IocbObject {
        address: it.address.map(|it| Hex(it.0)),
        read: match (value, it.read_late) {
            (None, _) => "no",
            (_, true) => "late",
            (_, false) => "yes",
        }
        .into(),
        data: value.map(|it| Hex(it.data)),
        key: value.map(|it| it.key),
        rw_flags: value.map(|it| it.rw_flags),
        opcode: value.map(|it| it.opcode),
        op: value.and_then(|it| opcode_name(Opcode(it.opcode))).map(Cow::from),
        reqprio: value.map(|it| it.reqprio),
        fd: value.map(|it| it.fildes as i32),
        path_now: value.and_then(|it| paths.now(event.pid, it.fildes, event.time)).map(escaped),
        buf: value.map(|it| Hex(it.buf)),
        nbytes: value.map(|it| it.nbytes),
        offset: value.map(|it| it.offset),
        reserved2: value.map(|it| Hex(it.reserved2)),
        flags: value.map(|it| it.flags),
        resfd: value.map(|it| it.resfd as i32),
    }
}
