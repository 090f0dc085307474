//! Loads and attaches the probes, and takes them away again.

use std::os::fd::{AsRawFd as _, RawFd};

use aiotrace_common::{
    names,
    record::{Lost, Thread},
    settings::{ABSENT, Offsets, Settings},
};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
    programs::{BtfTracePoint, Program, ProgramError},
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{
    btf::{self, Btf},
    features,
};
use crate::process;

/// The object that `build.rs` made, if it could.
pub const OBJECT: Option<&[u8]> = include!(concat!(env!("OUT_DIR"), "/object.rs"));

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
    /// A map or program of the object is not what we think it is.
    #[error("the BPF object has no usable `{0}`; it does not belong to this aiotrace")]
    Object(&'static str),
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

/// The probes, attached. Dropping it detaches them; so does the death of this process, because
/// nothing is pinned.
pub struct Probes {
    ebpf: Ebpf,
}

impl Probes {
    /// Loads the object with these settings. Nothing is attached yet.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn load(settings: &Settings) -> Result<Self, Error> {
        let object = OBJECT.ok_or(Error::NotBuilt)?;
        let mut ebpf = EbpfLoader::new()
            .override_global(names::SETTINGS, settings.as_bytes(), true)
            .load(object)
            .map_err(|error| Error::Maps(Box::new(error)))?;
        let btf = aya::Btf::from_sys_fs().map_err(|_| {
            Error::Btf(btf::Error::Read(std::io::Error::other("the loader cannot parse it")))
        })?;
        for program in names::SYSCALL_SET {
            let fail = |source| Error::Program { name: program.name, source: Box::new(source) };
            tracepoint(&mut ebpf, program.name)?.load(program.tracepoint, &btf).map_err(fail)?;
        }
        drop(btf);
        // The kernel's types took some 15 MiB, which the allocator would keep.
        // SAFETY: no preconditions.
        unsafe { libc::malloc_trim(0) };
        Ok(Self { ebpf })
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
        for pid in pids.into_iter().filter(|pid| !process::is_alive(*pid)) {
            self.remove_target(pid);
        }
    }

    /// Lets the attached programs record, or makes them finish: see [`names::ARMED`].
    ///
    /// # Errors
    /// If the object has no such map, or the kernel refuses.
    pub fn arm(&mut self, armed: bool) -> Result<(), Error> {
        let map = self.ebpf.map_mut(names::ARMED).ok_or(Error::Object(names::ARMED))?;
        Array::<_, u32>::try_from(map)
            .and_then(|mut map| map.set(0, u32::from(armed), 0))
            .map_err(|_| Error::Object(names::ARMED))
    }

    /// Whether no process is traced any more.
    pub fn has_no_targets(&mut self) -> bool {
        self.targets().is_ok_and(|targets| targets.keys().next().is_none())
    }

    /// Attaches the programs, in the order of [`names::SYSCALL_SET`].
    ///
    /// # Errors
    /// The program that could not be attached; then none is.
    pub fn attach(&mut self) -> Result<Attached, Error> {
        let mut links = Vec::new();
        for program in names::SYSCALL_SET {
            let loaded = tracepoint(&mut self.ebpf, program.name)?;
            let link = loaded.attach().and_then(|id| loaded.take_link(id));
            links.push(link.map_err(|source| Error::Program {
                name: program.name,
                source: Box::new(source),
            })?);
        }
        tracing::debug!("attached");
        Ok(Attached { links })
    }

    /// The ring buffer; it can be taken once.
    ///
    /// # Errors
    /// If the object has none.
    pub fn records(&mut self) -> Result<RingBuf<MapData>, Error> {
        let map = self.ebpf.take_map(names::RECORDS).ok_or(Error::Object(names::RECORDS))?;
        RingBuf::try_from(map).map_err(|_| Error::Object(names::RECORDS))
    }

    /// The threads that are inside an AIO call now.
    pub fn threads_in_calls(&self) -> Vec<Thread> {
        let Some(map) = self.ebpf.map(names::THREADS) else {
            return Vec::new();
        };
        let Ok(threads) = HashMap::<_, u32, [u8; size_of::<Thread>()]>::try_from(map) else {
            return Vec::new();
        };
        threads
            .iter()
            .filter_map(|entry| Thread::read_from_bytes(&entry.ok()?.1).ok())
            .filter(|thread| thread.call().is_some())
            .collect()
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
    pub fn recursion_misses(&self) -> u64 {
        let miss = |fd: RawFd| {
            let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
            line.trim().parse::<u64>().ok()
        };
        names::SYSCALL_SET
            .iter()
            .filter_map(|program| self.ebpf.program(program.name)?.fd().ok().map(raw))
            .filter_map(miss)
            .sum()
    }

    /// How many instructions the verifier walked through (Linux 5.16).
    pub fn verified_instructions(&self, name: &str) -> Option<u32> {
        self.ebpf.program(name)?.info().ok()?.verified_instruction_count()
    }

    fn targets(&mut self) -> Result<HashMap<&mut MapData, u32, u32>, Error> {
        let map = self.ebpf.map_mut(names::TARGETS).ok_or(Error::Object(names::TARGETS))?;
        HashMap::try_from(map).map_err(|_| Error::Object(names::TARGETS))
    }
}

fn raw(fd: &aya::programs::ProgramFd) -> RawFd {
    use std::os::fd::AsFd as _;
    fd.as_fd().as_raw_fd()
}

/// The links that keep the programs attached.
pub struct Attached {
    links: Vec<aya::programs::tp_btf::BtfTracePointLink>,
}

impl Attached {
    /// Detaches: enters first, then exits, then the rest.
    pub fn detach(mut self) {
        while let Some(link) = self.links.pop() {
            drop(link);
        }
        tracing::debug!("detached");
    }
}

fn tracepoint<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut BtfTracePoint, Error> {
    let program: &mut Program = ebpf.program_mut(name).ok_or(Error::Object(name))?;
    program.try_into().map_err(|_| Error::Object(name))
}

/// The offsets of the running kernel.
///
/// # Errors
/// If it has no BTF. A single member that is missing is [`ABSENT`].
pub fn offsets() -> Result<Offsets, btf::Error> {
    let btf = Btf::of_kernel()?;
    let at = |structure: &str, path: &[&str]| btf.offset(structure, path).unwrap_or(ABSENT);
    let task = |path: &[&str]| at("task_struct", path);
    Ok(Offsets {
        task_thread_info_status: task(&["thread_info", "status"]),
        task_pid: task(&["pid"]),
        task_tgid: task(&["tgid"]),
        task_group_leader: task(&["group_leader"]),
        task_start_boottime: task(&["start_boottime"]),
        task_comm: task(&["comm"]),
        task_mm: task(&["mm"]),
        task_exit_code: task(&["exit_code"]),
        task_signal: task(&["signal"]),
        task_thread_pid: task(&["thread_pid"]),
        task_seccomp_mode: task(&["seccomp", "mode"]),
        signal_live: at("signal_struct", &["live"]),
        signal_flags: at("signal_struct", &["flags"]),
        signal_group_exit_code: at("signal_struct", &["group_exit_code"]),
        pid_numbers: at("pid", &["numbers"]),
        pid_level: at("pid", &["level"]),
        upid_size: btf.size("upid").unwrap_or(ABSENT),
        upid_nr: at("upid", &["nr"]),
        upid_ns: at("upid", &["ns"]),
        pid_namespace_inum: at("pid_namespace", &["ns", "inum"]),
        binprm_filename: at("linux_binprm", &["filename"]),
    })
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
        let Some(bytes) = OBJECT else {
            assert!(std::env::var_os("AIOTRACE_REQUIRE_EBPF").is_none(), "no object was built");
            eprintln!("not run: aiotrace was built without bpf-linker (cargo xtask setup)");
            return;
        };
        let object = object::File::parse(bytes).expect("the object is an ELF file");
        let has = |name: &str| object.symbol_by_name(name).is_some_and(|it| !it.is_undefined());
        for program in names::SYSCALL_SET {
            assert!(has(program.name), "program {}", program.name);
        }
        let maps = [
            names::RECORDS,
            names::ARMED,
            names::TARGETS,
            names::THREADS,
            names::CONTEXTS,
            names::LOST,
        ];
        for name in maps.into_iter().chain(names::SCRATCH).chain([names::SETTINGS]) {
            assert!(has(name), "map {name}");
        }
    }
}
