//! short-submit-dropped: io_submit accepted fewer requests than it was given, and nobody did the rest.

use super::Basis;
use crate::{
    model::{Doubt, Finding, Model, Severity, Subject, process::Short},
    words::{duration::in_words, number::thousands},
};

/// The rest of a short io_submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortSubmitDropped {
    given: u64,
    accepted: u64,
    dropped: u64,
    first: Option<Subject>,
    watched: Watched,
}

/// How long synchronous calls were watched, which may have done the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Not,
    Always,
    For(u64),
}

impl Basis for ShortSubmitDropped {
    const NAME: &'static str = "short-submit-dropped";
    const SEVERITY: Severity = Severity::Error;
    const NUMBERS: &'static [&'static str] = &["given", "accepted", "dropped"];

    fn message(&self) -> String {
        let Self { given, accepted, dropped, .. } = *self;
        let which =
            self.first.map_or_else(String::new, |it| format!(", the first {}", it.in_words()));
        let otherwise = match self.watched {
            Watched::Not => String::new(),
            Watched::Always => ", nor done by pread(2), pwrite(2) and the like".to_owned(),
            Watched::For(time) => {
                format!(", nor done by pread(2), pwrite(2) and the like in {}", in_words(time))
            }
        };
        let [given, accepted, dropped] = [given, accepted, dropped].map(thousands);
        format!(
            "io_submit accepted {accepted} of {given} requests, and {dropped} of the rest were never \
             submitted again{otherwise}{which}"
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![
            ("given", self.given as i64),
            ("accepted", self.accepted as i64),
            ("dropped", self.dropped as i64),
        ]
    }
}

impl Model {
    /// The rest of a short submit will not be submitted any more. (`doubt`: why it still may be.)
    pub(in crate::model) fn dropped(&mut self, short: Short, doubt: Option<Doubt>) {
        let (dropped, first, own) = short.dropped();
        let is_uncompared = short.time <= self.faults.uncompared;
        let own = own.or(is_uncompared.then_some(Doubt::TooMany));
        let space = self.space(short.pid);
        let lost = self.spaces.get(&space).is_some_and(|it| it.lost).then_some(Doubt::Lost);
        let unwatched = (!self.settings.synchronous).then_some(Doubt::NotWatched);
        let watched = match (self.settings.synchronous, short.watched) {
            (false, _) => Watched::Not,
            (true, None) => Watched::Always,
            (true, Some(until)) => Watched::For(until.saturating_sub(short.time)),
        };
        let evidence = ShortSubmitDropped {
            given: short.given,
            accepted: short.accepted,
            dropped: dropped as u64,
            first,
            watched,
        };
        let mut finding = Finding::new(evidence, short.time, short.pid);
        finding.tid = Some(short.tid);
        finding.context = Some(short.context);
        let (seen, unlooked) = match own {
            Some(Doubt::Unlooked) => (None, own),
            _ => (own, None),
        };
        finding.doubt = lost.or(seen).or(unwatched).or(doubt).or(unlooked);
        finding.request = first;
        self.find(finding, short.context.id.0, 0);
    }
}
