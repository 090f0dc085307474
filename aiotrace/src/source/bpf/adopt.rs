//! Contexts that exist before we attach: what the probes have to know of them, so that nothing of them is
//! missed from the first event on.

use std::collections::HashMap;

use super::{
    list::Lister,
    load::{Error, Probes},
    machine,
};
pub use aiotrace_model::records::Found;

use crate::{process, ring};
use aiotrace_common::{
    abi::RingHeader,
    names::{self, Feature},
    record::{Context, ContextKey, ListedContext, Owner},
    settings::target,
};

/// Finds contexts. Loaded before it is needed, as that takes a moment.
pub struct Finder(Option<Lister>);

impl Finder {
    /// With BPF, if that can be had.
    pub fn new() -> Self {
        let lister = machine::settings(target::ALL)
            .and_then(|settings| Lister::load(&machine::with_processors(settings)));
        Self(lister.inspect_err(|error| tracing::debug!(%error, "contexts from /proc")).ok())
    }

    /// The contexts of these processes (`None`: of all), and tells the probes of them.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn adopt(
        &mut self,
        probes: &mut Probes,
        is_wanted: impl Fn(u32) -> bool,
    ) -> Result<Vec<Found>, Error> {
        let Some(lister) = &mut self.0 else {
            return Ok(from_proc(is_wanted));
        };
        let (listed, _) = lister.list()?;
        let reads_rings = !probes.set().has(Feature::Completions);
        let mut found = Vec::new();
        for it in listed.iter().filter(|it| is_wanted(it.pid)) {
            if reads_rings {
                ring::touch(it.pid, it.handle);
            }
            let ring = ring::header(it.pid, it.handle);
            probes.know(it, ring)?;
            found.push(Found {
                pid: it.pid,
                handle: it.handle,
                space: Some(it.space),
                charge: Some(it.charge),
                in_flight: it.in_flight(),
                ring,
            });
        }
        // What changed meanwhile is not known: the program uses it.
        let (again, _) = lister.list()?;
        let again: HashMap<u64, Option<u32>> =
            again.iter().map(|it| (it.kioctx, it.in_flight())).collect();
        let before = listed.iter().filter(|it| is_wanted(it.pid));
        for (it, found) in before.zip(&mut found) {
            found.in_flight =
                found.in_flight.filter(|_| again.get(&it.kioctx) == Some(&found.in_flight));
        }
        Ok(found)
    }
}

impl Default for Finder {
    fn default() -> Self {
        Self::new()
    }
}

/// The rings that processes have mapped. A forked child has its parent's mapped (up to Linux 7.0), and not
/// its context: such are left out if the parent is among them.
pub fn from_proc(is_wanted: impl Fn(u32) -> bool) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut inodes = std::collections::HashSet::new();
    // Parents first: their ids are usually lower.
    let mut pids: Vec<u32> = process::all().into_iter().filter(|pid| is_wanted(*pid)).collect();
    pids.sort_unstable();
    for pid in pids {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        for (handle, inode) in ring::mapped_with_inodes(&maps) {
            if inodes.insert(inode) {
                let ring = ring::header(pid, handle);
                found.push(Found { pid, handle, space: None, charge: None, in_flight: None, ring });
            }
        }
    }
    found
}

impl Probes {
    /// Tells the probes of a context.
    fn know(&mut self, it: &ListedContext, ring: Option<RingHeader>) -> Result<(), Error> {
        let refused = |source| Error::Adopt { pid: it.pid, source: Box::new(source) };
        if let Some(ring) = ring {
            let key = ContextKey { space: it.space, handle: it.handle };
            let value = Context::at(ring.nr, ring.tail);
            let mut map = self.map::<[u64; 2], [u32; 4]>(names::CONTEXTS)?;
            let key: [u64; 2] = zerocopy::transmute!(key);
            let value: [u32; 4] = zerocopy::transmute!(value);
            map.insert(key, value, 0).map_err(refused)?;
        }
        let owner = Owner {
            space: it.space,
            handle: it.handle,
            pid: it.pid,
            kernel_pid: it.kernel_pid,
            completed: 0,
            gone: 0,
            reserved: 0,
        };
        let owner: [u64; 5] = zerocopy::transmute!(owner);
        let mut owners = self.map::<u64, [u64; 5]>(names::OWNERS)?;
        owners.insert(it.kioctx, owner, 0).map_err(refused)?;
        if it.ring_file != 0 {
            let mut files = self.map::<u64, u64>(names::RING_FILES)?;
            files.insert(it.ring_file, it.kioctx, 0).map_err(refused)?;
        }
        Ok(())
    }
}
