//! The names of functions, with files and lines: asked for once, and remembered.

mod helper;

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use self::helper::Helper;
pub use self::helper::hand_over;
use super::{Debuginfod, Module, ModuleId, OpenFiles, Place, Stack, child::Function};

/// The most places whose names are remembered; beyond, all are forgotten.
const MOST: usize = 16_384;
/// The most bytes of names that are remembered; beyond, all are forgotten.
const MOST_BYTES: usize = 64 << 20;

/// A function in a stack, with its name if it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As in [`Frame::address`](super::Frame::address).
    pub address: u64,
    /// The file with the code.
    pub module: Option<Arc<Module>>,
    /// As in [`Place::offset`](super::Place::offset).
    pub offset: Option<u64>,
    /// The demangled name.
    pub function: Option<String>,
    /// The source file, as the debug information has it.
    pub file: Option<String>,
    /// The line of the call.
    pub line: Option<u32>,
    /// Whether it was inlined into the next function, which has the same address.
    pub inlined: bool,
}

/// Finds names. Clones share the names that they have found.
#[derive(Clone)]
pub struct Symbolizer(Rc<RefCell<Known>>);

type Ask = Box<dyn FnMut(&Module, &[u64]) -> Vec<Vec<Function>>>;

struct Known {
    ask: Ask,
    /// The functions at an address, by the id of the module and the address in it.
    functions: HashMap<(ModuleId, u64), Rc<[Function]>, foldhash::fast::RandomState>,
    /// How many bytes their names have.
    bytes: usize,
}

impl Symbolizer {
    /// Finds names by asking a child process: this program, which is started again when it is
    /// needed. The child reads the files in `open`, and debug information that `fetch` brings.
    pub fn in_child(open: OpenFiles, fetch: Option<Debuginfod>) -> Self {
        let mut helper = Helper::new(open, fetch);
        Self::with(move |module, offsets| helper.ask(module, offsets))
    }

    /// Finds no names.
    pub fn none() -> Self {
        Self::with(|_, _| Vec::new())
    }

    /// Finds names by `ask(module, addresses)`: this returns the functions at each address, first
    /// those that were inlined there, beginning with the innermost.
    pub fn with(ask: impl FnMut(&Module, &[u64]) -> Vec<Vec<Function>> + 'static) -> Self {
        Self(Rc::new(RefCell::new(Known {
            ask: Box::new(ask),
            functions: HashMap::default(),
            bytes: 0,
        })))
    }

    /// The functions at each of these places, in the order of [`Self::with`].
    pub fn functions(&self, places: &[&Place]) -> Vec<Vec<Function>> {
        let mut known = self.0.borrow_mut();
        known.learn(places.iter().copied());
        let of =
            |it: &&Place| known.functions.get(&(it.module.id, it.offset)).map(|it| it.to_vec());
        places.iter().map(|it| of(it).unwrap_or_default()).collect()
    }

    /// The functions of a stack, the innermost first, with those that were inlined.
    pub fn describe(&self, stack: &Stack) -> Vec<Named> {
        let mut known = self.0.borrow_mut();
        known.learn(stack.frames.iter().filter_map(|it| it.place.as_ref()));
        let mut described = Vec::new();
        for frame in stack.frames.iter() {
            let unknown = Named {
                address: frame.address,
                module: frame.place.as_ref().map(|it| Arc::clone(&it.module)),
                offset: frame.place.as_ref().map(|it| it.offset),
                function: None,
                file: None,
                line: None,
                inlined: false,
            };
            let functions = frame
                .place
                .as_ref()
                .and_then(|it| known.functions.get(&(it.module.id, it.offset)))
                .filter(|it| !it.is_empty());
            match functions {
                None => described.push(unknown),
                Some(functions) => {
                    described.extend(functions.iter().enumerate().map(|(index, it)| Named {
                        function: it.function.clone(),
                        file: it.file.clone(),
                        line: it.line,
                        inlined: index + 1 < functions.len(),
                        ..unknown.clone()
                    }));
                }
            }
        }
        described
    }
}

