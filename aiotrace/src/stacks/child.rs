//! The child process that reads symbols and debug information: `aiotrace symbolize`. A line of JSON in, with
//! descriptors of the files that it does not know yet; a line out; until its standard input ends.
//!
//! The files are those of whoever is traced, so it is confined, and the least that can happen is that it dies.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, IoSliceMut, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use memmap2::MmapOptions;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde::{Deserialize, Serialize};

use super::{confine, names::Names};
use crate::bounded;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// A number of the file.
    pub file: u64,
    /// If the file is new to the child: sizes of it and of the one with its debug information, whose descriptors
    /// come with this.
    pub sizes: Vec<u64>,
    /// Addresses in it, as its symbols have them.
    pub offsets: Vec<u64>,
}

/// A function, as far as it is known. The answer has a list of them for each address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name, demangled.
    #[serde(deserialize_with = "bounded::known_text")]
    pub function: Option<String>,
    /// Source file.
    #[serde(deserialize_with = "bounded::known_text")]
    pub file: Option<String>,
    /// Line.
    pub line: Option<u32>,
}

impl Function {
    /// Bytes of its names.
    pub fn length(&self) -> usize {
        let names = [&self.function, &self.file];
        names.into_iter().flatten().map(String::len).sum()
    }
}

/// A request that is longer is not read.
const MOST_REQUEST: usize = 1 << 20;

/// Answers until nobody asks. `parent`: the process that asks. `try_all`: says instead what it could still do.
///
/// # Errors
/// If it cannot be confined, or whoever asks went away in the middle.
pub fn run(parent: u32, try_all: bool) -> io::Result<()> {
    // SAFETY: no memory is involved; and we may run at the priority of the thread that shows events.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
    }
    confine::confine(parent)?;
    let mut out = io::stdout().lock();
    if try_all {
        return writeln!(out, "{}", serde_json::to_string(&confine::holes())?);
    }
    let mut known: HashMap<u64, Option<Names>, foldhash::fast::RandomState> = HashMap::default();
    while let Some((line, files)) = receive()? {
        let request: Request = serde_json::from_slice(&line)?;
        let names = known.entry(request.file).or_insert_with(|| {
            let mut maps = files.iter().zip(&request.sizes).map(|(file, size)| map(file, *size));
            Names::new(maps.next()??, maps.next().flatten())
        });
        let functions = |it: &u64| names.as_ref().map_or(Vec::new(), |names| names.at(*it));
        let answer: Vec<_> = request.offsets.iter().map(functions).collect();
        serde_json::to_writer(&mut out, &answer)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

/// A file in our memory, until we end.
fn map(file: &File, size: u64) -> Option<&'static [u8]> {
    // SAFETY: if somebody cuts the file short, a read of it kills us, and costs the names of this file: that is
    // what this process is for.
    let map = unsafe { MmapOptions::new().len(usize::try_from(size).ok()?).map(file) }.ok()?;
    Some(&**Box::leak(Box::new(map)))
}

/// The next request, and the descriptors that came with it; `None` at the end.
fn receive() -> io::Result<Option<(Vec<u8>, Vec<File>)>> {
    let (mut line, mut files) = (Vec::new(), Vec::new());
    let mut piece = vec![0; 64 << 10];
    let mut space = nix::cmsg_space!([RawFd; 2]);
    while line.last() != Some(&b'\n') {
        let mut parts = [IoSliceMut::new(&mut piece)];
        let message = recvmsg::<()>(
            io::stdin().as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(found) = control {
                // SAFETY: they were made for us just now.
                let owned = found.into_iter().map(|it| unsafe { OwnedFd::from_raw_fd(it) });
                files.extend(owned.map(File::from));
            }
        }
        let count = message.bytes;
        if count == 0 {
            return Ok(None);
        }
        line.extend_from_slice(&piece[..count]);
        if line.len() > MOST_REQUEST {
            return Err(io::Error::other("the request is too long"));
        }
    }
    Ok(Some((line, files)))
}
