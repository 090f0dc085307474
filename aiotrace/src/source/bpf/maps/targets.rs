//! The set of targets, where processes are named.

use aiotrace_common::names;
use aya::maps::{HashMap, MapData};

use crate::{
    proc,
    source::bpf::{error::Error, load::Probes},
};

impl Probes {
    /// Adds a process to the set of targets.
    ///
    /// # Errors
    /// If the kernel refuses, for instance because the set is full.
    pub fn add_target(&mut self, pid: u32) -> Result<(), Error> {
        self.targets()?
            .insert(pid, 1, 0)
            .map_err(|source| Error::Target { pid, source: Box::new(source) })
    }

    /// Removes a process from the set, if it is there.
    pub fn remove_target(&mut self, pid: u32) {
        if let Ok(mut targets) = self.targets() {
            let _ = targets.remove(&pid);
        }
    }

    /// Removes processes that are dead and still in the set: the kernel may skip any program, even
    /// the one that should have removed them.
    pub fn remove_dead_targets(&mut self) {
        let pids: Vec<u32> =
            self.targets().map_or(Vec::new(), |targets| targets.keys().flatten().collect());
        for pid in pids.into_iter().filter(|pid| !proc::is_alive(*pid)) {
            self.remove_target(pid);
        }
    }

    /// Whether no process is in the set any more.
    pub fn has_no_targets(&mut self) -> bool {
        self.targets().is_ok_and(|targets| targets.keys().next().is_none())
    }

    fn targets(&mut self) -> Result<HashMap<&mut MapData, u32, u32>, Error> {
        self.map(names::TARGETS)
    }
}
