//! The nursery: the process that forks helpers. It is forked before aiotrace opens anything, and
//! does nothing else, so it never waits for a target.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::{
    errno::Errno,
    sys::resource::Resource,
    sys::signal::{SigHandler, Signal, signal},
    sys::wait::wait,
    unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, getppid, setsid},
};

use crate::proc::system::lower_limit;

use super::{
    Kinds, helper,
    wire::{self, Incoming},
};

/// Forks the nursery, and returns a socket to it and its process id. Each message to the socket
/// brings a descriptor: the end of another socket, which a new helper serves.
///
/// # Errors
/// If the process cannot be made.
pub fn start(kinds: Kinds, begin: fn() -> io::Result<()>) -> io::Result<(UnixStream, Pid)> {
    let (ours, theirs) = UnixStream::pair()?;
    let parent = nix::unistd::getpid();
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(theirs);
            // The nursery is ready, or has ended.
            (&ours).read_exact(&mut [0])?;
            Ok((ours, child))
        }
        ForkResult::Child => {
            drop(ours);
            let is_ready = begin().is_ok() && retire().is_ok() && keep_only(&theirs).is_ok();
            if is_ready && getppid() == parent {
                let _ = serve(theirs, kinds);
                // Waits until the nursery has no child left; the kernel reaps its children.
                let _ = wait();
            }
            end()
        }
    }
}

/// The most memory of a helper, in bytes: the tables for unwinding of the largest files (a message
/// of 300 MiB), and what aiotrace takes itself.
const MOST_MEMORY: u64 = 1 << 30;

/// Leaves the terminal, standard input and output, and everything else that aiotrace was given, so
/// that nobody waits for a helper that hangs.
fn retire() -> io::Result<()> {
    setsid()?;
    chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    end_with_parent()?;
    // A process of the same user may not trace this one.
    // SAFETY: no memory is involved.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    // The kernel reaps the nursery's children by itself. The other signals are sent to all
    // processes of a unit or a terminal; they end aiotrace, which needs its helpers until then.
    for it in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        // SAFETY: no code of this program runs as a handler.
        unsafe { signal(it, SigHandler::SigIgn) }?;
    }
    // All that helpers read is bounded. If the bounds are not enough, the helpers run out of
    // memory, and not the machine.
    lower_limit(Resource::RLIMIT_AS, MOST_MEMORY)?;
    name(c"aiotrace-nursery");
    Ok(())
}

/// Makes this process end when its parent ends. fork(2) and a change of user undo this.
///
/// # Errors
/// Never, on the kernels that aiotrace supports.
pub fn end_with_parent() -> io::Result<()> {
    // SAFETY: no memory is involved.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
    Ok(())
}

fn name(name: &std::ffi::CStr) {
    // SAFETY: the string lives, and the kernel cuts it to 15 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Ends this process at once: destructors and exit handlers belong to the process from which it was
/// forked.
fn end() -> ! {
    // SAFETY: this does not return.
    unsafe { libc::_exit(0) }
}

fn serve(socket: UnixStream, kinds: Kinds) -> io::Result<()> {
    (&socket).write_all(&[0])?;
    let us = nix::unistd::getpid();
    let mut incoming = Incoming::default();
    loop {
        let Some((_, descriptors)) = incoming.take(socket.as_fd())? else { continue };
        let Some(descriptor) = descriptors.into_iter().next() else { continue };
        // SAFETY: this process has one thread.
        if let Ok(ForkResult::Child) = unsafe { fork() } {
            drop(socket);
            name(c"aiotrace-helper");
            if end_with_parent().is_ok() && getppid() == us {
                let _ = std::panic::catch_unwind(move || helper::serve(&descriptor, kinds));
            }
            end();
        }
    }
}

/// Closes all descriptors except standard input, output and error, and this socket.
fn keep_only(socket: &UnixStream) -> io::Result<()> {
    let kept = socket.as_raw_fd().cast_unsigned();
    for (first, last) in [(3, kept.saturating_sub(1)), (kept + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: no code in this process uses any of these descriptors.
            Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
    }
    Ok(())
}

/// Asks the nursery for a helper that serves this end of a socket.
///
/// # Errors
/// If the nursery is gone.
pub fn ask(nursery: &UnixStream, end: &OwnedFd) -> io::Result<()> {
    let message = wire::encoded(&()).map_err(io::Error::other)?;
    wire::send(nursery.as_fd(), &message, &[end.as_fd()])
}
