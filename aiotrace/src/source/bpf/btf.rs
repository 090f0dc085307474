//! The offsets of structure members in the running kernel, from its BTF.
//!
//! Rust's eBPF target emits no relocations for kernel types, so the offsets are looked up here and
//! given to the probes as constants. The format: <https://docs.kernel.org/bpf/btf.html>. Only the
//! needed part of it is read: structures, unions, and the types between a member and its structure.

use std::{collections::HashMap, path::Path};

use zerocopy::{FromBytes, Immutable, KnownLayout};

/// The file in which the kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;

/// The type information of a kernel.
pub struct Btf {
    /// The position in `types` of each type id (from 1).
    index: Vec<usize>,
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Structures and unions by name; of several with the same name, the first.
    structures: HashMap<Vec<u8>, u32>,
}

/// Why BTF could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read {VMLINUX}")]
    Read(#[source] std::io::Error),
    /// The file is not BTF.
    #[error("{VMLINUX} is not in the format expected (at byte {0})")]
    Format(usize),
}

#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct FileHeader {
    magic: u16,
    version: u8,
    flags: u8,
    header_length: u32,
    types_offset: u32,
    types_length: u32,
    strings_offset: u32,
    strings_length: u32,
}

/// `struct btf_type`
#[derive(FromBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct Type {
    name: u32,
    info: u32,
    size_or_type: u32,
}

/// `struct btf_member`
#[derive(FromBytes, Immutable, KnownLayout, Clone, Copy)]
#[repr(C)]
struct Member {
    name: u32,
    r#type: u32,
    offset: u32,
}

