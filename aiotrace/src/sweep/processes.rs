//! The processes of a sweep. Each run has a session of its own, which is killed whole; nothing outlives the sweep,
//! even if the sweep is killed: a run dies with the thread that started it, and a program with its tracer.

use std::{
    collections::HashSet,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, getpid},
};

use super::errands::Environment;
use crate::{
    errand::Errand as _,
    failure::{Context as _, Failure, Result},
    proc,
};

/// How long a run has to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// And after SIGKILL: a process that hangs in the kernel does not.
const AFTER_KILL: Duration = Duration::from_secs(30);

/// The processes of a sweep.
pub struct Processes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    is_interrupted: AtomicBool,
    /// The sessions that run now, by their first process.
    running: Mutex<HashSet<i32>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// Its status: 128 plus the signal, if one ended it.
    pub status: i32,
    /// It was ended because it took too long.
    pub timed_out: bool,
}

impl Processes {
    /// From now on Ctrl-C, SIGTERM and SIGHUP interrupt the sweep, and end what runs. Must be called while this
    /// process has one thread.
    pub fn start() -> Result<Self> {
        let signals: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block()?;
        // A process whose parent in the run has ended becomes our child, and not init's.
        nix::sys::prctl::set_child_subreaper(true)?;
        let shared = Arc::new(Shared::default());
        let told = Arc::clone(&shared);
        let interrupt = move || {
            while signals.wait().is_ok() {
                let running = told.running();
                told.is_interrupted.store(true, Ordering::SeqCst);
                running.iter().for_each(|it| kill_session(*it, Signal::SIGKILL));
            }
        };
        std::thread::Builder::new().name("interrupt".into()).spawn(interrupt)?;
        Ok(Self(shared))
    }

    /// Whether somebody wants the sweep to end.
    pub fn are_interrupted(&self) -> bool {
        self.0.is_interrupted.load(Ordering::SeqCst)
    }

    /// Runs a command until it ends, or for so long; then everything in its session is killed.
    pub fn run(&self, command: &mut Command, limit: Option<Duration>) -> Result<Finished> {
        let parent = getpid();
        let begin = move || -> io::Result<()> {
            nix::unistd::setsid()?;
            SigSet::empty().thread_set_mask()?;
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            if nix::unistd::getppid() != parent {
                return Err(Errno::ESRCH.into());
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls, and nothing else.
        unsafe { command.pre_exec(begin) };
        let mut running = self.0.running();
        if self.are_interrupted() {
            return Ok(Finished { status: 130, timed_out: false });
        }
        let mut child = command.spawn().context("cannot start a run")?;
        let pid = child.id() as i32;
        running.insert(pid);
        drop(running);
        let end = proc::pidfd_open(pid as u32).context("cannot wait for a run")?;
        let mut timed_out = false;
        if !ends(&end, limit)? {
            timed_out = true;
            kill_session(pid, Signal::SIGTERM);
            if !ends(&end, Some(GRACE))? {
                kill_session(pid, Signal::SIGKILL);
                if !ends(&end, Some(AFTER_KILL))? {
                    self.0.running().remove(&pid);
                    let failure = Failure::new(format!("process {pid}, a run, does not end"));
                    return Err(failure.with_hint("it was killed, but hangs in the kernel"));
                }
            }
        }
        // The first process is not waited for yet, so nobody else can have its number.
        let mut running = self.0.running();
        kill_session(pid, Signal::SIGKILL);
        let status = child.wait().context("cannot wait for a run")?;
        running.remove(&pid);
        drop(running);
        let status = status.code().or(status.signal().map(|it| 128 + it)).unwrap_or(0);
        Ok(Finished { status, timed_out })
    }

    /// Ends what left the session of its run: processes that became our children, and have the run's directory in
    /// their environment.
    pub fn end_strays(&self, directory: &Path) {
        /// One that ends may leave us its children.
        const ROUNDS: usize = 16;
        let mark = [b"AIOTRACE_SWEEP_DIR=", directory.as_os_str().as_encoded_bytes()].concat();
        for _ in 0..ROUNDS {
            let running = self.0.running();
            let ours = proc::children(std::process::id()).into_iter().map(|it| it as i32);
            let others: Vec<i32> = ours.filter(|it| !running.contains(it)).collect();
            // Those that have ended, such as what read symbols for a run, are only to be waited for.
            for pid in &others {
                let _ = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
            }
            drop(running);
            let of_run = |pid: &i32| {
                let environment = Environment { pid: *pid as u32 }.ask().flatten();
                let environment = environment.unwrap_or_default();
                environment.split(|it| *it == 0).any(|it| it == mark)
            };
            let strays: Vec<i32> = others.into_iter().filter(of_run).collect();
            // Those that hang are not waited for again.
            if strays.into_iter().filter(|it| end(*it)).count() == 0 {
                return;
            }
        }
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, HashSet<i32>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills a child of ours; `false` if it did not end, because it hangs in the kernel.
fn end(pid: i32) -> bool {
    let Ok(pidfd) = proc::pidfd_open(pid as u32) else { return false };
    let pid = Pid::from_raw(pid);
    let _ = kill(pid, Signal::SIGKILL);
    let has_ended = matches!(ends(&pidfd, Some(GRACE)), Ok(true));
    let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
    has_ended
}

fn kill_session(first: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(-first), signal);
}

/// Waits until the process ends; `false` if it did not within this time.
fn ends(pidfd: &OwnedFd, limit: Option<Duration>) -> Result<bool> {
    let until = limit.map(|it| Instant::now() + it);
    loop {
        let left = until.map(|it| it.saturating_duration_since(Instant::now()));
        let timeout = match left {
            None => PollTimeout::NONE,
            // Rounded up, so that it does not spin in the last millisecond.
            Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_some_and(|it| it.is_zero()) => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => (),
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
