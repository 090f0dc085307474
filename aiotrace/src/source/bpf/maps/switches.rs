//! What aiotrace tells the probes while they run.

use aiotrace_common::names;
use aya::maps::Array;

use crate::source::bpf::{error::Error, load::Probes};

impl Probes {
    /// Lets the attached programs record, or ends this: see [`names::SWITCHES`].
    ///
    /// # Errors
    /// If the object has no such map, or the kernel refuses.
    pub fn arm(&mut self, armed: bool) -> Result<(), Error> {
        if self.rules.is_some() {
            self.arm_faults(armed);
        }
        self.switch(0, armed)
    }

    /// Tells the probes that aiotrace knows what became of all requests up to this time, so that
    /// they need not record synchronous calls because of them.
    pub fn settle(&mut self, time: u64) {
        let Some(map) = self.ebpf.map_mut(names::WATCH) else { return };
        if let Ok(mut watch) = Array::<_, u64>::try_from(map) {
            // If this fails, the probes go on recording them.
            let _ = watch.set(names::WATCH_SETTLED, time, 0);
        }
    }

    /// Tells the probes whether a record should wake the reader.
    ///
    /// # Errors
    /// As for [`Self::arm`].
    pub fn wake(&mut self, wanted: bool) -> Result<(), Error> {
        self.switch(1, wanted)
    }

    fn switch(&mut self, index: u32, on: bool) -> Result<(), Error> {
        let map = self.ebpf.map_mut(names::SWITCHES).ok_or(Error::Object(names::SWITCHES))?;
        Array::<_, u32>::try_from(map)
            .and_then(|mut map| map.set(index, u32::from(on), 0))
            .map_err(|_| Error::Object(names::SWITCHES))
    }
}
