//! Counts the calls that come as events.

use std::collections::BTreeMap;

use super::{
    CallCounts, Counted, OTHER_ERROR, Processes,
    histogram::{Fineness, Histogram},
};
use crate::event::{Call, Event};

/// Most errnos counted one by one for a call. (The kernel has some 140; a recording may say anything.)
const MOST_ERRORS: usize = 256;

/// Counts calls, as the kernel would.
#[derive(Debug, Default)]
pub struct Tally {
    counted: Counted,
    processes: Processes,
}

impl Tally {
    /// Counts a call that returned; `is_injected`: what it returned is a fault.
    pub fn call(&mut self, event: &Event, call: &Call, is_injected: bool) {
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

fn count(errors: &mut BTreeMap<i64, u64>, ret: i64) {
    let has_room = errors.len() < MOST_ERRORS || errors.contains_key(&ret);
    *errors.entry(if has_room { ret } else { OTHER_ERROR }).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Args, Body, Entry, Handle, Syscall};

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
    fn errors_that_a_recording_invents_have_a_bound() {
        let counted = tallied((1..=1000).map(|ret| (destroy(None, -ret), false)));
        let errors = &counted.errors[&(7, Syscall::Destroy)];
        assert_eq!((errors.len(), errors[&OTHER_ERROR]), (MOST_ERRORS + 1, 744));
    }
}
