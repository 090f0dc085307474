//! Call sites: a call, and the functions of the program's own code that led to it.
//!
//! ```text
//!  io_submit in libaio.so < syscall in libc.so          folded: they are the same for every program
//!  < submit_batch < flush < worker < main               the site: at most DEPTH of them
//!  < __libc_start_main < _start                         folded
//! ```
//! Functions that were inlined are no steps of their own: without debug information nobody would know of them.

use super::{
    Frame, Place, Stack, Symbolizer,
    child::Function,
    symbols::{is_library, is_stub},
};
use crate::{
    bounded,
    event::{Module, SiteId, Step, Syscall},
    fault::Rule,
};

/// The most functions of the program's own code that make a site.
const DEPTH: usize = 8;
/// How many functions a name has.
const SHOWN: usize = 3;
/// Longer names of functions are cut, in bytes.
const LONGEST: usize = 60;

/// A call site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its number.
    pub id: SiteId,
    /// Its name, for people: `io_submit from flush < worker < main`.
    pub name: String,
    /// The names of all functions that led to the call, for `caller=`.
    pub callers: Vec<String>,
}

/// A function of the stack that really has a frame.
struct Physical<'a> {
    module: &'a Module,
    offset: u64,
    functions: Vec<Function>,
}

impl Site {
    /// The site of a call of this process with this stack; `None` if none of its functions is known, or if one of the
    /// program's own has no answer now: without its name the call would have another id.
    pub fn of(call: Syscall, pid: u32, stack: &Stack, symbols: &Symbolizer) -> Option<Self> {
        let places: Vec<_> =
            stack.frames.iter().filter_map(|it: &Frame| it.place.as_ref()).collect();
        let functions = symbols.functions(pid, &places);
        let is_whole = functions.iter().all(Option::is_some);
        let lacks =
            |(it, functions): (&&Place, &Option<_>)| functions.is_none() && !is_library(&it.module);
        if places.iter().zip(&functions).any(lacks) {
            return None;
        }
        let functions = functions.into_iter().map(Option::unwrap_or_default);
        let all: Vec<_> = places
            .iter()
            .zip(functions)
            .map(|(it, functions)| Physical { module: &it.module, offset: it.offset, functions })
            .collect();
        let mut own: Vec<_> = all.iter().filter(|it| !it.is_folded()).take(DEPTH).collect();
        if own.is_empty() && !stack.truncated && is_whole {
            // Nothing but libraries: they say at least which of their functions it was.
            own = all.iter().take(DEPTH).collect();
        }
        if own.is_empty() {
            return None;
        }
        let id = SiteId::of(call, own.iter().map(|it| it.step()));
        let names: Vec<_> = own.iter().take(SHOWN).map(|it| it.name()).collect();
        let name = format!("{} from {}", call.name(), names.join(" < "));
        let callers = all.iter().flat_map(Physical::callers).collect();
        Some(Self { id, name, callers })
    }

    /// Whether it is as `site=` and `caller=` of the rule say.
    pub fn meets(&self, rule: &Rule) -> bool {
        rule.is_at(self.id, self.callers.iter().map(String::as_str))
    }
}

impl Physical<'_> {
    fn symbol(&self) -> Option<&str> {
        self.functions.last()?.symbol.as_deref().map(plain)
    }

    fn is_folded(&self) -> bool {
        let name = self.functions.last().and_then(|it| it.symbol.as_ref().or(it.function.as_ref()));
        is_library(self.module) || name.is_some_and(|it| is_stub(plain(it)))
    }

    fn step(&self) -> Step<'_> {
        match self.symbol() {
            Some(symbol) => Step::Symbol(self.module.name(), symbol),
            None => Step::Offset(self.module.name(), self.offset),
        }
    }

    fn name(&self) -> String {
        let function = self.functions.last().and_then(|it| it.function.as_deref());
        let mut name = match function.or(self.symbol()) {
            Some(name) => short(plain(name)).to_owned(),
            None => {
                format!("{}+{:#x}", self.module.name().escape_ascii(), self.offset)
            }
        };
        if name.len() > LONGEST {
            bounded::cut(&mut name, LONGEST);
            name.push_str("...");
        }
        name
    }

    fn callers(&self) -> impl Iterator<Item = String> + '_ {
        let names = self.functions.iter().filter_map(|it| it.function.as_deref());
        names.chain(self.symbol()).map(|it| short(plain(it)).to_owned())
    }
}

/// Without what a compiler adds when it makes a variant of a function: `flush.isra.0`.
fn plain(symbol: &str) -> &str {
    const ADDED: [&str; 6] = [".isra.", ".constprop.", ".part.", ".cold", ".lto_priv.", ".llvm."];
    let at = ADDED.iter().filter_map(|it| symbol.find(it)).min();
    at.map_or(symbol, |at| &symbol[..at])
}

