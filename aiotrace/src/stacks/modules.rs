//! Files with code, mapped into our memory: only what is looked at is read.

use std::{
    collections::HashMap,
    fs::{self, File},
    ops::{Deref, Range},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use aiotrace_common::record::PAGE;
use framehop::ExplicitModuleSectionInfo;
use memmap2::Mmap;
use object::{
    LittleEndian,
    elf::{FileHeader64, PF_X, PT_LOAD},
    read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _},
};

use super::{
    Module,
    maps::{Mapped, Region},
};

/// Files kept open at most; beyond, all are closed.
const MOST: usize = 256;

/// The files that are open.
#[derive(Default)]
pub struct Modules {
    known: HashMap<(Vec<u8>, u64), Option<Arc<Loaded>>, foldhash::fast::RandomState>,
}

impl Modules {
    /// The file of a region, opened only once; `None` if it cannot be.
    pub fn of(&mut self, pid: u32, region: &Region) -> Option<Arc<Loaded>> {
        let mapped = region.file.as_ref()?;
        if let Some(Some(known)) = self.known.get(&mapped.identity) {
            return Some(Arc::clone(known));
        }
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let loaded = open(pid, region, mapped).and_then(|file| Loaded::new(file, &mapped.path));
        let loaded = loaded.map(Arc::new);
        self.known.insert(mapped.identity.clone(), loaded.clone());
        loaded
    }
}

/// The very file, also if it was deleted, replaced, or is in a container's root.
fn open(pid: u32, region: &Region, mapped: &Mapped) -> Option<File> {
    // Its server may wait for something, and then we would, too.
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    if is_fuse(&mounts, &mapped.identity.0) {
        return None;
    }
    let by_region = format!("/proc/{pid}/map_files/{:x}-{:x}", region.start, region.end);
    let mut by_path = PathBuf::from(format!("/proc/{pid}/root"));
    by_path.push(Path::new(std::ffi::OsStr::from_bytes(&mapped.path)).strip_prefix("/").ok()?);
    [PathBuf::from(by_region), by_path].into_iter().find_map(|path| {
        // To open a device may do something.
        let is_it = fs::metadata(&path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.ino() == mapped.identity.1);
        if is_it { File::open(&path).ok() } else { None }
    })
}

