//! The threads that have made an AIO call.

use aiotrace_common::{names, record::Thread};
use aya::maps::{Array, HashMap};
use zerocopy::FromBytes as _;

use crate::source::bpf::load::Probes;

impl Probes {
    /// The threads that are inside of an AIO call at present.
    pub fn threads_in_calls(&self) -> Vec<Thread> {
        self.threads().into_iter().filter(|thread| thread.call().is_some()).collect()
    }

    /// The threads that have made an AIO call.
    pub fn threads(&self) -> Vec<Thread> {
        let map = |name| self.ebpf.map(name);
        let slots = map(names::THREADS)
            .and_then(|it| Array::<_, [u8; size_of::<Thread>()]>::try_from(it).ok());
        let taken = map(names::TAKEN).and_then(|it| HashMap::<_, u32, u32>::try_from(it).ok());
        let Some((slots, taken)) = slots.zip(taken) else {
            return Vec::new();
        };
        let threads = taken.iter().filter_map(|entry| {
            let (place, tid) = entry.ok()?;
            let thread = Thread::read_from_bytes(&slots.get(&place, 0).ok()?).ok()?;
            (thread.kernel_tid == tid).then_some(thread)
        });
        threads.collect()
    }
}
