//! Counts the requests that come as events.

use std::collections::HashMap;

use aiotrace_common::counts::{OTHER_OP, UNREAD_OP};

use super::{Counted, count, histogram::Fineness, histogram::Histogram};
use crate::event::{Args, Call, Event, Handle, IoEvent, Iocb};

/// Most requests whose beginning is remembered.
const MOST: usize = 65_536;
/// Most contexts that are counted one by one.
const MOST_CONTEXTS: usize = 4096;

/// When requests began, and what they are: by process, context and iocb address.
#[derive(Debug, Default)]
pub(super) struct Requests {
    started: HashMap<(u32, Handle), HashMap<u64, (u64, usize)>>,
    count: usize,
}

impl Requests {
    /// Counts the requests of a call.
    pub fn call(&mut self, counted: &mut Counted, event: &Event, call: &Call) {
        let key = (event.pid, call.args.handle());
        let has_room =
            counted.contexts.len() < MOST_CONTEXTS || counted.contexts.contains_key(&key);
        if !has_room {
            return;
        }
        match &call.args {
            Args::Submit { iocbs, .. } if call.ret > 0 => {
                self.submitted(counted, key, call.began(event), call.ret as u64, iocbs);
            }
            Args::Getevents { list, .. } if call.ret > 0 => {
                self.reaped(counted, key, event.time, call.ret as u64, list);
            }
            Args::Destroy { .. } if call.ret == 0 => {
                let gone = self.started.remove(&key).map_or(0, |it| it.len());
                self.count = self.count.saturating_sub(gone);
            }
            _ => (),
        }
    }

    fn submitted(
        &mut self,
        counted: &mut Counted,
        key: (u32, Handle),
        time: u64,
        accepted: u64,
        iocbs: &[Option<Iocb>],
    ) {
        let context = counted.contexts.entry(key).or_default();
        context.accepted += accepted;
        context.used = context.used.max(time);
        let mut left = accepted;
        for iocb in iocbs.iter().take(usize::try_from(accepted).unwrap_or(usize::MAX)) {
            left -= 1;
            let value = iocb.and_then(|it| it.value);
            let op = value.map_or(UNREAD_OP, |it| usize::from(it.opcode).min(OTHER_OP));
            context.ops[op].requests += 1;
            if let Some(value) = value.filter(|_| op < 2) {
                context.ops[op].asked = context.ops[op].asked.saturating_add(value.nbytes);
            }
            let address = iocb.and_then(|it| it.address);
            if let Some(address) = address.filter(|_| self.count < MOST) {
                let of = self.started.entry(key).or_default();
                self.count += usize::from(of.insert(address.0, (time, op)).is_none());
            }
        }
        context.ops[UNREAD_OP].requests += left;
    }

    fn reaped(
        &mut self,
        counted: &mut Counted,
        key: (u32, Handle),
        time: u64,
        reaped: u64,
        list: &[Option<IoEvent>],
    ) {
        let context = counted.contexts.entry(key).or_default();
        context.reaped += reaped;
        context.used = context.used.max(time);
        let read = list.iter().flatten().count() as u64;
        context.unread += reaped.saturating_sub(read);
        for it in list.iter().flatten() {
            if it.res < 0 {
                context.failed += 1;
                count(counted.results.entry(key.0).or_default(), it.res);
            } else {
                context.moved = context.moved.saturating_add(it.res.unsigned_abs());
            }
            let Some(started) = self.started.get_mut(&key).and_then(|of| of.remove(&it.obj)) else {
                continue;
            };
            self.count = self.count.saturating_sub(1);
            let new = || Histogram::new(Fineness::Sixteenths);
            let latencies = context.latencies.entry(started.1).or_insert_with(new);
            latencies.record(time.saturating_sub(started.0));
        }
    }
}
