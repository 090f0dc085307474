//! The kernel side of faults: finds out which mechanisms this kernel allows, by loading them, and
//! attaches the programs of those that are used. The program that records the entry of a call
//! decides; the mechanism finds the decision in the thread's slot.

use std::os::fd::OwnedFd;

use aiotrace_common::{
    fault::{Armed, Rule, action, mechanism, what},
    names::{self, Judges, Program},
};
use aya::maps::Array;

use super::{attach::Link, error::Error, load::Probes, modify_return, objects::OBJECTS};
use crate::{clock, fault::Mechanism};

/// The fault rules, as the probes get them.
pub struct Rules {
    /// See [`Armed`].
    pub armed: Armed,
    /// The mechanisms by which the rules act.
    pub mechanisms: Vec<Mechanism>,
}

impl Rules {
    /// Takes each rule with the mechanism by which it acts.
    pub fn new(rules: &[(Rule, Mechanism)], seed: u64, dry_run: bool) -> Self {
        let numbered = rules.iter().map(|(rule, by)| Rule { mechanism: number(*by), ..*rule });
        let mut mechanisms: Vec<Mechanism> = rules.iter().map(|(_, by)| *by).collect();
        mechanisms.sort_unstable();
        mechanisms.dedup();
        if dry_run {
            mechanisms.clear();
        }
        Self { armed: Armed::new(&numbered.collect::<Vec<_>>(), seed, dry_run), mechanisms }
    }

    fn is_about_completions(&self) -> bool {
        self.armed.about & 1 << what::COMPLETE != 0
    }

    fn counts(&self) -> bool {
        self.armed.rules.iter().any(Rule::counts)
    }

    /// The programs that decide which rule acts.
    fn judges(&self) -> Judges {
        if self.counts() { names::JUDGES_COUNTING } else { names::JUDGES_ALWAYS }
    }
}

fn number(by: Mechanism) -> u32 {
    match by {
        Mechanism::FmodRet => mechanism::FMOD_RET,
        Mechanism::Override => mechanism::OVERRIDE,
        Mechanism::FilePermission => mechanism::FILE_PERMISSION,
        Mechanism::WriteUser => mechanism::WRITE_USER,
        Mechanism::Ptrace => mechanism::NONE,
    }
}

/// The programs that see the calls, in the order of attaching. With rules, the program at the entry
/// also decides.
pub(super) fn calls_by_tracepoint(rules: Option<&Rules>) -> [Program; 2] {
    let [exit, entry] = names::CALLS_BY_TRACEPOINT;
    [exit, rules.map_or(entry, |rules| rules.judges().calls)]
}

/// What this kernel allows for fault rules.
pub struct Allowed {
    /// Each mechanism of the kernel side, and if it does not work, why.
    pub mechanisms: Vec<(Mechanism, Result<(), String>)>,
    /// Whether the probes can count for rules.
    pub counting: Result<(), String>,
}

/// Whether the kernel may leave out some faults of a mechanism if several threads make calls
/// (aiotrace counts these skipped runs): it skips a program if another thread was preempted inside
/// of it.
pub fn is_rough(by: Mechanism) -> bool {
    let is_by_trampoline = matches!(by, Mechanism::FmodRet | Mechanism::FilePermission);
    by != Mechanism::Ptrace
        && (super::machine::tracepoints_are_preemptible()
            || is_by_trampoline && super::machine::probes_are_preemptible())
}

impl Allowed {
    /// Tries the mechanisms that are wanted: each is attached for a moment, for no process.
    ///
    /// # Errors
    /// If tracing itself does not work.
    pub fn find_out(
        settings: &aiotrace_common::settings::Settings,
        wanted: &[Mechanism],
    ) -> Result<Self, Error> {
        let rule = |about, action, value| Rule { about, action, value, first: 2, ..Rule::NONE };
        let calls =
            names::CALLS.iter().fold(0, |all, (syscall, _)| all | 1 << what::call(*syscall));
        let rules = [
            (rule(calls, action::ERROR, -11), Mechanism::FmodRet),
            (rule(1 << what::COMPLETE, action::RESULT, -5), Mechanism::WriteUser),
        ];
        let rules = Rules::new(&rules, 0, false);
        let mut probes = Probes::load_bare(settings, &rules.armed)?;
        super::machine::with_kernel_types(|types| {
            let mechanisms = wanted.iter().map(|by| {
                let tried = allows(&mut probes, *by, &rules, types);
                (*by, tried.map_err(|error| super::error::reason(&error)))
            });
            let mechanisms = mechanisms.collect();
            tracing::debug!("counting");
            let counting = probes.load_program(names::JUDGES_COUNTING.calls, types);
            let counting = counting.map_err(|error| super::error::reason(&error));
            Ok(Self { mechanisms, counting })
        })
    }

