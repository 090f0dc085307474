//! context-leak: a living process has lost a context: its ring is unmapped, or its handle is nowhere any more.

use super::{Basis, holding};
use crate::{
    event::{Event, Handle},
    model::{Context, ContextRef, Doubt, Finding, Model, Severity, cause},
    words::duration::in_words,
};

/// A context that nobody can use or destroy any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextLeak {
    context: ContextRef,
    charge: Option<u32>,
    /// The context existed before the attach.
    is_adopted: bool,
    /// Time since it was made, or found, nanoseconds.
    age: u64,
    why: Why,
}

/// How the loss is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Unmapped,
    Unreferenced,
}

impl Basis for ContextLeak {
    const NAME: &'static str = "context-leak";
    const SEVERITY: Severity = Severity::Error;
    const NUMBERS: &'static [&'static str] = &["charge"];

    fn message(&self) -> String {
        let ContextRef { id, handle } = self.context;
        let made = if self.is_adopted { "adopted" } else { "made" };
        let why = match self.why {
            Why::Unmapped => "its ring was unmapped, not destroyed",
            Why::Unreferenced => "its handle is nowhere in the memory of the process",
        };
        format!(
            "context {id} at {:#x}{}, {made} {} ago: {why}; it is lost until the process ends",
            handle.0,
            holding(self.charge.map(u64::from)),
            in_words(self.age)
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        self.charge.map(|it| ("charge", i64::from(it))).into_iter().collect()
    }
}

impl Model {
    /// Its ring is not mapped, no thread destroys it, and the process lives. `doubt`: why it may be usable all the same.
    pub(in crate::model) fn leaked(&mut self, event: &Event, ctx: Handle, doubt: Option<Doubt>) {
        let key = (self.space(event.pid), ctx);
        let place = self.leaving.iter().position(|(of, _)| *of == key);
        let context = match place {
            Some(place) => Some(self.leaving.remove(place).1),
            None => self.contexts.remove(&key),
        };
        let Some(mut context) = context else { return };
        self.tell_leak(&context, event.time, Why::Unmapped, doubt);
        context.leak_told = Some(event.time);
        self.explain_refusals(key, || cause::UNMAPPED.to_owned());
        self.lose(key, context, event.time);
    }

    /// The handles of these contexts are nowhere in the memory that the process can write.
    pub(in crate::model) fn unreferenced(&mut self, event: &Event, handles: &[Handle]) {
        for handle in handles {
            let key = (self.space(event.pid), *handle);
            // Each scan finds the same contexts.
            let Some(mut context) = self.contexts.remove(&key) else { continue };
            if context.leak_told.replace(event.time).is_none() {
                // It may be in a register, or in another form.
                self.tell_leak(&context, event.time, Why::Unreferenced, Some(Doubt::Scan));
            }
            self.contexts.insert(key, context);
        }
    }

    fn tell_leak(&mut self, context: &Context, time: u64, why: Why, doubt: Option<Doubt>) {
        let leak = ContextLeak {
            context: context.name,
            charge: context.charge,
            is_adopted: context.adopted,
            age: time.saturating_sub(context.since),
            why,
        };
        let mut finding = Finding::new(leak, time, context.pid);
        finding.context = Some(context.name);
        finding.doubt = context.doubt.or(doubt);
        finding.stack.clone_from(&context.stack);
        self.find(finding, context.place, 0);
    }
}
