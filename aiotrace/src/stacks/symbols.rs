//! Names of functions, with files and lines, asked of a child process and remembered.

use std::{
    cell::RefCell,
    collections::HashMap,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::{
    Module, Place, Stack,
    child::{Function, Request},
};

/// Names remembered at most; beyond, all are forgotten.
const MOST: usize = 16_384;
/// The child gets this long for an answer: it may have to read hundreds of MiB.
const PATIENCE: Duration = Duration::from_secs(10);
/// Children that may die before nothing is asked any more.
const MOST_DEATHS: u32 = 3;

/// A function in a stack, with its name if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As in [`super::Frame`].
    pub address: u64,
    /// The file with the code.
    pub module: Option<Arc<Module>>,
    /// As in [`super::Place`].
    pub offset: Option<u64>,
    /// Its name, demangled.
    pub function: Option<String>,
    /// Source file, as the debug information has it.
    pub file: Option<String>,
    /// Line of the call.
    pub line: Option<u32>,
    /// It was inlined into the next one, which has the same address.
    pub inlined: bool,
}

/// Finds names. Clones share what they know.
#[derive(Clone)]
pub struct Symbolizer(Rc<RefCell<Known>>);

type Ask = Box<dyn FnMut(&Module, &[u64]) -> Vec<Vec<Function>>>;

struct Known {
    ask: Ask,
    /// By the module's id and the address in it.
    functions: HashMap<(u64, u64), Rc<[Function]>, foldhash::fast::RandomState>,
}

impl Symbolizer {
    /// Asks a child process: this program, run once more when it is needed.
    pub fn in_child() -> Self {
        let mut helper = Helper::default();
        Self::with(move |module, offsets| helper.ask(module, offsets))
    }

    /// Knows no names.
    pub fn none() -> Self {
        Self::with(|_, _| Vec::new())
    }

    /// Asks `ask(module, addresses)`: for each address its function, and before it those inlined there,
    /// the innermost first.
    pub fn with(ask: impl FnMut(&Module, &[u64]) -> Vec<Vec<Function>> + 'static) -> Self {
        Self(Rc::new(RefCell::new(Known { ask: Box::new(ask), functions: HashMap::default() })))
    }

    /// The functions at each of these places, as [`Self::with`] has it.
    pub fn functions(&self, places: &[&Place]) -> Vec<Vec<Function>> {
        let mut known = self.0.borrow_mut();
        known.learn(places.iter().copied());
        let of =
            |it: &&Place| known.functions.get(&(it.module.id, it.offset)).map(|it| it.to_vec());
        places.iter().map(|it| of(it).unwrap_or_default()).collect()
    }

    /// The functions of a stack, the innermost first; those that were inlined, too.
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
    /// Asks for what is not known yet, once for each file.
    fn learn<'a>(&mut self, places: impl Iterator<Item = &'a Place>) {
        if self.functions.len() >= MOST {
            self.functions.clear();
        }
        let mut wanted: Vec<(&Arc<Module>, Vec<u64>)> = Vec::new();
        for place in places {
            if self.functions.contains_key(&(place.module.id, place.offset)) {
                continue;
            }
            match wanted.iter_mut().find(|(module, _)| *module == &place.module) {
                Some((_, offsets)) => offsets.push(place.offset),
                None => wanted.push((&place.module, vec![place.offset])),
            }
        }
        for (module, offsets) in wanted {
            let mut answers = (self.ask)(module, &offsets).into_iter();
            for offset in offsets {
                // What has no answer now will have none later.
                let functions = answers.next().unwrap_or_default();
                self.functions.insert((module.id, offset), functions.into());
            }
        }
    }
}

/// The first function that is the program's own: not in the libraries that make system calls for others,
/// and not a stub that does nothing else.
pub fn culprit(stack: &[Named]) -> Option<&Named> {
    let is_library = |module: &Module| {
        let name = module.name();
        [&b"libc.so"[..], b"libc-", b"libpthread", b"libaio.so", b"ld-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    let is_stub = |name: &str| matches!(name, "syscall" | "io_setup" | "io_submit");
    stack.iter().find(|it| {
        !it.module.as_ref().is_some_and(|module| is_library(module))
            && !it.function.as_deref().is_some_and(is_stub)
    })
}

/// The child process, if it lives.
#[derive(Default)]
struct Helper {
    running: Option<Running>,
    deaths: u32,
}

struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Helper {
    fn ask(&mut self, module: &Module, offsets: &[u64]) -> Vec<Vec<Function>> {
        // It reads the file through our descriptor: that is the very file, whatever became of its path.
        let Some(file) = module.file.upgrade() else {
            return Vec::new();
        };
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let request = Request { file: path, offsets: offsets.to_vec() };
        if self.deaths >= MOST_DEATHS {
            return Vec::new();
        }
        match self.exchange(&request) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "the child that reads symbols");
                self.running = None;
                self.deaths += 1;
                Vec::new()
            }
        }
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Vec<Vec<Function>>> {
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(Running::start()?),
        };
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        running.stdin.write_all(&line)?;
        Ok(serde_json::from_slice(&running.line()?)?)
    }
}

impl Running {
    fn start() -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg("symbolize")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C is for us: names are wanted for the report, too.
            .process_group(0)
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => Ok(Self { child, stdin, stdout }),
            _ => Err(io::Error::other("no pipes")),
        }
    }

    /// The next line of its output.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let start = Instant::now();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let mut wanted = [PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)];
            if nix::poll::poll(&mut wanted, timeout)? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut piece = [0; 4096];
            let count = self.stdout.read(&mut piece)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            line.extend_from_slice(&piece[..count]);
        }
        Ok(line)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::stacks::{Frame, Place};

    fn frame(module: &Arc<Module>, offset: u64) -> Frame {
        let place = Some(Place { module: Arc::clone(module), offset });
        Frame { address: 0x1000 + offset, place }
    }

    fn function(name: &str) -> Function {
        Function { function: Some(name.to_owned()), file: None, line: Some(7) }
    }

    #[test]
    fn each_address_is_asked_for_once_and_inlined_functions_come_first() {
        let (libc, program) = (
            Arc::new(Module::new(b"/lib/libc.so.6", Weak::new())),
            Module::new(b"/p", Weak::new()),
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
