//! Call sites: the places in a program's own code where it makes AIO calls.

use std::fmt;

use super::Syscall;
use crate::fnv::Fnv;

/// The number of a call site: of the call, and of the functions of the program's own code that led to it. It is the
/// same in each run, and after a rebuild by the same compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

/// A function that led to a call, as it counts for the id: never by debug information, so that the id is the same
/// with and without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step<'a> {
    /// The symbol, in a file of this name.
    Symbol(&'a [u8], &'a str),
    /// The address in a file of this name, if that has no symbol there.
    Offset(&'a [u8], u64),
}

impl SiteId {
    /// The id of a site, by the functions that led to the call, the innermost first. io_getevents and io_pgetevents
    /// are one call here: which of them libaio makes depends on its version.
    pub fn of<'a>(call: Syscall, steps: impl Iterator<Item = Step<'a>>) -> Self {
        let call = if call == Syscall::Pgetevents { Syscall::Getevents } else { call };
        let mut hash = Fnv::default();
        hash.text(call.name().as_bytes());
        for step in steps {
            match step {
                Step::Symbol(module, symbol) => {
                    hash.text(module);
                    hash.text(symbol.as_bytes());
                }
                Step::Offset(module, offset) => {
                    hash.text(module);
                    hash.text(&offset.to_le_bytes());
                }
            }
        }
        Self((hash.0 ^ hash.0 >> 32) as u32)
    }

    /// Reads what [`fmt::Display`] writes: eight digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == 8 && text.bytes().all(|it| it.is_ascii_hexdigit());
        is_id.then(|| u32::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_never_changes() {
        let steps = [Step::Symbol(b"fio", "fio_libaio_commit"), Step::Offset(b"fio", 0x1234)];
        let id = |call| SiteId::of(call, steps.into_iter());
        assert_eq!(id(Syscall::Submit).to_string(), "6c9415f0");
        assert_eq!(SiteId::parse(&id(Syscall::Submit).to_string()), Some(id(Syscall::Submit)));
        assert_eq!(id(Syscall::Getevents), id(Syscall::Pgetevents));
        assert_ne!(id(Syscall::Submit), id(Syscall::Setup));
    }

    #[test]
    fn only_eight_digits_are_an_id() {
        assert_eq!(SiteId::parse("0000000a"), Some(SiteId(10)));
        for not in ["", "a", "+000000a", "0x00000a", "0000000aa", "0000000g"] {
            assert_eq!(SiteId::parse(not), None, "{not}");
        }
    }
}
