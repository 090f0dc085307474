//! The names of functions in a file, from its symbols and its debug information (which may be in
//! another file).

use std::borrow::Cow;

use addr2line::{
    Context,
    gimli::{self, EndianSlice, RunTimeEndian, SectionId},
};
use object::{CompressedData, Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

use super::child::Function;
use crate::bounded;

/// Longer names are cut.
const MOST_NAME: usize = bounded::FUNCTION_NAMES / 16;

type Slice = EndianSlice<'static, RunTimeEndian>;

/// The names of one file. They stay in memory until the process ends.
pub struct Names {
    symbols: Vec<Symbol>,
    lines: Option<Context<Slice>>,
}

struct Symbol {
    address: u64,
    size: u64,
    name: &'static [u8],
    /// It is of the file with the code, not of the one with its debug information.
    is_own: bool,
}

impl Names {
    /// Reads the names in a file with code; `debug` is its debug information, if another file has
    /// it.
    pub fn new(code: &'static [u8], debug: Option<&'static [u8]>) -> Option<Self> {
        let file = object::File::parse(code).ok()?;
        let debug = debug.and_then(|it| object::File::parse(it).ok());
        let lines = lines(debug.as_ref().unwrap_or(&file)).or_else(|| lines(&file));
        let mut found = symbols(&file, true);
        found.extend(debug.iter().flat_map(|it| symbols(it, false)));
        // By the name, too, so that of several names of a function always the same is taken.
        found.sort_by_key(|it| (it.address, it.size, it.name));
        let symbols = found;
        Some(Self { symbols, lines })
    }

    /// The functions at an address: first those that were inlined there, beginning with the
    /// innermost.
    pub fn at(&self, address: u64) -> Vec<Function> {
        let own = self.symbol(address, |it| it.is_own);
        let name = own.clone().or_else(|| self.symbol(address, |_| true));
        let mut found = self.inlined(address).unwrap_or_default();
        if let Some(last) = found.last_mut() {
            last.function = last.function.take().or(name);
            last.symbol = own;
        } else if name.is_some() {
            found.push(Function { function: name, file: None, line: None, symbol: own });
        }
        found
    }

    fn inlined(&self, address: u64) -> Option<Vec<Function>> {
        let frames = self.lines.as_ref()?.find_frames(address).skip_all_loads();
        let mut frames = frames.ok()?;
        let mut found = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref().and_then(|it| it.demangle().ok().map(cut));
            let place = frame.location.as_ref();
            found.push(Function {
                function: name,
                file: place.and_then(|it| it.file).map(|it| cut(it.into())),
                line: place.and_then(|it| it.line),
                symbol: None,
            });
            if found.len() >= bounded::FUNCTIONS {
                break;
            }
        }
        Some(found)
    }

    fn symbol(&self, address: u64, is_meant: impl Fn(&Symbol) -> bool) -> Option<String> {
        /// Aliases of a function, and its symbols in both files, are side by side.
        const MOST_ALIASES: usize = 64;
        let end = self.symbols.partition_point(|it| it.address <= address);
        let mut before = self.symbols[..end].iter().rev().take(MOST_ALIASES);
        let symbol = before.find(|it| is_meant(it))?;
        // Symbols of assembly may have no size.
        let is_in = symbol.size == 0 || address - symbol.address < symbol.size;
        let name = std::str::from_utf8(symbol.name).ok().filter(|_| is_in)?;
        Some(cut(addr2line::demangle_auto(name.into(), None)))
    }
}

fn cut(name: Cow<'_, str>) -> String {
    let mut name = name.into_owned();
    bounded::cut(&mut name, MOST_NAME);
    name
}

fn symbols(file: &object::File<'static>, is_own: bool) -> Vec<Symbol> {
    let of = |it: object::Symbol<'static, '_>| {
        let is_function = it.kind() == SymbolKind::Text && it.is_definition();
        let name = it.name_bytes().ok().filter(|it| is_function && !it.is_empty())?;
        Some(Symbol { address: it.address(), size: it.size(), name, is_own })
    };
    file.symbols().chain(file.dynamic_symbols()).filter_map(of).collect()
}

/// The lines of a file; `None` if it has no debug information.
fn lines(file: &object::File<'static>) -> Option<Context<Slice>> {
    let endian = if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let section = |id: SectionId| -> Result<Slice, gimli::Error> {
        let bytes = file.section_by_name(id.name()).and_then(|it| data(&it));
        Ok(EndianSlice::new(bytes.unwrap_or_default(), endian))
    };
    file.section_by_name(SectionId::DebugInfo.name())?;
    let dwarf = gimli::Dwarf::load(section).ok()?;
    Context::from_dwarf(dwarf).ok()
}

fn data(section: &object::Section<'static, '_>) -> Option<&'static [u8]> {
    let compressed: CompressedData<'static> = section.compressed_data().ok()?;
    match compressed.decompress().ok()? {
        Cow::Borrowed(bytes) => Some(bytes),
        // The bytes stay until the process ends, as the file itself does.
        Cow::Owned(bytes) => Some(bytes.leak()),
    }
}
