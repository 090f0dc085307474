//! Finds the functions in progress from a copy of the stack.
//!
//! Debian's programs have no frame pointers, so each caller is found by the tables in the file
//! (.eh_frame). Code without tables (made at run time) is unwound by frame pointers.
//!
//! A program that makes contexts without end makes them in one place, and a busy program submits
//! from a few places, so equal stacks are kept once. The probes are told which words decided how a
//! stack was unwound: as long as these are the same, the probes send only the stack's number.

mod fuzz;

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasher as _,
    mem,
    sync::Arc,
};

use aiotrace_common::record::{KnownStack, PAGE, STACK_VARIANTS, STACK_WORDS, StackKey, StackWord};
use framehop::{FrameAddress, Unwinder as _};
pub use fuzz::unwind as fuzz;

use super::errands::Regions;
use super::{
    Copied, Frame, Known, OpenFiles, Place, Stack, Unwind,
    maps::{self, Region},
    modules::{Bytes, Loaded, Modules},
};
use crate::{
    arch::{Cache, Unwinder, unwound_from},
    errand::Errand as _,
};

/// The most functions of a stack.
const MOST_FRAMES: usize = crate::bounded::FRAMES;
/// The most processes that are remembered; beyond, all are forgotten.
const MOST_PROCESSES: usize = 64;
/// The most stacks that are remembered of each process.
const MOST_STACKS: usize = 64;
/// The most stacks that the probes are told of; the oldest makes room. The probes have room for
/// more.
const MOST_TOLD: usize = 2048;
/// How long a look at the regions of a process stays valid, in nanoseconds of the time of events.
const FRESH: u64 = 1_000_000_000;
/// The same, if an address is in none of the regions.
const FRESH_IF_UNKNOWN: u64 = 20_000_000;

/// The processes whose stacks are unwound.
pub struct Processes {
    processes: HashMap<u32, Process, foldhash::fast::RandomState>,
    modules: Modules,
    told: Told,
}

impl Processes {
    /// Tells `known` which stacks were unwound.
    pub fn new(known: impl Known + 'static) -> Self {
        let (known, stacks) = (Box::new(known), VecDeque::new());
        let told = Told { known, last: 0, stacks, hasher: foldhash::fast::RandomState::default() };
        Self { processes: HashMap::default(), modules: Modules::default(), told }
    }

    /// Makes the files of stacks available in `open`.
    #[must_use]
    pub fn with_files(self, open: OpenFiles) -> Self {
        Self { modules: Modules::new(open), ..self }
    }
}

impl Unwind for Processes {
    fn unwind(&mut self, pid: u32, copied: &Copied<'_>) -> Stack {
        let Self { processes, modules, told } = self;
        let is_one_too_many = processes.len() >= MOST_PROCESSES && !processes.contains_key(&pid);
        // The processes have parts of the copied files, too, so both are forgotten.
        if is_one_too_many || modules.is_full() {
            told.withdraw_if(|_| true);
            processes.clear();
            modules.clear();
        }
        let process = processes.entry(pid).or_default();
        if process.look(pid, copied.time, FRESH) {
            told.withdraw_if(|it| it == pid);
        }
        if copied.known != 0 {
            // If the stack is not there, it has made room for another one since the probe sent its
            // number.
            let unknown = Frame { address: copied.place.ip, place: None };
            let unknown = || Stack { frames: [unknown].into(), truncated: true };
            return told.stack(copied.known).unwrap_or_else(unknown);
        }
        let mut words = Vec::new();
        let mut stack = process.unwind(pid, copied, modules, &mut words);
        let is_whole = |it: &Stack| it.frames.iter().all(|it| it.place.is_some());
        if !is_whole(&stack) && process.look(pid, copied.time, FRESH_IF_UNKNOWN) {
            told.withdraw_if(|it| it == pid);
            words.clear();
            stack = process.unwind(pid, copied, modules, &mut words);
        }
        if is_whole(&stack) {
            told.tell(pid, copied, &words, &stack);
        }
        stack
    }

    fn forget(&mut self, pid: u32) {
        self.told.withdraw_if(|it| it == pid);
        self.processes.remove(&pid);
    }
}

