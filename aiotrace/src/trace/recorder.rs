//! `--record`: writes what a trace sees to a recording.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    fs::File,
    io,
    rc::Rc,
};

use super::{files, newcomers::Newcomers};
use crate::{
    bounded::{self, FUNCTION_NAMES, FUNCTIONS, PATH},
    errand::{self, Errand as _},
    event::{Args, Body, Call, Change, Event, Stack},
    failure::{Context as _, Result},
    model::Settings,
    output::{Ended, Start, paths::Paths, people::Person},
    proc,
    source::recording::{Item, Writer},
    stacks::{
        Place, Symbolizer,
        child::{Function, memory},
    },
};

/// How long a path is used after it was looked up: nanoseconds, in the time of events.
const FRESH: u64 = 1_000_000_000;
/// The largest number of paths that are remembered.
const MOST: usize = 4096;
/// The largest number of places whose functions are remembered.
const MOST_PLACES: usize = 65_536;
/// The most memory for the functions at places, in bytes.
const MOST_MEMORY: usize = 64 << 20;

/// The paths of descriptors: looked up by the recorder, or read from a recording.
#[derive(Clone, Default)]
pub struct Known(Rc<RefCell<HashMap<(u32, u32), Found>>>);

/// When the path was looked up, and the path, if there was one.
type Found = (u64, Option<Vec<u8>>);

impl Known {
    /// The paths, for an output.
    pub fn paths(&self) -> Paths {
        let known = Rc::clone(&self.0);
        Paths::with(move |pid, fd| known.borrow().get(&(pid, fd)).and_then(|it| it.1.clone()))
    }

    /// The path of a descriptor, if it is known.
    pub fn get(&self, key: (u32, u32)) -> Option<Vec<u8>> {
        self.0.borrow().get(&key).and_then(|it| it.1.clone())
    }

    /// Remembers a path that was looked up.
    pub fn set(&self, (pid, fd): (u32, u32), time: u64, path: Option<Vec<u8>>) {
        let mut known = self.0.borrow_mut();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert((pid, fd), (time, path));
    }

    /// Forgets the paths of a process that has ended or become another program.
    pub fn forget(&self, event: &Event) {
        if let Body::Process(process) = &event.body
            && matches!(process.change, Change::Exec { .. } | Change::Exit { .. })
        {
            self.0.borrow_mut().retain(|(pid, _), _| *pid != event.pid);
        }
    }

    fn is_fresh(&self, (pid, fd): (u32, u32), time: u64) -> bool {
        let known = self.0.borrow();
        known.get(&(pid, fd)).is_some_and(|(looked, _)| time.saturating_sub(*looked) <= FRESH)
    }
}

/// The functions in stacks, read from a recording, by the number of the module and the address in
/// it.
#[derive(Clone, Default)]
pub struct Functions(Rc<RefCell<ByPlace>>);

type PlaceKey = (u64, u64);

#[derive(Default)]
struct ByPlace {
    found: HashMap<PlaceKey, Vec<Function>>,
    /// How much memory all functions take.
    memory: usize,
}

impl Functions {
    /// The functions, for an output.
    pub fn symbols(&self) -> Symbolizer {
        let known = Rc::clone(&self.0);
        Symbolizer::with(move |_, module, offsets| {
            let known = known.borrow();
            let of = |offset: &u64| known.found.get(&(module.id.0, *offset)).cloned();
            offsets.iter().map(of).collect()
        })
    }

    /// Remembers the functions at a place.
    pub fn set(&self, place: PlaceKey, functions: Vec<Function>) {
        let known = &mut *self.0.borrow_mut();
        known.memory += memory(&functions);
        // If there are too many, forget all. The recorder does so as well, and sooner, and then writes
        // them again.
        if known.found.len() >= MOST_PLACES || known.memory > MOST_MEMORY {
            known.found.clear();
            known.memory = memory(&functions);
        }
        if let Some(before) = known.found.insert(place, functions) {
            known.memory = known.memory.saturating_sub(memory(&before));
        }
    }
}

/// Cuts a list of functions, and the text of their names, to what a recording may hold. The
/// innermost functions are kept.
fn cut(mut functions: Vec<Function>) -> Vec<Function> {
    functions.truncate(FUNCTIONS);
    let mut left = FUNCTION_NAMES;
    for name in functions.iter_mut().flat_map(|it| [&mut it.function, &mut it.file]).flatten() {
        bounded::cut(name, PATH.min(left));
        left -= name.len();
    }
    functions
}

/// Writes a recording.
pub struct Recorder {
    writer: Writer<File>,
    known: Known,
    symbols: Symbolizer,
    /// The places whose functions have been written.
    places: HashSet<PlaceKey>,
    /// Which processes are to be looked up.
    newcomers: Newcomers,
    failed: Option<io::Error>,
}

impl Recorder {
    /// Begins to write into this file, and removes what was in it.
    pub fn begin(file: File, known: Known, symbols: &Symbolizer) -> Result<Self> {
        files::begin(&file)?;
        let writer = Writer::new(file).context("cannot write the recording")?;
        let (symbols, places) = (symbols.clone(), HashSet::new());
        Ok(Self { writer, known, symbols, places, newcomers: Newcomers::default(), failed: None })
    }

