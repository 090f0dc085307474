//! Return addresses of arm64 may be signed: the bits above those of an address hold a code, which
//! the function checks before it returns. Distributions build most of their libraries so.
//!
//! The code is taken off each address ([`mask`]), signed or not. So an unwinder needs not know which
//! are, and the instruction in the tables that says so (`DW_CFA_AARCH64_negate_ra_state`,
//! <https://github.com/ARM-software/abi-aa/blob/main/aadwarf64/aadwarf64.rst>) may be left out. It has
//! to be: framehop 0.16 does not tell gimli that the tables are of this architecture, and gimli then
//! refuses each table in which the instruction is ([`unmark`]).

use std::cell::Cell;

use framehop::aarch64::PtrAuthMask;

/// The bits of an address that are no part of a signature. The addresses of a process go to the end
/// of its highest region, and the stacks are close below the highest that there can be.
pub fn mask(highest: u64, sp: u64) -> PtrAuthMask {
    PtrAuthMask::from_max_known_address(highest.max(sp))
}

/// `DW_CFA_AARCH64_negate_ra_state` and `DW_CFA_nop`
const NEGATE: u8 = 0x2d;
const NOTHING: u8 = 0;

/// Puts an instruction that does nothing in the place of each one that says that the return address
/// is signed from there on, or no longer. Where the tables cannot be read, they stay as they are.
pub fn unmark(eh_frame: &mut [u8]) {
    let bytes = Cell::from_mut(eh_frame).as_slice_of_cells();
    let (mut at, mut last) = (0, None);
    while let Some(entry) = Entry::at(bytes, at) {
        let _ = entry.unmark(bytes, &mut last);
        at = entry.end;
    }
}

/// A CIE or an FDE.
#[derive(Clone, Copy)]
struct Entry {
    /// Where its id is: 0, or how far its CIE is before this place.
    id: usize,
    end: usize,
}

/// What a CIE says of itself and of its FDEs.
#[derive(Clone, Copy)]
struct Cie {
    /// Bytes of an address in an FDE.
    address: usize,
    /// Whether there are more data, which begin with their length.
    has_more: bool,
    /// Where its instructions begin.
    instructions: usize,
}

impl Entry {
    fn at(bytes: &[Cell<u8>], at: usize) -> Option<Self> {
        let mut cursor = Cursor { bytes, at };
        let length = match cursor.number(4)? {
            0xffff_ffff => cursor.number(8)?,
            length => length,
        };
        let id = cursor.at;
        let end = id.checked_add(usize::try_from(length).ok()?)?;
        (length > 0 && end <= bytes.len()).then_some(Self { id, end })
    }

    /// Replaces the instructions in this entry. `last`: the CIE that was read last, which is that of
    /// most entries, and where it is.
    fn unmark(self, bytes: &[Cell<u8>], last: &mut Option<(usize, Cie)>) -> Option<()> {
        let mut cursor = Cursor { bytes: bytes.get(..self.end)?, at: self.id };
        let back = usize::try_from(cursor.number(4)?).ok()?;
        if back == 0 {
            let cie = Cie::at(cursor)?;
            return Cursor { at: cie.instructions, ..cursor }.unmark(cie.address);
        }
        let at = self.id.checked_sub(back)?;
        let cie = match *last {
            Some((place, cie)) if place == at => cie,
            _ => {
                let Self { id, end } = Self::at(bytes, at)?;
                Cie::at(Cursor { bytes: bytes.get(..end)?, at: id.checked_add(4)? })?
            }
        };
        *last = Some((at, cie));
        cursor.take(2 * cie.address)?;
        if cie.has_more {
            let length = usize::try_from(cursor.leb()?).ok()?;
            cursor.take(length)?;
        }
        cursor.unmark(cie.address)
    }
}

impl Cie {
    /// Reads what is behind the id.
    fn at(mut cursor: Cursor<'_>) -> Option<Self> {
        /// No augmentation that is known is longer.
        const LONGEST: usize = 8;
        let version = cursor.byte()?;
        let mut augmentation = Vec::new();
        loop {
            match cursor.byte()? {
                0 => break,
                _ if augmentation.len() == LONGEST => return None,
                byte => augmentation.push(byte),
            }
        }
        // The factors of places in the code and in the stack, and the register of the return address.
        cursor.leb()?;
        cursor.leb()?;
        if version == 1 {
            cursor.byte()?;
        } else {
            cursor.leb()?;
        }
        let mut address = 8;
        let has_more = augmentation.first() == Some(&b'z');
        if has_more {
            let length = usize::try_from(cursor.leb()?).ok()?;
            let mut more = Cursor { bytes: cursor.take(length)?, at: 0 };
            for letter in &augmentation[1..] {
                match letter {
                    b'R' => address = size_of_encoded(more.byte()?)?,
                    b'L' => drop(more.byte()?),
                    b'P' => {
                        let size = size_of_encoded(more.byte()?)?;
                        more.take(size)?;
                    }
                    _ => (),
                }
            }
        }
        Some(Self { address, has_more, instructions: cursor.at })
    }
}