impl Known {
    /// Asks for the names that are not known yet, once for each file.
    fn learn<'a>(&mut self, places: impl Iterator<Item = &'a Place>) {
        if self.functions.len() >= MOST || self.bytes >= MOST_BYTES {
            self.functions.clear();
            self.bytes = 0;
        }
        let mut wanted: Vec<(&Arc<Module>, Vec<u64>)> = Vec::new();
        for place in places {
            if self.functions.contains_key(&(place.module.id, place.offset)) {
                continue;
            }
            match wanted.iter_mut().find(|(module, _)| *module == &place.module) {
                Some((_, offsets)) if offsets.contains(&place.offset) => (),
                Some((_, offsets)) => offsets.push(place.offset),
                None => wanted.push((&place.module, vec![place.offset])),
            }
        }
        for (module, offsets) in wanted {
            let mut answers = (self.ask)(module, &offsets).into_iter();
            for offset in offsets {
                // A place that has no answer this time will have none later.
                let functions = answers.next().unwrap_or_default();
                self.bytes += functions.iter().map(Function::length).sum::<usize>();
                self.functions.insert((module.id, offset), functions.into());
            }
        }
    }
}

/// The first function that belongs to the program itself: not one in a library that makes system
/// calls for others, nor a stub that does nothing else.
pub fn culprit(stack: &[Named]) -> Option<&Named> {
    stack.iter().find(|it| {
        !it.module.as_ref().is_some_and(|module| is_library(module))
            && !it.function.as_deref().is_some_and(is_stub)
    })
}

/// Whether the file is one of the libraries that make system calls for others, and begin programs and threads.
pub fn is_library(module: &Module) -> bool {
    let name = module.name();
    [&b"libc.so"[..], b"libc-", b"ld-musl", b"libpthread", b"libaio.so", b"ld-"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Whether a function does in a static program what [libraries](is_library) do in others.
pub fn is_stub(name: &str) -> bool {
    const CALLS: [&str; 9] = [
        "io_setup",
        "io_submit",
        "io_getevents",
        "io_getevents_0_4",
        "io_pgetevents",
        "io_cancel",
        "io_cancel_0_4",
        "io_destroy",
        "syscall",
    ];
    const BEGINNINGS: [&str; 8] = [
        "_start",
        "__libc_start_main",
        "__libc_start_main_impl",
        "__libc_start_call_main",
        "start_thread",
        "__clone",
        "clone",
        "clone3",
    ];
    CALLS.contains(&name) || BEGINNINGS.contains(&name) || name == "__clone3"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stacks::{Frame, Place};

    fn frame(module: &Arc<Module>, offset: u64) -> Frame {
        let place = Some(Place { module: Arc::clone(module), offset });
        Frame { address: 0x1000 + offset, place }
    }

    fn function(name: &str) -> Function {
        Function { function: Some(name.to_owned()), file: None, line: Some(7), symbol: None }
    }

    #[test]
    fn each_address_is_asked_for_once_and_inlined_functions_come_first() {
        let (libc, program) = (
            Arc::new(Module::new(ModuleId(0), b"/lib/libc.so.6")),
            Module::new(ModuleId(1), b"/p"),
        );
        let program = Arc::new(program);
        let frames = [
            frame(&libc, 1),
            frame(&program, 2),
            frame(&program, 3),
            Frame { address: 9, place: None },
        ];
        let stack = Stack { frames: frames.into(), truncated: false };
        let mut asked = 0;
        let symbolizer = Symbolizer::with(move |module, offsets| {
            asked += offsets.len();
            assert!(asked <= 3, "asked again");
            match module.name() {
                b"libc.so.6" => vec![vec![function("syscall")]],
                _ => vec![vec![function("inner"), function("outer")], Vec::new()],
            }
        });
        for _ in 0..2 {
            let named = symbolizer.describe(&stack);
            let names: Vec<_> =
                named.iter().map(|it| (it.function.as_deref(), it.inlined, it.address)).collect();
            assert_eq!(
                names,
                [
                    (Some("syscall"), false, 0x1001),
                    (Some("inner"), true, 0x1002),
                    (Some("outer"), false, 0x1002),
                    (None, false, 0x1003),
                    (None, false, 9),
                ]
            );
            assert_eq!(culprit(&named).and_then(|it| it.function.as_deref()), Some("inner"));
        }
    }
}
