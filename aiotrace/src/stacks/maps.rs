//! Reads /proc/PID/maps: which files are mapped where in a process.

use std::os::unix::fs::MetadataExt as _;

use serde::{Deserialize, Serialize};

use crate::proc::{file::lines, maps::Mapping};

/// A piece of memory with code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// The first address.
    pub start: u64,
    /// The address after the last one.
    pub end: u64,
    /// The file that is mapped there, if any.
    pub file: Option<Mapped>,
}

/// A part of a file that is mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// The device and the inode, as the kernel writes them.
    pub identity: (Vec<u8>, u64),
    /// The position in the file where the region begins.
    pub offset: u64,
    /// The path in the process's root; it may have any bytes.
    pub path: Vec<u8>,
    /// The mounts that the process sees, by their number.
    pub mounts: Option<u64>,
}

/// The regions with code of a process, in the order of addresses; `None` if the process is gone.
/// Only a helper may call this.
pub fn of(pid: u32) -> Option<Vec<Region>> {
    let mut regions = Vec::new();
    lines(format!("/proc/{pid}/maps"), |line| regions.extend(code(line))).ok()?;
    let mounts = std::fs::metadata(format!("/proc/{pid}/ns/mnt")).ok().map(|it| it.ino());
    regions.iter_mut().flat_map(|it: &mut Region| &mut it.file).for_each(|it| it.mounts = mounts);
    (!regions.is_empty()).then_some(regions)
}

pub(super) fn parse(maps: &[u8]) -> Vec<Region> {
    maps.split(|byte| *byte == b'\n').filter_map(code).collect()
}

fn code(line: &[u8]) -> Option<Region> {
    Mapping::parse(line).filter(Mapping::is_code).map(region)
}

/// The device and the inode of the file in this line of maps, if the line's region has this
/// address.
pub fn identity_at(line: &[u8], address: u64) -> Option<(Vec<u8>, u64)> {
    let it = Mapping::parse(line).filter(|it| (it.start..it.end).contains(&address))?;
    Some((it.device.to_vec(), it.inode))
}

fn region(it: Mapping<'_>) -> Region {
    let Mapping { start, end, offset, inode, device, path, .. } = it;
    let file = (inode != 0 && path.starts_with(b"/")).then(|| Mapped {
        identity: (device.to_vec(), inode),
        offset,
        path: unescaped(path.strip_suffix(b" (deleted)").unwrap_or(path)),
        mounts: None,
    });
    Region { start, end, file }
}

/// Undoes the only escape that the kernel uses: it writes a newline in a path as `\012`:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/fs/proc/task_mmu.c#L350>.
fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        rest = match rest.strip_prefix(br"\012") {
            Some(after) => {
                out.push(b'\n');
                after
            }
            None => {
                out.push(*first);
                after
            }
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_with_its_file() {
        let maps = b"\
55d0c8e3e000-55d0c8e40000 r--p 00000000 fe:01 1234                       /usr/bin/fio\n\
55d0c8e40000-55d0c8e60000 r-xp 00002000 fe:01 1234                       /usr/bin/fio\n\
7f0000000000-7f0000001000 r-xp 00000000 00:00 0 \n\
7f2c5a3f0000-7f2c5a3f1000 r-xs 00001000 00:1f 77                         /tmp/a b\\012\xff (deleted)\n\
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n\
nonsense\n";
        let regions = parse(maps);
        let file = |index: usize| regions[index].file.as_ref().unwrap();
        assert_eq!(regions.len(), 4);
        assert_eq!((regions[0].start, regions[0].end), (0x55d0_c8e4_0000, 0x55d0_c8e6_0000));
        assert_eq!((file(0).offset, file(0).identity.1), (0x2000, 1234));
        assert_eq!(file(0).path, b"/usr/bin/fio");
        assert_eq!(regions[1].file, None);
        assert_eq!(file(2).path, b"/tmp/a b\n\xff");
        assert_eq!(regions[3].file, None);
        let first = maps.split(|it| *it == b'\n').next().unwrap();
        assert_eq!(identity_at(first, 0x55d0_c8e3_e001), Some((b"fe:01".to_vec(), 1234)));
        assert_eq!(identity_at(first, 0x1000), None);
    }
}
