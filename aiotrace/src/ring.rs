//! Completion rings of running processes, read from outside.

use aiotrace_common::abi::{IoEvent, RingHeader};
use zerocopy::FromBytes as _;

use crate::{event::Ring, process::read_memory};

/// Entries that a ring can have: twice the most that io_setup can be asked for, and what fills up its pages.
/// The header is memory of the program, which may write any number there.
const MOST_ENTRIES: u32 = 2 * 4_194_304 + 4096;

/// The header of the ring at this address of a process; `None` if there is none, or we may not look.
pub fn header(pid: u32, handle: u64) -> Option<RingHeader> {
    let mut bytes = [0; size_of::<RingHeader>()];
    read_memory(pid, handle, &mut bytes)?;
    let header = RingHeader::read_from_bytes(&bytes).ok()?;
    (header.magic == RingHeader::MAGIC && (1..=MOST_ENTRIES).contains(&header.nr)).then_some(header)
}

/// The ring at this address of a process, likewise.
pub fn read(pid: u32, handle: u64) -> Option<Ring> {
    header(pid, handle).map(Ring::from)
}

impl From<RingHeader> for Ring {
    fn from(it: RingHeader) -> Self {
        Self { head: it.head, tail: it.tail, nr: it.nr }
    }
}

/// `count` entries from `first` on, which must not wrap around.
pub fn entries(pid: u32, handle: u64, first: u32, count: u32) -> Option<Vec<IoEvent>> {
    let at = size_of::<RingHeader>() + first as usize * size_of::<IoEvent>();
    let mut bytes = vec![0; count as usize * size_of::<IoEvent>()];
    read_memory(pid, handle.checked_add(at as u64)?, &mut bytes)?;
    bytes.chunks_exact(size_of::<IoEvent>()).map(|it| IoEvent::read_from_bytes(it).ok()).collect()
}

/// Where a process has rings mapped, from its `/proc/PID/maps`: `/[aio] (deleted)`. A forked child
/// inherits the mapping (up to Linux 7.0), but not the context.
pub fn mapped(maps: &str) -> Vec<u64> {
    mapped_with_inodes(maps).map(|(handle, _)| handle).collect()
}

/// The same, with the inode number of each ring, which is its own.
pub fn mapped_with_inodes(maps: &str) -> impl Iterator<Item = (u64, u64)> {
    let rings = maps.lines().filter(|line| line.ends_with("/[aio] (deleted)"));
    rings.filter_map(|line| {
        let handle = u64::from_str_radix(line.split('-').next()?, 16).ok()?;
        Some((handle, line.split_whitespace().nth(4)?.parse().ok()?))
    })
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

    #[test]
    fn a_size_that_no_ring_has_is_refused() {
        let with = |nr| RingHeader { nr, magic: RingHeader::MAGIC, ..RingHeader::default() };
        let looked = |it: &RingHeader| header(std::process::id(), std::ptr::from_ref(it) as u64);
        assert!(looked(&with(127)).is_some());
        assert!(looked(&with(u32::MAX)).is_none(), "the program wrote that");
    }
}
