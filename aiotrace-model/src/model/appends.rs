//! Writes that go to the end of their file, whatever their offset is: what ignored-offset rests on.
//!
//! ```text
//!  look: the file ends at 60      writes at 0 of 8, 8, 8 bytes      look: it ends at 84
//!  ───────────┴──────────────────────────┴──────────────────────────────────┴─────────>
//! ```
//! A program that keeps its offset where the file ends is right, and how long the file was at each write is not seen. But
//! it was never shorter than at the first look if it has grown since by just what the writes wrote: nobody has cut it then.
//! So a write that began before that place was not made where it asked to be.
//!
//! The first look is any look at the descriptor that finds O_APPEND; the second one is asked for after such a write, and
//! judged when all is told that happened until then.

use super::{
    ContextRef, Doubt, Map, Model, Question, SECOND, Subject, TOLD_WITHIN, finding::Finding,
    findings::ignored_offset::IgnoredOffset, pace::Pace, requests::Match,
};
use crate::event::File;

/// Files that are watched, of each address space.
const MOST_FILES: usize = 1024;
/// Files that wait to be judged.
const MOST_WAITING: usize = 1024;
/// From the first pair of looks to the second.
const FIRST_INTERVAL: u64 = SECOND;

const RWF_APPEND: u32 = 0x10;
const RWF_NOAPPEND: u32 = 0x20;

/// The files of an address space, by descriptor.
#[derive(Debug, Default)]
pub struct Appends(Map<u32, Watch>);

/// One that is open with O_APPEND, or is written to with RWF_APPEND.
#[derive(Clone, Copy, Debug)]
struct Watch {
    state: State,
    /// When the next pair of looks is due.
    pace: Pace,
    /// It was told, and was unsure.
    is_told_unsure: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A look begins it anew.
    Idle,
    /// Looked at once.
    Open(Window),
    /// Looked at twice.
    Closed(Window, Look),
    /// It was told of this file.
    Told(Option<(u64, u64)>),
}

/// What a look found, and between which times it was taken.
#[derive(Clone, Copy, Debug)]
struct Look {
    from: u64,
    until: u64,
    size: u64,
    id: Option<(u64, u64)>,
    /// It is open with O_APPEND.
    append: bool,
}

/// What was written since a look.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: Look,
    /// Bytes that were written for sure since the look began, and up to the second one.
    least: u64,
    /// With those of which that is not known.
    most: u64,
    /// Writes that began before the end.
    before: u64,
    /// The one of them that began first in the file.
    first: Option<Write>,
    is_asked: bool,
}

/// A write that wrote something.
#[derive(Clone, Copy, Debug)]
struct Write {
    request: Subject,
    context: ContextRef,
    entered: u64,
    /// It completed at this time, or before.
    time: u64,
    bytes: u64,
    /// RWF_APPEND, RWF_NOAPPEND.
    flags: u32,
}

impl Watch {
    fn new(state: State) -> Self {
        Self { state, pace: Pace::new(0, FIRST_INTERVAL), is_told_unsure: false }
    }

    fn again(&mut self, now: u64) {
        self.state = State::Idle;
        self.pace.looks(now);
    }

    /// Whether to look at the file.
    fn wrote(&mut self, write: &Write) -> bool {
        let is_due = self.pace.is_due(write.time);
        let (window, end) = match &mut self.state {
            State::Idle => return is_due,
            State::Told(_) => return false,
            State::Open(window) => (window, None),
            State::Closed(window, end) => (window, Some(*end)),
        };
        if !write.goes_to_the_end(window.start.append) {
            self.again(write.time);
            return false;
        }
        window.wrote(write, end);
        let wants_look = end.is_none() && window.first.is_some() && !window.is_asked && is_due;
        window.is_asked |= wants_look;
        wants_look
    }

    /// Whether it waits to be judged now.
    fn looked(&mut self, look: Look) -> bool {
        self.state = match self.state {
            State::Told(id) if id == look.id => return false,
            State::Open(window) if window.start.is_same(look) && window.first.is_none() => {
                return false;
            }
            State::Open(window) if window.start.is_same(look) => State::Closed(window, look),
            State::Closed(..) => return false,
            State::Idle | State::Open(_) | State::Told(_) => State::Open(Window::new(look)),
        };
        matches!(self.state, State::Closed(..))
    }
}

impl Look {
    fn is_same(self, other: Self) -> bool {
        self.id.is_some() && (self.id, self.append) == (other.id, other.append)
    }
}

impl Window {
    fn new(start: Look) -> Self {
        Self { start, least: 0, most: 0, before: 0, first: None, is_asked: false }
    }

    fn wrote(&mut self, write: &Write, end: Option<Look>) {
        let is_after = end.is_some_and(|it| write.entered > it.until);
        if write.time < self.start.from || is_after {
            return;
        }
        self.most = self.most.saturating_add(write.bytes);
        if write.entered <= self.start.until {
            return;
        }
        if end.is_none_or(|it| write.time < it.from) {
            self.least = self.least.saturating_add(write.bytes);
        }
        let offset = write.request.offset;
        if offset.max(0) as u64 >= self.start.size {
            return;
        }
        self.before += 1;
        if self.first.is_none_or(|it| offset < it.request.offset) {
            self.first = Some(*write);
        }
    }

