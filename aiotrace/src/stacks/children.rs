//! The children that read symbols, as aiotrace sees them ([`super::child`] is what they do). One runs at a time. It is
//! started when it is needed, and given up when a file has killed it or is slow.
//!
//! The files are those of targets, who may want others to have no names. So a file counts as a bad one only if a child
//! failed that had no other file, and each user has its own share of the time that aiotrace waits.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::errands::{HandOver, Lacking};
use super::{
    Debuginfod, Module, ModuleId, OpenFiles,
    child::{self, Answer, Function, Request},
    debug, files,
};
use crate::{
    errand::{self, Errand as _},
    proc,
};

/// An answer that takes this long is a long one, and a failure counts as one.
const LONG: Duration = Duration::from_millis(100);
/// The most files that one child reads; they stay in its memory.
const MOST_FILES: usize = 64;
/// The most children that may hang in the kernel after they were given up.
const MOST_GIVEN_UP: usize = 8;
/// The most bytes of an answer.
const MOST_ANSWER: usize = 16 << 20;
/// The most files that are named because they are bad.
const MOST_NAMED: usize = 16;

/// How long aiotrace waits for names.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For one answer: the child may have to read hundreds of MiB.
    one: Duration,
    /// For long answers about the processes of a user.
    of_user: Duration,
    /// For all long answers.
    all: Duration,
}

impl Waits {
    /// Of whoever shows events: meanwhile nothing is shown.
    pub const TO_SHOW: Self = Self {
        one: Duration::from_secs(5),
        of_user: Duration::from_secs(45),
        all: Duration::from_secs(90),
    };
    /// Of whoever holds threads of several processes in stops.
    pub const AT_A_STOP: Self = Self {
        one: Duration::from_secs(1),
        of_user: Duration::from_secs(3),
        all: Duration::from_secs(10),
    };
}

/// Gets the sentences that the user should know.
pub type Say = Box<dyn FnMut(String)>;

/// Asks children.
pub struct Children {
    open: OpenFiles,
    fetch: Option<Debuginfod>,
    patience: Waits,
    say: Say,
    start: fn() -> io::Result<Running>,
    running: Option<Running>,
    /// Files that killed or stalled a child that had only them, by the ids of their modules.
    bad: HashSet<ModuleId, foldhash::fast::RandomState>,
    waited: Waited,
    /// Children that were killed and have not ended yet: a read of a file may wait for the program
    /// that serves it.
    given_up: Vec<Child>,
    said_that_too_many_hang: bool,
}

/// How long all the long answers took.
#[derive(Default)]
struct Waited {
    all: Duration,
    of_users: HashMap<u32, Duration, foldhash::fast::RandomState>,
}

/// Why there are no names.
enum Without {
    /// There is no child, or the file cannot be had at the moment.
    Now,
    /// The child failed.
    Failed(io::Error),
}

type Names = Vec<Option<Vec<Function>>>;

impl Children {
    /// Children that read the files in `open`, and debug information that `fetch` brings.
    pub fn new(open: OpenFiles, fetch: Option<Debuginfod>, patience: Waits, say: Say) -> Self {
        Self {
            open,
            fetch,
            patience,
            say,
            start: Running::start,
            running: None,
            bad: HashSet::default(),
            waited: Waited::default(),
            given_up: Vec::new(),
            said_that_too_many_hang: false,
        }
    }

    /// The functions at these addresses of a file, which is in a stack of this process. Those that
    /// are missing have no answer now, and may have one later.
    pub fn ask(&mut self, pid: u32, module: &Module, offsets: &[u64]) -> Names {
        // The very file, whatever has become of its path.
        let Some(file) = self.open.file(module.id) else { return Names::new() };
        if self.bad.contains(&module.id) {
            return Names::new();
        }
        let user = proc::user(pid).unwrap_or(u32::MAX);
        // Twice if the child had other files, too: then one of them may be what it failed for.
        for _ in 0..2 {
            if self.waited.is_over(user, self.patience) {
                return Names::new();
            }
            let fetched = self.fetched(pid, &file, module);
            let start = Instant::now();
            let answer = self.exchange(pid, &file, module, offsets, fetched);
            let took = start.elapsed();
            let took =
                if matches!(answer, Err(Without::Failed(_))) { took.max(LONG) } else { took };
            self.add(user, took);
            match answer {
                Ok(names) => return names,
                Err(Without::Now) => return Names::new(),
                Err(Without::Failed(error)) => {
                    let had_others = self.running.as_ref().is_some_and(|it| it.known.len() > 1);
                    self.give_up();
                    if !had_others {
                        self.condemn(module, &error);
                        return Names::new();
                    }
                }
            }
        }
        Names::new()
    }

    fn condemn(&mut self, module: &Module, error: &io::Error) {
        self.bad.insert(module.id);
        if self.bad.len() <= MOST_NAMED {
            let path = module.path.escape_ascii();
            (self.say)(format!("no names of the functions in {path}: {error}"));
        }
    }

    /// Adds the time of an answer, if it is a long one.
    fn add(&mut self, user: u32, took: Duration) {
        if took < LONG || self.waited.is_over(user, self.patience) {
            return;
        }
        let Waits { of_user, all, .. } = self.patience;
        self.waited.all += took;
        *self.waited.of_users.entry(user).or_default() += took;
        if self.waited.all >= all {
            (self.say)(format!("no more names of functions: reading symbols took {all:?}"));
        } else if self.waited.is_over(user, self.patience) {
            (self.say)(format!(
                "no more names of functions in processes of the user with the number {user}: reading symbols took \
                 {of_user:?}"
            ));
        }
    }

