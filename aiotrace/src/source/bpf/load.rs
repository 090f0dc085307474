//! Loads the probes, and chooses those that this kernel accepts.

use std::sync::mpsc;

use aiotrace_common::{
    arch::KERNEL_STACK,
    fault::Armed,
    names::{self, Feature},
    settings::{ABSENT, Offsets, Settings},
};
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, MapData},
    programs::Program,
};
use zerocopy::IntoBytes as _;

use super::{
    attach::Link,
    choice::{By, Features, ProbeSet, Wanted, refused},
    counts,
    error::{Error, mentions},
    faults::{self, Rules},
    features,
    machine::{probes_are_preemptible, with_kernel_types},
    maps::stacks::Told,
    objects::OBJECTS,
};

/// The loaded probes, and those of them that are attached. They are detached when this is dropped,
/// and also when this process dies, because nothing is pinned.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    pub(super) set: ProbeSet,
    /// The attached programs, in the order of attaching.
    pub(super) links: Vec<Link>,
    /// See [`names::UNSEEN_EXITS`].
    pub(super) unseen_exits: Option<Link>,
    /// See [`Probes::known_stacks`].
    pub(super) known_stacks: Option<mpsc::Receiver<Told>>,
    /// The fault rules, if there are any, the programs attached for them, and when they were armed
    /// (0: they are not).
    pub(super) rules: Option<Rules>,
    pub(super) faults: faults::Attached,
    pub(super) armed_at: u64,
}

impl Probes {
    /// Loads the object with these settings and chooses the probes. The trampolines and kprobes
    /// among them are loaded and attached, because that is the only sure way to know that they
    /// work. Nothing is recorded yet.
    ///
    /// # Errors
    /// If the kernel refused something that nothing else can replace.
    pub fn load(settings: &Settings, wanted: Wanted, rules: Option<Rules>) -> Result<Self, Error> {
        let mut settings = *settings;
        // Counting is there to save a record for each completion, so it does not use the probe for
        // them.
        let exact = wanted.features() != Features::None && settings.counting == 0;
        settings.exact_completions = u32::from(exact);
        // To the probes, settings are constants: to change one means to load the probes again.
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

    /// Loads the maps of the object with these settings, but none of its programs.
    ///
    /// # Errors
    /// If the kernel refuses the maps.
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
        // The decision about a call must be made before any kernel function of the call is reached.
        let calls = if rules.is_some() { Wanted::Syscall } else { wanted };
        probes.choose_calls(settings, calls, btf)?;
        if probes.set.lacks_registers {
            return Ok(probes);
        }
        for feature in Feature::ALL {
            // The last two features rest on what the probes for completions learn of contexts.
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
        // The other programs take longest to load, and are needed in any case.
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

    /// Whether the settings are right for the probes that were chosen.
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
                    for pair in compat.iter().flatten() {
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

    /// Loads and attaches all of these programs, or none of them.
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
        if tracing::enabled!(tracing::Level::DEBUG) {
            let verified = loaded.info().ok().and_then(|it| it.verified_instruction_count());
            tracing::debug!(program = name, ?verified, "loaded");
        }
        self.set.programs.push(program);
        Ok(())
    }

    /// The probes that were chosen.
    pub fn set(&self) -> &ProbeSet {
        &self.set
    }

    pub(super) fn map<K: aya::Pod, V: aya::Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<HashMap<&mut MapData, K, V>, Error> {
        let map = self.ebpf.map_mut(name).ok_or(Error::Object(name))?;
        HashMap::try_from(map).map_err(|_| Error::Object(name))
    }
}

/// Where the registers of a system call are, counted from the beginning of the kernel stack.
fn on_stack(offsets: &Offsets) -> u32 {
    KERNEL_STACK.saturating_sub(offsets.pt_regs_size)
}

/// What the verifier says if BTF does not have the type of a program's argument (`struct pt_regs`
/// on Linux 5.10).
const UNTYPED: &str = "type FWD is not a struct";

/// The name of a feature in messages.
pub fn feature_name(feature: Feature) -> &'static str {
    match feature {
        Feature::Completions => "completions",
        Feature::Refused => "refused iocbs",
        Feature::Gone => "contexts that end",
        Feature::Moved => "contexts that are moved",
    }
}

/// Whether this kernel's BTF has all the members that a feature reads.
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

/// Refuses architectures on which aiotrace cannot work: the kernel would say less about the reason.
///
/// # Errors
/// [`Error::Architecture`]
pub fn check_architecture() -> Result<(), Error> {
    match features::ARCHITECTURE {
        "x86_64" | "aarch64" => Ok(()),
        other => Err(Error::Architecture(other)),
    }
}
