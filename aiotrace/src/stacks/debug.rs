//! Finds the debug information of a file, if it is in another file:
//! <https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html>.
//!
//! The file itself says where its debug information is, so the target does. Therefore aiotrace
//! opens only files below the directory of debug files, and only those of root; and a file that is
//! found by its name must have the same build id.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{elf::Elf, files};
use crate::errand;

/// The longest build id, in bytes. (SHA-256 has 32.)
const MOST_ID: usize = 64;

/// Opens the file with the debug information of `file`, which has this path.
pub fn of(file: &File, path: &[u8]) -> Option<File> {
    let elf = Elf::read(file)?;
    let id = build_id(&elf)?;
    let by_id = by_id(&id);
    files::of_debug(&by_id).or_else(|| {
        let linked = files::of_debug(&by_link(path, &elf.section(b".gnu_debuglink", 4096)?)?)?;
        (build_id(&Elf::read(&linked)?)? == id).then_some(linked)
    })
}

/// The build id of a file that is lent to this helper, if neither it nor another file of this machine has its debug
/// information. Only a helper may call this.
pub fn lacking(_: u32, path: Vec<u8>) -> Option<Vec<u8>> {
    let found = File::from(errand::lent().into_iter().next()?);
    let file = files::read_through(&found, |_| true)?;
    let elf = Elf::read(&file)?;
    let has_it = elf.sections.iter().any(|it| INFORMATION.contains(&elf.name(it)));
    if has_it || of(&file, &path).is_some() { None } else { build_id(&elf) }
}

/// The sections with the debug information of functions and lines.
const INFORMATION: [&[u8]; 2] = [b".debug_info", b".zdebug_info"];

/// Whether a file is the debug information of another one.
pub fn is_of(debug: &File, file: &File) -> bool {
    let id = |file: &File| build_id(&Elf::read(file)?);
    id(file).is_some_and(|it| id(debug) == Some(it))
}

/// A note has the sizes of its name and its description, a type, the name, and the description:
/// elf(5).
fn build_id(elf: &Elf<'_>) -> Option<Vec<u8>> {
    let note = elf.section(b".note.gnu.build-id", 4096)?;
    let size = u32::from_le_bytes(note.get(4..8)?.try_into().ok()?) as usize;
    if note.get(12..16)? != b"GNU\0" || !(2..=MOST_ID).contains(&size) {
        return None;
    }
    note.get(16..16 + size).map(<[u8]>::to_vec)
}

/// `.build-id/ab/cdef0123.debug`
fn by_id(id: &[u8]) -> PathBuf {
    let hex: String = id.iter().map(|it| format!("{it:02x}")).collect();
    let (first, rest) = hex.split_at(2);
    PathBuf::from(format!(".build-id/{first}/{rest}.debug"))
}

/// The file that the section names, in the directory of `path`.
pub(super) fn by_link(path: &[u8], link: &[u8]) -> Option<PathBuf> {
    let name = link.split(|byte| *byte == 0).next()?;
    let is_name = !name.is_empty() && !name.contains(&b'/');
    let directory = Path::new(OsStr::from_bytes(path)).parent()?.strip_prefix("/").ok()?;
    is_name.then(|| directory.join(OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_link_is_a_name_and_no_path() {
        let link = |name: &[u8]| by_link(b"/usr/lib/libx.so", name);
        assert_eq!(link(b"x.debug\0\0\0\0crc"), Some(PathBuf::from("usr/lib/x.debug")));
        for bad in [&b"/etc/passwd\0"[..], b"../x\0", b"a/b\0", b"\0", b""] {
            assert_eq!(link(bad), None);
        }
        assert_eq!(by_id(&[0xab, 0xcd, 0xef]), Path::new(".build-id/ab/cdef.debug"));
    }

    #[test]
    fn the_build_id_is_found() {
        let libc = File::open("/lib/x86_64-linux-gnu/libc.so.6").unwrap();
        let id = build_id(&Elf::read(&libc).unwrap()).unwrap();
        assert_eq!(id.len(), 20);
        assert!(id.iter().any(|it| *it != 0));
    }
}
