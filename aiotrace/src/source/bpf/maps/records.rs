//! The records that the probes send, and the counts of those that they could not send.

use aiotrace_common::{names, record::Lost};
use aya::maps::{MapData, PerCpuArray, RingBuf};

use crate::source::bpf::{error::Error, load::Probes};

impl Probes {
    /// The ring buffer. It can be taken only once.
    ///
    /// # Errors
    /// If the object has no such map.
    pub fn records(&mut self) -> Result<RingBuf<MapData>, Error> {
        let map = self.ebpf.take_map(names::RECORDS).ok_or(Error::Object(names::RECORDS))?;
        RingBuf::try_from(map).map_err(|_| Error::Object(names::RECORDS))
    }

    /// What the probes could not record, by cause.
    pub fn lost(&self) -> [u64; Lost::ALL.len()] {
        let counters =
            self.ebpf.map(names::LOST).and_then(|map| PerCpuArray::<_, u64>::try_from(map).ok());
        Lost::ALL.map(|cause| {
            counters
                .as_ref()
                .and_then(|counters| counters.get(&(cause as u32), 0).ok())
                .map_or(0, |values| values.iter().sum())
        })
    }
}
