//! The child process that reads symbols and debug information: `aiotrace symbolize`. aiotrace
//! writes each request as a line of JSON to the child's standard input, which is a socket, and the
//! child writes the answer as a line back to it, until aiotrace closes it. Before aiotrace asks
//! about a new file, a helper sends it by another socket, the child's standard output.
//!
//! The files are the target's, so the child is confined; the worst that a file can do is to make it
//! die.

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
    bounded::{self, FRAMES, FUNCTIONS, List},
    errand::wire::{self, Incoming},
};

/// A request: which functions are at these addresses of a file?
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The number of the file.
    pub file: u64,
    /// Addresses in the file, as its symbols have them.
    pub offsets: Vec<u64>,
}

/// What comes with files that are handed over: the file with the code, and the one with its debug
/// information.
#[derive(Debug, Serialize, Deserialize)]
pub struct Handed {
    file: u64,
    sizes: Vec<u64>,
}

impl Handed {
    /// Hands the files over.
    ///
    /// # Errors
    /// If the size of a file cannot be read, or the child is gone.
    pub fn send(socket: &UnixStream, file: u64, files: &[&File]) -> io::Result<()> {
        let sizes = files.iter().map(|it| Ok(it.metadata()?.len())).collect::<io::Result<_>>()?;
        let message = wire::encoded(&Self { file, sizes }).map_err(io::Error::other)?;
        let files: Vec<_> = files.iter().map(|it| it.as_fd()).collect();
        wire::send(socket.as_fd(), &message, &files)
    }

    /// Takes the files with this number. Files with another number came too late: nobody asks about
    /// them any more.
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

/// An answer: the functions at each address.
pub type Answer = List<List<Function, FUNCTIONS>, FRAMES>;

/// What is known of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// The demangled name.
    #[serde(deserialize_with = "bounded::known_text")]
    pub function: Option<String>,
    /// The source file.
    #[serde(deserialize_with = "bounded::known_text")]
    pub file: Option<String>,
    /// The line.
    pub line: Option<u32>,
    /// The demangled symbol of the file itself, for the last function of a list: debug information has no part in it.
    #[serde(deserialize_with = "bounded::known_text")]
    pub symbol: Option<String>,
}

impl Function {
    /// How many bytes its names have.
    pub fn length(&self) -> usize {
        let names = [&self.function, &self.file, &self.symbol];
        names.into_iter().flatten().map(String::len).sum()
    }
}

/// How many bytes the functions at a place take.
pub fn memory(functions: &[Function]) -> usize {
    const EACH: usize = size_of::<Function>();
    functions.iter().map(|it| EACH + it.length()).sum::<usize>() + EACH
}

/// The longest request that is read, in bytes.
const MOST_REQUEST: u64 = 1 << 20;

/// Answers until aiotrace closes the socket. `parent` is the process that asks. With `try_all`,
/// only says what the child could still do.
///
/// # Errors
/// If the child cannot be confined, or if aiotrace went away in the middle of a request.
pub fn run(parent: u32, try_all: bool) -> io::Result<()> {
    // SAFETY: no memory is involved. (The child may have been started at the priority of the thread
    // that shows events.)
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
    }
    // Answers go back to the socket where requests come from.
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

/// A file in the memory of this process, until the process ends.
fn map(file: &File, size: u64) -> Option<&'static [u8]> {
    // SAFETY: if somebody cuts the file short, a read of it kills this process and costs the names
    // of this file; this process exists for that.
    let map = unsafe { MmapOptions::new().len(usize::try_from(size).ok()?).map(file) }.ok()?;
    Some(&**Box::leak(Box::new(map)))
}
