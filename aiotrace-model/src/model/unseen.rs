//! What may do a request without a call that is watched: stores to a mapping of its file, loads from one, an io_uring of the
//! process, and other processes that have the file. It is looked up when the request is left undone, and nothing is lost for
//! sure before the answer has come.

use aiotrace_common::synchronous::Does;

use super::{
    Doubt,
    owed::{does, gives_up},
    requests::Request,
};
use crate::event::{Others, Synchronous, Ways};

/// Descriptors looked at, at most.
const MOST_DESCRIPTORS: usize = 8;

/// What is known of the files of requests that were left undone at the same time.
#[derive(Debug, Default)]
pub struct Unseen {
    /// When.
    since: u64,
    /// Their descriptors, the first ones; `None`: nothing was asked.
    fds: Option<Vec<u32>>,
    /// What was found, and when the look was over.
    found: Vec<(u32, u64, Ways)>,
    /// Memory was unmapped then.
    unmapped: Option<u64>,
    /// Descriptors that were given up, and since when, as far as known: then their numbers may be of other files.
    closed: Vec<(u32, u64)>,
}

impl Unseen {
    /// Nothing is known yet.
    pub fn new<'a>(since: u64, requests: impl Iterator<Item = &'a Request>) -> Self {
        let mut fds: Vec<u32> = Vec::new();
        for request in requests.filter(|it| does(it).is_some()) {
            if fds.len() < MOST_DESCRIPTORS && !fds.contains(&request.fd) {
                fds.push(request.fd);
            }
        }
        Self { since, fds: Some(fds), ..Self::default() }
    }

    /// The descriptors that are to be looked at.
    pub fn fds(&self) -> &[u32] {
        self.fds.as_deref().unwrap_or_default()
    }

    /// The file of a descriptor was looked at; the look was over then. What was seen once may have been used.
    pub fn looked(&mut self, fd: u32, time: u64, ways: Ways) {
        if time < self.since || !self.fds().contains(&fd) {
            return;
        }
        match self.found.iter_mut().find(|it| it.0 == fd) {
            Some((_, _, known)) => {
                known.stored |= ways.stored;
                known.mapped |= ways.mapped;
                known.uring |= ways.uring;
                known.below |= ways.below;
                known.writers = known.writers.or(ways.writers);
                known.others = known.others.or(ways.others);
            }
            None => self.found.push((fd, time, ways)),
        }
    }

    /// A call that returned then gave up a descriptor, or unmapped memory.
    pub fn gave_up(&mut self, call: &Synchronous, time: u64) {
        let began = call.entered.unwrap_or(time);
        match call.call.does() {
            Does::Unmap if time >= self.since => {
                self.unmapped.get_or_insert(began);
            }
            Does::Close if time >= self.since => {
                let closed = self.fds.iter().flatten().filter(|it| gives_up(call, **it));
                let new = closed.filter(|fd| self.closed.iter().all(|it| it.0 != **fd));
                let new: Vec<_> = new.map(|fd| (*fd, began)).collect();
                self.closed.extend(new);
            }
            _ => (),
        }
    }

    /// Whether a descriptor was given up before a look that began then.
    pub fn is_closed(&self, fd: u32, began: u64) -> bool {
        self.closed.iter().any(|it| it.0 == fd && it.1 <= began)
    }

    /// It has become known which requests were left undone: what was seen since stays.
    pub fn of(&mut self, requests: Self) {
        self.fds = requests.fds;
    }

    /// Why a request may have been done without being seen.
    pub fn why(&self, request: &Request) -> Option<Doubt> {
        self.fds.as_ref()?;
        let does = does(request)?;
        let closed = self.closed.iter().find(|it| it.0 == request.fd).map(|it| it.1);
        let is_its = |it: &&(u32, u64, Ways)| {
            it.0 == request.fd && closed.is_none_or(|closed| it.1 < closed)
        };
        let Some((_, time, ways)) = self.found.iter().find(is_its) else {
            return Some(Doubt::Unlooked);
        };
        let is_gone = self.unmapped.is_some_and(|it| it <= *time);
        let (is_mapped, others) = match does {
            Does::Read => (ways.mapped, Others::None),
            Does::Write => (ways.stored, ways.writers),
            // msync(2) is watched.
            _ => (false, ways.others),
        };
        let others = match others {
            Others::None => None,
            Others::Some => Some(Doubt::SharedFile),
            Others::Unknown => Some(Doubt::ManySharers),
        };
        let mapped = is_mapped.then_some(Doubt::Mapped);
        let gone = (is_gone && does != Does::Sync).then_some(Doubt::Unmapped);
        // What is read there is not here.
        let below = (ways.below && does != Does::Read).then_some(Doubt::Below);
        mapped.or(ways.uring.then_some(Doubt::Unseen)).or(others).or(gone).or(below)
    }
}

impl Others {
    /// Of two looks.
    fn or(self, later: Self) -> Self {
        match (self, later) {
            (Self::Some, _) | (_, Self::Some) => Self::Some,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::None, Self::None) => Self::None,
        }
    }
}
