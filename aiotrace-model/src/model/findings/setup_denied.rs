//! setup-denied: io_setup returned EAGAIN, because fs.aio-max-nr is reached, or would be exceeded.

use super::Basis;
use crate::{
    any_order::AnyOrder as _,
    event::{Event, Limit, SpaceId},
    model::{Finding, Model, Name, Needs, Severity},
    words::{duration::in_words, escape::escaped, number::thousands},
};

/// The number that was asked for, and the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupDenied {
    asked: u32,
    /// What the process itself held then: its contexts, and what they take from fs.aio-nr.
    held: Option<(u64, u64)>,
    /// The limit, and how long after the call it was looked up (nanoseconds).
    limit: Option<(u64, Limit)>,
}

impl SetupDenied {
    /// Takes the answer who holds fs.aio-nr, `later` nanoseconds after the call.
    pub(in crate::model) fn answered(&mut self, later: u64, limit: Limit) {
        self.limit = Some((later, limit));
    }
}

impl Basis for SetupDenied {
    const NAME: &'static str = "setup-denied";
    const SEVERITY: Severity = Severity::Error;
    const NUMBERS: &'static [&'static str] = &["asked", "used", "limit"];

    fn message(&self) -> String {
        let mut text = format!("io_setup({}) = EAGAIN", self.asked);
        if let Some((contexts, charge)) = self.held {
            let [count, charge] = [contexts, charge].map(thousands);
            let plural = if contexts == 1 { "" } else { "s" };
            text.push_str(&format!(": the process held {charge} then, in {count} context{plural}"));
        }
        if let Some((later, Limit { used, limit, holders })) = &self.limit {
            let later = in_words(*later);
            let colon = if self.held.is_some() { ";" } else { ":" };
            text.push_str(&format!("{colon} {later} later fs.aio-nr is {used} of {limit}"));
            for (index, holder) in holders.iter().take(3).enumerate() {
                let name = escaped(&holder.name);
                text.push_str(if index == 0 { "; held by " } else { ", " });
                text.push_str(&format!("{name}:{} {}", holder.pid, holder.charge));
            }
        }
        text
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        let limit = self.limit.iter().flat_map(|(_, it)| {
            [("used", it.used as i64), ("limit", it.limit as i64)]
        });
        [("asked", i64::from(self.asked))].into_iter().chain(limit).collect()
    }
}

impl Model {
    /// io_setup was asked for `asked` requests, and returned EAGAIN.
    pub(in crate::model) fn setup_denied(&mut self, event: &Event, asked: u32) {
        let key = (Name::SetupDenied, event.pid, 0, 0);
        let is_known = self.findings.has(&key) || self.waiting.iter().any(|it| it.key == key);
        let held = if is_known { None } else { self.held(self.space(event.pid)) };
        let evidence = SetupDenied { asked, held, limit: None };
        let mut finding = Finding::new(evidence, event.time, event.pid);
        finding.tid = Some(event.tid);
        self.find_if(Needs::Limit, finding, 0, 0);
    }

    /// How many contexts an address space has, and what they take from fs.aio-nr together; `None`: none, or it is not
    /// known for sure.
    fn held(&self, space: SpaceId) -> Option<(u64, u64)> {
        // Contexts whose rings were unmapped, or that are just ending, take their part all the same.
        let has_leaked = self.spaces.get(&space).is_some_and(|it| it.has_leaked);
        let are_others = self.lost.iter().any(|it| it.key.0 == space)
            || self.leaving.iter().any(|it| it.0.0 == space);
        if has_leaked || are_others {
            return None;
        }
        let its = self.contexts.in_any_order().filter(|it| it.0.0 == space);
        let charges = its.map(|(_, it)| match it.doubt {
            None => it.charge.map(u64::from),
            Some(_) => None,
        });
        let charges: Vec<u64> = charges.collect::<Option<_>>()?;
        (!charges.is_empty()).then(|| (charges.len() as u64, charges.iter().sum()))
    }
}