/// Bytes of an address in this encoding (`DW_EH_PE_*`), if it is one of fixed size.
fn size_of_encoded(encoding: u8) -> Option<usize> {
    match encoding & 0xf {
        0 | 4 | 0xc => Some(8),
        3 | 0xb => Some(4),
        2 | 0xa => Some(2),
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Cursor<'a> {
    bytes: &'a [Cell<u8>],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [Cell<u8>]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|it| it[0].get())
    }

    /// A little-endian number of this many bytes.
    fn number(&mut self, size: usize) -> Option<u64> {
        Some(self.take(size)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(byte.get())))
    }

    /// A number in LEB128. (If it has a sign, the value is another one.)
    fn leb(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Replaces the instructions up to the end.
    fn unmark(mut self, address: usize) -> Option<()> {
        while let Some(instruction) = self.bytes.get(self.at) {
            match self.byte()? {
                NEGATE => instruction.set(NOTHING),
                // Advance, restore; nop, remember_state and restore_state.
                0x40..=0x7f | 0xc0..=0xff | 0x00 | 0x0a | 0x0b => (),
                0x01 => drop(self.take(address)?),
                0x02 => drop(self.take(1)?),
                0x03 => drop(self.take(2)?),
                0x04 => drop(self.take(4)?),
                // One number: offset; restore_extended, undefined, same_value, def_cfa_register and
                // def_cfa_offset with and without a sign, and GNU_args_size.
                0x80..=0xbf | 0x06..=0x08 | 0x0d | 0x0e | 0x13 | 0x2e => drop(self.leb()?),
                // Two numbers.
                0x05 | 0x09 | 0x0c | 0x11 | 0x12 | 0x14 | 0x15 | 0x2f => {
                    self.leb()?;
                    self.leb()?;
                }
                // Expressions, the last two of a register.
                kind @ (0x0f | 0x10 | 0x16) => {
                    if kind != 0x0f {
                        self.leb()?;
                    }
                    let length = usize::try_from(self.leb()?).ok()?;
                    self.take(length)?;
                }
                _ => return None,
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry with this id.
    fn entry(id: u32, rest: &[u8]) -> Vec<u8> {
        let length = 4 + rest.len() as u32;
        [&length.to_le_bytes(), &id.to_le_bytes(), rest].concat()
    }

    /// A CIE as GCC writes it for arm64, and an FDE with these instructions.
    fn tables(instructions: &[u8]) -> Vec<u8> {
        let cie = entry(0, b"\x01zR\0\x04\x78\x1e\x01\x1b\x0c\x1f\x00");
        let place = [0x10, 0, 0, 0, 0x20, 0, 0, 0, 0];
        let fde = entry(cie.len() as u32 + 4, &[&place[..], instructions].concat());
        [cie, fde, vec![0; 4]].concat()
    }

    #[test]
    fn a_signed_return_address_is_one_of_the_process() {
        let (code, highest, sp) = (0xaaaa_b2c4_1234, 0xffff_a000_0000, 0xffff_f123_4560);
        for signature in [0, 0x007f_0000_0000_0000, 0xffd5_0000_0000_0000] {
            assert_eq!(mask(highest, sp).strip_ptr_auth(code | signature), code);
        }
        // With 39 bits of addresses there is room for a longer signature.
        let (code, highest) = (0x55_b2c4_1234, 0x7f_f123_4000);
        assert_eq!(
            mask(highest, 0x7f_e000_0000).strip_ptr_auth(code | 0xa5a5_a580_0000_0000),
            code
        );
    }

    #[test]
    fn tables_say_no_longer_that_an_address_is_signed() {
        // As GCC writes them with -mbranch-protection=pac-ret; an operand of def_cfa_offset is 0x2d, too.
        let with =
            [0x41, 0x2d, 0x41, 0x0e, 0x2d, 0x9d, 0x06, 0x9e, 0x05, 0x48, 0x0f, 2, 0x2d, 0x2d, 0x2d];
        let mut tables = tables(&with);
        let before = tables.clone();
        unmark(&mut tables);
        let first = before.len() - 4 - with.len();
        let changed: Vec<usize> = (0..before.len())
            .filter(|it| before[*it] != tables[*it])
            .map(|it| it - first)
            .collect();
        assert_eq!(changed, [1, 14]);
    }

    #[test]
    fn tables_without_it_and_bytes_that_are_none_stay_as_they_are() {
        let good = tables(&[0x41, 0x0e, 0x10, 0x9d, 0x02]);
        for length in 0..=good.len() {
            let mut cut = good[..length].to_vec();
            unmark(&mut cut);
            assert_eq!(cut, good[..length]);
        }
        // An instruction that is not known: nobody knows where the next one begins.
        let odd = tables(&[0x3f, 0x2d]);
        let mut seen = odd.clone();
        unmark(&mut seen);
        assert_eq!(seen, odd);
    }
}
