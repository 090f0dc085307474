//! The process that forks helpers. It was forked before aiotrace opened anything, and does nothing else, so it waits
//! for nobody.

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

/// Forks it, and gives its process id. What is sent to it is a descriptor: the other end of whoever is to be served by a new helper.
///
/// # Errors
/// If there can be no process.
pub fn start(kinds: Kinds) -> io::Result<(UnixStream, Pid)> {
    let (ours, theirs) = UnixStream::pair()?;
    let parent = nix::unistd::getpid();
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(theirs);
            // It is ready, or has ended.
            (&ours).read_exact(&mut [0])?;
            Ok((ours, child))
        }
        ForkResult::Child => {
            drop(ours);
            if retire().is_ok() && getppid() == parent && keep_only(&theirs).is_ok() {
                let _ = serve(theirs, kinds);
                // Until there is no child: they are reaped by the kernel.
                let _ = wait();
            }
            end()
        }
    }
}

/// Memory of a helper, bytes: tables for unwinding of the largest files (a message of 300 MiB) and what we are ourselves.
const MOST_MEMORY: u64 = 1 << 30;

/// Leaves the terminal, our input and output, and all that we were given: nobody is to wait for a helper.
fn retire() -> io::Result<()> {
    setsid()?;
    chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    end_with_parent()?;
    // A tracer of our user may not look into us.
    // SAFETY: no memory is involved. So below.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    // The kernel reaps our children by itself. And who ends all of a unit or a terminal ends aiotrace, which needs its
    // helpers until then.
    for it in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        // SAFETY: no code of ours runs.
        unsafe { signal(it, SigHandler::SigIgn) }?;
    }
    // All that helpers read is bounded; if that is not enough, it is they who have no memory, and not the machine.
    lower_limit(Resource::RLIMIT_AS, MOST_MEMORY)?;
    name(c"aiotrace-nursery");
    Ok(())
}

/// Ends when its parent ends. fork(2) and a change of user take that back.
///
/// # Errors
/// Never, on a kernel that we run on.
pub fn end_with_parent() -> io::Result<()> {
    // SAFETY: no memory is involved.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
    Ok(())
}

fn name(name: &std::ffi::CStr) {
    // SAFETY: a string that lives; more than 15 bytes are cut.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Ends at once: what there is at the end of a process is not ours, but of the one that we were forked from.
fn end() -> ! {
    // SAFETY: it does not come back.
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

/// Closes all descriptors but those of standard input and output, and this one.
fn keep_only(socket: &UnixStream) -> io::Result<()> {
    let kept = socket.as_raw_fd().cast_unsigned();
    for (first, last) in [(3, kept.saturating_sub(1)), (kept + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: nobody here knows of any of them.
            Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
    }
    Ok(())
}

/// Asks for a helper that serves this end.
///
/// # Errors
/// If the nursery is gone.
pub fn ask(nursery: &UnixStream, end: &OwnedFd) -> io::Result<()> {
    let message = wire::encoded(&()).map_err(io::Error::other)?;
    wire::send(nursery.as_fd(), &message, &[end.as_fd()])
}
