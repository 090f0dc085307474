//! Completion rings of running processes, read from outside.

use std::io::IoSliceMut;

use aiotrace_common::abi::RingHeader;
use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use zerocopy::FromBytes as _;

use crate::event::Ring;

/// The ring at this address of a process; `None` if there is none, or we may not look.
pub fn read(pid: u32, handle: u64) -> Option<Ring> {
    let mut bytes = [0; size_of::<RingHeader>()];
    let base = usize::try_from(handle).ok()?;
    let remote = [RemoteIoVec { base, len: bytes.len() }];
    let pid = Pid::from_raw(i32::try_from(pid).ok()?);
    let read = process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &remote).ok()?;
    let header = RingHeader::read_from_bytes(bytes.get(..read)?).ok()?;
    (header.magic == RingHeader::MAGIC && header.nr > 0).then_some(Ring {
        head: header.head,
        tail: header.tail,
        nr: header.nr,
    })
}

/// Where a process has rings mapped, from its `/proc/PID/maps`: `/[aio] (deleted)`. A forked child
/// inherits the mapping (up to Linux 7.0), but not the context.
pub fn mapped(maps: &str) -> Vec<u64> {
    let rings = maps.lines().filter(|line| line.ends_with("/[aio] (deleted)"));
    rings.filter_map(|line| u64::from_str_radix(line.split('-').next()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_found_among_the_mappings() {
        let maps = "7f1c6a400000-7f1c6a401000 rw-s 00000000 00:11 2057      /[aio] (deleted)\n\
                    7f1c6a401000-7f1c6a402000 rw-p 00000000 00:00 0 \n\
                    7f1c6a403000-7f1c6a404000 r--p 00000000 08:01 99    /tmp/[aio] x\n";
        assert_eq!(mapped(maps), [0x7f1c_6a40_0000]);
    }

    #[test]
    fn what_is_no_ring_is_none() {
        let zeros = [0u64; 8];
        assert_eq!(read(std::process::id(), zeros.as_ptr() as u64), None);
        assert_eq!(read(std::process::id(), 8), None);
    }
}
