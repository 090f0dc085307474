//! The child process that reads symbols and debug information: `aiotrace symbolize`. A line of JSON in,
//! a line out, both by its standard input, until that ends. Files that it does not know yet come by its standard output,
//! before they are asked about.
//!
//! The files are those of whoever is traced, so it is confined, and the least that can happen is that it dies.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
};

use memmap2::MmapOptions;
use serde::{Deserialize, Serialize};

use super::{confine, names::Names};
use crate::{
    bounded,
    errand::wire::{self, Incoming},
};

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// A number of the file.
    pub file: u64,
    /// Addresses in it, as its symbols have them.
    pub offsets: Vec<u64>,
}

/// Files that were handed over: the file and the one with its debug information.
#[derive(Debug, Serialize, Deserialize)]
pub struct Handed {
    file: u64,
    sizes: Vec<u64>,
}

impl Handed {
    /// Hands them over.
    ///
    /// # Errors
    /// If they cannot be looked at, or the child is gone.
    pub fn send(socket: &UnixStream, file: u64, files: &[&File]) -> io::Result<()> {
        let sizes = files.iter().map(|it| Ok(it.metadata()?.len())).collect::<io::Result<_>>()?;
        let message = wire::encoded(&Self { file, sizes }).map_err(io::Error::other)?;
        let files: Vec<_> = files.iter().map(|it| it.as_fd()).collect();
        wire::send(socket.as_fd(), &message, &files)
    }

    /// Takes those of this number. One that was handed over too late is of a file that nobody asks about any more.
    fn receive(file: u64) -> io::Result<(Vec<File>, Vec<u64>)> {
        let mut incoming = Incoming::default();
        loop {
            let Some((bytes, files)) = incoming.take(io::stdout().as_fd())? else { continue };
            let it: Self = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
            if it.file == file {
                return Ok((files.into_iter().map(File::from).collect(), it.sizes));
            }
        }
    }
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
const MOST_REQUEST: u64 = 1 << 20;

/// Answers until nobody asks. `parent`: the process that asks. `try_all`: says instead what it could still do.
///
/// # Errors
/// If it cannot be confined, or whoever asks went away in the middle.
pub fn run(parent: u32, try_all: bool) -> io::Result<()> {
    // SAFETY: no memory is involved; and we may run at the priority of the thread that shows events.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
    }
    // Answers go back where requests come from.
    let mut out = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    confine::confine(parent)?;
    if try_all {
        return writeln!(io::stdout(), "{}", serde_json::to_string(&confine::holes())?);
    }
    let mut input = BufReader::new(io::stdin().lock());
    let mut known: HashMap<u64, Option<Names>, foldhash::fast::RandomState> = HashMap::default();
    loop {
        let mut line = Vec::new();
        input.by_ref().take(MOST_REQUEST).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let request: Request = serde_json::from_slice(&line)?;
        let names = match known.entry(request.file) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let (files, sizes) = Handed::receive(request.file)?;
                let mut maps = files.iter().zip(sizes).map(|(file, size)| map(file, size));
                let names = maps.next().flatten();
                new.insert(names.and_then(|it| Names::new(it, maps.next().flatten())))
            }
        };
        let functions = |it: &u64| names.as_ref().map_or(Vec::new(), |names| names.at(*it));
        let answer: Vec<_> = request.offsets.iter().map(functions).collect();
        let mut answer = serde_json::to_vec(&answer)?;
        answer.push(b'\n');
        out.write_all(&answer)?;
    }
}

/// A file in our memory, until we end.
fn map(file: &File, size: u64) -> Option<&'static [u8]> {
    // SAFETY: if somebody cuts the file short, a read of it kills us, and costs the names of this file: that is
    // what this process is for.
    let map = unsafe { MmapOptions::new().len(usize::try_from(size).ok()?).map(file) }.ok()?;
    Some(&**Box::leak(Box::new(map)))
}
