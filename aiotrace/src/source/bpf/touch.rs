//! Large rings: the probes can read no page that the program has not touched ([`ring::touch`]).
//!
//! The pages are touched when io_setup has returned, by a thread of its own: whoever looks into the memory of a
//! process that dies at this moment has to wait for its requests (`exit_aio`). Until then the probes keep what
//! they cannot read for a later look.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use aiotrace_common::record::Setup;
use zerocopy::TryFromBytes as _;

use super::machine;
use crate::{ring, source::collector};

/// Rings that wait, at most.
const MOST: usize = 1024;

/// Touches the rings that are made.
pub struct Touch {
    /// Started when it is needed.
    helper: Option<SyncSender<(u32, u64)>>,
    possible_cpus: u32,
}

impl Touch {
    /// On this machine.
    pub fn new() -> Self {
        Self { helper: None, possible_cpus: machine::possible_cpus().unwrap_or(1) }
    }

    /// io_setup returned.
    pub fn setup(&mut self, record: &[u8]) {
        let Ok((setup, _)) = Setup::try_read_from_prefix(record) else { return };
        let asked = setup.call.args[0] as u32;
        if setup.call.ret != 0 || !ring::is_large(self.entries(asked)) {
            return;
        }
        // If it cannot take it, what is not read is told as unknown.
        let _ =
            self.helper.get_or_insert_with(start).try_send((setup.call.header.pid, setup.handle));
    }

    /// Entries of a ring that io_setup makes, before its last page is filled up: `ioctx_alloc` and
    /// `aio_setup_ring`, <https://elixir.bootlin.com/linux/v6.12/source/fs/aio.c#L737>.
    fn entries(&self, asked: u32) -> u32 {
        asked.max(self.possible_cpus.saturating_mul(4)).saturating_mul(2).saturating_add(2)
    }
}

fn start() -> SyncSender<(u32, u64)> {
    let (sender, receiver) = sync_channel(MOST);
    let touch = move || {
        collector::go_first();
        for (pid, handle) in receiver {
            ring::touch(pid, handle);
        }
    };
    // Without a thread nobody takes what is sent.
    let _ = thread::Builder::new().name("touch".into()).spawn(touch);
    sender
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_large_if_one_touch_does_not_map_it() {
        let on = |possible_cpus| Touch { helper: None, possible_cpus };
        assert!(!ring::is_large(on(2).entries(1)));
        assert!(!ring::is_large(on(2).entries(1022)));
        assert!(ring::is_large(on(2).entries(1023)));
        assert!(ring::is_large(on(512).entries(1)), "a processor needs some");
        assert!(ring::is_large(on(2).entries(u32::MAX)));
    }
}
