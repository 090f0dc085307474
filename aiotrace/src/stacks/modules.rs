//! Files with code. The parts that unwinding needs are copied.

use std::{
    collections::HashMap,
    fs::File,
    ops::{Deref, Range},
    sync::Arc,
};

use framehop::ExplicitModuleSectionInfo;
use object::{
    LittleEndian,
    elf::{PF_X, PT_LOAD, SectionHeader64},
    read::elf::{ProgramHeader as _, SectionHeader as _},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::errands::Load;
use super::{
    Module, OpenFiles,
    elf::Elf,
    files,
    index::{self, Addresses},
    maps::{Mapped, Region},
};
use crate::{
    arch::prepare_tables,
    errand::{self, Errand as _},
    proc::system::page_size,
};

/// The most files that are kept; beyond, all have to be forgotten.
const MOST: usize = 256;
/// The most bytes that are copied of all files; beyond, all files have to be forgotten.
const MOST_COPIED: usize = 256 << 20;
/// The most bytes of a section for unwinding that are read. (Chromium, one of the largest programs,
/// has a section of about 30 MiB.)
const MOST_OF_SECTION: usize = 64 << 20;
/// The same, if the file has no index of the section (.eh_frame_hdr), as some static programs: all of it has to be read
/// to make one.
const MOST_WITHOUT_INDEX: usize = 1 << 20;

/// The files that are kept.
#[derive(Default)]
pub struct Modules {
    known: HashMap<Arc<Mapped>, Arc<Loaded>, foldhash::fast::RandomState>,
    /// How many bytes were copied.
    copied: usize,
    open: OpenFiles,
}

impl Modules {
    /// Gives the files their numbers in `open`.
    pub fn new(open: OpenFiles) -> Self {
        Self { open, ..Self::default() }
    }

    /// Forgets all files.
    pub fn clear(&mut self) {
        self.known.clear();
        self.copied = 0;
    }

    /// Whether there is no room for another file: then all have to be forgotten, by everybody who
    /// has a part of one.
    pub fn is_full(&self) -> bool {
        self.known.len() >= MOST || self.copied >= MOST_COPIED
    }

    /// The file of a region, which is looked for only once if it is there; `None` if it cannot be found.
    pub fn of(&mut self, pid: u32, region: &Region) -> Option<Arc<Loaded>> {
        let file = &region.file.as_ref()?.file;
        if let Some(known) = self.known.get(file) {
            return Some(Arc::clone(known));
        }
        if self.is_full() {
            return None;
        }
        let place = (region.start, region.end);
        let load = Load { pid, place, file: Mapped::clone(file) };
        let (layout, found) = load.ask_with(&[])?;
        let loaded = Loaded::with(layout?, File::from(found?), &file.path, &self.open);
        self.copied += loaded.size();
        let loaded = Arc::new(loaded);
        self.known.insert(Arc::clone(file), Arc::clone(&loaded));
        Some(loaded)
    }
}

/// A file with code.
pub struct Loaded {
    /// What frames say of the file.
    pub module: Arc<Module>,
    /// Keeps the file for [`super::symbols`].
    _found: Arc<File>,
    layout: Layout,
}

/// Finds the file that is mapped at this place and gives it away, and copies the parts that
/// unwinding needs; `None` if it cannot be read, or is no 64-bit ELF file. Only a helper may call
/// this.
pub fn load(pid: u32, place: (u64, u64), mapped: Mapped) -> Option<Layout> {
    let (file, found) = files::of_region(pid, place, &mapped)?;
    let layout = layout(&file)?;
    errand::give(found.into());
    Some(layout)
}

/// The layout of a file, and of its parts in memory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Layout {
    /// The segments with code.
    code: Vec<Segment>,
    /// The lowest address of all segments.
    base: u64,
    sections: Sections,
}

/// A segment of the file that is loaded.
#[derive(Debug, Serialize, Deserialize)]
struct Segment {
    offset: u64,
    size: u64,
    address: u64,
}

/// The sections that unwinding needs: their addresses and their content.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sections {
    text: Option<Range<u64>>,
    got: Option<Range<u64>>,
    tables: Option<Tables>,
}

