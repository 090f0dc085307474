//! Touches the pages of large rings: the kernel maps only some pages when the first one is touched,
//! and the probes cannot read the others ([`ring::touch`]).
//!
//! The pages are touched when io_setup has returned, and when a probe says that it could not read
//! some. A thread of its own does this, because a process that looks into the memory of a dying
//! process may have to wait for its requests (`exit_aio`):
//! <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n938>.
//! Until then, the probes leave what they cannot read to a later look.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use aiotrace_common::record::{Header, Kind, NewEntries, Ring, Setup, Submitted, SubmittedOne};
use zerocopy::TryFromBytes as _;

use super::machine;
use crate::{
    errand::{self, Errand as _},
    proc::{ring, system::go_first},
};

/// The most rings that wait to be touched.
const MOST: usize = 1024;
/// The least time between two touches of rings that a probe could not read, for all rings together.
/// (A program can unmap the pages again and again.)
const PAUSE: Duration = Duration::from_millis(10);

/// Touches the rings that processes make.
pub struct Touch {
    /// The thread that touches, started when it is first needed.
    helper: Option<SyncSender<(u32, u64)>>,
    possible_cpus: u32,
    /// When pages were last touched because a probe could not read them.
    touched: Option<Instant>,
}

impl Touch {
    /// For this machine.
    pub fn new() -> Self {
        Self { helper: None, possible_cpus: machine::possible_cpus().unwrap_or(1), touched: None }
    }

    /// Looks at a record of a probe.
    pub fn record(&mut self, header: &Header, record: &[u8]) {
        match header.kind {
            Kind::Setup => self.setup(record),
            Kind::Ring | Kind::Submitted | Kind::SubmittedOne => {
                let unread = new_entries(header.kind, record).filter(|it| it.1.beyond > 0);
                if let Some((handle, _)) = unread
                    && self.touched.is_none_or(|it| it.elapsed() >= PAUSE)
                {
                    self.touched = Some(Instant::now());
                    self.touch(header.pid, handle);
                }
            }
            _ => (),
        }
    }

    fn setup(&mut self, record: &[u8]) {
        let Ok((setup, _)) = Setup::try_read_from_prefix(record) else { return };
        let entries = self.entries(setup.call.args[0] as u32);
        if setup.call.ret == 0 && !ring::is_mapped_at_once(setup.handle, entries) {
            self.touch(setup.call.header.pid, setup.handle);
        }
    }

    fn touch(&mut self, pid: u32, handle: u64) {
        // If the thread has too much to do, entries that are not read become unknown.
        let _ = self.helper.get_or_insert_with(start).try_send((pid, handle));
    }

    /// How many entries the ring has that io_setup makes, before its last page is filled up
    /// (`ioctx_alloc` and `aio_setup_ring`):
    /// <https://elixir.bootlin.com/linux/v6.12/source/fs/aio.c#L737>.
    fn entries(&self, asked: u32) -> u32 {
        asked.max(self.possible_cpus.saturating_mul(4)).saturating_mul(2).saturating_add(2)
    }
}

/// The ring that a record is about, and what the record says of new entries.
fn new_entries(kind: Kind, record: &[u8]) -> Option<(u64, NewEntries)> {
    let of = |it: Submitted| (it.call.args[0], it.new);
    match kind {
        Kind::Ring => Ring::try_read_from_prefix(record).ok().map(|(it, _)| (it.handle, it.new)),
        Kind::Submitted => Submitted::try_read_from_prefix(record).ok().map(|(it, _)| of(it)),
        _ => SubmittedOne::try_read_from_prefix(record).ok().map(|(it, _)| of(it.submitted)),
    }
}

fn start() -> SyncSender<(u32, u64)> {
    let (sender, receiver) = sync_channel(MOST);
    let touch = move || {
        go_first();
        for (pid, handle) in receiver {
            errand::Touch { pid, handle }.ask();
        }
    };
    // If there is no thread, nobody takes what is sent, and that is all.
    let _ = thread::Builder::new().name("touch".into()).spawn(touch);
    sender
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_one_touch_does_not_map_is_touched_page_by_page() {
        let entries = |possible_cpus, asked| {
            Touch { helper: None, possible_cpus, touched: None }.entries(asked)
        };
        let is_mapped = |nr| ring::is_mapped_at_once(0x20_0000, nr);
        assert!(is_mapped(entries(2, 1)));
        assert!(is_mapped(entries(2, 1022)));
        assert!(!is_mapped(entries(2, 1023)));
        assert!(!is_mapped(entries(512, 1)), "a processor needs some");
        assert!(!is_mapped(entries(2, u32::MAX)));
        let few = entries(2, 256);
        assert!(ring::is_mapped_at_once(0x40_0000 - 0x5000, few));
        assert!(!ring::is_mapped_at_once(0x40_0000 - 0x4000, few), "two page tables");
    }
}
