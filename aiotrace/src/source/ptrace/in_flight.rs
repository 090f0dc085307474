//! The iocbs of requests in flight, as io_submit got them. The kernel copies an iocb, so that the program may use its
//! memory for the next request at once: when a request completes, another iocb may be at its address.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use aiotrace_common::abi::{IoEvent, Iocb};
use foldhash::fast::FixedState;

use crate::stacks::Site;

/// Most iocbs remembered; when there are more, all are forgotten, and the program's memory is read instead.
const MOST: usize = 65_536;

/// Address space, handle of the context, address of the iocb.
type Key = (u64, u64, u64);

/// What is remembered of a request.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its iocb.
    pub iocb: Iocb,
    /// Where it was submitted, if a rule has to know that.
    pub site: Option<Arc<Site>>,
}

/// The iocbs of requests in flight.
#[derive(Default)]
pub struct InFlight {
    of: HashMap<Key, VecDeque<Known>, FixedState>,
    count: usize,
    /// The iocbs of calls that have not returned, in their order, by thread.
    given: HashMap<u32, Vec<(Key, u64)>, FixedState>,
}

impl InFlight {
    /// A thread calls io_submit on this context with these iocbs. (One may complete before the call returns.)
    pub fn given(
        &mut self,
        tid: u32,
        (space, handle): (u64, u64),
        site: Option<&Arc<Site>>,
        iocbs: impl Iterator<Item = (u64, Iocb)>,
    ) {
        let mut given = Vec::new();
        for (address, iocb) in iocbs {
            if self.count >= MOST {
                self.of.clear();
                self.count = 0;
            }
            let key = (space, handle, address);
            self.of.entry(key).or_default().push_back(Known { iocb, site: site.cloned() });
            self.count += 1;
            given.push((key, iocb.data));
        }
        self.given.insert(tid, given);
    }

    /// The call returned: the first `accepted` iocbs are in flight, the others are not.
    pub fn returned(&mut self, tid: u32, accepted: usize) {
        for (key, data) in self.given.remove(&tid).unwrap_or_default().into_iter().skip(accepted) {
            self.remove(key, |all| all.iter().rposition(|it| it.iocb.data == data));
        }
    }

    /// The iocb of the request with this completion: the oldest with the same address and data.
    pub fn take(&mut self, (space, handle): (u64, u64), event: &IoEvent) -> Option<Known> {
        let oldest = |all: &VecDeque<Known>| all.iter().position(|it| it.iocb.data == event.data);
        self.remove((space, handle, event.obj), oldest)
    }

    /// Forgets a context that has ended.
    pub fn destroyed(&mut self, space: u64, handle: u64) {
        self.of.retain(|(of, context, _), _| (*of, *context) != (space, handle));
        self.count = self.of.values().map(VecDeque::len).sum();
    }

    fn remove(
        &mut self,
        key: Key,
        place: impl FnOnce(&VecDeque<Known>) -> Option<usize>,
    ) -> Option<Known> {
        let all = self.of.get_mut(&key)?;
        let found = all.remove(place(all)?)?;
        self.count -= 1;
        if all.is_empty() {
            self.of.remove(&key);
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: (u64, u64) = (7, 0x1000);

    fn iocb(data: u64, opcode: u16) -> (u64, Iocb) {
        (0x10, Iocb { data, opcode, ..Iocb::default() })
    }

    fn taken(all: &mut InFlight, data: u64) -> Option<u16> {
        let event = IoEvent { data, obj: 0x10, res: 0, res2: 0 };
        Some(all.take(OF, &event)?.iocb.opcode)
    }

    #[test]
    fn requests_of_one_iocb_are_told_apart_by_their_data() {
        let mut all = InFlight::default();
        all.given(1, OF, None, [iocb(1, 5)].into_iter());
        all.returned(1, 1);
        // Two iocbs that are refused, and one that completes before io_submit returns.
        all.given(1, OF, None, [iocb(2, 1), iocb(2, 0), iocb(1, 2)].into_iter());
        assert_eq!(taken(&mut all, 2), Some(1));
        all.returned(1, 1);
        assert_eq!(taken(&mut all, 2), None);
        assert_eq!(taken(&mut all, 1), Some(5), "the older one");
        assert_eq!((taken(&mut all, 1), all.count), (None, 0));
    }

    #[test]
    fn what_ended_with_its_context_is_forgotten() {
        let mut all = InFlight::default();
        all.given(1, OF, None, [iocb(1, 5)].into_iter());
        all.given(2, (7, 0x2000), None, [iocb(1, 5)].into_iter());
        all.destroyed(7, 0x2000);
        assert_eq!((taken(&mut all, 1), all.count), (Some(5), 0));
    }
}
