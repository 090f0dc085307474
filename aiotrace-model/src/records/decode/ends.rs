//! What ends with a process: its contexts. A probe may report their ends before or after the end of the process.

use std::hash::BuildHasher as _;

use aiotrace_common::record::{self, Header};

use super::{Decoder, MOST_THREADS};
use crate::{
    event::{Body, Event, How, SpaceId},
    records::parse::{changed, process},
};

impl Decoder {
    /// Gives the events of a process that changed; first those of the contexts that end with it.
    pub(super) fn process(&mut self, record: &record::Process, mut event: impl FnMut(&Event)) {
        let Header { time, pid, tid, .. } = record.header;
        if let (Some(unwinder), record::Change::Exec | record::Change::Exit) =
            (&mut self.unwinder, record.change)
        {
            unwinder.forget(pid);
        }
        if self.told_ends {
            self.changed(record, &mut event);
        }
        // If a probe sees the ends, it reports them before or after this record.
        let ended = if self.told_ends { Vec::new() } else { changed(&mut self.contexts, record) };
        for mut it in ended {
            it.gone.in_flight = it.gone.in_flight.filter(|_| !self.in_part);
            let body = Body::ContextGone(it.gone);
            event(&Event { time, pid: it.pid, tid: it.pid, body });
        }
        let space = (record.space != 0).then(|| SpaceId(self.spaces.hash_one(record.space)));
        event(&Event { time, pid, tid, body: Body::Process(process(record, space)) });
    }

    /// How a context ended; `None` if that is unknown so far.
    pub(super) fn how(&self, record: &record::ContextGone) -> Option<How> {
        match record.end {
            record::End::Destroy => Some(How::Destroy),
            record::End::Exec => Some(How::Exec),
            record::End::Exit if record.by_other == 0 => Some(How::Exit),
            record::End::Exit => match self.processes.get(&record.header.pid) {
                None => Some(How::Exit),
                Some(space) if *space != record.space => Some(How::Exec),
                Some(_) => None,
            },
        }
    }

    /// Notes which process has which address space, and gives the events of contexts that ended with the one that was
    /// left.
    fn changed(&mut self, record: &record::Process, event: &mut impl FnMut(&Event)) {
        let pid = record.header.pid;
        let how = match record.change {
            record::Change::Exit => {
                self.processes.remove(&pid);
                How::Exit
            }
            record::Change::Exec | record::Change::Seen => {
                if self.processes.len() > MOST_THREADS {
                    self.processes.clear();
                }
                self.processes.insert(pid, record.space);
                How::Exec
            }
            record::Change::Fork => return,
        };
        if record.change == record::Change::Seen {
            return;
        }
        for mut ended in self.ended.extract_if(.., |it| it.pid == pid) {
            if let Body::ContextGone(gone) = &mut ended.body {
                gone.how = how;
            }
            event(&ended);
        }
    }
}