    /// The debug information of a file that the child does not have yet, if it has to be fetched.
    fn fetched(&mut self, pid: u32, file: &File, module: &Module) -> Option<File> {
        let fetch = self.fetch.as_mut()?;
        if self.running.as_ref().is_some_and(|it| it.known.contains(&module.id)) {
            return None;
        }
        let lacking = Lacking { pid, path: module.path.to_vec() };
        let (id, _) = lacking.ask_with(&[file.as_fd()])?;
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
        pid: u32,
        file: &File,
        module: &Module,
        offsets: &[u64],
        fetched: Option<File>,
    ) -> Result<Names, Without> {
        if self.running.as_ref().is_some_and(|it| it.known.len() >= MOST_FILES) {
            self.give_up();
        }
        let running = match &mut self.running {
            Some(running) => running,
            none => {
                self.given_up.retain_mut(|it| matches!(it.try_wait(), Ok(None)));
                if self.given_up.len() >= MOST_GIVEN_UP {
                    if !std::mem::replace(&mut self.said_that_too_many_hang, true) {
                        (self.say)(
                            "no names of functions: too many children that read symbols hang"
                                .into(),
                        );
                    }
                    return Err(Without::Now);
                }
                none.insert((self.start)().map_err(|_| Without::Now)?)
            }
        };
        if !running.known.contains(&module.id) {
            let hand = HandOver { pid, module: module.id.0, path: module.path.clone() };
            let mut lent = vec![file.as_fd(), running.files.as_fd()];
            lent.extend(fetched.as_ref().map(|it| it.as_fd()));
            match hand.ask_with(&lent).map(|it| it.0) {
                None => return Err(Without::Now),
                Some(HandedOver::NoFile) => return Ok(vec![Some(Vec::new()); offsets.len()]),
                Some(HandedOver::NoChild) => {
                    running.known.insert(module.id);
                    return Err(Without::Failed(io::Error::other(KILLED)));
                }
                Some(HandedOver::Done) => running.known.insert(module.id),
            };
        }
        let answer = running.ask(module.id.0, offsets, self.patience.one);
        let answer = answer.map_err(Without::Failed)?;
        Ok(answer.0.into_iter().map(|it| Some(it.0)).collect())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        // The child is not waited for: it may hang, and it ends when aiotrace ends.
        self.give_up();
    }
}

impl Waited {
    fn is_over(&self, user: u32, patience: Waits) -> bool {
        self.all >= patience.all
            || self.of_users.get(&user).is_some_and(|it| *it >= patience.of_user)
    }
}

const KILLED: &str = "the child that reads them was killed";

struct Running {
    child: Child,
    socket: UnixStream,
    /// The socket by which it gets files: see [`hand_over`].
    files: UnixStream,
    /// The files that it has.
    known: HashSet<ModuleId, foldhash::fast::RandomState>,
}

impl Running {
    fn start() -> io::Result<Self> {
        let mut command = Command::new(proc::OURSELVES);
        command.arg("symbolize").arg(std::process::id().to_string());
        Self::begin(&mut command)
    }

    fn begin(command: &mut Command) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let (files, its_files) = UnixStream::pair()?;
        let child = command
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

    fn ask(&mut self, file: u64, offsets: &[u64], patience: Duration) -> io::Result<Answer> {
        let mut line = serde_json::to_vec(&Request { file, offsets: offsets.to_vec() })?;
        line.push(b'\n');
        let until = Instant::now() + patience;
        self.socket.set_write_timeout(Some(patience))?;
        self.socket.write_all(&line).map_err(|_| io::Error::other(KILLED))?;
        Ok(serde_json::from_slice(&self.line(until, patience)?)?)
    }

    /// The next line of the child's output.
    fn line(&mut self, until: Instant, patience: Duration) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::other(format!("no answer within {patience:?}")));
            }
            self.socket.set_read_timeout(Some(left))?;
            let mut piece = [0; 4096];
            match self.socket.read(&mut piece) {
                Ok(0) => return Err(io::Error::other(KILLED)),
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

/// What became of a file that is handed over.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum HandedOver {
    /// The child has it.
    Done,
    /// It cannot be opened.
    NoFile,
    /// The child is gone.
    NoChild,
}

/// Opens a file that is lent to this helper, and the file with its debug information (which may be lent, too, if it was
/// fetched), and sends them to the child by its socket, which is lent, too. aiotrace itself never has them open: a
/// program that serves them could make it wait when it closes them. Only a helper may call this.
pub fn hand_over(_: u32, module: u64, path: Vec<u8>) -> HandedOver {
    let opened = || {
        let mut lent = errand::lent().into_iter();
        let (found, socket) = (File::from(lent.next()?), UnixStream::from(lent.next()?));
        let file = files::read_through(&found, |_| true)?;
        let fetched = lent.next().map(File::from).filter(|it| debug::is_of(it, &file));
        Some((debug::of(&file, &path).or(fetched), file, socket))
    };
    let Some((debug, file, socket)) = opened() else { return HandedOver::NoFile };
    let files: Vec<&File> = Some(&file).into_iter().chain(&debug).collect();
    match child::Handed::send(&socket, module, &files) {
        Ok(()) => HandedOver::Done,
        Err(_) => HandedOver::NoChild,
    }
}

#[cfg(test)]
mod tests;
