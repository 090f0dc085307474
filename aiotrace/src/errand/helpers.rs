//! The helpers, seen from whoever asks: who is idle, who is given up, and who is not asked for.

use std::{
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::signal::{Signal, kill},
    time::ClockId,
    unistd::Pid,
};

use super::{
    Any, Errand,
    debts::Debts,
    nursery,
    wire::{self, Incoming},
};
use crate::{process, source::collector::timeout};

/// A helper that has a processor, or waits for one, is waited for so long: nothing of a target holds it up.
const WHILE_IT_RUNS: Duration = Duration::from_secs(10);
/// So is one that begins.
const BEGINNING: Duration = Duration::from_secs(10);
/// Helpers that were killed and have not ended yet: of one user, and of all. (One process holds up one at most.)
const MOST_STUCK_OF_USER: usize = 8;
const MOST_STUCK: usize = 64;
/// Processes that are named because they do not answer, at most.
const MOST_NAMED: usize = 16;

/// All of them.
pub struct Helpers {
    nursery: UnixStream,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Helper>,
    /// Killed, and not ended yet.
    stuck: Vec<Stuck>,
    debts: Debts,
    unanswered: u64,
    /// Processor time of those that were given up.
    took: Duration,
    named: Vec<u32>,
}

/// One of them.
struct Helper {
    id: u32,
    socket: UnixStream,
}

/// One that was given up, and for which process of which user.
struct Stuck {
    socket: UnixStream,
    pid: u32,
    user: u32,
}

impl Stuck {
    /// Whether it is still there: its end of the socket is closed when it ends.
    fn is_there(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let polled = poll(&mut fds, timeout(Duration::ZERO));
        polled.is_ok()
            && !fds[0].revents().unwrap_or(PollFlags::empty()).contains(PollFlags::POLLHUP)
    }
}

/// Why there is no answer.
enum Without {
    /// It waits for the process, and has for so long.
    Late(Duration),
    /// It ended.
    Ended,
}

impl Helpers {
    /// Those that this nursery makes.
    pub fn new(nursery: UnixStream) -> Self {
        Self { nursery, state: Mutex::default() }
    }

    /// How many errands had no answer.
    pub fn unanswered(&self) -> u64 {
        self.state().unanswered
    }

    /// What they took of processors: those that are idle, and those that were given up.
    pub fn processor_time(&self) -> Duration {
        let state = self.state();
        state.idle.iter().map(Helper::processor_time).sum::<Duration>() + state.took
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an errand done, and lends descriptors for it. A descriptor may come with the answer.
    pub fn ask<E: Errand>(
        &self,
        errand: E,
        lent: &[BorrowedFd<'_>],
    ) -> Option<(E::Answer, Option<OwnedFd>)> {
        let pid = errand.pid();
        let any: Any = errand.into();
        let request = wire::encoded(&any).ok()?;
        if !E::IS_OWED && self.is_let_be(pid) {
            self.state().unanswered += 1;
            return None;
        }
        // One that was idle may have been killed by somebody since.
        for _ in 0..2 {
            // The guard must not live on.
            let idle = self.state().idle.pop();
            let helper = match idle {
                Some(helper) => helper,
                None => Helper::start(&self.nursery).ok()?,
            };
            match helper.exchange(&request, lent, E::PATIENCE) {
                Ok((answer, given)) => {
                    self.state().idle.push(helper);
                    let answer = postcard::from_bytes(&answer).ok()?;
                    return Some((answer, given.into_iter().next()));
                }
                Err(Without::Ended) => (),
                Err(Without::Late(waited)) => {
                    self.give_up(helper, pid, waited);
                    return None;
                }
            }
        }
        self.state().unanswered += 1;
        None
    }

    /// Whether this process, or its user, has let us wait too much.
    fn is_let_be(&self, pid: u32) -> bool {
        let mut state = self.state();
        if state.debts.are_none() {
            return false;
        }
        let user = user_of(pid);
        state.stuck.retain(Stuck::is_there);
        state.stuck.iter().any(|it| it.pid == pid)
            || state.stuck.len() >= MOST_STUCK
            || state.stuck.iter().filter(|it| it.user == user).count() >= MOST_STUCK_OF_USER
            || state.debts.is_let_be(pid, user, Instant::now())
    }

    fn give_up(&self, helper: Helper, pid: u32, waited: Duration) {
        let _ = kill(Pid::from_raw(helper.id.cast_signed()), Signal::SIGKILL);
        let user = user_of(pid);
        let mut state = self.state();
        state.unanswered += 1;
        state.took += helper.processor_time();
        state.debts.add(pid, user, Instant::now(), waited);
        state.stuck.push(Stuck { socket: helper.socket, pid, user });
        if state.named.len() < MOST_NAMED && !state.named.contains(&pid) {
            state.named.push(pid);
            let name = process::name(pid).unwrap_or_default();
            eprintln!(
                "aiotrace: process {pid} ({}) does not let us look at it: what would have to wait for it is left \
                 out",
                name.escape_ascii()
            );
        }
    }
}

/// The user of a process, or of one of its threads: the owner of its directory, which is root if it is not dumpable.
fn user_of(pid: u32) -> u32 {
    std::fs::metadata(format!("/proc/{pid}")).map_or(u32::MAX, |it| it.uid())
}

impl Helper {
    fn start(nursery: &UnixStream) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        nursery::ask(nursery, &OwnedFd::from(theirs))?;
        let mut helper = Self { id: 0, socket: ours };
        let until = Instant::now() + BEGINNING;
        let hello = helper.answer(|| until.saturating_duration_since(Instant::now()));
        let (hello, _) = hello.map_err(|_| io::Error::other("a helper does not begin"))?;
        helper.id = postcard::from_bytes(&hello).map_err(io::Error::other)?;
        Ok(helper)
    }

    fn exchange(
        &self,
        request: &[u8],
        lent: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), Without> {
        wire::send(self.socket.as_fd(), request, lent).map_err(|_| Without::Ended)?;
        let begun = Instant::now();
        // As long as it does not sleep, it is not the target that lets us wait.
        let mut until = begun + patience;
        let left = || {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && begun.elapsed() < WHILE_IT_RUNS && self.runs() {
                until = Instant::now() + patience;
                return patience;
            }
            left
        };
        self.answer(left).map_err(|ended| match ended {
            true => Without::Ended,
            false => Without::Late(begun.elapsed()),
        })
    }

    /// What it took of processors.
    fn processor_time(&self) -> Duration {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.id.cast_signed()));
        clock.and_then(ClockId::now).map_or(Duration::ZERO, Duration::from)
    }

    /// Whether it has a processor, or waits for one.
    fn runs(&self) -> bool {
        process::thread_state(self.id, self.id) == Some(b'R')
    }

    /// The next message. `left`: how long it may still take. The error says whether it ended.
    fn answer(&self, mut left: impl FnMut() -> Duration) -> Result<(Vec<u8>, Vec<OwnedFd>), bool> {
        let mut incoming = Incoming::default();
        loop {
            let left = left();
            if left.is_zero() {
                return Err(false);
            }
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout(left)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) => (),
                Err(_) => return Err(true),
            }
            if let Some(message) = incoming.take(self.socket.as_fd()).map_err(|_| true)? {
                return Ok(message);
            }
        }
    }
}
