//! setup-denied: io_setup returned EAGAIN, because fs.aio-max-nr is reached, or would be exceeded.

use super::Basis;
use crate::{
    event::{Event, Limit},
    model::{Finding, Model, Needs, Severity},
    words::{duration::in_words, escape::escaped},
};

/// The number that was asked for, and the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupDenied {
    asked: u32,
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
        if let Some((later, Limit { used, limit, holders })) = &self.limit {
            let later = in_words(*later);
            text.push_str(&format!(": {later} later fs.aio-nr is {used} of {limit}"));
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
        let mut finding =
            Finding::new(SetupDenied { asked, limit: None }, event.time, event.pid);
        finding.tid = Some(event.tid);
        self.find_if(Needs::Limit, finding, 0, 0);
    }
}
