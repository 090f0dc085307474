//! The process that does errands, one after the other, until aiotrace closes its socket.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use super::{
    Kinds,
    wait::Used,
    wire::{self, Incoming},
};
use crate::proc::system::go_first;

thread_local! {
    /// The descriptors that came with the errand.
    static LENT: RefCell<Vec<OwnedFd>> = const { RefCell::new(Vec::new()) };
    /// The descriptor that goes with the answer.
    static GIVEN: Cell<Option<OwnedFd>> = const { Cell::new(None) };
}

/// Takes the descriptors that were lent for this errand.
pub fn lent() -> Vec<OwnedFd> {
    LENT.take()
}

/// Gives a descriptor away with the answer.
pub fn give(descriptor: OwnedFd) {
    GIVEN.set(Some(descriptor));
}

/// Runs a function that may take the descriptors in `lent`, and returns the descriptor that it
/// gives away.
pub fn with<T>(lent: Vec<OwnedFd>, run: impl FnOnce() -> T) -> (T, Option<OwnedFd>) {
    LENT.set(lent);
    let answer = run();
    LENT.take();
    (answer, GIVEN.take())
}

/// This process.
const US: Pid = Pid::from_raw(0);

/// Gives up the priority and the processors that an urgent errand got.
fn go_anywhere(allowed: Option<&CpuSet>) {
    // SAFETY: no memory is involved.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
    if let Some(allowed) = allowed {
        let _ = sched_setaffinity(US, allowed);
    }
}

/// Does the errands of these kinds that come by this socket. First it sends its process id, and
/// what it has used up.
///
/// # Errors
/// When aiotrace closes the socket: this function returns in no other way.
pub fn serve(socket: &OwnedFd, kinds: Kinds) -> io::Result<()> {
    let send = |message: postcard::Result<Vec<u8>>, given: Option<OwnedFd>| {
        let given: Vec<_> = given.iter().map(|it| it.as_fd()).collect();
        wire::send(socket.as_fd(), &message.map_err(io::Error::other)?, &given)
    };
    send(wire::encoded(&(std::process::id(), Used::now())), None)?;
    let allowed = sched_getaffinity(US).ok();
    let mut was_urgent = false;
    let mut incoming = Incoming::default();
    loop {
        let Some((bytes, lent)) = incoming.take(socket.as_fd())? else { continue };
        let ((name, is_urgent), errand) =
            postcard::take_from_bytes::<(&str, bool)>(&bytes).map_err(io::Error::other)?;
        let kind = kinds.iter().copied().flatten().find(|it| it.name == name);
        let kind = kind.ok_or_else(|| io::Error::other("no such errand"))?;
        if is_urgent != was_urgent {
            was_urgent = is_urgent;
            match is_urgent {
                true => go_first(),
                false => go_anywhere(allowed.as_ref()),
            }
        }
        let (answer, given) = with(lent, || (kind.run)(errand));
        send(answer, given)?;
    }
}