    /// Whether a rule can act by a mechanism.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn can(&self, rule: &Rule, by: Mechanism) -> Result<(), String> {
        if by == Mechanism::Ptrace {
            return Ok(());
        }
        let found = self.mechanisms.iter().find(|(of, _)| *of == by);
        found.map_or_else(
            || Err("this mechanism was not tried".to_owned()),
            |(_, allowed)| allowed.clone(),
        )?;
        if rule.counts() {
            self.counting.clone().map_err(|why| {
                format!("this kernel cannot count in BPF (Linux 5.12 and later can): {why}")
            })?;
            if is_rough(by) {
                return Err(
                    "this kernel may skip the probe at some calls, so a count would be wrong"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

/// The programs that are attached for the rules.
#[derive(Default)]
pub(super) struct Attached {
    links: Vec<Link>,
    modifying: Vec<OwnedFd>,
}

impl Probes {
    /// Attaches the program that must run at the return of a call before the call is recorded.
    pub(super) fn attach_results(&mut self, rules: &Rules, btf: &aya::Btf) -> Result<(), Error> {
        if !rules.is_about_completions() {
            return Ok(());
        }
        let program = match rules.armed.dry_run {
            0 => rules.judges().write,
            _ => rules.judges().tell,
        };
        self.load_program(program, btf)?;
        let link = self.attach_program(program)?;
        self.faults.links.push(link);
        Ok(())
    }

    /// Attaches the programs that carry out decisions.
    pub(super) fn attach_mechanisms(&mut self, rules: &Rules, btf: &aya::Btf) -> Result<(), Error> {
        let mut all = Attached::default();
        for by in rules.mechanisms.iter().filter(|by| **by != Mechanism::WriteUser) {
            let mut links = Vec::new();
            attach_mechanism(self, *by, rules.judges(), btf, &mut links)?;
            for link in links {
                match link {
                    AnyLink::Library(link) => all.links.push(link),
                    AnyLink::Ours(fd) => all.modifying.push(fd),
                }
            }
        }
        self.faults.links.append(&mut all.links);
        self.faults.modifying.append(&mut all.modifying);
        Ok(())
    }

    /// Detaches the programs of the rules.
    pub(super) fn detach_faults(&mut self) {
        self.faults = Attached::default();
    }

    /// Lets the rules act from now on, or ends this.
    pub(super) fn arm_faults(&mut self, armed: bool) {
        self.armed_at = if armed { clock::monotonic() } else { 0 };
        self.beat();
    }

    /// Gives a sign of life, without which the rules do nothing: see
    /// [`aiotrace_common::fault::HEARTBEAT`].
    pub fn beat(&mut self) {
        let words = [self.armed_at, clock::monotonic()];
        let Some(map) = self.ebpf.map_mut(names::PULSE) else { return };
        if let Ok(mut pulse) = Array::<_, [u64; 2]>::try_from(map) {
            // If this fails, the rules stop acting, which is safe.
            let _ = pulse.set(0, words, 0);
        }
    }
}

/// Attaches a mechanism for a moment.
fn allows(
    probes: &mut Probes,
    by: Mechanism,
    rules: &Rules,
    types: &aya::Btf,
) -> Result<(), Error> {
    tracing::debug!(?by, "trying");
    let mut links = Vec::new();
    let tried = attach_mechanism(probes, by, rules.judges(), types, &mut links);
    if by != Mechanism::WriteUser {
        return tried;
    }
    // If the kernel cannot count, the mechanism may still work for rules that do not count.
    tried.or_else(|_| attach_mechanism(probes, by, names::JUDGES_ALWAYS, types, &mut links))
}

enum AnyLink {
    Library(Link),
    Ours(OwnedFd),
}

fn attach_mechanism(
    probes: &mut Probes,
    by: Mechanism,
    judges: Judges,
    btf: &aya::Btf,
    links: &mut Vec<AnyLink>,
) -> Result<(), Error> {
    let object = OBJECTS.probes.ok_or(Error::NotBuilt)?;
    let programs = |probes: &Probes| {
        modify_return::Programs::new(object, &probes.ebpf).map_err(Error::ModifyReturn)
    };
    match by {
        Mechanism::FmodRet => {
            let programs = programs(probes)?;
            for (_, at) in names::CALLS {
                let link =
                    programs.attach(names::FMOD_RET, at, btf).map_err(Error::ModifyReturn)?;
                links.push(AnyLink::Ours(link));
            }
        }
        Mechanism::Override => {
            for (index, (_, at)) in names::CALLS.into_iter().enumerate() {
                let program = Program { name: names::OVERRIDE, hook: names::Hook::KprobeEntry, at };
                if index == 0 {
                    probes.load_program(program, btf)?;
                }
                links.push(AnyLink::Library(probes.attach_program(program)?));
            }
        }
        Mechanism::FilePermission => {
            let [trampoline, kprobe] = names::SUBMIT_ONE;
            let mut counts = |program| {
                probes.load_program(program, btf)?;
                probes.attach_program(program)
            };
            // If neither works, report the error of the first: it says more.
            let link = counts(trampoline).or_else(|why| counts(kprobe).map_err(|_| why))?;
            links.push(AnyLink::Library(link));
            let programs = programs(probes)?;
            let link = programs
                .attach(names::FILE_PERMISSION, names::FILE_PERMISSION_AT, btf)
                .map_err(Error::ModifyReturn)?;
            links.push(AnyLink::Ours(link));
        }
        Mechanism::WriteUser => {
            probes.load_program(judges.write, btf)?;
            links.push(AnyLink::Library(probes.attach_program(judges.write)?));
        }
        Mechanism::Ptrace => (),
    }
    Ok(())
}
