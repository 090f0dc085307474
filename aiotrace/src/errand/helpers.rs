//! The helpers, as aiotrace sees them: which are idle, which are given up, and which processes no
//! helper is sent to.

use std::{
    io::{self, Write as _},
    net::Shutdown,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    time::ClockId,
    unistd::Pid,
};

use super::{
    Errand, How,
    debts::Debts,
    nursery,
    wait::{Owed, Used, Wait, Why},
    wire::{self, Incoming},
};
use crate::{clock::timeout, proc};

/// How long aiotrace waits at its end for helpers, which may have to wait for a target.
const ENDING: Duration = Duration::from_millis(100);
/// How long aiotrace waits for a new helper to begin.
const BEGINNING: Duration = Duration::from_secs(10);
/// How often aiotrace looks whether a helper sleeps.
const SLICE: Duration = Duration::from_millis(20);
/// The most helpers that may be killed and not yet ended: for one user, and for all. (One process
/// holds up at most one helper.)
const MOST_STUCK_OF_USER: usize = 8;
const MOST_STUCK: usize = 256;
/// The most processes that are named because they do not answer.
const MOST_NAMED: usize = 16;

/// All helpers.
pub struct Helpers {
    nursery: UnixStream,
    nursery_id: Pid,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Helper>,
    /// The helpers that were killed and have not ended yet.
    stuck: Vec<Stuck>,
    debts: Debts,
    unanswered: u64,
    /// The processor time of helpers that were given up.
    took: Duration,
    named: Vec<u32>,
}

/// A helper.
struct Helper {
    id: u32,
    /// Stands for this helper even when the kernel gives its id to another process.
    pidfd: Option<OwnedFd>,
    socket: UnixStream,
    /// What it had used up when it last answered.
    used: Used,
}

/// A helper that was given up, and the process and the user for which it waited.
struct Stuck {
    socket: UnixStream,
    pid: u32,
    user: u32,
}

impl Stuck {
    /// Whether the helper has not ended yet: its end of the socket is closed when it ends.
    fn is_there(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let polled = poll(&mut fds, timeout(Duration::ZERO));
        polled.is_ok()
            && !fds[0].revents().unwrap_or(PollFlags::empty()).contains(PollFlags::POLLHUP)
    }
}

/// Why a helper gave no answer.
enum Without {
    /// The helper waits for the process.
    Late,
    /// The helper ended.
    Ended,
}

impl Helpers {
    /// The helpers that this nursery makes.
    pub fn new(nursery: UnixStream, nursery_id: Pid) -> Self {
        Self { nursery, nursery_id, state: Mutex::default() }
    }

    /// The process that makes helpers.
    pub fn nursery(&self) -> Pid {
        self.nursery_id
    }