/// What the probes were told.
struct Told {
    known: Box<dyn Known>,
    /// The number that was given last.
    last: u64,
    /// The stacks, in the order of their numbers.
    stacks: VecDeque<One>,
    hasher: foldhash::fast::RandomState,
}

/// A stack that the probes were told of. Records with its number may still come after it was
/// withdrawn.
struct One {
    id: u64,
    pid: u32,
    key: Option<StackKey>,
    /// A hash of its words.
    words: u64,
    stack: Stack,
}

impl Told {
    fn tell(&mut self, pid: u32, copied: &Copied<'_>, words: &[StackWord], stack: &Stack) {
        let Copied { space, place, .. } = *copied;
        if words.len() > STACK_WORDS || space == 0 {
            return;
        }
        if self.stacks.len() >= MOST_TOLD
            && let Some(One { key: Some(key), .. }) = self.stacks.pop_front()
        {
            self.known.withdraw(&key);
        }
        let hash = self.hasher.hash_one(words);
        let variant = |it: &One| {
            let key = it.key.filter(|it| (it.space, it.place) == (space, place))?;
            Some((key.variant, it.words))
        };
        let told: Vec<(u64, u64)> = self.stacks.iter().filter_map(variant).collect();
        if told.iter().any(|(_, words)| *words == hash) {
            // The stack was copied before the probes knew it.
            return;
        }
        let is_free = |variant: &u64| !told.iter().any(|(it, _)| it == variant);
        // If no variant is free, the new stack replaces the oldest.
        let variant = (0..STACK_VARIANTS).find(is_free).unwrap_or_else(|| told[0].0);
        let key = StackKey { space, place, variant };
        for it in &mut self.stacks {
            it.key.take_if(|it| *it == key);
        }
        self.last += 1;
        let (id, count) = (self.last, words.len() as u64);
        let mut known = KnownStack { id, count, words: [StackWord::default(); STACK_WORDS] };
        known.words[..words.len()].copy_from_slice(words);
        self.known.tell(&key, &known);
        let stack = stack.clone();
        self.stacks.push_back(One { id, pid, key: Some(key), words: hash, stack });
    }

    fn stack(&self, id: u64) -> Option<Stack> {
        let index = self.stacks.binary_search_by_key(&id, |it| it.id).ok()?;
        Some(self.stacks[index].stack.clone())
    }

    /// Withdraws the stacks of the processes that `is_meant` chooses.
    fn withdraw_if(&mut self, is_meant: impl Fn(u32) -> bool) {
        for it in self.stacks.iter_mut().filter(|it| is_meant(it.pid)) {
            if let Some(key) = it.key.take() {
                self.known.withdraw(&key);
            }
        }
    }
}

/// What is known of a process.
#[derive(Default)]
struct Process {
    /// When its regions were last read, in the time of events; 0 for never.
    looked: u64,
    regions: Vec<Region>,
    /// The file of each region, looked for when it is first needed.
    loaded: Vec<Option<Option<Arc<Loaded>>>>,
    unwinder: Unwinder<Bytes>,
    cache: Cache,
    hasher: foldhash::fast::RandomState,
    /// The stacks, by a hash of their addresses.
    stacks: HashMap<u64, Stack, foldhash::fast::RandomState>,
}

impl Process {
    /// `words` gets the words of the stack that were read.
    fn unwind(
        &mut self,
        pid: u32,
        copied: &Copied<'_>,
        modules: &mut Modules,
        words: &mut Vec<StackWord>,
    ) -> Stack {
        let (addresses, truncated) = self.walk(pid, copied, modules, words);
        let same = self.hasher.hash_one((&addresses, truncated));
        if let Some(known) = self.stacks.get(&same) {
            return known.clone();
        }
        if self.stacks.len() >= MOST_STACKS {
            self.stacks.clear();
        }
        let places = lookups(&addresses).map(|it| self.module(pid, it, modules));
        let frames = addresses.iter().zip(places);
        let frames: Arc<[Frame]> =
            frames.map(|(address, place)| Frame { address: *address, place }).collect();
        let stack = Stack { frames, truncated };
        self.stacks.insert(same, stack.clone());
        stack
    }

