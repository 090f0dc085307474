//! Counts the calls that come as events.

use std::collections::BTreeMap;

use super::{
    CallCounts, Counted, OTHER_ERROR, Processes,
    histogram::{Fineness, Histogram},
    requests::Requests,
};
use crate::event::{Call, Event};

/// Most errnos counted one by one for a call. (The kernel has some 140; a recording may say anything.)
const MOST_ERRORS: usize = 256;

/// Counts calls, as the kernel would.
#[derive(Debug, Default)]
pub struct Tally {
    counted: Counted,
    processes: Processes,
    /// Where requests are counted, too.
    requests: Option<Requests>,
}

impl Tally {
    /// Counts requests, too, and their results.
    pub fn with_requests() -> Self {
        let counted = Counted { has_requests: true, ..Counted::default() };
        Self { counted, requests: Some(Requests::default()), ..Self::default() }
    }

    /// Counts a call that returned; `is_injected`: what it returned is a fault.
    pub fn call(&mut self, event: &Event, call: &Call, is_injected: bool) {
        if let Some(requests) = &mut self.requests {
            requests.call(&mut self.counted, event, call);
        }
        let key = (self.processes.place(event.pid), call.args.syscall());
        let new = || CallCounts {
            durations: Histogram::new(Fineness::Percents),
            ..CallCounts::default()
        };
        let counts = self.counted.calls.entry(key).or_insert_with(new);
        match call.entered {
            Some(entered) => counts.durations.record(event.time.saturating_sub(entered)),
            None => counts.unseen += 1,
        }
        if is_injected {
            // A short io_submit returns a positive number: all of them count as 0.
            count(self.counted.injected.entry(key).or_default(), call.ret.min(0));
        } else if call.ret < 0 {
            counts.failed += 1;
            count(self.counted.errors.entry(key).or_default(), call.ret);
        }
    }

    /// The counts up to now.
    pub fn counted(&self) -> &Counted {
        &self.counted
    }
}

pub(super) fn count(errors: &mut BTreeMap<i64, u64>, ret: i64) {
    let has_room = errors.len() < MOST_ERRORS || errors.contains_key(&ret);
    *errors.entry(if has_room { ret } else { OTHER_ERROR }).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Address, Args, Body, Entry, Handle, IoEvent, Iocb, Syscall};
    use aiotrace_common::abi;

    fn destroy(entered: Option<u64>, ret: i64) -> Call {
        Call {
            entered,
            entry: Entry::Seen,
            ret,
            args: Args::Destroy { ctx: Handle(0x1000) },
            ring: None,
            ring_before: None,
            compat: false,
            stack: None,
            fault: None,
        }
    }

    fn tallied(calls: impl IntoIterator<Item = (Call, bool)>) -> Counted {
        let mut tally = Tally::default();
        for (call, is_injected) in calls {
            let event = Event { time: 5000, pid: 7, tid: 7, body: Body::Call(call.clone()) };
            tally.call(&event, &call, is_injected);
        }
        tally.counted().clone()
    }

    #[test]
    fn a_fault_is_no_error_of_the_kernels_and_a_call_in_progress_has_no_duration() {
        let key = (7, Syscall::Destroy);
        let counted = tallied([
            (destroy(Some(4000), 0), false),
            (destroy(None, -22), false),
            (destroy(Some(3000), -11), true),
            (destroy(Some(3000), 2), true),
        ]);
        let calls = &counted.calls[&key];
        assert_eq!((calls.calls(), calls.unseen, calls.failed), (4, 1, 1));
        assert_eq!((calls.durations.count(), calls.durations.most()), (3, 2000));
        assert_eq!(counted.errors[&key], BTreeMap::from([(-22, 1)]));
        assert_eq!(counted.injected[&key], BTreeMap::from([(-11, 1), (0, 1)]));
    }

    #[test]
    fn requests_have_the_time_from_their_submit_until_they_are_reaped() {
        let ctx = Handle(0x1000);
        let value = abi::Iocb { opcode: 1, nbytes: 4096, ..abi::Iocb::default() };
        let iocb = Iocb { address: Some(Address(0xa0)), value: Some(value), read_late: false };
        let iocbs = vec![Some(iocb), None, Some(iocb)];
        let submit = Args::Submit { ctx, nr: 3, iocbpp: Address(1), iocbs, truncated: 0 };
        let it = IoEvent { data: 0, obj: 0xa0, res: 4096, res2: 0 };
        let failed = IoEvent { obj: 0xb0, res: -5, ..it };
        let getevents = Args::Getevents {
            syscall: Syscall::Getevents,
            ctx,
            min_nr: 1,
            nr: 8,
            events: Address(1),
            timeout: Address(0),
            timeout_value: None,
            sigset: Address(0),
            sigset_value: None,
            list: vec![Some(it), Some(failed), None],
            truncated: 0,
            changed: Vec::new(),
        };
        let mut tally = Tally::with_requests();
        for (time, ret, args) in [(5000, 2, submit), (9000, 3, getevents)] {
            let call = Call { args, ..destroy(Some(time - 1000), ret) };
            let event = Event { time, pid: 7, tid: 7, body: Body::Call(call.clone()) };
            tally.call(&event, &call, false);
        }
        let context = &tally.counted().contexts[&(7, ctx)];
        let numbers =
            (context.accepted, context.reaped, context.failed, context.moved, context.unread);
        assert_eq!(numbers, (2, 3, 1, 4096, 1), "the third one was not accepted");
        let latencies = &context.latencies[&1];
        assert_eq!((latencies.count(), latencies.most()), (1, 5000), "from 4000 to 9000");
        assert_eq!(tally.counted().results[&7], BTreeMap::from([(-5, 1)]));
    }

    #[test]
    fn errors_that_a_recording_invents_have_a_bound() {
        let counted = tallied((1..=1000).map(|ret| (destroy(None, -ret), false)));
        let errors = &counted.errors[&(7, Syscall::Destroy)];
        assert_eq!((errors.len(), errors[&OTHER_ERROR]), (MOST_ERRORS + 1, 744));
    }
}