    /// Ends all helpers, and waits a moment for it.
    pub fn end(&self) {
        let idle = std::mem::take(&mut self.state().idle);
        drop(idle);
        let _ = self.nursery.shutdown(Shutdown::Both);
        let until = Instant::now() + ENDING;
        while Instant::now() < until
            && waitpid(self.nursery_id, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive)
        {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// How many errands got no answer.
    pub fn unanswered(&self) -> u64 {
        self.state().unanswered
    }

    /// The processor time of the helpers that are idle, and of those that were given up.
    pub fn processor_time(&self) -> Duration {
        let state = self.state();
        state.idle.iter().map(Helper::processor_time).sum::<Duration>() + state.took
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a helper do an errand, and lends it descriptors. A descriptor may come with the answer.
    pub fn ask<E: Errand>(
        &self,
        errand: E,
        lent: &[BorrowedFd<'_>],
    ) -> Option<(E::Answer, Option<OwnedFd>)> {
        let answer = self.try_ask(errand, lent);
        if answer.is_none() {
            self.state().unanswered += 1;
        }
        answer
    }

    fn try_ask<E: Errand>(
        &self,
        errand: E,
        lent: &[BorrowedFd<'_>],
    ) -> Option<(E::Answer, Option<OwnedFd>)> {
        let pid = errand.pid();
        let how = super::how::<E>();
        let request = wire::encoded(&(E::NAME, how.is_urgent, &errand)).ok()?;
        // Asked before: who makes us wait may be gone afterwards, and its user owes what it cost.
        let user = user_of(pid);
        if !how.is_owed && self.is_left_alone(pid, user) {
            return None;
        }
        // A helper that was idle may have been killed in the meantime.
        for _ in 0..2 {
            // The guard of the mutex must not live longer than this statement.
            let idle = self.state().idle.pop();
            let mut helper = match idle {
                Some(helper) => helper,
                None => Helper::start(&self.nursery).ok()?,
            };
            let begun = Instant::now();
            let mut wait = Wait::default();
            match helper.exchange(&request, lent, how, &mut wait) {
                Ok((answer, given)) => {
                    // What cannot be decoded has come from a helper that does not what it should: it is not asked
                    // again.
                    let (answer, used): (E::Answer, Used) = postcard::from_bytes(&answer).ok()?;
                    let before = std::mem::replace(&mut helper.used, used);
                    let owed = wait.owed(begun.elapsed(), used.since(before), true);
                    let mut state = self.state();
                    state.idle.push(helper);
                    if !owed.is_nothing() {
                        state.debts.add(pid, user, Instant::now(), owed);
                    }
                    return Some((answer, given.into_iter().next()));
                }
                Err(Without::Ended) => (),
                Err(Without::Late) => {
                    let processor = helper.processor_time();
                    let used = Used { processor, ..helper.used }.since(helper.used);
                    self.give_up(helper, (pid, user), wait.owed(begun.elapsed(), used, false));
                    return None;
                }
            }
        }
        None
    }

    /// Whether this process or its user has made aiotrace wait too long.
    fn is_left_alone(&self, pid: u32, user: u32) -> bool {
        let mut state = self.state();
        if state.debts.is_new() {
            return false;
        }
        state.stuck.retain(Stuck::is_there);
        state.stuck.iter().any(|it| it.pid == pid)
            || state.stuck.len() >= MOST_STUCK
            || state.stuck.iter().filter(|it| it.user == user).count() >= MOST_STUCK_OF_USER
            || state.debts.is_left_alone(pid, user, Instant::now())
    }

    fn give_up(&self, helper: Helper, (pid, user): (u32, u32), owed: Owed) {
        helper.kill();
        let mut state = self.state();
        state.took += helper.processor_time();
        state.debts.add(pid, user, Instant::now(), owed);
        state.stuck.push(Stuck { socket: helper.socket, pid, user });
        if state.named.len() < MOST_NAMED && !state.named.contains(&pid) {
            state.named.push(pid);
            let name = proc::name(pid).unwrap_or_default();
            drop(state);
            // Nobody may read it, and that is no reason to end.
            let _ = writeln!(
                io::stderr(),
                "aiotrace: process {pid} ({}) does not answer: a read of its memory or of /proc/{pid} hangs (memory \
                 behind FUSE or userfaultfd, an execve that hangs, or a slow disk); aiotrace leaves out what it would have read",
                name.escape_ascii()
            );
        }
    }
}

/// The user of a process, which owns its directory in /proc; for a process that is gone, a user that does not exist.
fn user_of(pid: u32) -> u32 {
    proc::user(pid).unwrap_or(u32::MAX)
}

impl Helper {
    fn start(nursery: &UnixStream) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        nursery::ask(nursery, &OwnedFd::from(theirs))?;
        let mut helper = Self { id: 0, pidfd: None, socket: ours, used: Used::default() };
        let until = Instant::now() + BEGINNING;
        let hello = helper.answer(|| Instant::now() < until);
        let (hello, _) =
            hello.map_err(|_| io::Error::other("a helper did not start within 10 s"))?;
        (helper.id, helper.used) = postcard::from_bytes(&hello).map_err(io::Error::other)?;
        helper.pidfd = Some(proc::pidfd_open(helper.id)?);
        Ok(helper)
    }

    fn kill(&self) {
        self.pidfd.iter().for_each(|it| proc::signal(it, libc::SIGKILL));
    }

    fn exchange(
        &self,
        request: &[u8],
        lent: &[BorrowedFd<'_>],
        how: How,
        wait: &mut Wait,
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), Without> {
        wire::send(self.socket.as_fd(), request, lent).map_err(|_| Without::Ended)?;
        let begun = Instant::now();
        self.answer(|| {
            // As long as the helper does not sleep, it is most likely not the target that makes it
            // late. A helper that has answered sleeps, too; aiotrace may only have had no processor
            // to see the answer.
            if !self.runs() && !self.has_answered() {
                wait.slept(SLICE, self.why());
            }
            !wait.is_too_long(how) && begun.elapsed() < how.running
        })
    }

    /// What explains that the helper sleeps.
    fn why(&self) -> Why {
        const BLOCK: u64 = 512;
        let read = proc::read_from_disks(self.id);
        match read.is_some_and(|it| it / BLOCK > self.used.blocks) {
            true => Why::Disk,
            false if proc::system::is_busy() => Why::Processor,
            false => Why::Target,
        }
    }

    /// The processor time of the helper.
    fn processor_time(&self) -> Duration {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.id.cast_signed()));
        clock.and_then(ClockId::now).map_or(Duration::ZERO, Duration::from)
    }

    fn has_answered(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, timeout(Duration::ZERO)).is_ok_and(|it| it > 0)
    }

    /// Whether the helper has a processor, or waits for one.
    fn runs(&self) -> bool {
        proc::thread_state(self.id, self.id) == Some(b'R')
    }

    /// Receives the next message. `goes_on` says whether to wait for another [`SLICE`].
    fn answer(
        &self,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), Without> {
        let mut incoming = Incoming::default();
        loop {
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout(SLICE)) {
                Ok(0) if goes_on() => continue,
                Ok(0) => return Err(Without::Late),
                Err(Errno::EINTR) => continue,
                Ok(_) => (),
                Err(_) => return Err(Without::Ended),
            }
            let message = incoming.take(self.socket.as_fd()).map_err(|_| Without::Ended)?;
            if let Some(message) = message {
                return Ok(message);
            }
        }
    }
}
