//! Asks a child process for the names of functions, with files and lines, and remembers them.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command, Stdio},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::errands::HandOver;
use super::{
    Found, Module, ModuleId, OpenFiles, Place, Stack,
    child::{self, Function, Request},
    debug, files,
};
use crate::errand::{self, Errand as _};

/// The most places whose names are remembered; beyond, all are forgotten.
const MOST: usize = 16_384;
/// The most bytes of names that are remembered; beyond, all are forgotten.
const MOST_BYTES: usize = 64 << 20;
/// How long the child may take for an answer: it may have to read hundreds of MiB.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer that takes this long is a long one.
const LONG: Duration = Duration::from_millis(100);
/// How long aiotrace waits for long answers in all: it shows nothing while it waits.
const MOST_WAITED: Duration = Duration::from_secs(60);
/// The most files that one child reads; they stay in its memory.
const MOST_FILES: usize = 64;
/// The most children that may hang in the kernel after they were given up.
const MOST_GIVEN_UP: usize = 8;
/// The most bytes of an answer.
const MOST_ANSWER: usize = 16 << 20;

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
    /// needed. The child reads the files in `open`.
    pub fn in_child(open: OpenFiles) -> Self {
        let mut helper = Helper::new(open);
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

/// The child process, if it runs.
struct Helper {
    open: OpenFiles,
    running: Option<Running>,
    /// Files that killed or stalled a child, by the ids of their modules.
    bad: HashSet<ModuleId, foldhash::fast::RandomState>,
    /// How long all the long answers took.
    waited: Duration,
    /// Children that were killed and have not ended yet: a read of a file may wait for the program
    /// that serves it.
    given_up: Vec<Child>,
}

struct Running {
    child: Child,
    socket: UnixStream,
    /// The socket by which it gets files: see [`hand_over`].
    files: UnixStream,
    /// The files that it has.
    known: HashSet<ModuleId, foldhash::fast::RandomState>,
}

impl Helper {
    fn new(open: OpenFiles) -> Self {
        let (bad, given_up) = (HashSet::default(), Vec::new());
        Self { open, running: None, bad, waited: Duration::ZERO, given_up }
    }

    fn ask(&mut self, module: &Module, offsets: &[u64]) -> Vec<Vec<Function>> {
        // The very file, whatever has become of its path.
        let Some(found) = self.open.file(module.id) else {
            return Vec::new();
        };
        if self.bad.contains(&module.id) || self.waited >= MOST_WAITED {
            return Vec::new();
        }
        let start = Instant::now();
        let answer = self.exchange(&found, module, offsets);
        let took = start.elapsed();
        if took >= LONG {
            self.waited += took;
            if self.waited >= MOST_WAITED {
                eprintln!(
                    "aiotrace: no more names of functions: reading symbols took {MOST_WAITED:?}"
                );
            }
        }
        answer.unwrap_or_else(|error| {
            let path = module.path.escape_ascii();
            eprintln!("aiotrace: no names of the functions in {path}: {error}");
            self.bad.insert(module.id);
            self.give_up();
            Vec::new()
        })
    }

    fn give_up(&mut self) {
        self.given_up.retain_mut(|it| matches!(it.try_wait(), Ok(None)));
        if let Some(Running { mut child, .. }) = self.running.take() {
            let _ = child.kill();
            if matches!(child.try_wait(), Ok(None)) {
                self.given_up.push(child);
            }
        }
    }

    fn exchange(
        &mut self,
        found: &Found,
        module: &Module,
        offsets: &[u64],
    ) -> io::Result<Vec<Vec<Function>>> {
        if self.running.as_ref().is_some_and(|it| it.known.len() >= MOST_FILES) {
            self.give_up();
        }
        if self.given_up.len() >= MOST_GIVEN_UP {
            return Err(io::Error::other("too many children that read symbols hang"));
        }
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(Running::start()?),
        };
        if !running.known.contains(&module.id) {
            let hand = HandOver { pid: found.pid, module: module.id.0, path: module.path.clone() };
            let handed = hand.ask_with(&[found.file.as_fd(), running.files.as_fd()]);
            if !handed.is_some_and(|(is_open, _)| is_open) {
                // A file that cannot be opened is no failure of the child.
                return Ok(Vec::new());
            }
            running.known.insert(module.id);
        }
        running.ask(module.id.0, offsets)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // The child is not waited for: it may hang, and it ends when aiotrace ends.
        self.give_up();
    }
}

impl Running {
    fn start() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let (files, its_files) = UnixStream::pair()?;
        let child = Command::new(crate::proc::OURSELVES)
            .arg("symbolize")
            .arg(std::process::id().to_string())
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(OwnedFd::from(its_files))
            .stderr(Stdio::null())
            // Keeps Ctrl-C from the child: the report still needs names.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, socket: ours, files, known: HashSet::default() })
    }

    fn ask(&mut self, file: u64, offsets: &[u64]) -> io::Result<Vec<Vec<Function>>> {
        let mut line = serde_json::to_vec(&Request { file, offsets: offsets.to_vec() })?;
        line.push(b'\n');
        let until = Instant::now() + PATIENCE;
        self.socket.set_write_timeout(Some(PATIENCE))?;
        self.socket.write_all(&line)?;
        Ok(serde_json::from_slice(&self.line(until)?)?)
    }

    /// The next line of the child's output.
    fn line(&mut self, until: Instant) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::other(format!("no answer within {PATIENCE:?}")));
            }
            self.socket.set_read_timeout(Some(left))?;
            let mut piece = [0; 4096];
            match self.socket.read(&mut piece) {
                Ok(0) => return Err(io::Error::other("the child that reads them was killed")),
                Ok(count) => line.extend_from_slice(&piece[..count]),
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted]
                        .contains(&error.kind()) => {}
                Err(error) => return Err(error),
            }
            if line.len() > MOST_ANSWER {
                return Err(io::Error::other("the answer is too long"));
            }
        }
        Ok(line)
    }
}

/// Opens a file that is lent to this helper, and the file with its debug information, and sends
/// them to the child by its socket, which is lent, too. aiotrace itself never has them open: a
/// program that serves them could make it wait when it closes them. Returns whether this worked.
/// Only a helper may call this.
pub fn hand_over(_: u32, module: u64, path: Vec<u8>) -> bool {
    let hand_over = || -> Option<()> {
        let mut lent = errand::lent().into_iter();
        let (found, socket) = (File::from(lent.next()?), UnixStream::from(lent.next()?));
        let file = files::read_through(&found, |_| true)?;
        let debug = debug::of(&file, &path);
        let files: Vec<&File> = Some(&file).into_iter().chain(&debug).collect();
        child::Handed::send(&socket, module, &files).ok()
    };
    hand_over().is_some()
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
