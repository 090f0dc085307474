//! Looks for handles in the memory that a process can write. A context whose handle is nowhere in
//! it is lost: nobody can use or destroy it.

use std::{
    collections::HashSet,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use super::{
    file::{Told, lines, read},
    maps::Mapping,
    memory::read_memory,
    system::page_size,
};

/// How many pages are read at a time.
const CHUNK: usize = 256;
/// For how many pages at a time it is looked up whether they are present.
const LOOKED_UP: u64 = 32_768;
/// A scan that takes longer is given up. (The process chooses how much memory it reserves, and
/// looking up which of it is present takes 1 ms for each GiB.)
const LONGEST: Duration = Duration::from_secs(5);

/// Those of the handles that are nowhere in the memory of the process, nor in the arguments of a
/// call in which one of its threads is. `None` if not all of the memory could be read: the scan
/// took longer than [`LONGEST`], or a part of the memory is swapped out.
///
/// The scan reads all memory that the process can write and has touched: some 0.3 s for each GiB.
pub fn missing(pid: u32, handles: Vec<u64>) -> Option<Vec<u64>> {
    let until = Instant::now() + LONGEST;
    let mut wanted: HashSet<u64> = handles.iter().copied().collect();
    let mut regions = Vec::new();
    let told = lines(format!("/proc/{pid}/maps"), |line| regions.extend(writable(line))).ok()?;
    if told != Told::All {
        return None;
    }
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).ok()?;
    let mut chunk = vec![0; CHUNK * page_size()];
    for (from, to) in regions {
        let mut at = from;
        while at < to && !wanted.is_empty() {
            let pages = LOOKED_UP.min((to - at) / page_size() as u64).max(1);
            for (first, count) in present(&pagemap, at, pages)? {
                let bytes = &mut chunk[..count * page_size()];
                read_memory(pid, first, bytes)?;
                remove_words(&mut wanted, bytes);
            }
            at += pages * page_size() as u64;
            if Instant::now() > until {
                return None;
            }
        }
    }
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = read(task.path().join("syscall")).ok()?;
        let text = String::from_utf8_lossy(&text);
        for word in text.split_whitespace().filter_map(|it| it.strip_prefix("0x")) {
            if let Ok(value) = u64::from_str_radix(word, 16) {
                wanted.remove(&value);
            }
        }
    }
    Some(handles.into_iter().filter(|it| wanted.contains(it)).collect())
}

/// Which of these pages are present, as runs of an address and a number of pages, at most
/// [`CHUNK`]. Only these are read: reading a page that was never touched would add it to the
/// process's page table, and reading one that is swapped out would fetch it. `None` if a page is
/// swapped out. <https://docs.kernel.org/admin-guide/mm/pagemap.html>
fn present(pagemap: &File, from: u64, pages: u64) -> Option<Vec<(u64, usize)>> {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    let mut entries = vec![0; pages as usize * size_of::<u64>()];
    let place = from / page_size() as u64 * size_of::<u64>() as u64;
    // The file has no entries for addresses above all memory, such as [vsyscall].
    let length = pagemap.read_at(&mut entries, place).ok()?;
    let mut runs: Vec<(u64, usize)> = Vec::new();
    let entries = entries[..length].chunks_exact(8).filter_map(|it| it.try_into().ok());
    for (index, entry) in (0..).zip(entries.map(u64::from_ne_bytes)) {
        if entry & SWAPPED != 0 {
            return None;
        }
        if entry & PRESENT == 0 {
            continue;
        }
        let at = from + index * page_size() as u64;
        match runs.last_mut() {
            Some((first, count))
                if *first + (*count * page_size()) as u64 == at && *count < CHUNK =>
            {
                *count += 1;
            }
            _ => runs.push((at, 1)),
        }
    }
    Some(runs)
}

