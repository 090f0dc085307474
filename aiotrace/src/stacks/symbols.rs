//! The names of functions, with files and lines: asked for once, and remembered.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use super::{
    Module, ModuleId, Place, Stack,
    child::{Function, memory},
    children::Children,
};

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

type Ask = Box<dyn FnMut(u32, &Module, &[u64]) -> Vec<Option<Vec<Function>>>>;

struct Known {
    ask: Ask,
    /// The functions at an address, by the id of the module and the address in it.
    functions: HashMap<(ModuleId, u64), Rc<[Function]>, foldhash::fast::RandomState>,
    /// How many bytes they take.
    bytes: usize,
}

impl Symbolizer {
    /// Finds names by asking child processes.
    pub fn in_children(mut children: Children) -> Self {
        Self::with(move |pid, module, offsets| children.ask(pid, module, offsets))
    }

    /// Finds no names.
    pub fn none() -> Self {
        Self::with(|_, _, _| Vec::new())
    }

    /// Finds names by `ask(process, module, addresses)`: this returns the functions at each address,
    /// first those that were inlined there, beginning with the innermost. A place that has no answer
    /// is asked for again.
    pub fn with(
        ask: impl FnMut(u32, &Module, &[u64]) -> Vec<Option<Vec<Function>>> + 'static,
    ) -> Self {
        Self(Rc::new(RefCell::new(Known {
            ask: Box::new(ask),
            functions: HashMap::default(),
            bytes: 0,
        })))
    }

    /// The functions at each of these places of a process, in the order of [`Self::with`]; `None` if
    /// there is no answer now.
    pub fn functions(&self, pid: u32, places: &[&Place]) -> Vec<Option<Vec<Function>>> {
        let mut known = self.0.borrow_mut();
        known.learn(pid, places.iter().copied());
        let of =
            |it: &&Place| known.functions.get(&(it.module.id, it.offset)).map(|it| it.to_vec());
        places.iter().map(of).collect()
    }

    /// The functions of a stack of a process, the innermost first, with those that were inlined.
    pub fn describe(&self, pid: u32, stack: &Stack) -> Vec<Named> {
        let mut known = self.0.borrow_mut();
        known.learn(pid, stack.frames.iter().filter_map(|it| it.place.as_ref()));
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
    fn learn<'a>(&mut self, pid: u32, places: impl Iterator<Item = &'a Place>) {
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
            let answers = (self.ask)(pid, module, &offsets);
            for (offset, functions) in offsets.into_iter().zip(answers) {
                let Some(functions) = functions else { continue };
                self.bytes += memory(&functions);
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
        let symbolizer = Symbolizer::with(move |_, module, offsets| {
            asked += offsets.len();
            assert!(asked <= 3, "asked again");
            match module.name() {
                b"libc.so.6" => vec![Some(vec![function("syscall")])],
                _ => vec![Some(vec![function("inner"), function("outer")]), Some(Vec::new())],
            }
        });
        for _ in 0..2 {
            let named = symbolizer.describe(7, &stack);
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

    /// The first process that has a file may be one that is left alone.
    #[test]
    fn what_has_no_answer_for_one_process_has_one_for_another() {
        let libc = Arc::new(Module::new(ModuleId(0), b"/lib/libc.so.6"));
        let stack = Stack { frames: [frame(&libc, 1)].into(), truncated: false };
        let symbolizer = Symbolizer::with(|pid, _, offsets| match pid {
            1 => Vec::new(),
            _ => offsets.iter().map(|_| Some(vec![function("syscall")])).collect(),
        });
        let name = |pid| symbolizer.describe(pid, &stack)[0].function.clone();
        assert_eq!(
            [1, 1, 2, 1].map(name),
            [None, None, Some("syscall".into()), Some("syscall".into())]
        );
    }
}
