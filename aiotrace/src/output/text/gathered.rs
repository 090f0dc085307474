//! Events about contexts that existed at the attach, or that ended with their process, come by the thousand. Without
//! `--verbose`, those of one process are gathered into one line.

use std::io::Write;

use super::{NOTE, Text, notes::left_in_flight};
use crate::event::{Adopted, Body, Event, Gone, How};

/// Events about contexts of one process that follow one another and say the same.
pub(super) struct Gathered {
    first: Event,
    count: u64,
    sum: Sum,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sum {
    Adopted { charge: Option<u64>, unreaped: u64, unread: u64, in_flight: Option<u64> },
    Gone { how: How, in_flight: Option<u64>, at_most: bool },
}

impl Sum {
    fn of(body: &Body) -> Option<Self> {
        match body {
            Body::ContextAdopted(Adopted { ring, charge, in_flight, .. }) => Some(Self::Adopted {
                charge: charge.map(u64::from),
                unreaped: ring.map_or(0, |it| u64::from(it.unreaped())),
                unread: u64::from(ring.is_none()),
                in_flight: in_flight.map(u64::from),
            }),
            Body::ContextGone(Gone { how, in_flight, at_most, .. }) if *how != How::Destroy => {
                Some(Self::Gone { how: *how, in_flight: *in_flight, at_most: *at_most })
            }
            _ => None,
        }
    }

    /// The sum of two events; `None` if they do not say the same.
    fn and(self, other: Self) -> Option<Self> {
        let both = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a + b);
        match (self, other) {
            (
                Self::Adopted { charge, unreaped, unread, in_flight },
                Self::Adopted { charge: other, unreaped: more, unread: others, in_flight: of_it },
            ) => Some(Self::Adopted {
                charge: both(charge, other),
                unreaped: unreaped + more,
                unread: unread + others,
                in_flight: both(in_flight, of_it),
            }),
            (
                Self::Gone { how, in_flight, at_most },
                Self::Gone { how: same, in_flight: more, at_most: other },
            ) if how == same => Some(Self::Gone {
                how,
                in_flight: both(in_flight, more),
                at_most: at_most || other,
            }),
            _ => None,
        }
    }

    fn in_words(self, count: u64) -> String {
        match self {
            Self::Adopted { charge, unreaped, unread, in_flight } => {
                let charge = charge.map_or_else(String::new, |it| format!(", {it} of fs.aio-nr"));
                // The unreaped completions of a ring that cannot be read are unknown.
                let unreaped = match unread {
                    0 => format!(", {unreaped} unreaped"),
                    unread if unread == count => ", rings cannot be read".to_owned(),
                    unread => {
                        format!(", {unreaped} or more unreaped, {unread} rings cannot be read")
                    }
                };
                let in_flight = match in_flight {
                    None | Some(0) => String::new(),
                    Some(count) => format!(", {count} in flight"),
                };
                format!("adopted {count} contexts{charge}{unreaped}{in_flight}")
            }
            Self::Gone { how, in_flight, at_most } => {
                let why = if how == How::Exec { "runs a new program" } else { "exits" };
                let in_flight = left_in_flight(in_flight, at_most);
                format!("{count} contexts gone: the process {why}{in_flight}")
            }
        }
    }
}

impl<W: Write> Text<W> {
    /// Gathers an event; `false` if it is not of those that are gathered.
    pub(super) fn gathers(&mut self, event: &Event) -> std::io::Result<bool> {
        let Some(sum) = Sum::of(&event.body).filter(|_| !self.options.verbose) else {
            return Ok(false);
        };
        if let Some(known) = self.gathered.as_mut().filter(|it| it.first.pid == event.pid)
            && let Some(both) = known.sum.and(sum)
        {
            known.count += 1;
            known.sum = both;
            return Ok(true);
        }
        self.tell_gathered()?;
        self.gathered = Some(Gathered { first: event.clone(), count: 1, sum });
        Ok(true)
    }

    /// Writes the line of the events gathered so far.
    pub(super) fn tell_gathered(&mut self) -> std::io::Result<()> {
        let Some(Gathered { first, count, sum }) = self.gathered.take() else { return Ok(()) };
        self.begin(&first);
        match &first.body {
            Body::ContextAdopted(adopted) if count == 1 => self.adopted(adopted),
            Body::ContextGone(gone) if count == 1 => self.gone(gone),
            _ => {
                let text = format!("+++ {} +++", sum.in_words(count));
                self.styled(NOTE, &text);
            }
        }
        self.lines.end()
    }
}
