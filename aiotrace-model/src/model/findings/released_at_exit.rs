//! released-at-exit: contexts were alive when their process ended, or ran another program.

use super::{Basis, holding};
use crate::{model::{Finding, Model, Severity, process::Released}, words::number::thousands};

/// Contexts that the kernel released at exit or exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasedAtExit {
    contexts: u64,
    /// What they took from fs.aio-nr, if it is known for each.
    charge: Option<u64>,
    by_exec: bool,
}

impl Basis for ReleasedAtExit {
    const NAME: &'static str = "released-at-exit";
    const SEVERITY: Severity = Severity::Info;
    const NUMBERS: &'static [&'static str] = &["contexts", "charge"];

    fn message(&self) -> String {
        let Self { contexts, charge, by_exec } = *self;
        let how = if by_exec { "exec" } else { "exit" };
        let plural = if contexts == 1 { "context" } else { "contexts" };
        let holds = holding(charge);
        let contexts = thousands(contexts);
        format!("{contexts} {plural}{holds} alive at {how}: released by the kernel")
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        let charge = self.charge.map(|it| ("charge", it as i64));
        [("contexts", self.contexts as i64)].into_iter().chain(charge).collect()
    }
}

impl Model {
    pub(in crate::model) fn released(&mut self, released: Released) {
        let Released { pid, process, time, contexts, charge, by_exec, doubt } = released;
        let mut finding = Finding::new(ReleasedAtExit { contexts, charge, by_exec }, time, pid);
        (finding.doubt, finding.process) = (doubt, process);
        // Each exec of a program that executes itself is the same.
        self.find(finding, contexts << 1 | u64::from(by_exec), charge.unwrap_or(u64::MAX));
    }
}
