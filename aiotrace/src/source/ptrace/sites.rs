//! Where in the program a call is made, found while its thread is stopped: for rules with `site=` and `caller=`, and
//! where the stacks of all calls are wanted. (The reader would find too little of a program that ends soon.) Symbols are
//! read by a confined child, once for each place, so only the first call from a place takes long.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    fs::File,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aiotrace_common::{
    abi::Syscall,
    record::{KnownStack, PAGE, Stack as Record, StackKey},
};
use foldhash::fast::RandomState;

use crate::stacks::{
    Children, Copied, Known, ModuleId, OpenFiles, Processes, Site, Stack, Symbolizer, Unwind, Waits,
};

/// Most stacks whose sites are remembered; beyond, all are forgotten.
const MOST: usize = 4096;
/// Most stacks that wait for the reader; while there are more, the reader gets copies of the memory.
const MOST_WAITING: usize = 8192;
/// Most files that are kept for the reader; beyond, all are forgotten.
const MOST_FILES: usize = 1024;

/// How much of a stack is looked at, in bytes from the stack pointer on. Whole pages are copied, and how much of them
/// lies above the pointer is chance: with all of it, a deep stack would have other functions in each run.
const DEEP: usize = 16 << 10;

/// Unwinds stacks, and finds call sites.
pub struct Sites {
    processes: Processes,
    symbols: Symbolizer,
    known: HashMap<(Syscall, Stack), Arc<Site>, RandomState>,
    unwound: Unwound,
    files: OpenFiles,
    notes: Notes,
}

/// What the user should know, until it is told: the thread that traces writes to nobody who may let it wait. They are
/// few, because [`Children`] say little.
type Notes = Rc<RefCell<VecDeque<String>>>;

impl Sites {
    /// Puts files in `files`, and stacks for the reader in `unwound`. Waits for names as long as `waits` allows.
    pub fn new(files: OpenFiles, unwound: Unwound, waits: Waits) -> Self {
        let processes = Processes::new(Nobody).with_files(files.clone());
        let notes = Notes::default();
        let to = Rc::clone(&notes);
        let say = Box::new(move |text| to.borrow_mut().push_back(text));
        // Threads are stopped meanwhile, so nothing is fetched.
        let children = Children::new(files.clone(), None, waits, say);
        let symbols = Symbolizer::in_children(children);
        Self { processes, symbols, known: HashMap::default(), unwound, files, notes }
    }

    /// Tells by `say` what the user should know, until that returns `false`: then the rest waits.
    pub fn tell(&self, mut say: impl FnMut(String) -> bool) {
        let mut notes = self.notes.borrow_mut();
        while notes.front().is_some_and(|it| say(it.clone())) {
            notes.pop_front();
        }
    }

    /// Unwinds a stack.
    pub fn unwind(&mut self, pid: u32, it: &Record, pages: &[u8]) -> Stack {
        let Record { header, place, read, space, .. } = *it;
        let copied = Copied { time: header.time, space, place, pages, read, known: 0 };
        self.processes.unwind(pid, &cut(copied))
    }

    /// The site of a call of this process with this stack; `None` if it is not known now.
    pub fn of(&mut self, call: Syscall, pid: u32, stack: &Stack) -> Option<Arc<Site>> {
        let key = (call, stack.clone());
        if let Some(known) = self.known.get(&key) {
            return Some(Arc::clone(known));
        }
        let site = Arc::new(Site::of(call, pid, stack, &self.symbols)?);
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(key, Arc::clone(&site));
        Some(site)
    }

    /// Keeps a stack for the reader, and returns its number; `None` if there is no room.
    pub fn keep(&self, stack: Stack) -> Option<u64> {
        let table = &mut *self.unwound.table();
        if table.stacks.len() >= MOST_WAITING {
            return None;
        }
        if table.files.len() >= MOST_FILES {
            table.files.clear();
        }
        for place in stack.frames.iter().filter_map(|it| it.place.as_ref()) {
            let id = place.module.id;
            if !table.files.contains_key(&id)
                && let Some(file) = self.files.file(id)
            {
                table.files.insert(id, file);
            }
        }
        table.last += 1;
        table.stacks.insert(table.last, stack);
        Some(table.last)
    }

    /// Forgets a process that ended, or executed another program.
    pub fn forget(&mut self, pid: u32) {
        self.processes.forget(pid);
    }
}

/// Stacks that were unwound while their threads were stopped, on their way to the reader. A clone is the same table.
#[derive(Clone, Debug, Default)]
pub struct Unwound(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    last: u64,
    stacks: HashMap<u64, Stack, RandomState>,
    /// The names of functions are wanted when the program, and the thread that traces it, may have ended.
    files: HashMap<ModuleId, Arc<File>, RandomState>,
}

impl Unwound {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For the reader: takes stacks that were unwound already, and unwinds the others.
pub struct Reader {
    /// Those that were unwound.
    pub unwound: Unwound,
    /// Unwinds the others.
    pub processes: Processes,
}

impl Unwind for Reader {
    fn unwind(&mut self, pid: u32, copied: &Copied<'_>) -> Stack {
        let unwound = self.unwound.table().stacks.remove(&copied.known);
        unwound.unwrap_or_else(|| self.processes.unwind(pid, &cut(*copied)))
    }

    fn forget(&mut self, pid: u32) {
        self.processes.forget(pid);
    }
}

/// The part of a copy that is looked at.
fn cut(it: Copied<'_>) -> Copied<'_> {
    let below = (it.place.sp % PAGE as u64) as usize;
    let pages = &it.pages[..it.pages.len().min(below + DEEP)];
    Copied { pages, ..it }
}

/// Nobody has to be told which stacks are known: each is copied.
struct Nobody;

impl Known for Nobody {
    fn tell(&mut self, _: &StackKey, _: &KnownStack) {}
    fn withdraw(&mut self, _: &StackKey) {}
}

#[cfg(test)]
mod tests {
    use aiotrace_common::arch::Place;

    use super::*;

    #[test]
    fn as_much_of_a_stack_is_looked_at_wherever_it_begins() {
        let pages = [0; 5 * PAGE];
        let above = |sp: u64| {
            let place = Place { sp, ..Place::default() };
            let copied = Copied { time: 0, space: 0, place, pages: &pages, read: 31, known: 0 };
            cut(copied).pages.len() - sp as usize % PAGE
        };
        assert_eq!([0x7000, 0x7008, 0x7ff8].map(above), [DEEP; 3]);
    }

    #[test]
    fn what_finds_no_room_is_told_later() {
        let sites = Sites::new(OpenFiles::default(), Unwound::default(), Waits::TO_SHOW);
        sites.notes.borrow_mut().extend(["one", "two"].map(str::to_owned));
        let mut told = Vec::new();
        sites.tell(|_| false);
        sites.tell(|it| {
            told.push(it);
            told.len() < 2
        });
        sites.tell(|it| {
            told.push(it);
            true
        });
        assert_eq!(told, ["one", "two", "two"]);
    }
}
