//! Chooses the mechanism by which each fault rule acts on this machine.

use aiotrace_common::settings::Settings;

use super::{session::Scope, settings::Injected};
use crate::{
    failure::{Failure, Result, bail},
    fault::{self, Mechanism, Rule},
    output::{FaultRule, Faults},
    source::bpf::faults::{Allowed, Rules},
};

/// The rules, and how they act.
pub struct Chosen {
    /// The rules.
    pub rules: Vec<Rule>,
    /// The mechanism of each rule.
    pub by: Vec<Mechanism>,
    /// Who decides about each call whether a rule acts.
    pub judge: Judging,
    /// The seed of prob=.
    pub seed: u64,
    /// Faults are only reported, not made.
    pub dry_run: bool,
}

/// Who decides about each call whether a rule acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judging {
    /// The probes decide, and a mechanism in the kernel acts.
    Probes,
    /// The ptrace loop decides and acts, because the user asked for it.
    Ptrace,
    /// The ptrace loop decides and acts, because only it can do what this rule wants (counted from
    /// 0).
    PtraceFor(usize),
}

impl Injected {
    /// Chooses the mechanisms, by trying them. `settings`: those of the probes, or why the probes
    /// cannot or shall not be used.
    ///
    /// # Errors
    /// If the rules are wrong, or if a mechanism that was asked for cannot make them.
    pub fn choose(&self, settings: Result<Settings, String>) -> Result<Chosen> {
        fault::check(&self.rules).map_err(Failure::new)?;
        let mut rules = self.rules.clone();
        if let Some(limit) = self.limit {
            let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
            rules.iter_mut().for_each(|it| it.rule.until = it.rule.until.min(limit));
        }
        let (by, judge) = match self.mechanism {
            Some(Mechanism::Ptrace) => (forced(Mechanism::Ptrace, &rules)?, Judging::Ptrace),
            Some(by) => (forced(by, &rules)?, Judging::Probes),
            None => {
                let useful = |by: &Mechanism| rules.iter().any(|it| by.delivers(&it.rule).is_ok());
                let tried: Vec<_> = Mechanism::IN_KERNEL.into_iter().filter(useful).collect();
                let kernel = settings.and_then(|settings| {
                    let found = Allowed::find_out(&settings, &tried);
                    found.map_err(|error| crate::source::bpf::reason(&error))
                });
                self.best(&rules, kernel.as_ref())
            }
        };
        let seed = self.seed.unwrap_or_else(seed);
        Ok(Chosen { rules, by, judge, seed, dry_run: self.dry_run })
    }

    /// The best mechanism for each rule, and who decides.
    fn best(&self, rules: &[Rule], kernel: Result<&Allowed, &String>) -> (Vec<Mechanism>, Judging) {
        let can = |rule: &Rule, by: Mechanism| -> Result<(), String> {
            by.delivers(&rule.rule)?;
            if by == Mechanism::Ptrace {
                return Ok(());
            }
            kernel.map_err(Clone::clone)?.can(&rule.rule, by)
        };
        // With --dry-run, rules need no mechanism: it is enough that the probes can decide.
        let tells = |rule: &Rule| {
            rule.rule.looked_up == 0
                && kernel.is_ok_and(|it| !rule.rule.counts() || it.counting.is_ok())
        };
        if self.dry_run && rules.iter().all(tells) {
            let best = |rule: &Rule| {
                let mut all = Mechanism::ALL.into_iter();
                all.find(|by| can(rule, *by).is_ok()).unwrap_or(Mechanism::Ptrace)
            };
            return (rules.iter().map(best).collect(), Judging::Probes);
        }
        let mut by = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let best = Mechanism::IN_KERNEL.into_iter().find(|by| can(rule, *by).is_ok());
            let Some(best) = best else {
                if rules.len() > 1 {
                    let number = index + 1;
                    eprintln!("aiotrace: rule {number} needs ptrace, so it makes all faults");
                }
                return (vec![Mechanism::Ptrace; rules.len()], Judging::PtraceFor(index));
            };
            by.push(best);
        }
        (by, Judging::Probes)
    }
}

impl Chosen {
    /// The rules in the form that the probes take.
    pub fn for_probes(&self) -> Rules {
        let rules: Vec<_> = self.rules.iter().map(|it| it.rule).zip(self.by.clone()).collect();
        Rules::new(&rules, self.seed, self.dry_run)
    }

    /// The rules in the form in which they are shown.
    pub fn told(&self) -> Faults {
        let rules = self
            .rules
            .iter()
            .zip(&self.by)
            .map(|(rule, by)| FaultRule { text: rule.text.clone(), mechanism: by.text().into() });
        Faults { seed: self.seed, dry_run: self.dry_run, rules: rules.collect() }
    }
}

/// Uses the mechanism that the user asked for. Whether this kernel has it shows when it is
/// attached.
fn forced(by: Mechanism, rules: &[Rule]) -> Result<Vec<Mechanism>> {
    for rule in rules {
        by.delivers(&rule.rule).map_err(|why| {
            let text = format!("{} cannot make {}: {why}", by.text(), rule.text);
            let hint =
                "without --mechanism the best one is taken; `aiotrace doctor` tells what there is";
            Failure::new(text).with_hint(hint)
        })?;
    }
    Ok(vec![by; rules.len()])
}

/// Refuses targets that must not be broken.
///
/// # Errors
/// If there is such a target; the error says which one, and why.
pub fn check_target(scope: &Scope) -> Result<()> {
    let own = std::process::id();
    let pids = match scope {
        Scope::All => {
            bail!("faults need a target: -p PID, --unit, --container, --pod, --cgroup, or `run`")
        }
        Scope::Processes(processes) => processes.iter().map(|it| it.pid).collect(),
        Scope::Cgroup(cgroup) if cgroup.level == 0 => {
            bail!("no faults in the root cgroup: it holds every process")
        }
        Scope::Cgroup(cgroup) => cgroup.processes(),
    };
    if pids.contains(&1) {
        bail!("no faults in process 1: the machine would not survive some of them");
    }
    if pids.contains(&own) {
        bail!("no faults in aiotrace itself");
    }
    Ok(())
}

/// A seed, if the user gave none.
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    // Keep it short enough to be typed again.
    RandomState::new().hash_one(std::process::id()) % 1_000_000
}
