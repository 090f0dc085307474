//! Copies the tables of an ELF file. The file gives the sizes, so each of them is bounded.

use std::fs::File;

use object::{
    LittleEndian, Pod,
    elf::{FileHeader64, ProgramHeader64, SectionHeader64},
    pod,
    read::elf::{FileHeader as _, SectionHeader as _},
};

use super::files;

/// The most bytes of section names that are read.
const MOST_NAMES: usize = 1 << 20;
/// Longer names of sections are cut: no name that is looked for is so long.
const MOST_NAME: usize = 32;
/// The most bytes of a table that are read: as many entries as a file can have, each of the largest
/// kind.
const MOST_TABLE: usize = 65_535 * 64;

/// A 64-bit ELF file.
pub struct Elf<'a> {
    file: &'a File,
    /// The byte order of the file.
    pub endian: LittleEndian,
    /// The segments that are to be loaded.
    pub segments: Vec<ProgramHeader64<LittleEndian>>,
    /// The sections; none, if they could not be read.
    pub sections: Vec<SectionHeader64<LittleEndian>>,
    names: Vec<u8>,
}

impl<'a> Elf<'a> {
    /// Reads the tables of a file; `None` if it is no 64-bit ELF file.
    pub fn read(file: &'a File) -> Option<Self> {
        type Header = FileHeader64<LittleEndian>;
        let bytes = files::read(file, 0, size_of::<Header>() as u64, size_of::<Header>())?;
        let header = Header::parse(&*bytes).ok()?;
        let endian = header.endian().ok()?;
        let count = usize::from(header.e_phnum(endian));
        let segments = table(file, header.e_phoff(endian), count)?;
        let count = usize::from(header.e_shnum(endian));
        let sections: Vec<SectionHeader64<LittleEndian>> =
            table(file, header.e_shoff(endian), count).unwrap_or_default();
        let names = sections
            .get(usize::from(header.e_shstrndx(endian)))
            .and_then(|it| files::read(file, it.sh_offset(endian), it.sh_size(endian), MOST_NAMES));
        Some(Self { file, endian, segments, sections, names: names.unwrap_or_default() })
    }

    /// The name of a section.
    pub fn name(&self, section: &SectionHeader64<LittleEndian>) -> &[u8] {
        let name = self.names.get(section.sh_name(self.endian) as usize..).unwrap_or_default();
        let name = &name[..name.len().min(MOST_NAME)];
        name.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The content of a section, if it has at most `most` bytes.
    pub fn data(&self, section: &SectionHeader64<LittleEndian>, most: usize) -> Option<Vec<u8>> {
        let (offset, size) = section.file_range(self.endian)?;
        files::read(self.file, offset, size, most)
    }

    /// [`Self::data`] of the section with this name.
    pub fn section(&self, name: &[u8], most: usize) -> Option<Vec<u8>> {
        self.data(self.sections.iter().find(|it| self.name(it) == name)?, most)
    }
}

fn table<T: Pod>(file: &File, offset: u64, count: usize) -> Option<Vec<T>> {
    let size = count.checked_mul(size_of::<T>())?;
    let bytes = files::read(file, offset, size as u64, MOST_TABLE)?;
    let (entries, _) = pod::slice_from_bytes::<T>(&bytes, count).ok()?;
    Some(entries.to_vec())
}
