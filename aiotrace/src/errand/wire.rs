//! How errands and answers are sent: a length, and then that many bytes, perhaps with descriptors.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};
use serde::Serialize;

/// The longest message, in bytes. (The longest have tables for unwinding: stacks/modules.rs.)
const LONGEST: usize = 300 << 20;
/// The most descriptors that come with one message.
const MOST_DESCRIPTORS: usize = 3;
/// How many bytes the length has.
const LENGTH: usize = size_of::<u32>();

/// Encodes a message, with its length.
///
/// # Errors
/// If it cannot be encoded, or is too long.
pub fn encoded(message: &impl Serialize) -> postcard::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(message, vec![0; LENGTH])?;
    if bytes.len() > LONGEST {
        return Err(postcard::Error::SerializeBufferFull);
    }
    let length = (bytes.len() - LENGTH) as u32;
    bytes[..LENGTH].copy_from_slice(&length.to_ne_bytes());
    Ok(bytes)
}

/// Sends a message that was encoded.
///
/// # Errors
/// If nobody reads from the socket.
pub fn send(
    socket: BorrowedFd<'_>,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let descriptors: Vec<RawFd> = descriptors.iter().map(|it| it.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let mut rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    let mut rest = message;
    while !rest.is_empty() {
        let parts = [IoSlice::new(rest)];
        match sendmsg::<()>(socket.as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(sent) => (rest, rights) = (&rest[sent..], &[]),
            Err(Errno::EINTR) => (),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The part of a message that has come so far.
#[derive(Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    /// How many bytes have come.
    filled: usize,
    descriptors: Vec<OwnedFd>,
}

impl Incoming {
    /// Takes the bytes that are there, or waits for some. Returns the message without its length,
    /// once it is whole.
    ///
    /// # Errors
    /// If the other end is closed (`UnexpectedEof`), or if what comes is no message.
    pub fn take(&mut self, socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        const FIRST: usize = 4096;
        if self.bytes.is_empty() {
            self.bytes = vec![0; FIRST];
        }
        let mut space = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
        let received = {
            let mut parts = [IoSliceMut::new(&mut self.bytes[self.filled..])];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let message =
                match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                    Err(Errno::EINTR) => return Ok(None),
                    other => other?,
                };
            for control in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(found) = control {
                    // SAFETY: the kernel has just made these descriptors for this process.
                    let owned = found.into_iter().map(|it| unsafe { OwnedFd::from_raw_fd(it) });
                    self.descriptors.extend(owned);
                }
            }
            message.bytes
        };
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.filled += received;
        let Some(length) = self.bytes[..self.filled].first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let whole = LENGTH + u32::from_ne_bytes(*length) as usize;
        if whole > LONGEST || self.filled > whole {
            return Err(io::Error::other("the received bytes are no message"));
        }
        self.bytes.resize(whole.max(FIRST), 0);
        if self.filled < whole {
            return Ok(None);
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        self.filled = 0;
        bytes.truncate(whole);
        bytes.drain(..LENGTH);
        Ok(Some((bytes, std::mem::take(&mut self.descriptors))))
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd as _, unix::net::UnixStream};

    use super::*;

    #[test]
    fn a_message_comes_as_it_was_sent_with_its_descriptor() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let long = vec![7u64; 100_000];
        let sender = std::thread::spawn(move || {
            let file = tempfile::tempfile().unwrap();
            send(ours.as_fd(), &encoded(&long).unwrap(), &[file.as_fd()]).unwrap();
            send(ours.as_fd(), &encoded(&()).unwrap(), &[]).unwrap();
            long
        });
        let mut incoming = Incoming::default();
        let mut next = || {
            loop {
                if let Some(it) = incoming.take(theirs.as_fd()).unwrap() {
                    return it;
                }
            }
        };
        let (bytes, files) = next();
        assert_eq!(files.len(), 1);
        let (empty, none) = next();
        assert!(empty.is_empty() && none.is_empty());
        assert_eq!(postcard::from_bytes::<Vec<u64>>(&bytes).unwrap(), sender.join().unwrap());
        let end = incoming.take(theirs.as_fd()).map_err(|it| it.kind()).err();
        assert_eq!(end, Some(io::ErrorKind::UnexpectedEof));
    }
}