/// Removes the handles that are in these bytes from those wanted. A 32-bit program has its handles
/// in half words.
fn remove_words(wanted: &mut HashSet<u64>, bytes: &[u8]) {
    let words = bytes.chunks_exact(8).filter_map(|it| it.try_into().ok());
    for word in words.map(u64::from_ne_bytes) {
        // Most words cannot be a handle, which this quick test shows.
        if word & 0xfff == 0 && word != 0 {
            wanted.remove(&word);
        }
    }
    if wanted.iter().any(|it| *it <= u64::from(u32::MAX)) {
        let halves = bytes.chunks_exact(4).filter_map(|it| it.try_into().ok());
        for half in halves.map(u32::from_ne_bytes).filter(|it| it & 0xfff == 0) {
            wanted.remove(&u64::from(half));
        }
    }
}

/// The mapping of a line of maps, if the process can write it. Rings are left out, although they
/// are writable: a ring does not hold its own address.
fn writable(line: &[u8]) -> Option<(u64, u64)> {
    let it = Mapping::parse(line).filter(|it| it.is_writable() && !it.is_ring())?;
    Some((it.start, it.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_our_own_memory_is_found_and_what_is_not_is_missing() {
        let kept: Box<u64> = std::hint::black_box(Box::new(0x1234_5678_9000));
        // Computed at run time from two halves, so that the number is in no constant.
        let absent = std::hint::black_box(0x0bad_cafeu64) << 16 | 0x1000;
        // Try again: if a thread of another test ends meanwhile, its stack cannot be read.
        let missing_here =
            |handle| (0..100).find_map(|_| missing(std::process::id(), vec![handle]));
        assert_eq!(missing_here(*kept), Some(Vec::new()), "{kept}");
        // The list that we pass is in our memory, too, so nothing is missing here. tests/kernel
        // scans another process.
        assert_eq!(missing_here(absent), Some(Vec::new()));
        assert_eq!(missing(u32::MAX, vec![1]), None);
    }

    #[test]
    fn memory_that_was_never_touched_is_not_read() {
        let length = 64 << 20;
        let mut map = memmap2::MmapOptions::new().len(length).map_anon().unwrap();
        map[5 * page_size()] = 1;
        map[6 * page_size()] = 1;
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let at = map.as_ptr() as u64;
        let touched: usize = (0..length / page_size())
            .step_by(LOOKED_UP as usize)
            .flat_map(|page| {
                let from = at + (page * page_size()) as u64;
                present(&pagemap, from, LOOKED_UP.min((length / page_size() - page) as u64))
                    .unwrap()
            })
            .map(|(_, count)| count)
            .sum();
        // If huge pages are used for all memory, there may be one of them, or two.
        assert!([2, 512, 1024].contains(&touched), "{touched} pages");
    }

    #[test]
    fn a_handle_is_a_word_or_half_of_one() {
        let mut wanted =
            HashSet::from([0xf7f0_1000, 0xf7f0_2000, 0x7f12_f7f0_3000, 0x7f12_f7f0_4000]);
        let halves = [7, 0xf7f0_1000, 0xf7f0_3000, 0x7f12u32, 0x7f12, 0xf7f0_4000];
        remove_words(&mut wanted, halves.map(u32::to_ne_bytes).as_flattened());
        assert_eq!(wanted, HashSet::from([0xf7f0_2000, 0x7f12_f7f0_4000]));
    }

    #[test]
    fn writable_mappings_are_found_and_rings_left_out() {
        let maps = "1000-2000 r--p 0 00:00 0 /bin/x\n3000-5000 rw-p 0 00:00 0 [heap]\n\
                    6000-7000 rw-s 0 00:11 7 /[aio] (deleted)\n8000-9000 rw-s 0 00:01 8 /dev/shm/y\n";
        let found = maps.lines().filter_map(|it| writable(it.as_bytes()));
        assert_eq!(found.collect::<Vec<_>>(), [(0x3000, 0x5000), (0x8000, 0x9000)]);
    }
}