    /// What is to be told; with the reason why it is not certain, if it is not.
    fn judge(&self, end: Look) -> Option<(IgnoredOffset, Write, Option<Doubt>)> {
        let (first, size) = (self.first?, self.start.size);
        let grown = end.size.checked_sub(size).filter(|it| *it >= self.least)?;
        let before_end = size.checked_sub(first.request.offset.max(0) as u64)?;
        // If nobody else wrote, it was cut by so much, at most.
        let doubt = match self.most.checked_sub(grown) {
            Some(cut) if cut < before_end => None,
            // Perhaps it was cut, and the write began where it ended.
            Some(_) => return None,
            None => Some(Doubt::OtherWriter),
        };
        let evidence = IgnoredOffset {
            request: first.request,
            by_flag: first.flags & RWF_APPEND != 0,
            size,
            grown,
            writes: self.before,
        };
        Some((evidence, first, doubt))
    }
}

impl Write {
    fn goes_to_the_end(&self, is_open_so: bool) -> bool {
        self.flags & RWF_NOAPPEND == 0 && (is_open_so || self.flags & RWF_APPEND != 0)
    }
}

impl Appends {
    /// Whether to look at the file.
    fn wrote(&mut self, fd: u32, write: &Write) -> bool {
        if write.flags & RWF_APPEND != 0 && self.0.len() < MOST_FILES {
            self.0.entry(fd).or_insert_with(|| Watch::new(State::Idle));
        }
        self.0.get_mut(&fd).is_some_and(|it| it.wrote(write))
    }

    /// Whether it waits to be judged now.
    fn looked(&mut self, fd: u32, file: Option<File>, (from, until): (u64, u64)) -> bool {
        let regular = file.and_then(|it| Some((it, it.size.filter(|_| it.is_regular())?)));
        let Some((file, size)) = regular else {
            self.0.remove(&fd);
            return false;
        };
        let append = file.append == Some(true);
        let has_room = self.0.len() < MOST_FILES;
        let look = Look { from, until, size, id: file.id, append };
        match self.0.get_mut(&fd) {
            Some(watch) => watch.looked(look),
            None if append && has_room => {
                self.0.insert(fd, Watch::new(State::Open(Window::new(look))));
                false
            }
            None => false,
        }
    }
}

impl Model {
    /// A write completed, and wrote something.
    pub(super) fn wrote_to_file(
        &mut self,
        pid: u32,
        context: ContextRef,
        doubt: Option<Doubt>,
        found: &Match,
    ) {
        let Match { request, completed, .. } = found;
        let Some(subject) = Subject::of(request) else { return };
        let (fd, time) = (request.fd, completed.time);
        let write = Write {
            request: subject,
            context,
            entered: request.entered,
            time,
            bytes: completed.event.res.max(0) as u64,
            flags: request.rw_flags,
        };
        let space = self.space(pid);
        let Some(appends) = self.spaces.get_mut(&space).map(|it| &mut it.appends) else { return };
        if doubt.is_some() {
            // How much was written is not known.
            if let Some(watch) = appends.0.get_mut(&fd) {
                watch.again(time);
            }
            return;
        }
        if appends.wrote(fd, &write) {
            self.ask(Question::File { pid, fd });
        }
    }

    /// What a descriptor is, was looked up.
    pub(super) fn looked_at_end(
        &mut self,
        pid: u32,
        fd: u32,
        file: Option<File>,
        times: (u64, u64),
    ) {
        let space = self.space(pid);
        let Some(appends) = self.spaces.get_mut(&space).map(|it| &mut it.appends) else { return };
        if appends.looked(fd, file, times) && self.appended.len() < MOST_WAITING {
            self.appended.push((pid, fd));
        }
    }

    /// Those that were looked at twice, when all is told that happened until then; `of`, or at the end: it is.
    pub(super) fn judge_appends(&mut self, of: Option<u32>, at_end: bool) {
        let mut list = std::mem::take(&mut self.appended);
        list.retain(|(pid, fd)| {
            let space = self.space(*pid);
            let space = self.spaces.get_mut(&space);
            let Some(watch) = space.and_then(|it| it.appends.0.get_mut(fd)) else { return false };
            let State::Closed(window, end) = watch.state else { return false };
            let is_told = end.until.saturating_add(TOLD_WITHIN) <= self.now;
            if !is_told && !at_end && of != Some(*pid) {
                return true;
            }
            watch.again(self.now);
            let Some((evidence, write, doubt)) = window.judge(end) else { return false };
            if doubt.is_none() {
                watch.state = State::Told(end.id);
            } else if std::mem::replace(&mut watch.is_told_unsure, true) {
                return false;
            }
            let mut finding = Finding::new(evidence, write.time, *pid);
            finding.context = Some(write.context);
            finding.request = Some(write.request);
            finding.doubt = doubt;
            // Descriptors of one file are the same.
            let (detail, more) = end.id.unwrap_or((u64::MAX, u64::MAX));
            self.find(finding, detail, more);
            false
        });
        self.appended.append(&mut list);
    }
}
