//! Adopts the contexts that exist before aiotrace attaches: tells the probes what they must know
//! about these, so that they miss nothing from the first event on.

use std::collections::{BTreeMap, HashMap};

use super::{error::Error, list::Lister, load::Probes, machine};
pub use aiotrace_model::records::Found;

use crate::{
    errand::{Errand as _, Headers, Rings},
    proc,
};
use aiotrace_common::{
    abi::RingHeader,
    names::{self, Feature},
    record::{Context, ContextKey, ListedContext, Owner},
    settings::target,
};

/// Finds contexts. It is loaded before it is needed, because that takes a moment.
pub struct Finder(Option<Lister>);

impl Finder {
    /// Finds contexts with BPF, if the kernel allows that.
    pub fn new() -> Self {
        let lister = machine::settings(target::ALL)
            .and_then(|settings| Lister::load(&machine::with_processors(settings)));
        Self(lister.inspect_err(|error| tracing::debug!(%error, "contexts from /proc")).ok())
    }

    /// Returns the contexts of these processes (`None`: of all processes), and tells the probes
    /// about them.
    ///
    /// # Errors
    /// The error of the kernel.
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
        let mut handles: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for it in listed.iter().filter(|it| is_wanted(it.pid)) {
            handles.entry(it.pid).or_default().push(it.handle);
        }
        let mut rings = HashMap::new();
        for (pid, handles) in handles {
            let headers = Headers { pid, handles: handles.clone(), all_pages: reads_rings }.ask();
            let of_it = handles.into_iter().map(|handle| (pid, handle));
            rings.extend(of_it.zip(headers.into_iter().flatten()));
        }
        for it in listed.iter().filter(|it| is_wanted(it.pid)) {
            let ring = rings.get(&(it.pid, it.handle)).copied().flatten();
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
        // Requests in flight are unknown for a context where their number has changed in the
        // meantime: the program is using it.
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

/// The rings that processes have mapped. A forked child has its parent's rings mapped (up to Linux
/// 7.0), but not their contexts: these are left out if the parent is one of the processes.
pub fn from_proc(is_wanted: impl Fn(u32) -> bool) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut inodes = std::collections::HashSet::new();
    // Look at parents first: their ids are usually lower.
    let mut pids: Vec<u32> = proc::all().into_iter().filter(|pid| is_wanted(*pid)).collect();
    pids.sort_unstable();
    for pid in pids {
        let Some(mut rings) = (Rings { pid }).ask().flatten() else {
            if proc::is_alive(pid) {
                eprintln!(
                    "aiotrace: the mappings of process {pid} cannot be read, so aiotrace does not know which contexts it already has"
                );
            }
            continue;
        };
        rings.retain(|(_, inode)| inodes.insert(*inode));
        if rings.is_empty() {
            continue;
        }
        let handles: Vec<u64> = rings.iter().map(|it| it.0).collect();
        let headers = Headers { pid, handles: handles.clone(), all_pages: false }.ask();
        let headers = headers.unwrap_or_else(|| vec![None; handles.len()]);
        found.extend(handles.into_iter().zip(headers).map(|(handle, ring)| Found {
            pid,
            handle,
            space: None,
            charge: None,
            in_flight: None,
            ring,
        }));
    }
    found
}

impl Probes {
    /// Tells the probes about a context.
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