/// The tables for unwinding.
#[derive(Debug, Serialize, Deserialize)]
struct Tables {
    eh_frame: (Range<u64>, Bytes),
    /// Its index. framehop makes one itself, wherever it is missing.
    eh_frame_hdr: (Range<u64>, Bytes),
}

impl Tables {
    /// `base` is the lowest address of the file.
    fn new(eh_frame: Section, eh_frame_hdr: Option<Section>, base: u64, others: &Sections) -> Self {
        let (addresses, mut bytes) = eh_frame;
        prepare_tables(&mut bytes);
        let index = eh_frame_hdr.unwrap_or_else(|| {
            let Sections { text, got, .. } = others;
            let (text, got) = (text.clone(), got.clone());
            let addresses = Addresses { eh_frame: addresses.start, text, got };
            let index = index::of(&bytes, &addresses, base);
            (base..base.saturating_add(index.len() as u64), index)
        });
        let lent = |(addresses, bytes): Section| (addresses, Bytes(bytes.into()));
        Self { eh_frame: lent((addresses, bytes)), eh_frame_hdr: lent(index) }
    }
}

/// The addresses of a section, and its content.
type Section = (Range<u64>, Vec<u8>);

impl Loaded {
    /// A file of this process: for tests and the fuzz target. `None` if it is no 64-bit ELF file.
    pub fn new(file: File, path: &[u8], open: &OpenFiles) -> Option<Self> {
        Some(Self::with(layout(&file)?, file, path, open))
    }

    /// A file that is loaded at address 0 and has these tables: for the fuzz target.
    pub fn with_tables(file: File, eh_frame: &[u8], eh_frame_hdr: &[u8]) -> Self {
        const TABLES: u64 = 0x10_0000;
        let section = |at: u64, bytes: &[u8]| {
            Some((at..at + bytes.len() as u64, bytes.to_vec())).filter(|_| !bytes.is_empty())
        };
        let code = Segment { offset: 0, size: TABLES, address: 0 };
        let mut sections = Sections { text: Some(0..TABLES), got: None, tables: None };
        let index = section(2 * TABLES, eh_frame_hdr);
        sections.tables = section(TABLES, eh_frame).map(|it| Tables::new(it, index, 0, &sections));
        let layout = Layout { code: vec![code], base: 0, sections };
        Self::with(layout, file, b"/x", &OpenFiles::default())
    }

    fn with(layout: Layout, found: File, path: &[u8], open: &OpenFiles) -> Self {
        let found = Arc::new(found);
        let module = Arc::new(Module::new(open.add(&found), path));
        Self { module, _found: found, layout }
    }

    /// How many bytes of it were copied.
    fn size(&self) -> usize {
        let tables = self.layout.sections.tables.as_ref();
        tables.map_or(0, |it| it.eh_frame.1.len() + it.eh_frame_hdr.1.len())
    }

    /// The address that the file's symbols have for code at this position in the file.
    pub fn address(&self, offset: u64) -> Option<u64> {
        self.address_with(offset, page_size() as u64)
    }

    /// The same on a machine with pages of this size.
    fn address_with(&self, offset: u64, page: u64) -> Option<u64> {
        self.layout.code.iter().find_map(|it| {
            // Whole pages are mapped, so the part of the first page before the segment is mapped,
            // too.
            let begin = it.offset & !(page - 1);
            let end = it.offset.saturating_add(it.size);
            (begin..end)
                .contains(&offset)
                .then(|| it.address.wrapping_add(offset).wrapping_sub(it.offset))
        })
    }

    /// For the unwinder: the file as it is in memory, where `region` is a part of it. This copies nothing.
    pub fn placed(&self, region: &Region) -> Option<framehop::Module<Bytes>> {
        let at = self.address(region.file.as_ref()?.offset)?;
        let base = region.start.checked_sub(at.checked_sub(self.layout.base)?)?;
        let Sections { text, got, tables } = &self.layout.sections;
        let section = |of: fn(&Tables) -> &(Range<u64>, Bytes)| tables.as_ref().map(of).cloned();
        let (eh_frame_svma, eh_frame) = section(|it| &it.eh_frame).unzip();
        let (eh_frame_hdr_svma, eh_frame_hdr) = section(|it| &it.eh_frame_hdr).unzip();
        let info = ExplicitModuleSectionInfo {
            base_svma: self.layout.base,
            text_svma: text.clone(),
            got_svma: got.clone(),
            eh_frame_svma,
            eh_frame,
            eh_frame_hdr_svma,
            eh_frame_hdr,
            ..ExplicitModuleSectionInfo::default()
        };
        Some(framehop::Module::new(String::new(), region.start..region.end, base, info))
    }
}