/// Without the arguments that demangled names of C++ have.
fn short(name: &str) -> &str {
    let mut depth = 0_i32;
    for (at, it) in name.char_indices() {
        match it {
            '<' => depth += 1,
            '>' => depth -= 1,
            // A name that has one in it, as `(anonymous namespace)::flush()`, keeps it.
            '(' if depth == 0 && at > 0 && !name[..at].ends_with("::") => return &name[..at],
            _ => (),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stacks::ModuleId;

    fn function(function: &str, symbol: Option<&str>) -> Function {
        let symbol = symbol.map(str::to_owned);
        Function { function: Some(function.to_owned()), file: None, line: None, symbol }
    }

    /// A stack of libaio, two functions of the program (one has another inlined), and libc.
    fn site(with_debug: bool, offset: u64, call: Syscall) -> Site {
        let module = |id, path: &[u8]| Arc::new(Module::new(ModuleId(id), path));
        let (libaio, program, libc) =
            (module(0, b"/lib/libaio.so.1"), module(1, b"/opt/db"), module(2, b"/lib/libc.so.6"));
        let frame = |module: &Arc<Module>, offset| Frame {
            address: 7,
            place: Some(Place { module: Arc::clone(module), offset }),
        };
        let frames = [
            frame(&libaio, 1),
            frame(&program, offset),
            frame(&program, 0x20),
            frame(&program, 0x30),
            frame(&libc, 4),
        ];
        let symbols = Symbolizer::with(move |_, module, offsets| {
            let of = |it: &u64| match (module.name(), *it) {
                (b"db", 0x20) if with_debug => {
                    vec![
                        function("small", None),
                        function("db::flush(int)", Some("db::flush(int)")),
                    ]
                }
                (b"db", 0x20) => vec![function("db::flush(int)", Some("db::flush(int)"))],
                (b"db", 0x30) if with_debug => vec![function("local", None)],
                (b"db", 0x30) => Vec::new(),
                (b"db", _) => vec![function("submit.isra.0", Some("submit.isra.0"))],
                _ => vec![function("library", Some("library"))],
            };
            offsets.iter().map(of).map(Some).collect()
        });
        let stack = Stack { frames: frames.into(), truncated: false };
        Site::of(call, 7, &stack, &symbols).unwrap()
    }

    #[test]
    fn a_site_has_the_functions_of_the_program_alone() {
        let it = site(false, 0x10, Syscall::Submit);
        assert_eq!(it.name, "io_submit from submit < db::flush < db+0x30");
        assert_eq!(
            it.callers,
            [
                "library",
                "library",
                "submit",
                "submit",
                "db::flush",
                "db::flush",
                "library",
                "library"
            ]
        );
    }

    #[test]
    fn the_id_depends_on_functions_and_not_on_debug_information_or_lines() {
        let one = site(false, 0x10, Syscall::Submit);
        let debug = site(true, 0x18, Syscall::Submit);
        assert_eq!(one.id, debug.id);
        assert_eq!(debug.name, "io_submit from submit < db::flush < local");
        assert!(debug.callers.iter().any(|it| it == "small"));
        assert_ne!(one.id, site(false, 0x10, Syscall::Getevents).id);
    }

    #[test]
    fn without_an_answer_there_is_no_site_instead_of_another_one() {
        let module = |id, path: &[u8]| Arc::new(Module::new(ModuleId(id), path));
        let frame = |module: Arc<Module>| {
            let place = Some(Place { module, offset: 0x10 });
            Frame { address: 7, place }
        };
        let frames = [frame(module(0, b"/lib/libaio.so.1")), frame(module(1, b"/opt/db"))];
        let stack = Stack { frames: frames.into(), truncated: false };
        let of = |without: &'static [u8]| {
            let symbols = Symbolizer::with(move |_, module, _| {
                let is_known = module.name() != without;
                vec![is_known.then(|| vec![function("flush", Some("flush"))])]
            });
            Site::of(Syscall::Submit, 7, &stack, &symbols)
        };
        assert_eq!(of(b"db"), None);
        assert_eq!(of(b"libaio.so.1").unwrap().id, of(b"").unwrap().id);
    }

    #[test]
    fn names_are_short() {
        assert_eq!(short("(anonymous namespace)::flush(int)"), "(anonymous namespace)::flush");
        assert_eq!(short("flush"), "flush");
        assert_eq!(short("call_once<fn(), ()>"), "call_once<fn(), ()>");
        assert_eq!(plain("flush.constprop.0.cold"), "flush");
        assert_eq!(plain("core::ops::call"), "core::ops::call");
    }
}