    /// Writes how the trace begins.
    pub fn start(&mut self, start: &Start, settings: Settings) {
        self.write(&Item::Start(start.clone(), settings));
    }

    /// Writes an event. This must be called before the event is shown, because an output uses the
    /// paths that are looked up here.
    pub fn event(&mut self, event: &Event) {
        self.known.forget(event);
        for fd in descriptors(event) {
            let key = (event.pid, fd);
            if !self.known.is_fresh(key, event.time) {
                let path = errand::Path { pid: event.pid, fd }.ask().flatten();
                self.known.set(key, event.time, path.clone());
                self.write(&Item::Path { pid: event.pid, fd, path });
            }
        }
        if let Body::Call(Call { stack: Some(stack), .. }) = &event.body {
            self.functions(event.pid, stack);
        }
        self.process(event);
        self.write(&Item::Event(event));
    }

    /// Writes who a process is.
    pub fn person(&mut self, it: &Person) {
        let (process, who) = (it.process.clone(), it.who.clone());
        self.write(&Item::Who { pid: it.pid, process, who });
    }

    /// Looks up a process that is new, or that executes another program.
    fn process(&mut self, event: &Event) {
        if self.newcomers.of(event).is_none() {
            return;
        }
        let pid = event.pid;
        let executable = errand::Executable { pid }.ask().flatten();
        self.write(&Item::Process { pid, executable, cgroup: proc::cgroup(pid) });
    }

    fn functions(&mut self, pid: u32, stack: &Stack) {
        if self.places.len() >= MOST_PLACES {
            self.places.clear();
        }
        let is_new = |it: &&Place| self.places.insert((it.module.id.0, it.offset));
        let places = stack.frames.iter().filter_map(|it| it.place.as_ref());
        let new: Vec<&Place> = places.filter(is_new).collect();
        for (place, functions) in new.iter().zip(self.symbols.functions(pid, &new)) {
            let (module, offset) = (place.module.id.0, place.offset);
            match functions {
                Some(it) => self.write(&Item::Functions { module, offset, functions: cut(it) }),
                // The next stack with this place may have them.
                None => drop(self.places.remove(&(module, offset))),
            }
        }
    }

    /// Writes that the model was told the time.
    pub fn time(&mut self, now: u64) {
        self.write(&Item::Time(now));
    }

    /// Writes that the program is being ended, because it took too long.
    pub fn timed_out(&mut self, now: u64) {
        self.write(&Item::TimedOut(now));
    }

    /// Writes that a report was asked for.
    pub fn report(&mut self, ended: &Ended) {
        self.write(&Item::Report(ended.clone()));
    }

    /// Writes that the trace is over.
    pub fn end(&mut self, ended: &Ended) {
        self.write(&Item::End(ended.clone()));
        self.flush();
    }

    /// Writes what is buffered while nothing happens, so that it survives whatever comes.
    pub fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.writer.flush().err();
        }
    }

    /// The error that ended the recording.
    pub fn failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// Whether an error has ended the recording.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    fn write(&mut self, item: &Item<&Event>) {
        if self.failed.is_none() {
            self.failed = self.writer.item(item).err();
        }
    }
}

/// The descriptors that an event names.
fn descriptors(event: &Event) -> Vec<u32> {
    let args = match &event.body {
        Body::Call(call) => &call.args,
        Body::Unfinished(call) => &call.args,
        _ => return Vec::new(),
    };
    let mut fds: Vec<u32> = match args {
        Args::Submit { iocbs, .. } => {
            iocbs.iter().flatten().filter_map(|it| it.value).map(|it| it.fildes).collect()
        }
        Args::Cancel { value, .. } => value.iter().map(|it| it.fildes).collect(),
        _ => Vec::new(),
    };
    fds.sort_unstable();
    fds.dedup();
    fds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(length: usize) -> Function {
        Function { function: Some("f".repeat(length)), file: None, line: None, symbol: None }
    }

    #[test]
    fn the_functions_of_a_recording_take_bounded_memory() {
        let functions = Functions::default();
        for place in 0..10_000 {
            functions.set((1, place), vec![function(FUNCTION_NAMES)]);
            let known = functions.0.borrow();
            assert!(known.memory <= MOST_MEMORY && known.found.contains_key(&(1, place)));
        }
        for place in 0..2 * MOST_PLACES as u64 {
            functions.set((2, place), Vec::new());
        }
        assert!(functions.0.borrow().found.len() <= MOST_PLACES);
    }

    #[test]
    fn what_is_recorded_of_functions_can_be_read_again() {
        let cut = cut(vec![function(40_000); 100]);
        let lengths: Vec<usize> = cut.iter().map(Function::length).collect();
        assert_eq!((cut.len(), lengths.iter().sum()), (FUNCTIONS, FUNCTION_NAMES));
        let item: Item<&Event> = Item::Functions { module: 1, offset: 2, functions: cut };
        let bytes = postcard::to_stdvec(&item).unwrap();
        assert!(postcard::from_bytes::<Item<Event>>(&bytes).is_ok());
    }
}
