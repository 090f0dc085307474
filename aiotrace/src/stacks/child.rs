//! The child process that reads symbols and debug information: `aiotrace symbolize`. A line of JSON in,
//! a line out, until its standard input ends.

use std::io::{self, BufRead as _, Write as _};

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolizer,
    source::{Elf, Source},
};
use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Path of the file.
    pub file: String,
    /// Addresses in it, as its symbols have them.
    pub offsets: Vec<u64>,
}

/// A function, as far as it is known. The answer has a list of them for each address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name, demangled.
    pub function: Option<String>,
    /// Source file.
    pub file: Option<String>,
    /// Line.
    pub line: Option<u32>,
}

/// Memory it may take, besides the files: they are the target's, and may be made to take all there is.
const MOST_MEMORY: u64 = 1 << 30;

/// Answers until nobody asks.
///
/// # Errors
/// If whoever asks went away in the middle.
pub fn run() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: MOST_MEMORY, rlim_max: MOST_MEMORY };
    // SAFETY: a valid limit; and we may run at the priority of the thread that shows events.
    unsafe {
        libc::setrlimit(libc::RLIMIT_DATA, &limit);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
    }
    let symbolizer = Symbolizer::new();
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        serde_json::to_writer(&mut out, &answer(&symbolizer, &request))?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(symbolizer: &Symbolizer, request: &Request) -> Vec<Vec<Function>> {
    let source = Source::from(Elf::new(&request.file));
    match symbolizer.symbolize(&source, Input::VirtOffset(&request.offsets)) {
        Ok(found) => found.iter().map(|it| it.as_sym().map_or(Vec::new(), functions)).collect(),
        Err(_) => Vec::new(),
    }
}

/// A function and what is inlined at this place, the innermost first. (The code that blazesym gives for
/// a function is the place in it, and for an inlined one the place in that.)
fn functions(symbol: &Sym<'_>) -> Vec<Function> {
    let outer = (symbol.name.as_ref(), symbol.code_info.as_deref());
    let inlined = symbol.inlined.iter().map(|it| (it.name.as_ref(), it.code_info.as_ref()));
    let mut all: Vec<Function> =
        std::iter::once(outer).chain(inlined).map(|(name, code)| function(name, code)).collect();
    all.reverse();
    all
}

fn function(name: &str, code: Option<&CodeInfo<'_>>) -> Function {
    Function {
        function: Some(name.to_owned()),
        file: code.map(|it| it.to_path().to_string_lossy().into_owned()),
        line: code.and_then(|it| it.line),
    }
}