/// A copy of a part of a file.
#[derive(Clone, Debug, Default)]
pub struct Bytes(Arc<[u8]>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(|it| Self(it.into()))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

fn layout(file: &File) -> Option<Layout> {
    let elf = Elf::read(file)?;
    let endian = elf.endian;
    let loaded = || elf.segments.iter().filter(|it| it.p_type(endian) == PT_LOAD);
    let code = loaded().filter(|it| it.p_flags(endian) & PF_X != 0).map(|it| Segment {
        offset: it.p_offset(endian),
        size: it.p_filesz(endian),
        address: it.p_vaddr(endian),
    });
    let base = loaded().map(|it| it.p_vaddr(endian)).min()?;
    // A file without sections is unwound by frame pointers.
    let mut sections = Sections::default();
    let section = |name: &[u8]| elf.sections.iter().find(|it| elf.name(it) == name);
    let addresses = |it: &SectionHeader64<LittleEndian>| {
        let address = it.sh_addr(endian);
        address..address.saturating_add(it.sh_size(endian))
    };
    let copied = |name, most| {
        let section = section(name)?;
        Some((addresses(section), elf.data(section, most)?))
    };
    sections.text = section(b".text").map(addresses);
    sections.got = section(b".got").map(addresses);
    let index = copied(b".eh_frame_hdr", MOST_OF_SECTION);
    let most = if index.is_some() { MOST_OF_SECTION } else { MOST_WITHOUT_INDEX };
    let eh_frame = copied(b".eh_frame", most);
    sections.tables = eh_frame.map(|it| Tables::new(it, index, base, &sections));
    Some(Layout { code: code.collect(), base, sections })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address of a function is where its symbol says.
    #[test]
    fn the_address_in_a_file_is_that_of_its_symbols() {
        use object::{Object as _, ObjectSymbol as _};
        let exe = std::env::current_exe().unwrap();
        let loaded = Loaded::new(File::open(&exe).unwrap(), b"/exe", &OpenFiles::default());
        let loaded = loaded.unwrap();
        let bytes = std::fs::read(&exe).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let is_main = |it: &object::Symbol<'_, '_>| it.name() == Ok("main");
        let main = file.symbols().find(is_main).unwrap().address();
        let segment =
            loaded.layout.code.iter().find(|it| (it.address..it.address + it.size).contains(&main));
        let segment = segment.unwrap();
        assert_eq!(loaded.address(main - segment.address + segment.offset), Some(main));
        assert_eq!(loaded.address(u64::MAX), None);
        assert!(loaded.size() > 0);
    }

    #[test]
    fn a_segment_is_mapped_from_its_page_on_however_large_pages_are() {
        let mut loaded = Loaded::with_tables(tempfile::tempfile().unwrap(), &[], &[]);
        loaded.layout.code = vec![Segment { offset: 0x2_7456, address: 0x42_7456, size: 0x100 }];
        for (page, begin) in [(4 << 10, 0x2_7000), (16 << 10, 0x2_4000), (64 << 10, 0x2_0000)] {
            assert_eq!(loaded.address_with(begin, page), Some(0x40_0000 + begin));
            assert_eq!(loaded.address_with(begin - 1, page), None);
            assert_eq!(loaded.address_with(0x2_7556, page), None);
        }
    }

    #[test]
    fn a_section_that_is_too_large_or_not_there_is_not_copied() {
        let exe = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let loaded = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, bytes).unwrap();
            Loaded::new(file, b"/x", &OpenFiles::default())
        };
        assert!(loaded(&exe).unwrap().size() > 0);
        // The sections stand at the end of the file.
        assert_eq!(loaded(&exe[..exe.len() / 2]).unwrap().size(), 0);
        assert!(loaded(&exe[..100]).is_none());
        assert!(loaded(b"").is_none());
    }
}
