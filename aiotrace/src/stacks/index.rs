//! Makes the index of a table for unwinding, where a file has none (.eh_frame without .eh_frame_hdr). framehop would make
//! one for each place where the file is mapped, in the thread that reads the trace; this one is made once for each file,
//! by the helper that copies the table.
//!
//! The file is the target's, so this takes time and memory that are linear in the size of the table, whatever is in it.

use std::{collections::HashMap, ops::Range};

use addr2line::gimli::{
    BaseAddresses, CieOrFde, EhFrame, Error, LittleEndian, UnwindSection as _,
    constants::{DW_EH_PE_absptr, DW_EH_PE_datarel, DW_EH_PE_udata4},
};

/// The addresses of sections to which a table may refer.
#[derive(Debug, Default)]
pub struct Addresses {
    /// The table itself.
    pub eh_frame: u64,
    /// .text, if there is one.
    pub text: Option<Range<u64>>,
    /// .got, if there is one.
    pub got: Option<Range<u64>>,
}

/// The content of a section .eh_frame_hdr for this table, as if it stood at `address`. What is less than `address`, or
/// 4 GiB and more beyond it, is left out, and so is what comes after something that cannot be read.
pub fn of(eh_frame: &[u8], addresses: &Addresses, address: u64) -> Vec<u8> {
    let mut entries = entries(eh_frame, addresses, address);
    entries.sort_unstable();
    // <https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/ehframechpt.html>
    let encodings = [DW_EH_PE_absptr.0, DW_EH_PE_udata4.0, DW_EH_PE_datarel.0 | DW_EH_PE_udata4.0];
    let mut index = Vec::with_capacity(16 + 8 * entries.len());
    index.push(1);
    index.extend(encodings);
    index.extend(addresses.eh_frame.to_le_bytes());
    index.extend(u32::try_from(entries.len()).unwrap_or(0).to_le_bytes());
    index.extend(entries.into_iter().flatten().flat_map(u32::to_le_bytes));
    index
}

/// The first address of each function, and the place of its entry in the table, both relative to `address`.
fn entries(eh_frame: &[u8], addresses: &Addresses, address: u64) -> Vec<[u32; 2]> {
    let mut table = EhFrame::new(eh_frame, LittleEndian);
    table.set_address_size(8);
    let mut bases = BaseAddresses::default().set_eh_frame(addresses.eh_frame);
    if let Some(text) = &addresses.text {
        bases = bases.set_text(text.start);
    }
    if let Some(got) = &addresses.got {
        bases = bases.set_got(got.start);
    }
    let relative = |it: u64| u32::try_from(it.checked_sub(address)?).ok();
    // An entry says what it has in common with others by a place before it. Each such place is read once: that it is
    // found here at all is a matter of order, which linkers keep.
    let mut common = HashMap::<_, _, foldhash::fast::RandomState>::default();
    let (mut found, mut entries) = (Vec::new(), table.entries(&bases));
    while let Ok(Some(entry)) = entries.next() {
        match entry {
            CieOrFde::Cie(cie) => {
                common.insert(cie.offset(), cie);
            }
            CieOrFde::Fde(fde) => {
                let read = fde.parse(|_, _, at| {
                    common.get(&at.0).cloned().ok_or(Error::NoEntryAtGivenOffset(at.0 as u64))
                });
                let Ok(fde) = read else { break };
                let at = addresses.eh_frame.wrapping_add(fde.offset() as u64);
                found.extend(
                    relative(fde.initial_address()).zip(relative(at)).map(<[u32; 2]>::from),
                );
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use addr2line::gimli::EhFrameHdr;

    use super::*;
    use crate::stacks::elf::Elf;

    /// The index is that of the linker.
    #[test]
    fn each_function_is_found_as_by_the_index_of_the_linker() {
        use object::read::elf::SectionHeader as _;
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        let elf = Elf::read(&file).unwrap();
        let section = |name: &[u8]| elf.sections.iter().find(|it| elf.name(it) == name).unwrap();
        let address = |name: &[u8]| section(name).sh_addr(elf.endian);
        let data = |name: &[u8]| elf.data(section(name), usize::MAX).unwrap();
        let eh_frame = address(b".eh_frame");
        let addresses = Addresses { eh_frame, ..Addresses::default() };
        let lookup = |index: &[u8], at: u64, wanted: &[u64]| -> Vec<u64> {
            let bases = BaseAddresses::default().set_eh_frame(eh_frame).set_eh_frame_hdr(at);
            let parsed = EhFrameHdr::new(index, LittleEndian).parse(&bases, 8).unwrap();
            let table = parsed.table().unwrap();
            let found = |it: &u64| table.lookup(*it, &bases).unwrap().direct().unwrap();
            wanted.iter().map(found).collect()
        };
        let ours = of(&data(b".eh_frame"), &addresses, 0);
        let starts = entries(&data(b".eh_frame"), &addresses, 0);
        let starts: Vec<u64> = starts.into_iter().map(|it| u64::from(it[0])).collect();
        assert!(starts.len() > 1000);
        let theirs = lookup(&data(b".eh_frame_hdr"), address(b".eh_frame_hdr"), &starts);
        assert_eq!(lookup(&ours, 0, &starts), theirs);
    }

    #[test]
    fn what_is_no_table_has_an_empty_index() {
        let none = of(&[], &Addresses::default(), 0);
        assert_eq!(none.len(), 16);
        assert_eq!(of(&[7; 100], &Addresses::default(), 0), none);
    }
}
