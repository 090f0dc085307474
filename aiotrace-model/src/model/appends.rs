//! Writes that go to the end of their file, whatever their offset is: the basis of ignored-offset.
//!
//! ```text
//!  look: the file ends at 60      writes at 0 of 8, 8, 8 bytes      look: it ends at 84
//!  ───────────┴──────────────────────────┴──────────────────────────────────┴─────────>
//! ```
//! A program whose offsets are always the end of the file is right, and nobody sees how long the file was at each
//! write. But if the file has grown since the first look by exactly the bytes that were written, then nobody has cut
//! it, so it was never shorter than at that look. So a write whose offset is before that end did not go there.
//!
//! A program may clear O_APPEND between the looks, and set it again. Then a write that goes to its offset overwrites something,
//! and makes the file longer by less than its bytes. Only a write that begins behind the end can make up for that: where there
//! was one, the finding is unsure.
//!
//! The first look is any look at the descriptor that finds O_APPEND. The second look is asked for after such a write,
//! and the file is judged when all events up to that look have come.

use super::{
    ContextRef, Doubt, Map, Model, Question, SECOND, Subject, TOLD_WITHIN, finding::Finding,
    findings::ignored_offset::IgnoredOffset, pace::Pace, requests::Match,
};
use crate::event::File;

/// Most files watched for an address space.
const MOST_FILES: usize = 1024;
/// Most files that wait to be judged.
const MOST_WAITING: usize = 1024;
/// Time between the first pair of looks and the second.
const FIRST_INTERVAL: u64 = SECOND;

pub const RWF_APPEND: u32 = 0x10;
const RWF_NOAPPEND: u32 = 0x20;

/// The files of an address space, by descriptor.
#[derive(Debug, Default)]
pub struct Appends(Map<u32, Watch>);

/// A file that is open with O_APPEND, or is written to with RWF_APPEND.
#[derive(Clone, Copy, Debug)]
struct Watch {
    state: State,
    /// When the next pair of looks is due.
    pace: Pace,
    /// The finding was made, and was unsure.
    is_told_unsure: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The next look begins a new window.
    Idle,
    /// The file was looked at once.
    Open(Window),
    /// The file was looked at twice.
    Closed(Window, Look),
    /// The finding about this file was made.
    Told(Option<(u64, u64)>),
}

/// The result of a look, and the times between which it was made.
#[derive(Clone, Copy, Debug)]
struct Look {
    from: u64,
    until: u64,
    size: u64,
    id: Option<(u64, u64)>,
    /// The file is open with O_APPEND.
    append: bool,
}

/// The writes since a look.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: Look,
    /// Bytes that were certainly written after the look began and before the second look.
    least: u64,
    /// Bytes that may have been written in this time, with the certain ones.
    most: u64,
    /// Number of writes whose offset is before the end.
    before: u64,
    /// The write with the smallest offset among these.
    first: Option<Write>,
    /// Where the file ends at least, whichever writes went to their offsets; `None`: one may have begun behind the end.
    reach: Option<u64>,
    is_asked: bool,
}

/// A write that wrote something.
#[derive(Clone, Copy, Debug)]
struct Write {
    request: Subject,
    context: ContextRef,
    entered: u64,
    /// The write completed at this time, or earlier.
    time: u64,
    bytes: u64,
    /// RWF_APPEND and RWF_NOAPPEND.
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

    /// Counts a write, and returns whether to look at the file.
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

    /// Takes a look, and returns whether the file waits to be judged.
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
        let (first, reach) = (None, Some(start.size));
        Self { start, least: 0, most: 0, before: 0, first, reach, is_asked: false }
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
        let from = offset.max(0) as u64;
        let reach = self.reach.filter(|reach| from <= *reach || write.flags & RWF_APPEND != 0);
        self.reach = reach.map(|it| it.max(from.saturating_add(write.bytes)));
        if from >= self.start.size {
            return;
        }
        self.before += 1;
        if self.first.is_none_or(|it| offset < it.request.offset) {
            self.first = Some(*write);
        }
    }

    /// What the two looks show, and why it is unsure, if it is.
    fn judge(&self, end: Look) -> Option<(IgnoredOffset, Write, Option<Doubt>)> {
        let (first, size) = (self.first?, self.start.size);
        let grown = end.size.checked_sub(size).filter(|it| *it >= self.least)?;
        let before_end = size.checked_sub(first.request.offset.max(0) as u64)?;
        // If nobody else wrote, this is the most that the file can have been cut by.
        let may_be_cleared = first.flags & RWF_APPEND == 0 && self.reach.is_none();
        let doubt = match self.most.checked_sub(grown) {
            Some(cut) if cut < before_end => may_be_cleared.then_some(Doubt::Cleared),
            // Perhaps the file was cut, and the write went to its offset.
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
    /// Counts a write, and returns whether to look at the file.
    fn wrote(&mut self, fd: u32, write: &Write) -> bool {
        if write.flags & RWF_APPEND != 0 && self.0.len() < MOST_FILES {
            self.0.entry(fd).or_insert_with(|| Watch::new(State::Idle));
        }
        self.0.get_mut(&fd).is_some_and(|it| it.wrote(write))
    }

    /// Takes a look, and returns whether the file waits to be judged.
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
    /// Notes a write that completed and wrote something.
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
            // It is unknown how many bytes were written.
            if let Some(watch) = appends.0.get_mut(&fd) {
                watch.again(time);
            }
            return;
        }
        if appends.wrote(fd, &write) {
            self.ask(Question::File { pid, fd });
        }
    }

    /// Takes the answer about the file behind a descriptor.
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

    /// Judges files that were looked at twice, when all events up to the second look have come; those of the process
    /// `of`, and with `at_end` all, are judged in any case.
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
            // Descriptors of one file count as one.
            let (detail, more) = end.id.unwrap_or((u64::MAX, u64::MAX));
            self.find(finding, detail, more);
            false
        });
        self.appended.append(&mut list);
    }
}