/// Whether a program serves the files of this device, given as in maps: `fe:01`.
/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue` (proc(5))
fn is_fuse(mountinfo: &str, device: &[u8]) -> bool {
    let number = |hex| u32::from_str_radix(hex, 16).ok();
    let device = std::str::from_utf8(device).ok().and_then(|it| it.split_once(':'));
    let Some((Some(major), Some(minor))) = device.map(|(it, minor)| (number(it), number(minor)))
    else {
        return false;
    };
    let device = format!("{major}:{minor}");
    mountinfo.lines().any(|line| {
        let kind = line.split(" - ").nth(1).unwrap_or_default();
        kind.starts_with("fuse") && line.split(' ').nth(2) == Some(&device)
    })
}

/// A file with code.
pub struct Loaded {
    /// What frames say of it.
    pub module: Arc<Module>,
    /// Keeps it open for [`super::symbols`].
    _file: Arc<File>,
    map: Arc<Mmap>,
    layout: Layout,
}

/// What is where in the file, and in memory.
#[derive(Default)]
struct Layout {
    /// The parts with code.
    code: Vec<Segment>,
    /// The least address of all parts.
    base: u64,
    sections: Sections,
}

/// A part of the file that is loaded.
struct Segment {
    offset: u64,
    size: u64,
    address: u64,
}

/// Where the sections are that unwinding needs: in memory, and in the file.
#[derive(Default)]
struct Sections {
    text: Option<Range<u64>>,
    got: Option<Range<u64>>,
    eh_frame: Option<(Range<u64>, Range<usize>)>,
    eh_frame_hdr: Option<(Range<u64>, Range<usize>)>,
}

impl Loaded {
    fn new(file: File, path: &[u8]) -> Option<Self> {
        // SAFETY: if somebody cuts the file short, a read of it kills us. A program that runs cannot be
        // written to; a library could be, and then the target dies of it too.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        let file = Arc::new(file);
        let layout = layout(&map)?;
        let module = Arc::new(Module::new(path, Arc::downgrade(&file)));
        Some(Self { module, _file: file, map: Arc::new(map), layout })
    }

    /// The address that its symbols have for code at this place in the file.
    pub fn address(&self, offset: u64) -> Option<u64> {
        self.layout.code.iter().find_map(|it| {
            // Whole pages are mapped: also what is before it in its first page.
            let begin = it.offset & !(PAGE as u64 - 1);
            let end = it.offset.saturating_add(it.size);
            (begin..end)
                .contains(&offset)
                .then(|| it.address.wrapping_add(offset).wrapping_sub(it.offset))
        })
    }

    /// For the unwinder: the file as it is in memory, `region` being a part of it.
    pub fn placed(&self, region: &Region) -> Option<framehop::Module<Bytes>> {
        let at = self.address(region.file.as_ref()?.offset)?;
        let base = region.start.checked_sub(at.checked_sub(self.layout.base)?)?;
        let bytes = |it: &Option<(Range<u64>, Range<usize>)>| {
            let (_, range) = it.as_ref()?;
            Some(Bytes { map: Some(Arc::clone(&self.map)), range: range.clone() })
        };
        let addresses =
            |it: &Option<(Range<u64>, Range<usize>)>| it.as_ref().map(|(range, _)| range.clone());
        let Sections { text, got, eh_frame, eh_frame_hdr } = &self.layout.sections;
        let info = ExplicitModuleSectionInfo {
            base_svma: self.layout.base,
            text_svma: text.clone(),
            got_svma: got.clone(),
            eh_frame_svma: addresses(eh_frame),
            eh_frame: bytes(eh_frame),
            eh_frame_hdr_svma: addresses(eh_frame_hdr),
            eh_frame_hdr: bytes(eh_frame_hdr),
            ..ExplicitModuleSectionInfo::default()
        };
        Some(framehop::Module::new(String::new(), region.start..region.end, base, info))
    }
}

/// A part of a mapped file; by default of none.
#[derive(Default)]
pub struct Bytes {
    map: Option<Arc<Mmap>>,
    range: Range<usize>,
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_ref().and_then(|it| it.get(self.range.clone())).unwrap_or_default()
    }
}

fn layout(bytes: &[u8]) -> Option<Layout> {
    let header = FileHeader64::<LittleEndian>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, bytes).ok()?;
    let loaded = || segments.iter().filter(|it| it.p_type(endian) == PT_LOAD);
    let code = loaded().filter(|it| it.p_flags(endian) & PF_X != 0).map(|it| Segment {
        offset: it.p_offset(endian),
        size: it.p_filesz(endian),
        address: it.p_vaddr(endian),
    });
    let base = loaded().map(|it| it.p_vaddr(endian)).min()?;
    // Without sections it is unwound by frame pointers.
    let mut found = Layout { code: code.collect(), base, sections: Sections::default() };
    let Ok(sections) = header.sections(endian, bytes) else {
        return Some(found);
    };
    for section in sections.iter() {
        let address = section.sh_addr(endian);
        let addresses = address..address.saturating_add(section.sh_size(endian));
        let in_file = section.file_range(endian).and_then(|(at, size)| {
            let (at, size) = (usize::try_from(at).ok()?, usize::try_from(size).ok()?);
            Some((addresses.clone(), at..at.checked_add(size)?))
        });
        match sections.section_name(endian, section).unwrap_or_default() {
            b".text" => found.sections.text = Some(addresses),
            b".got" => found.sections.got = Some(addresses),
            b".eh_frame" => found.sections.eh_frame = in_file,
            b".eh_frame_hdr" => found.sections.eh_frame_hdr = in_file,
            _ => (),
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_program_serves_are_told_by_their_device() {
        let mounts = "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n\
            99 22 0:61 / /mnt rw - fuse.sshfs host:/ rw\n";
        assert!(is_fuse(mounts, b"00:3d"));
        assert!(!is_fuse(mounts, b"fe:01"));
        assert!(!is_fuse(mounts, b"00:3e"));
        assert!(!is_fuse(mounts, b"nonsense"));
    }

    /// The address of a function is where its symbol says.
    #[test]
    fn the_address_in_a_file_is_that_of_its_symbols() {
        use object::{Object as _, ObjectSymbol as _};
        let exe = std::env::current_exe().unwrap();
        let loaded = Loaded::new(File::open(&exe).unwrap(), b"/exe").unwrap();
        let bytes = fs::read(&exe).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let is_main = |it: &object::Symbol<'_, '_>| it.name() == Ok("main");
        let main = file.symbols().find(is_main).unwrap().address();
        let segment =
            loaded.layout.code.iter().find(|it| (it.address..it.address + it.size).contains(&main));
        let segment = segment.unwrap();
        assert_eq!(loaded.address(main - segment.address + segment.offset), Some(main));
        assert_eq!(loaded.address(u64::MAX), None);
    }
}