    /// Reads the regions again if the last look is too old. Returns whether they have changed. A
    /// process that is gone keeps the regions that it had.
    fn look(&mut self, pid: u32, time: u64, fresh: u64) -> bool {
        if self.looked != 0 && time.saturating_sub(self.looked) <= fresh {
            return false;
        }
        self.looked = time.max(1);
        let regions = Regions { pid }.ask().flatten().map(maps::Regions::regions);
        let Some(regions) = regions.filter(|it| *it != self.regions) else { return false };
        *self = Self {
            looked: self.looked,
            loaded: vec![None; regions.len()],
            regions,
            ..Self::default()
        };
        true
    }

    /// The addresses of the functions in progress, and whether there may be more.
    fn walk(
        &mut self,
        pid: u32,
        copied: &Copied<'_>,
        modules: &mut Modules,
        words: &mut Vec<StackWord>,
    ) -> (Vec<u64>, bool) {
        let place = copied.place;
        let mut addresses = vec![place.ip];
        if self.regions.is_empty() {
            // The process is gone; frame pointers could lead anywhere.
            return (addresses, true);
        }
        let highest = self.regions.last().map_or(0, |it| it.end);
        let mut registers = unwound_from(&place, highest);
        let mut at = FrameAddress::from_instruction_pointer(place.ip);
        let mut read_stack = |address| {
            let value = word(copied, address).ok_or(())?;
            words.push(StackWord { address, value });
            Ok(value)
        };
        // A function of which no table tells may have saved what is still in the link register: then its frame leads to
        // the same place again.
        let mut may_repeat = !place.link.is_empty();
        while addresses.len() < MOST_FRAMES {
            self.module(pid, at.address_for_lookup(), modules);
            let next =
                self.unwinder.unwind_frame(at, &mut registers, &mut self.cache, &mut read_stack);
            match next.map(|it| it.and_then(FrameAddress::from_return_address)) {
                Ok(Some(next)) => at = next,
                ended => return (addresses, ended.is_err()),
            }
            if addresses.len() == 2 && addresses[1] == at.address() && mem::take(&mut may_repeat) {
                continue;
            }
            addresses.push(at.address());
        }
        (addresses, true)
    }

    fn region(&self, address: u64) -> Option<usize> {
        let index = self.regions.partition_point(|it| it.end <= address);
        self.regions.get(index).filter(|it| it.start <= address).map(|_| index)
    }

    /// The file with this address, and the address in the file. Also adds the file to the unwinder.
    fn module(&mut self, pid: u32, address: u64, modules: &mut Modules) -> Option<Place> {
        let index = self.region(address)?;
        let region = &self.regions[index];
        let loaded = self.loaded[index].get_or_insert_with(|| {
            let loaded = modules.of(pid, region)?;
            if let Some(module) = loaded.placed(region) {
                self.unwinder.add_module(module);
            }
            Some(loaded)
        });
        let loaded = loaded.as_ref()?;
        let offset = region.file.as_ref()?.offset.checked_add(address - region.start)?;
        Some(Place { module: Arc::clone(&loaded.module), offset: loaded.address(offset)? })
    }
}

/// The addresses by which to look for the functions. They are one less than the return addresses:
/// after a call to a function that does not return, another function may begin.
fn lookups(addresses: &[u64]) -> impl Iterator<Item = u64> + '_ {
    let first = addresses.iter().take(1).copied();
    first.chain(addresses.iter().skip(1).map(|it| it.saturating_sub(1)))
}

