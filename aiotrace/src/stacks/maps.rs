//! Reads /proc/PID/maps: which files are mapped where in a process.

use std::{collections::HashMap, os::unix::fs::MetadataExt as _, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::proc::{file::lines, maps::Mapping};

/// The most regions of files that are remembered of a process, and the most others. Those at higher addresses are
/// unknown: a program has some hundreds, and may have 65,530 (vm.max_map_count).
const MOST: usize = 4096;
/// The most bytes of paths, and the same for devices, that are remembered of a process.
const MOST_BYTES: usize = 1 << 20;

/// A piece of memory with code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The first address.
    pub start: u64,
    /// The address after the last one.
    pub end: u64,
    /// The file that is mapped there, if any.
    pub file: Option<Part>,
}

/// A part of a file that is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The file, which all its regions share.
    pub file: Arc<Mapped>,
    /// The position in the file where the region begins.
    pub offset: u64,
}

/// A file that is mapped, with all that tells files apart. Device and inode in maps are not enough: the subvolumes of a
/// btrfs have one device there, and each its own numbers of inodes (`show_map_vma`, [task_mmu.c]). But in one place there
/// is one of them.
///
/// [task_mmu.c]: https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/proc/task_mmu.c?h=v6.12.117#n338
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mapped {
    /// The device and the inode, as the kernel writes them.
    pub identity: (Vec<u8>, u64),
    /// The path in the process's root; it may have any bytes.
    pub path: Vec<u8>,
    /// The mounts that the process sees, by their number.
    pub mounts: Option<u64>,
}

/// The regions with code of a process, as a helper tells them: each file once.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Regions {
    files: Vec<Mapped>,
    regions: Vec<Told>,
}

/// Where a region begins and ends; and the number of its file, with the position in it.
type Told = (u64, u64, Option<(u32, u64)>);

/// The regions with code of a process, in the order of addresses; `None` if the process is gone.
/// Only a helper may call this.
pub fn of(pid: u32) -> Option<Regions> {
    let mounts = std::fs::metadata(format!("/proc/{pid}/ns/mnt")).ok().map(|it| it.ino());
    let mut collected = Collected { mounts, ..Collected::default() };
    lines(format!("/proc/{pid}/maps"), |line| collected.line(line)).ok()?;
    (!collected.told.regions.is_empty()).then_some(collected.told)
}

pub(super) fn parse(maps: &[u8]) -> Vec<Region> {
    let mut collected = Collected::default();
    maps.split(|byte| *byte == b'\n').for_each(|line| collected.line(line));
    collected.told.regions()
}

impl Regions {
    /// The regions.
    pub fn regions(self) -> Vec<Region> {
        let files: Vec<_> = self.files.into_iter().map(Arc::new).collect();
        let part = |(file, offset): (u32, u64)| {
            let file = Arc::clone(files.get(file as usize)?);
            Some(Part { file, offset })
        };
        let region = |(start, end, file): Told| Region { start, end, file: file.and_then(part) };
        self.regions.into_iter().map(region).collect()
    }
}

/// The regions while maps is read.
#[derive(Default)]
struct Collected {
    mounts: Option<u64>,
    told: Regions,
    numbers: HashMap<Mapped, u32, foldhash::fast::RandomState>,
    bytes: usize,
    of_files: usize,
    others: usize,
}

impl Collected {
    fn line(&mut self, line: &[u8]) {
        let Some(it) = Mapping::parse(line).filter(Mapping::is_code) else { return };
        let file = (it.inode != 0 && it.path.starts_with(b"/")).then(|| self.number(&it));
        let count = if file.is_some() { &mut self.of_files } else { &mut self.others };
        *count += 1;
        if *count <= MOST {
            let file = file.flatten().map(|number| (number, it.offset));
            self.told.regions.push((it.start, it.end, file));
        }
    }

    /// The number of a file; `None` if there are too many.
    fn number(&mut self, it: &Mapping<'_>) -> Option<u32> {
        let path = unescaped(it.path.strip_suffix(b" (deleted)").unwrap_or(it.path));
        let identity = (it.device.to_vec(), it.inode);
        let file = Mapped { identity, path, mounts: self.mounts };
        if let Some(number) = self.numbers.get(&file) {
            return Some(*number);
        }
        self.bytes = self.bytes.saturating_add(file.path.len() + file.identity.0.len());
        let number = u32::try_from(self.told.files.len()).ok();
        let number = number.filter(|_| self.bytes <= MOST_BYTES)?;
        self.told.files.push(file.clone());
        self.numbers.insert(file, number);
        Some(number)
    }
}

/// The device and the inode of the file in this line of maps, if the line's region has this
/// address.
pub fn identity_at(line: &[u8], address: u64) -> Option<(Vec<u8>, u64)> {
    let it = Mapping::parse(line).filter(|it| (it.start..it.end).contains(&address))?;
    Some((it.device.to_vec(), it.inode))
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
        assert_eq!((file(0).offset, file(0).file.identity.1), (0x2000, 1234));
        assert_eq!(file(0).file.path, b"/usr/bin/fio");
        assert_eq!(regions[1].file, None);
        assert_eq!(file(2).file.path, b"/tmp/a b\n\xff");
        assert_eq!(regions[3].file, None);
        let first = maps.split(|it| *it == b'\n').next().unwrap();
        assert_eq!(identity_at(first, 0x55d0_c8e3_e001), Some((b"fe:01".to_vec(), 1234)));
        assert_eq!(identity_at(first, 0x1000), None);
    }

    #[test]
    fn many_regions_and_long_paths_take_little_memory() {
        let mut maps = String::new();
        for it in 0..65_400_u64 {
            let (start, path) = (it << 13, if it % 3 == 0 { "" } else { "/a/long/path" });
            let inode = if path.is_empty() { 0 } else { 7 };
            maps += &format!("{start:x}-{:x} r-xp 00000000 08:01 {inode} {path}\n", start + 4096);
        }
        let regions = parse(maps.as_bytes());
        assert_eq!(regions.len(), 2 * MOST);
        assert!(regions.is_sorted_by_key(|it| it.start));
        let files: Vec<_> = regions.iter().filter_map(|it| it.file.as_ref()).collect();
        assert_eq!(files.len(), MOST);
        assert!(files.iter().all(|it| Arc::ptr_eq(&it.file, &files[0].file)), "they share it");

        let mut maps = String::new();
        for it in 0..1000_u64 {
            let (start, path) = (it << 13, "/x".repeat(2000));
            maps += &format!("{start:x}-{:x} r-xp 00000000 08:01 1 {path}{it}\n", start + 4096);
        }
        let regions = parse(maps.as_bytes());
        assert_eq!(regions.len(), 1000);
        let paths = regions.iter().flat_map(|it| &it.file).map(|it| it.file.path.len());
        let paths: usize = paths.sum();
        assert!((MOST_BYTES - 8192..=MOST_BYTES).contains(&paths), "{paths}");
    }
}
