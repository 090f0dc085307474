//! Where in the program a call is made, found while its thread is stopped: for rules with `site=` and `caller=`. Symbols
//! are read by a confined child, once for each place, so only the first call from a place takes long.

use std::{collections::HashMap, sync::Arc};

use aiotrace_common::{
    abi::Syscall,
    record::{KnownStack, Stack as Record, StackKey},
};

use crate::stacks::{Copied, Known, OpenFiles, Processes, Site, Stack, Symbolizer, Unwind as _};

/// Most stacks whose sites are remembered; beyond, all are forgotten.
const MOST: usize = 4096;

/// Finds call sites.
pub struct Sites {
    processes: Processes,
    symbols: Symbolizer,
    known: HashMap<(Syscall, Stack), Option<Arc<Site>>, foldhash::fast::RandomState>,
}

impl Default for Sites {
    fn default() -> Self {
        let files = OpenFiles::default();
        let processes = Processes::new(Nobody).with_files(files.clone());
        Self { processes, symbols: Symbolizer::in_child(files), known: HashMap::default() }
    }
}

impl Sites {
    /// The site of a call with this stack; `None` if it is not known.
    pub fn of(&mut self, pid: u32, call: Syscall, it: &Record, pages: &[u8]) -> Option<Arc<Site>> {
        let Record { header, ip, sp, bp, read, space, .. } = *it;
        let copied = Copied { time: header.time, space, ip, sp, bp, pages, read, known: 0 };
        let stack = self.processes.unwind(pid, &copied);
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let symbols = &self.symbols;
        let site = self.known.entry((call, stack));
        let site =
            site.or_insert_with_key(|(call, stack)| Site::of(*call, stack, symbols).map(Arc::new));
        site.clone()
    }

    /// Forgets a process that ended, or executed another program.
    pub fn forget(&mut self, pid: u32) {
        crate::stacks::Unwind::forget(&mut self.processes, pid);
    }
}

/// Nobody has to be told which stacks are known: each is copied.
struct Nobody;

impl Known for Nobody {
    fn tell(&mut self, _: &StackKey, _: &KnownStack) {}
    fn withdraw(&mut self, _: &StackKey) {}
}