/// The word at an address, if it was copied.
fn word(copied: &Copied<'_>, address: u64) -> Option<u64> {
    let at = usize::try_from(address.checked_sub(copied.place.sp & !(PAGE as u64 - 1))?).ok()?;
    let bytes = copied.pages.get(at..at.checked_add(8)?)?;
    let is_read = |at: usize| copied.read >> (at / PAGE) & 1 == 1;
    (is_read(at) && is_read(at + 7))
        .then(|| u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::{arch::asm, cell::RefCell, os::unix::fs::FileExt as _, rc::Rc};

    use super::*;

    /// The stacks that the probes were told of, and that were not withdrawn.
    #[derive(Clone, Default)]
    struct Kept(Rc<RefCell<Vec<(StackKey, KnownStack)>>>);

    impl Known for Kept {
        fn tell(&mut self, key: &StackKey, stack: &KnownStack) {
            self.withdraw(key);
            self.0.borrow_mut().push((*key, *stack));
        }

        fn withdraw(&mut self, key: &StackKey) {
            self.0.borrow_mut().retain(|it| it.0 != *key);
        }
    }

    /// The registers of this thread, and its stack as the probes copy it.
    #[inline(never)]
    fn ours() -> ([u64; 3], Vec<u8>) {
        let (ip, sp, bp): (u64, u64, u64);
        // SAFETY: this only reads registers.
        unsafe {
            asm!("lea {}, [rip]", "mov {}, rsp", "mov {}, rbp", out(reg) ip, out(reg) sp, out(reg) bp);
        }
        let memory = std::fs::File::open("/proc/self/mem").expect("our memory");
        let mut pages = vec![0; 2 * PAGE];
        memory.read_exact_at(&mut pages, sp & !(PAGE as u64 - 1)).expect("our stack");
        ([ip, sp, bp], pages)
    }

    fn copied([ip, sp, bp]: [u64; 3], pages: &[u8]) -> Copied<'_> {
        let place = aiotrace_common::arch::Place { ip, sp, bp, link: [] };
        Copied { time: 5, space: 1, place, pages, read: 0b11, known: 0 }
    }

    #[test]
    fn our_own_stack_is_unwound_and_told() {
        let (registers, pages) = ours();
        let copied = copied(registers, &pages);
        let kept = Kept::default();
        let open = OpenFiles::default();
        let mut processes = Processes::new(kept.clone()).with_files(open.clone());
        let us = std::process::id();
        let stack = processes.unwind(us, &copied);
        assert!(stack.frames.len() > 3, "{stack:?}");
        let exe = std::env::current_exe().unwrap();
        let first = stack.frames[0].place.as_ref().unwrap();
        assert_eq!(first.module.path, exe.as_os_str().as_encoded_bytes());
        assert!(open.file(first.module.id).is_some(), "for the names");

        let told = kept.0.borrow()[0].1;
        assert!(told.count > 3);
        for it in &told.words[..told.count as usize] {
            assert_eq!(word(&copied, it.address), Some(it.value));
        }
        processes.unwind(us, &copied);
        assert_eq!(kept.0.borrow().len(), 1, "the same is told once");
        let known = Copied { pages: &[], read: 0, known: told.id, ..copied };
        assert!(Arc::ptr_eq(&processes.unwind(us, &known).frames, &stack.frames));
        processes.forget(us);
        assert!(kept.0.borrow().is_empty(), "withdrawn");
        assert_eq!(processes.unwind(us, &known), stack, "it was on its way");
        let never = Copied { known: 77, ..known };
        assert!(processes.unwind(us, &never).truncated);
    }

    #[test]
    fn a_process_that_is_gone_gives_an_address_and_is_not_told() {
        let (registers, pages) = ours();
        let kept = Kept::default();
        let stack = Processes::new(kept.clone()).unwind(u32::MAX, &copied(registers, &pages));
        let only = Frame { address: registers[0], place: None };
        assert_eq!(stack, Stack { frames: [only].into(), truncated: true });
        assert!(kept.0.borrow().is_empty());
    }

    /// The stack is the target's, and may hold anything.
    #[test]
    fn any_stack_is_unwound_to_something() {
        let (registers, pages) = ours();
        let mut processes = Processes::new(Kept::default());
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..5000 {
            let mut pages = pages.clone();
            let mut registers = registers;
            for _ in 0..8 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let at = random as usize % (pages.len() - 8);
                pages[at..at + 8].copy_from_slice(&random.rotate_left(7).to_le_bytes());
                registers[random as usize % 3] ^= 1 << (random >> 40 & 63);
            }
            let stack = processes.unwind(std::process::id(), &copied(registers, &pages));
            assert!((1..=MOST_FRAMES).contains(&stack.frames.len()));
        }
    }
}