impl Type {
    fn kind(self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    fn length(self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// Whether the upper byte of a member's offset is the size of a bit field.
    fn has_bit_fields(self) -> bool {
        self.info >> 31 == 1
    }

    fn is_structure(self) -> bool {
        matches!(self.kind(), kind::STRUCT | kind::UNION)
    }

    /// How many bytes follow the type.
    fn trailer(self) -> Option<usize> {
        Some(match self.kind() {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::ENUM64 => 12 * self.length(),
            kind::ENUM | kind::FUNC_PROTO => 8 * self.length(),
            kind::DATASEC => 12 * self.length(),
            1..=19 => 0,
            _ => return None,
        })
    }
}

mod kind {
    pub const INT: u32 = 1;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

impl Btf {
    /// The BTF of the running kernel.
    ///
    /// # Errors
    /// If the kernel has no BTF, or one that cannot be understood.
    pub fn of_kernel() -> Result<Self, Error> {
        Self::parse(&std::fs::read(Path::new(VMLINUX)).map_err(Error::Read)?)
    }

    /// Parses the bytes of a BTF file.
    ///
    /// # Errors
    /// [`Error::Format`] if the file is cut short or has another format.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let (header, _) = FileHeader::read_from_prefix(bytes).map_err(|_| Error::Format(0))?;
        if header.magic != MAGIC {
            return Err(Error::Format(0));
        }
        let section = |offset: u32, length: u32| {
            let start = header.header_length as usize + offset as usize;
            bytes.get(start..start + length as usize).ok_or(Error::Format(start))
        };
        let types = section(header.types_offset, header.types_length)?.to_vec();
        let strings = section(header.strings_offset, header.strings_length)?.to_vec();
        let mut index = vec![usize::MAX];
        let mut place = 0;
        while place < types.len() {
            let (found, _) =
                Type::read_from_prefix(&types[place..]).map_err(|_| Error::Format(place))?;
            index.push(place);
            place += size_of::<Type>() + found.trailer().ok_or(Error::Format(place))?;
        }
        let mut found = Self { index, types, strings, structures: HashMap::new() };
        for id in (1..found.index.len() as u32).rev() {
            if let Some((it, _)) = found.type_at(id).filter(|it| it.0.is_structure()) {
                found.structures.insert(found.name(it.name).to_vec(), id);
            }
        }
        Ok(found)
    }

    /// The byte offset of a member. `path` has the names on the way to it (`["thread_info",
    /// "status"]`). Anonymous structures and unions are searched, too. `None` if there is no such
    /// member, or if it is a bit field.
    pub fn offset(&self, structure: &str, path: &[&str]) -> Option<u32> {
        let mut id = self.structure(structure)?;
        let mut total = 0;
        for name in path {
            let (bits, of) = self.member(id, name)?;
            if bits % 8 != 0 {
                return None;
            }
            total += bits / 8;
            id = self.resolve(of);
        }
        Some(total)
    }

    /// The id of a function.
    pub fn function(&self, name: &str) -> Option<u32> {
        (1..self.index.len() as u32).find(|id| {
            self.type_at(*id).is_some_and(|(found, _)| {
                found.kind() == kind::FUNC && self.name(found.name) == name.as_bytes()
            })
        })
    }

    /// The size of a structure in bytes.
    pub fn size(&self, structure: &str) -> Option<u32> {
        Some(self.type_at(self.structure(structure)?)?.0.size_or_type)
    }

    fn structure(&self, name: &str) -> Option<u32> {
        self.structures.get(name.as_bytes()).copied()
    }

    fn type_at(&self, id: u32) -> Option<(Type, &[u8])> {
        let rest = self.types.get(*self.index.get(id as usize)?..)?;
        Type::read_from_prefix(rest).ok()
    }

    fn name(&self, offset: u32) -> &[u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The bit offset and the type of a member, found directly or in an anonymous part.
    fn member(&self, id: u32, name: &str) -> Option<(u32, u32)> {
        let (structure, mut rest) = self.type_at(id)?;
        if !structure.is_structure() {
            return None;
        }
        for _ in 0..structure.length() {
            let (member, after) = Member::read_from_prefix(rest).ok()?;
            rest = after;
            let bit_field = structure.has_bit_fields() && member.offset >> 24 != 0;
            let bits =
                if structure.has_bit_fields() { member.offset & 0xff_ffff } else { member.offset };
            let found = self.name(member.name);
            if found == name.as_bytes() {
                return (!bit_field).then_some((bits, member.r#type));
            }
            if found.is_empty()
                && let Some((inner, of)) = self.member(self.resolve(member.r#type), name)
            {
                return Some((bits + inner, of));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> u32 {
        while let Some((found, _)) = self.type_at(id)
            && matches!(
                found.kind(),
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG
            )
        {
            id = found.size_or_type;
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int a; struct { int b; typedef'd struct inner c; }; }`,
    /// `struct inner { int x; int y; int bit:3; }`
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0inner\0a\0b\0c\0x\0y\0bit\0alias\0";
        let at = |name: &str| {
            let text = std::str::from_utf8(strings).unwrap();
            text.find(&format!("\0{name}\0")).unwrap() as u32 + 1
        };
        let info = |kind: u32, length: u32, flag: u32| flag << 31 | kind << 24 | length;
        let words: Vec<u32> = [
            vec![at("int"), info(kind::INT, 0, 0), 4, 32],   // 1
            vec![at("inner"), info(kind::STRUCT, 3, 1), 12], // 2
            vec![at("x"), 1, 0, at("y"), 1, 32, at("bit"), 1, 3 << 24 | 64],
            vec![at("alias"), info(kind::TYPEDEF, 0, 0), 2], // 3
            vec![0, info(kind::STRUCT, 2, 0), 16, at("b"), 1, 0, at("c"), 3, 32], // 4
            vec![at("outer"), info(kind::STRUCT, 2, 0), 20, at("a"), 1, 0, 0, 4, 32], // 5
        ]
        .concat();
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_through_anonymous_parts_and_typedefs() {
        let btf = Btf::parse(&sample()).unwrap();
        assert_eq!(btf.offset("outer", &["a"]), Some(0));
        assert_eq!(btf.offset("outer", &["b"]), Some(4));
        assert_eq!(btf.offset("outer", &["c", "y"]), Some(12));
        assert_eq!(btf.size("inner"), Some(12));
    }

    #[test]
    fn bit_fields_and_unknown_members_have_no_offset() {
        let btf = Btf::parse(&sample()).unwrap();
        assert_eq!(btf.offset("inner", &["bit"]), None);
        assert_eq!(btf.offset("inner", &["z"]), None);
        assert_eq!(btf.offset("nowhere", &["x"]), None);
    }

    #[test]
    fn every_truncation_is_an_error_not_a_panic() {
        let bytes = sample();
        for length in 0..bytes.len() {
            let _ = Btf::parse(&bytes[..length]).map(|btf| btf.offset("outer", &["c", "y"]));
        }
        assert!(Btf::parse(&bytes[..40]).is_err());
    }
}
