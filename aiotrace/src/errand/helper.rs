//! The process that does errands, one after the other, until nobody asks.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use super::{
    Any,
    wire::{self, Incoming},
};
use crate::source::collector;

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

/// Does something with descriptors that are lent, and takes the one that it gives.
pub fn with<T>(lent: Vec<OwnedFd>, run: impl FnOnce() -> T) -> (T, Option<OwnedFd>) {
    LENT.set(lent);
    let answer = run();
    LENT.take();
    (answer, GIVEN.take())
}

/// Does what is asked for at this socket. First it says its process id.
///
/// # Errors
/// At the end: when whoever asks is gone.
pub fn serve(socket: &OwnedFd) -> io::Result<()> {
    // Whoever waits for us holds up a trace, or a program that is stopped.
    collector::go_first();
    let send = |message: postcard::Result<Vec<u8>>, given: Option<OwnedFd>| {
        let given: Vec<_> = given.iter().map(|it| it.as_fd()).collect();
        wire::send(socket.as_fd(), &message.map_err(io::Error::other)?, &given)
    };
    send(wire::encoded(&std::process::id()), None)?;
    let mut incoming = Incoming::default();
    loop {
        let Some((bytes, lent)) = incoming.take(socket.as_fd())? else { continue };
        let errand: Any = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        let (answer, given) = with(lent, || errand.run());
        send(answer, given)?;
    }
}
