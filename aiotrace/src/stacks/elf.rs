//! The tables of an ELF file, copied: sizes are the file's, so each is bounded.

use std::fs::File;

use object::{
    LittleEndian, Pod,
    elf::{FileHeader64, ProgramHeader64, SectionHeader64},
    pod,
    read::elf::{FileHeader as _, SectionHeader as _},
};

use super::files;

/// Names of sections that are longer in all are not read.
const MOST_NAMES: usize = 1 << 20;
/// The names that are looked for are shorter.
const MOST_NAME: usize = 32;
/// A table that is larger is not read: as many entries as a file can have, of the largest.
const MOST_TABLE: usize = 65_535 * 64;

/// A file of 64 bits.
pub struct Elf<'a> {
    file: &'a File,
    /// The order of its bytes.
    pub endian: LittleEndian,
    /// What is to be loaded.
    pub segments: Vec<ProgramHeader64<LittleEndian>>,
    /// Its sections; none, if they could not be read.
    pub sections: Vec<SectionHeader64<LittleEndian>>,
    names: Vec<u8>,
}

impl<'a> Elf<'a> {
    /// Its tables; `None` if it is no such file.
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

    /// What is in a section, if that is no more than so many bytes.
    pub fn data(&self, section: &SectionHeader64<LittleEndian>, most: usize) -> Option<Vec<u8>> {
        let (offset, size) = section.file_range(self.endian)?;
        files::read(self.file, offset, size, most)
    }

    /// The same by its name.
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
