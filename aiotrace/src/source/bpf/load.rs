//! Loads and attaches the probes, and takes them away again.

use std::{
    any::Any,
    os::fd::{AsRawFd as _, RawFd},
    sync::mpsc,
};

use aiotrace_common::{
    fault::Armed,
    names::{self, Feature},
    record::{KnownStack, Lost, StackKey, Thread},
    settings::{ABSENT, Offsets, Settings},
};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
    programs::{Program, ProgramError},
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{
    btf,
    choice::{By, Features, ProbeSet, Wanted, refused},
    counts,
    faults::{self, Rules},
    features,
    machine::{probes_are_preemptible, with_kernel_types},
    modify_return,
};
use crate::{proc, source::ProbeRuns, stacks::Known};

/// The objects that `build.rs` made, if it could.
pub struct Objects {
    /// The probes.
    pub probes: Option<&'static [u8]>,
    /// What `aiotrace ls` reads: see [`super::list`].
    pub list: Option<&'static [u8]>,
}

/// They.
pub const OBJECTS: Objects = include!(concat!(env!("OUT_DIR"), "/object.rs"));

/// Why tracing cannot begin. What to do about it: [`features::hint`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program was built where bpf-linker was missing.
    #[error("this aiotrace was built without its BPF probes")]
    NotBuilt,
    /// Not one of the architectures whose registers we know.
    #[error("tracing works on x86-64 only, this is {0}")]
    Architecture(&'static str),
    /// No BTF.
    #[error("the kernel's type information (BTF) cannot be used")]
    Btf(#[from] btf::Error),
    /// The object could not be loaded: maps.
    #[error("the kernel refused the BPF maps")]
    Maps(#[source] Box<aya::EbpfError>),
    /// A program was refused.
    #[error("the kernel refused the BPF program {name}")]
    Program {
        /// Its name in the object.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// The kernel's structures are not as expected.
    #[error("the kernel's type information lacks a field needed for {0}")]
    Offsets(&'static str),
    /// A map or program of the object is not what we think it is.
    #[error("the BPF object has no usable `{0}`; it does not belong to this aiotrace")]
    Object(&'static str),
    /// The probes could not be told of a context that is there already.
    #[error("cannot tell the probes of a context of process {pid}")]
    Adopt {
        /// The process.
        pid: u32,
        /// What the kernel said.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// A program does not stand in for a kernel function.
    #[error(transparent)]
    ModifyReturn(modify_return::Error),
    /// The set of targets could not be filled.
    #[error("cannot put process {pid} into the set of targets")]
    Target {
        /// The process.
        pid: u32,
        /// What the kernel said.
        #[source]
        source: Box<aya::maps::MapError>,
    },
}

/// The probes, loaded, and what of them is attached. Dropping it detaches them; so does the death of
/// this process, because nothing is pinned.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    set: ProbeSet,
    /// In the order of attaching.
    links: Vec<Link>,
    /// See [`names::UNSEEN_EXITS`].
    unseen_exits: Option<Link>,
    /// See [`Probes::known_stacks`].
    known_stacks: Option<mpsc::Receiver<Told>>,
    /// The fault rules, if there are any, what is attached for them, and when they were armed (0: not).
    rules: Option<Rules>,
    pub(super) faults: faults::Attached,
    pub(super) armed_at: u64,
}

/// Detaches its program when it is dropped.
pub(super) type Link = Box<dyn Any + Send>;

impl Probes {
    /// Loads the object with these settings, chooses the probes by loading them, and attaches the
    /// trampolines and kprobes among them: that is the only sure way to know that they work. Nothing
    /// is recorded yet.
    ///
    /// # Errors
    /// What the kernel refused and nothing can stand in for.
    pub fn load(settings: &Settings, wanted: Wanted, rules: Option<Rules>) -> Result<Self, Error> {
        let mut settings = *settings;
        // A record of each completion is what counting is to save.
        let exact = wanted.features() != Features::None && settings.counting == 0;
        settings.exact_completions = u32::from(exact);
        // The probes take settings for constants: to change one means to load them again.
        let mut probes = with_kernel_types(|btf| {
            loop {
                let probes = Self::load_with(&settings, wanted, rules.as_ref(), btf)?;
                if probes.fits(&settings) {
                    break Ok(probes);
                }
                if probes.set.lacks_registers {
                    settings.registers_on_stack = on_stack(&settings.offsets);
                    if settings.registers_on_stack == 0 {
                        break Err(Error::Offsets("registers"));
                    }
                } else {
                    settings.exact_completions = 0;
                }
            }
        })?;
        probes.rules = rules;
        Ok(probes)
    }

    /// The object with these settings, and no program of it.
    ///
    /// # Errors
    /// The kernel refuses its maps.
    pub(super) fn load_bare(settings: &Settings, armed: &Armed) -> Result<Self, Error> {
        let object = OBJECTS.probes.ok_or(Error::NotBuilt)?;
        let mut loader = EbpfLoader::new();
        loader.override_global(names::SETTINGS, settings.as_bytes(), true).override_global(
            names::FAULTS,
            armed.as_bytes(),
            true,
        );
        if settings.counting == 1 {
            for (map, rows) in counts::SIZES {
                loader.map_max_entries(map, rows);
            }
        }
        if settings.count_requests == 1 {
            for (map, rows) in counts::LATENCY_SIZES {
                loader.map_max_entries(map, rows);
            }
        }
        let ebpf = loader.load(object).map_err(|error| Error::Maps(Box::new(error)))?;
        Ok(Self {
            ebpf,
            set: ProbeSet::default(),
            links: Vec::new(),
            unseen_exits: None,
            known_stacks: None,
            rules: None,
            faults: faults::Attached::default(),
            armed_at: 0,
        })
    }

    fn load_with(
        settings: &Settings,
        wanted: Wanted,
        rules: Option<&Rules>,
        btf: &aya::Btf,
    ) -> Result<Self, Error> {
        let mut probes = Self::load_bare(settings, rules.map_or(&Armed::NONE, |it| &it.armed))?;
        // What is decided of a call must be known before any function of it is reached.
        let calls = if rules.is_some() { Wanted::Syscall } else { wanted };
        probes.choose_calls(settings, calls, btf)?;
        if probes.set.lacks_registers {
            return Ok(probes);
        }
        for feature in Feature::ALL {
            // The last two go by what the first learns of contexts.
            let needs_owners = matches!(feature, Feature::Gone | Feature::Moved);
            let is_wanted = match feature {
                Feature::Completions => settings.exact_completions == 1,
                _ if settings.counting == 1 => false,
                _ => !needs_owners || probes.set.has(Feature::Completions),
            };
            if is_wanted {
                probes.choose_feature(feature, wanted, &settings.offsets, btf);
            }
        }
        tracing::debug!(set = ?probes.set);
        if !probes.fits(settings) {
            return Ok(probes);
        }
        // The rest takes longest to load, and there is no choice in it.
        for program in names::LIFETIME {
            probes.load_program(program, btf)?;
        }
        if probes.set.calls == By::Tracepoint {
            for program in faults::calls_by_tracepoint(rules) {
                probes.load_program(program, btf)?;
            }
        } else {
            probes.load_program(names::UNSEEN_EXITS, btf)?;
        }
        Ok(probes)
    }

    /// Whether the probes that were chosen are those that the settings were made for.
    fn fits(&self, settings: &Settings) -> bool {
        let has_completions = self.set.has(Feature::Completions);
        !self.set.lacks_registers && (settings.exact_completions == 0 || has_completions)
    }

    fn choose_calls(
        &mut self,
        settings: &Settings,
        wanted: Wanted,
        btf: &aya::Btf,
    ) -> Result<(), Error> {
        let trampoline =
            (By::Trampoline, &names::CALLS_BY_TRAMPOLINE, &names::COMPAT_CALLS_BY_TRAMPOLINE);
        let kprobe = (By::Kprobe, &names::CALLS_BY_KPROBE, &names::COMPAT_CALLS_BY_KPROBE);
        let attempts: &[_] = match wanted {
            Wanted::Auto if probes_are_preemptible() => &[kprobe, trampoline],
            Wanted::Auto | Wanted::Trampoline => &[trampoline],
            Wanted::Kprobe => &[kprobe],
            Wanted::Syscall => &[],
        };
        for (by, calls, compat) in attempts {
            match self.take(*calls, btf) {
                Ok(()) => {
                    self.set.calls = *by;
                    for pair in *compat {
                        let _ = self.take(pair, btf);
                    }
                    return Ok(());
                }
                Err(error) if settings.registers_on_stack == 0 && mentions(&error, UNTYPED) => {
                    self.set.lacks_registers = true;
                    return Ok(());
                }
                Err(error) if wanted != Wanted::Auto => return Err(error),
                Err(error) => self.set.refused.push(refused("calls", &error)),
            }
        }
        self.set.calls = By::Tracepoint;
        Ok(())
    }

    fn choose_feature(
        &mut self,
        feature: Feature,
        wanted: Wanted,
        offsets: &Offsets,
        btf: &aya::Btf,
    ) {
        let features = match wanted.features() {
            Features::Any if self.set.calls == By::Kprobe => Features::ByKprobe,
            features => features,
        };
        let mut attempts = Vec::new();
        if matches!(features, Features::Any | Features::ByTrampoline) {
            attempts.push((By::Trampoline, feature.by_trampoline()));
        }
        if matches!(features, Features::Any | Features::ByKprobe) {
            attempts.push((By::Kprobe, feature.by_kprobe()));
        }
        for (by, programs) in attempts {
            let taken = if has_offsets(feature, offsets) {
                self.take(programs, btf)
            } else {
                Err(Error::Offsets(feature_name(feature)))
            };
            match taken {
                Ok(()) => {
                    self.set.features.push((feature, by));
                    break;
                }
                Err(error) => {
                    self.set.refused.push(refused(feature_name(feature), &error));
                }
            }
        }
    }

    /// Loads and attaches these programs, or none of them.
    fn take(&mut self, programs: &[names::Program], btf: &aya::Btf) -> Result<(), Error> {
        let before = (self.links.len(), self.set.programs.len());
        let taken = programs.iter().try_for_each(|program| {
            self.load_program(*program, btf)?;
            let link = self.attach_program(*program)?;
            self.links.push(link);
            Ok(())
        });
        if taken.is_err() {
            self.links.truncate(before.0);
            self.set.programs.truncate(before.1);
        }
        taken
    }

    pub(super) fn load_program(
        &mut self,
        program: names::Program,
        btf: &aya::Btf,
    ) -> Result<(), Error> {
        let names::Program { name, at, .. } = program;
        let loaded: &mut Program = self.ebpf.program_mut(name).ok_or(Error::Object(name))?;
        let result = match loaded {
            Program::BtfTracePoint(it) => it.load(at, btf),
            Program::FEntry(it) => it.load(at, btf),
            Program::FExit(it) => it.load(at, btf),
            Program::KProbe(it) => it.load(),
            _ => return Err(Error::Object(name)),
        };
        result.map_err(|source| Error::Program { name, source: Box::new(source) })?;
        self.set.programs.push(program);
        Ok(())
    }

    pub(super) fn attach_program(&mut self, program: names::Program) -> Result<Link, Error> {
        let names::Program { name, at, .. } = program;
        let loaded: &mut Program = self.ebpf.program_mut(name).ok_or(Error::Object(name))?;
        let link: Result<Link, ProgramError> = match loaded {
            Program::BtfTracePoint(it) => {
                it.attach().and_then(|id| it.take_link(id)).map(|link| Box::new(link) as Link)
            }
            Program::FEntry(it) => {
                it.attach().and_then(|id| it.take_link(id)).map(|link| Box::new(link) as Link)
            }
            Program::FExit(it) => {
                it.attach().and_then(|id| it.take_link(id)).map(|link| Box::new(link) as Link)
            }
            Program::KProbe(it) => {
                it.attach(at, 0).and_then(|id| it.take_link(id)).map(|link| Box::new(link) as Link)
            }
            _ => return Err(Error::Object(name)),
        };
        link.map_err(|source| Error::Program { name, source: Box::new(source) })
    }

    /// What was chosen.
    pub fn set(&self) -> &ProbeSet {
        &self.set
    }

    /// Attaches what is not attached yet, in the order of [`names`]; and, with trampolines, the
    /// program that sees what they do not see, until [`Probes::stop_unseen_exits`].
    ///
    /// # Errors
    /// The program that could not be attached; then none is.
    pub fn attach(&mut self) -> Result<(), Error> {
        for program in names::LIFETIME {
            let link = self.attach_program(program)?;
            self.links.push(link);
        }
        if self.set.calls != By::Tracepoint {
            self.unseen_exits = Some(self.attach_program(names::UNSEEN_EXITS)?);
        } else if let Some(rules) = self.rules.take() {
            with_kernel_types(|types| {
                self.attach_results(&rules, types)?;
                self.attach_tracepoints(Some(&rules))?;
                self.attach_mechanisms(&rules, types)
            })?;
            self.rules = Some(rules);
        } else {
            self.attach_tracepoints(None)?;
        }
        tracing::debug!("attached");
        Ok(())
    }

    fn attach_tracepoints(&mut self, rules: Option<&Rules>) -> Result<(), Error> {
        for program in faults::calls_by_tracepoint(rules) {
            let link = self.attach_program(program)?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Detaches all, in the order opposite to that of attaching.
    pub fn detach(&mut self) {
        self.detach_faults();
        self.stop_unseen_exits();
        while let Some(link) = self.links.pop() {
            drop(link);
        }
        tracing::debug!("detached");
    }

    /// Whether every system call of the machine passes a program of ours only for the sake of calls
    /// that the trampolines do not see.
    pub fn watches_unseen_exits(&self) -> bool {
        // Not every return has its kretprobe.
        self.unseen_exits.is_some() && self.set.calls == By::Trampoline
    }

    /// Detaches that program.
    pub fn stop_unseen_exits(&mut self) {
        self.unseen_exits = None;
    }

    /// Adds a process to the set of targets.
    ///
    /// # Errors
    /// If the kernel refuses, for instance because the set is full.
    pub fn add_target(&mut self, pid: u32) -> Result<(), Error> {
        self.targets()?
            .insert(pid, 1, 0)
            .map_err(|source| Error::Target { pid, source: Box::new(source) })
    }

    /// Removes a process from the set, if it is there.
    pub fn remove_target(&mut self, pid: u32) {
        if let Ok(mut targets) = self.targets() {
            let _ = targets.remove(&pid);
        }
    }

    /// Removes the processes that are dead all the same: the kernel may skip a program, also the one
    /// that should have removed them.
    pub fn remove_dead_targets(&mut self) {
        let pids: Vec<u32> =
            self.targets().map_or(Vec::new(), |targets| targets.keys().flatten().collect());
        for pid in pids.into_iter().filter(|pid| !proc::is_alive(*pid)) {
            self.remove_target(pid);
        }
    }

    /// Lets the attached programs record, or makes them finish: see [`names::SWITCHES`].
    ///
    /// # Errors
    /// If the object has no such map, or the kernel refuses.
    pub fn arm(&mut self, armed: bool) -> Result<(), Error> {
        if self.rules.is_some() {
            self.arm_faults(armed);
        }
        self.switch(0, armed)
    }

    /// Synchronous calls need not be told for what happened up to this time.
    pub fn settle(&mut self, time: u64) {
        let Some(map) = self.ebpf.map_mut(names::WATCH) else { return };
        if let Ok(mut watch) = Array::<_, u64>::try_from(map) {
            // If that fails, they are told on.
            let _ = watch.set(names::WATCH_SETTLED, time, 0);
        }
    }

    /// Whether a record is to wake the reader.
    ///
    /// # Errors
    /// As [`Self::arm`].
    pub fn wake(&mut self, wanted: bool) -> Result<(), Error> {
        self.switch(1, wanted)
    }

    fn switch(&mut self, index: u32, on: bool) -> Result<(), Error> {
        let map = self.ebpf.map_mut(names::SWITCHES).ok_or(Error::Object(names::SWITCHES))?;
        Array::<_, u32>::try_from(map)
            .and_then(|mut map| map.set(index, u32::from(on), 0))
            .map_err(|_| Error::Object(names::SWITCHES))
    }

    /// Whether no process is traced any more.
    pub fn has_no_targets(&mut self) -> bool {
        self.targets().is_ok_and(|targets| targets.keys().next().is_none())
    }

    /// The ring buffer; it can be taken once.
    ///
    /// # Errors
    /// If the object has none.
    pub fn records(&mut self) -> Result<RingBuf<MapData>, Error> {
        let map = self.ebpf.take_map(names::RECORDS).ok_or(Error::Object(names::RECORDS))?;
        RingBuf::try_from(map).map_err(|_| Error::Object(names::RECORDS))
    }

    /// Takes what is to be told to the probes of stacks that were unwound.
    pub fn known_stacks(&mut self) -> KnownStacks {
        let (sender, receiver) = mpsc::channel();
        self.known_stacks = Some(receiver);
        KnownStacks(sender)
    }

    /// Tells it.
    pub fn tell_stacks(&mut self) {
        let Self { ebpf, known_stacks: Some(told), .. } = self else { return };
        let mut map = None;
        // If something fails, the next is copied, too.
        while let Ok(told) = told.try_recv() {
            if map.is_none() {
                let found = ebpf.map_mut(names::KNOWN_STACKS);
                map = found.and_then(|map| StackMap::try_from(map).ok());
            }
            let Some(map) = &mut map else { return };
            let _ = match &told {
                Told::Known(told) => {
                    let (key, stack): (&StackKey, &KnownStack) = (&told.0, &told.1);
                    map.insert(zerocopy::transmute_ref!(key), zerocopy::transmute_ref!(stack), 0)
                }
                Told::Withdrawn(key) => map.remove(zerocopy::transmute_ref!(key)),
            };
        }
    }

    /// The threads that are inside an AIO call now.
    pub fn threads_in_calls(&self) -> Vec<Thread> {
        self.threads().into_iter().filter(|thread| thread.call().is_some()).collect()
    }

    /// The threads that have made an AIO call.
    pub fn threads(&self) -> Vec<Thread> {
        let map = |name| self.ebpf.map(name);
        let slots = map(names::THREADS)
            .and_then(|it| Array::<_, [u8; size_of::<Thread>()]>::try_from(it).ok());
        let taken = map(names::TAKEN).and_then(|it| HashMap::<_, u32, u32>::try_from(it).ok());
        let Some((slots, taken)) = slots.zip(taken) else {
            return Vec::new();
        };
        let threads = taken.iter().filter_map(|entry| {
            let (place, tid) = entry.ok()?;
            let thread = Thread::read_from_bytes(&slots.get(&place, 0).ok()?).ok()?;
            (thread.kernel_tid == tid).then_some(thread)
        });
        threads.collect()
    }

    /// What the probes could not record, by cause.
    pub fn lost(&self) -> [u64; Lost::ALL.len()] {
        let counters =
            self.ebpf.map(names::LOST).and_then(|map| PerCpuArray::<_, u64>::try_from(map).ok());
        Lost::ALL.map(|cause| {
            counters
                .as_ref()
                .and_then(|counters| counters.get(&(cause as u32), 0).ok())
                .map_or(0, |values| values.iter().sum())
        })
    }

    /// How often the kernel skipped a program because it was already running on that CPU. From
    /// `recursion_misses` in the program's fdinfo (Linux 5.12; 0 before).
    /// `with_second`: also those of the program that, with kprobes, looks a second time at each return.
    pub fn recursion_misses(&self, with_second: bool) -> u64 {
        let is_second = |program: &&names::Program| {
            !with_second && self.set.calls == By::Kprobe && program.name == names::UNSEEN_EXITS.name
        };
        let counted = self.set.programs.iter().filter(|program| !is_second(program));
        counted.filter_map(|program| self.fdinfo(program.name, "recursion_misses:")).sum()
    }

    /// What the probes cost, if the kernel keeps count (`sysctl kernel.bpf_stats_enabled=1`).
    pub fn runs(&self) -> Option<ProbeRuns> {
        let sum = |field| {
            let programs = self.ebpf.programs();
            programs.filter_map(|(name, _)| self.fdinfo(name, field)).sum::<u64>()
        };
        let runs = ProbeRuns { count: sum("run_cnt:"), time_ns: sum("run_time_ns:") };
        (runs.count > 0).then_some(runs)
    }

    /// A number that the kernel tells of a loaded program.
    fn fdinfo(&self, program: &str, field: &str) -> Option<u64> {
        let fd = self.ebpf.program(program)?.fd().ok().map(raw)?;
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        text.lines().find_map(|line| line.strip_prefix(field))?.trim().parse().ok()
    }

    /// How many instructions the verifier walked through (Linux 5.16).
    pub fn verified_instructions(&self, name: &str) -> Option<u32> {
        self.ebpf.program(name)?.info().ok()?.verified_instruction_count()
    }

    fn targets(&mut self) -> Result<HashMap<&mut MapData, u32, u32>, Error> {
        self.map(names::TARGETS)
    }

    pub(super) fn map<K: aya::Pod, V: aya::Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<HashMap<&mut MapData, K, V>, Error> {
        let map = self.ebpf.map_mut(name).ok_or(Error::Object(name))?;
        HashMap::try_from(map).map_err(|_| Error::Object(name))
    }
}

/// See [`Probes::known_stacks`]. Not the map itself: while a thread is inside of a call for a map, the
/// kernel runs no kprobe of ours on its processor, also if the thread is preempted there; so only the
/// drain thread, which is not, makes such calls.
pub struct KnownStacks(mpsc::Sender<Told>);

enum Told {
    Known(Box<(StackKey, KnownStack)>),
    Withdrawn(StackKey),
}

type StackMap<'a> =
    HashMap<&'a mut MapData, [u8; size_of::<StackKey>()], [u8; size_of::<KnownStack>()]>;

impl Known for KnownStacks {
    fn tell(&mut self, key: &StackKey, stack: &KnownStack) {
        // At the end of the trace nobody listens.
        let _ = self.0.send(Told::Known(Box::new((*key, *stack))));
    }

    fn withdraw(&mut self, key: &StackKey) {
        let _ = self.0.send(Told::Withdrawn(*key));
    }
}

fn raw(fd: &aya::programs::ProgramFd) -> RawFd {
    use std::os::fd::AsFd as _;
    fd.as_fd().as_raw_fd()
}

/// The last line of the verifier's log that says something about the program.
pub(super) fn objection(log: &str) -> Option<String> {
    const COUNTS: [&str; 5] =
        ["processed ", "insns processed ", "verification time ", "stack depth ", "mark_read "];
    let is_count = |line: &&str| COUNTS.iter().any(|it| line.starts_with(it));
    let said = |line: &&str| !line.trim().is_empty() && !is_count(line);
    log.lines().rfind(said).map(str::to_owned)
}

/// An error and its causes in one line, without the rest of the verifier's log, which is for bug reports.
pub fn reason(error: &Error) -> String {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let boxed = cause.downcast_ref::<Box<ProgramError>>().map(|it| &**it);
        let of_program = cause.downcast_ref::<ProgramError>().or(boxed);
        if let Some(ProgramError::LoadError { io_error, verifier_log }) = of_program {
            let said = objection(&verifier_log.to_string()).unwrap_or_else(|| io_error.to_string());
            return format!("{reason}: {said}");
        }
        // Some errors repeat their cause in their own text.
        let text = cause.to_string();
        if !reason.ends_with(&text) {
            reason.push_str(": ");
            reason.push_str(&text);
        }
        source = cause.source();
    }
    reason
}

/// Whether the verifier refused a program with these words.
fn mentions(error: &Error, words: &str) -> bool {
    let Error::Program { source, .. } = error else {
        return false;
    };
    matches!(&**source, ProgramError::LoadError { verifier_log, .. }
        if verifier_log.to_string().contains(words))
}

/// Where the registers of a system call are, from the beginning of the kernel stack.
fn on_stack(offsets: &Offsets) -> u32 {
    THREAD_SIZE.saturating_sub(offsets.pt_regs_size)
}

/// What the verifier says if BTF does not tell the type of a program's argument (`struct pt_regs` on
/// Linux 5.10).
const UNTYPED: &str = "type FWD is not a struct";

/// Size of a kernel stack, which ends with the registers (arch/x86/include/asm/page_64_types.h;
/// without KASAN, as on every kernel whose BTF needs this).
const THREAD_SIZE: u32 = 16 << 10;

/// What a feature is called in messages.
pub fn feature_name(feature: Feature) -> &'static str {
    match feature {
        Feature::Completions => "completions",
        Feature::Refused => "refused iocbs",
        Feature::Gone => "contexts that end",
        Feature::Moved => "contexts that are moved",
    }
}

/// Whether this kernel's BTF has all that a feature reads.
fn has_offsets(feature: Feature, offsets: &Offsets) -> bool {
    let needed: &[u32] = match feature {
        Feature::Completions => {
            &[offsets.aio_kiocb_ki_ctx, offsets.aio_kiocb_ki_res, offsets.kioctx_user_id]
        }
        Feature::Refused => &[],
        Feature::Gone => &[offsets.kioctx_user_id, offsets.kioctx_dead, offsets.task_flags],
        Feature::Moved => &[
            offsets.kioctx_aio_ring_file,
            offsets.vm_area_struct_vm_start,
            offsets.vm_area_struct_vm_file,
        ],
    };
    needed.iter().all(|offset| *offset != ABSENT)
}

/// Refuses where it cannot work, before the kernel does with less words.
///
/// # Errors
/// [`Error::Architecture`].
pub fn check_architecture() -> Result<(), Error> {
    match features::ARCHITECTURE {
        "x86_64" => Ok(()),
        other => Err(Error::Architecture(other)),
    }
}

#[cfg(test)]
mod tests {
    use object::{Object as _, ObjectSymbol as _};

    use super::*;

    /// Every name the loader looks up is in the built object.
    #[test]
    fn the_object_has_every_program_and_map() {
        let Some(bytes) = OBJECTS.probes else {
            assert!(std::env::var_os("AIOTRACE_REQUIRE_EBPF").is_none(), "no object was built");
            eprintln!("not run: aiotrace was built without bpf-linker (cargo xtask setup)");
            return;
        };
        let object = object::File::parse(bytes).expect("the object is an ELF file");
        let has = |name: &str| object.symbol_by_name(name).is_some_and(|it| !it.is_undefined());
        let features = Feature::ALL.into_iter();
        let programs = names::LIFETIME
            .iter()
            .chain(&names::CALLS_BY_TRACEPOINT)
            .chain(&names::CALLS_BY_TRAMPOLINE)
            .chain(names::COMPAT_CALLS_BY_TRAMPOLINE.as_flattened())
            .chain(&names::CALLS_BY_KPROBE)
            .chain(names::COMPAT_CALLS_BY_KPROBE.as_flattened())
            .chain([&names::UNSEEN_EXITS])
            .chain(features.flat_map(|it| it.by_trampoline().iter().chain(it.by_kprobe())));
        for program in programs {
            assert!(has(program.name), "program {}", program.name);
        }
        let maps = [
            names::RECORDS,
            names::SWITCHES,
            names::WATCH,
            names::TARGETS,
            names::THREADS,
            names::TAKEN,
            names::CONTEXTS,
            names::OWNERS,
            names::RING_FILES,
            names::KNOWN_STACKS,
            names::LOST,
            names::CALL_ROWS,
            names::FREE_CALL_ROWS,
            names::CONTEXT_ROWS,
            names::FREE_CONTEXT_ROWS,
            names::CONTEXT_PLACES,
            names::STARTED,
            names::LATENCY_PLACES,
            names::ERRORS,
        ];
        for name in maps.into_iter().chain(names::SCRATCH).chain([names::SETTINGS]) {
            assert!(has(name), "map {name}");
        }
    }
}
