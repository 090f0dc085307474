//! Starts a program that waits, before its exec, until it is told to go on.

use std::{
    ffi::{CString, OsString},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::{
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, User, execvp, fork, pipe2, setgid, setuid},
};

use crate::{
    errand,
    failure::{Context as _, Hint as _, Result},
    source::ptrace::{Status, seccomp},
};

/// What tells it to begin with a filter.
const FILTERED: u8 = b'f';

/// A program that has not begun yet, then one that runs.
pub struct Child {
    pid: Pid,
    /// Closed or written: go on.
    go: Option<std::fs::File>,
    /// Gives the errno if the exec fails, nothing if it succeeds.
    failure: std::fs::File,
    reaped: bool,
}

/// Why the program does not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// exec failed.
    #[error("cannot execute it")]
    Exec(#[source] Errno),
    /// It was gone before it began.
    #[error("the new process is gone")]
    Gone(#[source] io::Error),
}

impl ExecError {
    /// Exit status for it: 127 if there is no such program, else 126.
    pub fn status(&self) -> u8 {
        match self {
            Self::Exec(Errno::ENOENT) => 127,
            _ => 126,
        }
    }
}

impl Child {
    /// Forks. Must be called while this process has one thread.
    pub fn start(command: &[OsString], user: Option<&str>) -> Result<Self> {
        let arguments = command
            .iter()
            .map(|it| CString::new(it.clone().into_vec()))
            .collect::<Result<Vec<_>, _>>()
            .context("an argument has a NUL byte in it")?;
        let user = user.map(find_user).transpose()?;
        let (go_read, go) = pipe2(OFlag::O_CLOEXEC)?;
        let (failure, failure_write) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: this process has one thread, so the child may do as it likes.
        match unsafe { fork() }.context("cannot start a process")? {
            ForkResult::Parent { child } => {
                Ok(Self { pid: child, go: Some(go.into()), failure: failure.into(), reaped: false })
            }
            ForkResult::Child => {
                drop(go);
                let errno = match become_program(&go_read, user.as_ref(), &arguments) {
                    Ok(never) => match never {},
                    Err(errno) => errno,
                };
                let code = (errno as i32).to_ne_bytes();
                let _ = std::fs::File::from(failure_write).write_all(&code);
                // SAFETY: ends the process without running anything of the parent's.
                unsafe { libc::_exit(ExecError::Exec(errno).status().into()) }
            }
        }
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Its id, for system calls.
    pub fn as_pid(&self) -> Pid {
        self.pid
    }

    /// Lets it begin; returns when its exec is done. `filtered`: with the filter of [`seccomp`].
    pub fn release(&mut self, filtered: bool) -> Result<(), ExecError> {
        if let Some(mut go) = self.go.take() {
            go.write_all(if filtered { &[FILTERED] } else { b"!" }).map_err(ExecError::Gone)?;
        }
        let mut code = [0; 4];
        match self.failure.read_exact(&mut code) {
            Ok(()) => Err(ExecError::Exec(Errno::from_raw(i32::from_ne_bytes(code)))),
            Err(_) => Ok(()), // closed by the exec
        }
    }

    /// Its status, waiting for it: its exit code, or 128 and the signal. `traced`: whoever traces it waits in
    /// our place.
    pub fn wait(mut self, traced: Option<Status>) -> nix::Result<u8> {
        if let Some(status) = traced.and_then(Status::wait) {
            self.reaped = true;
            return Ok(match libc::WIFEXITED(status) {
                true => libc::WEXITSTATUS(status) as u8,
                false => 128 + libc::WTERMSIG(status) as u8,
            });
        }
        loop {
            match waitpid(self.pid, None) {
                Ok(WaitStatus::Exited(_, code)) => {
                    self.reaped = true;
                    return Ok(code as u8);
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    self.reaped = true;
                    return Ok(128 + signal as u8);
                }
                Ok(_) | Err(Errno::EINTR) => (),
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl Drop for Child {
    /// A program that never began ends here; one that runs is left alone.
    fn drop(&mut self) {
        if self.go.take().is_some() && !self.reaped {
            let _ = waitpid(self.pid, None);
        }
    }
}

fn find_user(name: &str) -> Result<User> {
    let found = match name.parse() {
        Ok(id) => User::from_uid(nix::unistd::Uid::from_raw(id)),
        Err(_) => User::from_name(name),
    };
    found?.with_context(|| format!("no such user: {name}")).hint("`getent passwd` lists the users")
}

fn become_program(
    go: &OwnedFd,
    user: Option<&User>,
    arguments: &[CString],
) -> Result<std::convert::Infallible, Errno> {
    let mut byte = 0u8;
    loop {
        // SAFETY: reads one byte into one byte.
        let read = unsafe { libc::read(go.as_raw_fd(), (&raw mut byte).cast(), 1) };
        match read {
            1 => break,
            // The parent is gone, or could not attach: never begin.
            // SAFETY: ends the process without running anything of the parent's.
            0 => unsafe { libc::_exit(125) },
            _ if Errno::last() == Errno::EINTR => (),
            _ => return Err(Errno::last()),
        }
    }
    if let Some(nursery) = errand::nursery() {
        let nursery = nursery.as_raw().cast_unsigned();
        // With kernel.yama.ptrace_scope=1 only its ancestors may look into it, and whoever descends from the one that it
        // names: our helpers do. Without Yama there is no such call, and no need for it.
        // SAFETY: no memory is involved.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, u64::from(nursery), 0, 0, 0) };
    }
    if byte == FILTERED {
        // Before the user is changed: who may do that may install it without giving anything up.
        seccomp::install()?;
    }
    if let Some(user) = user {
        let name = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL)?;
        nix::unistd::initgroups(&name, user.gid)?;
        setgid(user.gid)?;
        setuid(user.uid)?;
    }
    // The Rust runtime ignores SIGPIPE; programs expect it.
    // SAFETY: the default action runs no code of ours.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)? };
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    execvp(&arguments[0], arguments)
}
