//! Starts a process that waits, before it executes its program, until it is told to go on.

use std::{
    ffi::{CString, OsStr, OsString},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag},
    sys::{
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        wait::{WaitStatus, waitpid},
    },
    unistd::{AccessFlags, ForkResult, Pid, User, execvp, faccessat, fork, pipe2, setgid, setuid},
};

use crate::{
    errand,
    failure::{Context as _, Hint as _, Result},
    source::ptrace::{Status, seccomp},
};

/// The byte that tells the process to begin with a filter.
const FILTERED: u8 = b'f';

/// A process that has not executed its program yet; later the running program.
pub struct Child {
    pid: Pid,
    /// The write end of the pipe from which the process reads: a byte lets it begin. If the pipe is
    /// closed without one, it never begins.
    go: Option<std::fs::File>,
    /// Yields the errno if the exec fails, and ends without one if the exec succeeds.
    failure: std::fs::File,
    reaped: bool,
}

/// Why the program could not be executed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// exec failed.
    #[error("cannot execute it")]
    Exec(#[source] Errno),
    /// The process was gone before it executed the program.
    #[error("the new process is gone")]
    Gone(#[source] io::Error),
}

impl ExecError {
    /// The exit status for the error: 127 if there is no such program, and 126 for other errors.
    pub fn status(&self) -> u8 {
        match self {
            Self::Exec(Errno::ENOENT) => 127,
            _ => 126,
        }
    }
}

/// Whether a program can be executed, as far as can be known before: the kernel decides later.
///
/// # Errors
/// As exec would fail: nothing has this name, or what has it is no program.
pub fn find_program(name: &OsStr) -> Result<(), Errno> {
    /// What exec uses if there is no PATH.
    const USUAL: &str = "/bin:/usr/bin";
    let check = |path: &Path| {
        faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)?;
        if path.is_dir() { Err(Errno::EACCES) } else { Ok(()) }
    };
    if name.as_bytes().contains(&b'/') {
        return check(Path::new(name));
    }
    let mut why = Errno::ENOENT;
    let path = std::env::var_os("PATH").unwrap_or_else(|| USUAL.into());
    for directory in std::env::split_paths(&path) {
        match check(&directory.join(name)) {
            Ok(()) => return Ok(()),
            Err(Errno::EACCES) => why = Errno::EACCES,
            Err(_) => (),
        }
    }
    Err(why)
}

impl Child {
    /// Forks the process. This must be called while aiotrace has one thread.
    pub fn start(command: &[OsString], user: Option<&str>) -> Result<Self> {
        let arguments = command
            .iter()
            .map(|it| CString::new(it.clone().into_vec()))
            .collect::<Result<Vec<_>, _>>()
            .context("an argument has a NUL byte in it")?;
        let user = user.map(find_user).transpose()?;
        let (go_read, go) = pipe2(OFlag::O_CLOEXEC)?;
        let (failure, failure_write) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: this process has one thread, so the child may run any code.
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
                // SAFETY: the call ends the process without running any code of the parent.
                unsafe { libc::_exit(ExecError::Exec(errno).status().into()) }
            }
        }
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// The id of the process, for system calls.
    pub fn as_pid(&self) -> Pid {
        self.pid
    }

    /// Lets the process execute its program, and returns when that is done. `filtered`: with the
    /// filter of [`seccomp`].
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

    /// Waits for the program to end. Gives its exit code, or 128 plus its signal. `traced`: the
    /// ptrace tracer, which waits in our place.
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
    /// If the program never began, its process ends here; a running program is left alone.
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
        // SAFETY: the pointer is to one byte, and one byte is read.
        let read = unsafe { libc::read(go.as_raw_fd(), (&raw mut byte).cast(), 1) };
        match read {
            1 => break,
            // The parent is gone, or could not attach: the program must never begin.
            // SAFETY: the call ends the process without running any code of the parent.
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
        // Install the filter before changing the user: whoever may change the user may install a
        // filter without giving up the right to gain privileges.
        seccomp::install()?;
    }
    if let Some(user) = user {
        let name = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL)?;
        nix::unistd::initgroups(&name, user.gid)?;
        setgid(user.gid)?;
        setuid(user.uid)?;
    }
    // Programs expect the default action of SIGPIPE, but the Rust runtime ignores it.
    // SAFETY: the default action runs no code of ours.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)? };
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    execvp(&arguments[0], arguments)
}
