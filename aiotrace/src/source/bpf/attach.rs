//! Attaches and detaches the programs that were loaded.

use std::any::Any;

use aiotrace_common::names;
use aya::programs::{Program, ProgramError};

use super::{
    choice::By,
    error::Error,
    faults::{self, Rules},
    load::Probes,
    machine::with_kernel_types,
};

/// Detaches its program when it is dropped.
pub type Link = Box<dyn Any + Send>;

impl Probes {
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

    /// Attaches the programs that are not yet attached, in the order of [`names`]. With trampolines
    /// or kprobes, it also attaches the program that sees the returns which these do not see;
    /// [`Probes::stop_unseen_exits`] detaches it.
    ///
    /// # Errors
    /// The program that could not be attached; then none is attached.
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

    /// Detaches all programs, in the opposite order.
    pub fn detach(&mut self) {
        self.detach_faults();
        self.stop_unseen_exits();
        while let Some(link) = self.links.pop() {
            drop(link);
        }
        tracing::debug!("detached");
    }

    /// Whether every system call of the machine runs one of aiotrace's programs only because some
    /// calls are not seen by the trampolines.
    pub fn watches_unseen_exits(&self) -> bool {
        // With kprobes the program has to stay: kretprobes may miss returns.
        self.unseen_exits.is_some() && self.set.calls == By::Trampoline
    }

    /// Detaches the program that sees the returns which the trampolines do not see.
    pub fn stop_unseen_exits(&mut self) {
        self.unseen_exits = None;
    }
}
