//! Debug information that costs its reader more time or memory than it has: thousands of units share one line
//! program, which is run for each of them. The file itself has only a few MiB. And a table for unwinding that has no
//! index.

use std::{fs::File, io::Write as _, os::unix::fs::FileExt as _, path::Path};

use object::{Object as _, ObjectSection as _};

/// The number of units, and the instructions of the line program.
#[derive(Clone, Copy)]
pub struct Bomb {
    units: usize,
    begin: &'static [u8],
    repeated: u8,
    end: &'static [u8],
}

/// How often one instruction of the line program is repeated.
const LENGTH: usize = 1 << 20;

/// Each instruction makes a row of 24 bytes or more: some 24 GiB in all, of which a child may have one.
pub const MUCH_MEMORY: Bomb = Bomb {
    units: 1000,
    // DW_LNE_set_address 0x1000
    begin: &[0, 9, 2, 0, 0x10, 0, 0, 0, 0, 0, 0],
    // A special opcode, which goes to the next address and line.
    repeated: 0xff,
    // DW_LNE_end_sequence
    end: &[0, 1, 1],
};

/// DW_LNS_negate_stmt, 2 to the power of 37 times: it makes no row, so it takes minutes, but no memory.
pub const MUCH_TIME: Bomb = Bomb { units: 1 << 17, begin: &[], repeated: 6, end: &[] };

/// Replaces the debug information of an ELF file of 64 bits, which must have some.
pub fn write(path: &Path, bomb: Bomb) {
    // Version 4: length, version, offset of the abbreviations, size of an address; abbreviation 1, offset of the line
    // program.
    const UNIT: [u8; 16] = [12, 0, 0, 0, 4, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0, 0];
    // DW_TAG_compile_unit without children: DW_AT_stmt_list as DW_FORM_sec_offset.
    const ABBREVIATIONS: [u8; 8] = [1, 0x11, 0, 0x10, 0x17, 0, 0, 0];
    // Shortest instruction, operations of an instruction, is_stmt, smallest step of lines (-5) and the range of
    // steps, first special opcode; the number of operands of each opcode before it; no directories, and no files.
    const HEADER: [u8; 20] = [1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0];
    let program = [bomb.begin, &vec![bomb.repeated; LENGTH], bomb.end].concat();
    let length = (2 + 4 + HEADER.len() + program.len()) as u32;
    let size = HEADER.len() as u32;
    let lines = [&length.to_le_bytes()[..], &[4, 0], &size.to_le_bytes(), &HEADER, &program];
    let sections = [
        (".debug_info", UNIT.repeat(bomb.units)),
        (".debug_abbrev", ABBREVIATIONS.to_vec()),
        (".debug_line", lines.concat()),
        (".debug_aranges", Vec::new()),
    ];
    let bytes = std::fs::read(path).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let headers = u64::from_le_bytes(bytes[40..48].try_into().unwrap());
    let mut file = File::options().append(true).open(path).unwrap();
    let at = File::options().write(true).open(path).unwrap();
    for (name, data) in sections {
        let Some(section) = elf.section_by_name(name) else { continue };
        let header = headers + 64 * section.index().0 as u64;
        let begin = file.metadata().unwrap().len();
        file.write_all(&data).unwrap();
        let place = [begin.to_le_bytes(), (data.len() as u64).to_le_bytes()].concat();
        // The section is not compressed; then come its offset and size.
        at.write_all_at(&[0; 8], header + 8).unwrap();
        at.write_all_at(&place, header + 24).unwrap();
    }
}

/// Writes a file with code at 4096 and so many MiB of .eh_frame, with very many functions, without .eh_frame_hdr.
pub fn without_index(path: &Path, mebibytes: usize) {
    const NAMES: &[u8] = b"\0.eh_frame\0.shstrtab\0";
    // A common entry, for addresses of two bytes; and the entry of a function at 1.
    let common = [0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 2];
    let mut table = [&(common.len() as u32).to_le_bytes()[..], &common].concat();
    while table.len() < mebibytes << 20 {
        let back = table.len() as u32 + 4;
        table.extend(9_u32.to_le_bytes());
        table.extend(back.to_le_bytes());
        table.extend([1, 0, 1, 0, 0]);
    }
    const TABLE: usize = 8192;
    let names = TABLE + table.len();
    let sections = (names + NAMES.len()).next_multiple_of(8);
    let words = |all: &[u64]| all.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<u8>>();
    let halves = |all: &[u16]| all.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<u8>>();
    let section = |name: u64, kind: u64, at: usize, size: usize| {
        let (at, size) = (at as u64, size as u64);
        words(&[name | kind << 32, 2, at, at, size, 0, 1, 0])
    };
    let end = (sections + 3 * 64) as u64;
    // ET_DYN for x86-64; on another machine it is a file all the same. One program header, three sections.
    let head = [
        &[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &halves(&[3, 62, 1, 0]),
        &words(&[0, 64, sections as u64]),
        &halves(&[0, 0, 64, 56, 1, 64, 3, 2]),
        // PT_LOAD, which may be read and run, of the whole file at 0.
        &words(&[1 | 5 << 32, 0, 0, 0, end, end, 4096]),
    ];
    let mut bytes = head.concat();
    bytes.resize(TABLE, 0xc3);
    bytes.extend(table);
    bytes.extend(NAMES);
    bytes.resize(sections, 0);
    bytes.extend(section(0, 0, 0, 0));
    bytes.extend(section(1, 1, TABLE, names - TABLE));
    bytes.extend(section(11, 3, names, NAMES.len()));
    std::fs::write(path, bytes).unwrap();
}
