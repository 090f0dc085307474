//! unreaped-completions: completions wait in the ring for long, and nobody reaps them.

use super::Basis;
use crate::{
    event::Ring,
    model::{ContextRef, Finding, Model, Severity},
    words::{duration::in_words, number::thousands},
};

/// Completions in a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreapedCompletions {
    unreaped: u32,
    /// How long the oldest has waited, nanoseconds.
    age: u64,
    /// How many completions the ring can hold.
    capacity: u32,
}

impl Basis for UnreapedCompletions {
    const NAME: &'static str = "unreaped-completions";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["unreaped", "age_ns", "capacity"];

    fn message(&self) -> String {
        let Self { unreaped, age, capacity } = *self;
        let [unreaped, capacity] = [unreaped, capacity].map(|it| thousands(it.into()));
        format!(
            "{unreaped} completions wait to be reaped, the oldest for {}, in a ring of {capacity}: when it \
             is full, io_submit = EAGAIN",
            in_words(age)
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![
            ("unreaped", i64::from(self.unreaped)),
            ("age_ns", self.age as i64),
            ("capacity", i64::from(self.capacity)),
        ]
    }
}

impl Model {
    /// The completions in this ring have waited since that time.
    pub(in crate::model) fn is_unreaped(
        &mut self,
        (context, pid): (ContextRef, u32),
        ring: Ring,
        since: u64,
    ) {
        let (unreaped, age) = (ring.unreaped(), self.now.saturating_sub(since));
        if unreaped == 0 {
            return;
        }
        let capacity = ring.nr.saturating_sub(1);
        let evidence = UnreapedCompletions { unreaped, age, capacity };
        let mut finding = Finding::new(evidence, self.now, pid);
        finding.context = Some(context);
        self.find_once(finding, context.id.0, since);
    }
}
