//! The work of the fuzz targets for files and stacks of a target.

use std::{fs::File, io::Write as _};

use object::{Object as _, ObjectSection as _};

use super::{OpenFiles, debug, elf::Elf, files, maps, modules::Loaded, names::Names};

/// Reads a file with code as aiotrace itself does, and then as the child does that looks for names.
/// Returns how many sections and functions it found.
pub fn file(bytes: &[u8]) -> u64 {
    let Some(file) = written(bytes) else { return 0 };
    let mut found = 0;
    if let Some(elf) = Elf::read(&file) {
        found += elf.sections.iter().filter(|it| !elf.name(it).is_empty()).count() as u64;
        drop(debug::of(&file, b"/usr/bin/x"));
    }
    if let Some(loaded) = Loaded::new(file, b"/usr/bin/x", &OpenFiles::default()) {
        found += u64::from(loaded.address(0x1000).is_some());
    }
    found + names(bytes)
}

/// Makes a file in memory.
fn written(bytes: &[u8]) -> Option<File> {
    let fd = nix::sys::memfd::memfd_create("file", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).ok()?;
    let mut file = File::from(fd);
    file.write_all(bytes).ok()?;
    Some(file)
}

/// How many addresses around the entry point have a name. (Files with large compressed sections are
/// left out: such a section may only say that it is large; the child that unpacks it has a limit of
/// memory, and a fuzz target has none.)
fn names(bytes: &[u8]) -> u64 {
    let Ok(file) = object::File::parse(bytes) else { return 0 };
    let is_large = |it: object::CompressedData<'_>| it.uncompressed_size > 1 << 20;
    if file.sections().any(|it| it.compressed_data().is_ok_and(is_large)) {
        return 0;
    }
    let entry = file.entry();
    let code = Box::into_raw(Box::<[u8]>::from(bytes));
    // SAFETY: the memory is freed below, when no reference to it is left.
    let names = Names::new(unsafe { &*code }, None);
    let around = (0..64).map(|step| entry.wrapping_add(step * 7).wrapping_sub(64));
    let found = names.map_or(0, |it| around.filter(|at| !it.at(*at).is_empty()).count());
    // SAFETY: a box made this pointer, and `names` is gone.
    drop(unsafe { Box::from_raw(code) });
    found as u64
}

/// Reads /proc/PID/maps and mountinfo, and a section that names a debug file. Returns how many
/// regions with code there are.
pub fn of_proc(bytes: &[u8]) -> u64 {
    let (first, rest) = bytes.split_at(bytes.len().min(8));
    if let Some(mut kinds) = files::Kinds::of(first) {
        rest.split(|it| *it == b'\n').for_each(|line| kinds.line(line));
        kinds.may_be_served();
    }
    debug::by_link(rest, first);
    maps::identity_at(bytes, 0x7000_0000_0000);
    maps::parse(bytes).len() as u64
}
