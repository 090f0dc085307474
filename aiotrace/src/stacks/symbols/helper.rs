//! The child process that reads names of functions: it is started when it is needed, given files, asked, and given up if it
//! takes too long.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    errand::{self, Errand as _},
    stacks::{
        Debuginfod, Found, Module, ModuleId, OpenFiles,
        child::{self, Function, Request},
        debug,
        errands::{HandOver, Lacking},
        files,
    },
};

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

/// The child process, if it runs.
pub(super) struct Helper {
    open: OpenFiles,
    fetch: Option<Debuginfod>,
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
    pub(super) fn new(open: OpenFiles, fetch: Option<Debuginfod>) -> Self {
        let (bad, given_up) = (HashSet::default(), Vec::new());
        Self { open, fetch, running: None, bad, waited: Duration::ZERO, given_up }
    }

    pub(super) fn ask(&mut self, module: &Module, offsets: &[u64]) -> Vec<Vec<Function>> {
        // The very file, whatever has become of its path.
        let Some(found) = self.open.file(module.id) else {
            return Vec::new();
        };
        if self.bad.contains(&module.id) || self.waited >= MOST_WAITED {
            return Vec::new();
        }
        let fetched = self.fetched(&found, module);
        let start = Instant::now();
        let answer = self.exchange(&found, module, offsets, fetched);
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

    /// The debug information of a file that the child does not have yet, if it has to be fetched.
    fn fetched(&mut self, found: &Found, module: &Module) -> Option<File> {
        let fetch = self.fetch.as_mut()?;
        if self.running.as_ref().is_some_and(|it| it.known.contains(&module.id)) {
            return None;
        }
        let lacking = Lacking { pid: found.pid, path: module.path.to_vec() };
        let (id, _) = lacking.ask_with(&[found.file.as_fd()])?;
        fetch.of(module, &id?)?.try_clone().ok()
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
        fetched: Option<File>,
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
            let mut lent = vec![found.file.as_fd(), running.files.as_fd()];
            lent.extend(fetched.as_ref().map(|it| it.as_fd()));
            let handed = hand.ask_with(&lent);
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

/// Opens a file that is lent to this helper, and the file with its debug information (which may be lent, too, if it was
/// fetched), and sends them to the child by its socket, which is lent, too. aiotrace itself never has them open: a
/// program that serves them could make it wait when it closes them. Returns whether this worked.
/// Only a helper may call this.
pub fn hand_over(_: u32, module: u64, path: Vec<u8>) -> bool {
    let hand_over = || -> Option<()> {
        let mut lent = errand::lent().into_iter();
        let (found, socket) = (File::from(lent.next()?), UnixStream::from(lent.next()?));
        let file = files::read_through(&found, |_| true)?;
        let fetched = lent.next().map(File::from).filter(|it| debug::is_of(it, &file));
        let debug = debug::of(&file, &path).or(fetched);
        let files: Vec<&File> = Some(&file).into_iter().chain(&debug).collect();
        child::Handed::send(&socket, module, &files).ok()
    };
    hand_over().is_some()
}
