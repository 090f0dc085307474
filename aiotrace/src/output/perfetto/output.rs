//! Which tracks an event, a finding and a verdict are drawn on.

use std::io::{self, Write};

use aiotrace_model::trace::Reason;

use super::{
    Perfetto, hex, number,
    packets::{Event as Slice, Value},
    proto::TrackDescriptor,
};
use crate::{
    event::{self, Body, Change, Event, Handle},
    model::{Finding, Report, Rules, Verdict},
    output::{Ended, Output, Rows, Start, escape::escaped},
};

impl<W: Write> Output for Perfetto<W> {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.rules = Rules::of(start.faults.as_ref());
        self.began = start.clock.start;
        let wall = start.clock.start.saturating_add_signed(start.clock.to_wall);
        self.packets.begin(start.clock.start, wall)?;
        self.global = self.new_track();
        self.packets.track(TrackDescriptor {
            uuid: Some(self.global),
            name: Some("aiotrace: losses, and what it cannot see".to_owned()),
            ..TrackDescriptor::default()
        })?;
        let text = |it: &str| Value::Text(escaped(it.as_bytes()));
        let mut args = vec![
            ("version", text(env!("CARGO_PKG_VERSION"))),
            ("probes", text(start.probes.text())),
            ("lacks", text(&start.lacks.join("; "))),
        ];
        if let Some(faults) = &start.faults {
            args.push(("seed", Value::Text(faults.seed.to_string())));
        }
        self.note(start.clock.start, "the trace begins", args)
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match &event.body {
            Body::Call(call) => self.call(event, call),
            Body::Completion(completion) => self.completed(event, completion),
            Body::ContextAdopted(it) => {
                let key = (event.pid, it.ctx);
                self.context(key, "there before the trace", event.time)
            }
            Body::ContextGone(gone) => {
                let how = match gone.how {
                    event::How::Destroy => "destroyed",
                    event::How::Exit => "ended by exit",
                    event::How::Exec => "ended by exec",
                };
                self.gone((event.pid, gone.ctx), how, event.time)
            }
            Body::ContextMoved(moved) => {
                if let Some(context) = self.contexts.remove(&(event.pid, moved.from)) {
                    self.contexts.insert((event.pid, moved.to), context);
                }
                Ok(())
            }
            Body::Process(process) => {
                self.process(event.pid, Some(&process.name))?;
                self.thread(event.pid, event.tid, Some(&process.thread_name))?;
                match process.change {
                    Change::Fork { child, .. } => {
                        self.process(child, Some(&process.name)).map(drop)
                    }
                    Change::Exit { .. } => {
                        let all = self.contexts.keys().copied();
                        let its: Vec<_> = all.filter(|it| it.0 == event.pid).collect();
                        for key in its {
                            self.gone(key, "ended by exit", event.time)?;
                        }
                        self.threads.retain(|key, _| key.0 != event.pid);
                        self.processes.remove(&event.pid);
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            Body::Unfinished(it) if it.why == event::Why::TraceEnds => {
                let Some(entered) = it.entered else { return Ok(()) };
                let track = self.thread(event.pid, event.tid, None)?;
                let slice = Slice {
                    track,
                    name: it.args.syscall().name().to_owned(),
                    category: "aio.call",
                    args: vec![("context", hex(it.args.handle().0))],
                    ..Slice::default()
                };
                self.packets.slice(entered, &slice)
            }
            Body::Lost { records } => {
                let name = match records {
                    0 => "records were lost".to_owned(),
                    count => format!("{count} records were lost"),
                };
                self.note(event.time, &name, vec![("pid", number(event.pid))])
            }
            _ => Ok(()),
        }
    }

    fn finding(&mut self, it: &Finding) -> io::Result<()> {
        let context = it.context.and_then(|of| self.contexts.get(&(it.pid, of.handle)));
        let track = match context.map(|it| it.track) {
            Some(track) => track,
            None => self.process(it.pid, None)?,
        };
        let mut args = vec![
            ("severity", Value::Text(it.severity.text().to_owned())),
            ("message", Value::Text(escaped(it.message().as_bytes()))),
        ];
        if let Some(doubt) = it.doubt {
            args.push(("unsure", Value::Text(doubt.text().to_owned())));
        }
        let name = format!("{} {}", it.severity.text(), it.name.text());
        let slice = Slice { track, name, category: "finding", args, ..Slice::default() };
        self.packets.instant(it.time, &slice)
    }

    fn verdict(&mut self, it: &Verdict) -> io::Result<()> {
        let track = self.thread(it.pid, it.tid, None)?;
        let path =
            it.first.and_then(|first| self.paths.now(it.pid, first.fd, it.time)).map(escaped);
        let message = it.message_with(path.as_deref());
        let name = format!("fault {}: {}", it.what(), it.outcome.text());
        let args = vec![("message", Value::Text(escaped(message.as_bytes())))];
        let slice = Slice { track, name, category: "verdict", args, ..Slice::default() };
        self.packets.instant(it.time, &slice)
    }

    fn report(&mut self, end: &Ended, report: &Report, _: Option<&Rows>) -> io::Result<()> {
        if end.reason == Reason::Asked {
            return self.flush();
        }
        let mut all: Vec<(u32, Handle)> = self.contexts.keys().copied().collect();
        all.sort_unstable();
        for key in all {
            let Some(context) = self.contexts.remove(&key) else { continue };
            for request in context.requests.left() {
                self.draw(&context.lanes, &request, None)?;
            }
        }
        let args = vec![
            ("events", number(end.events)),
            ("lost", number(end.losses.total())),
            ("findings", number(report.findings.len())),
        ];
        self.note(end.time, "the trace ends", args)?;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.packets.flush()
    }
}
