//! Files whose requests are complete when io_submit returns, and why: the basis of inline-completion.
//!
//! The first use of a descriptor asks what its file is. Requests that the causes rest on are counted from the answer
//! on; a program that was faster than the answer is judged by all its requests, once nothing more can be learned. A
//! second look, after the last request that counts, shows whether the descriptor still leads to the same file, and
//! whether the file has the size that the writes have made: only then a cause is certain.

use super::{
    Doubt, Map, Model, Question, TOLD_WITHIN, finding::Finding,
    findings::inline_completion::InlineCompletion, requests::Request,
};
use crate::event::{Event, File, FileKind, SpaceId};

/// From this many io_submit calls on, it can be said how requests to a file complete.
const ENOUGH: u64 = 16;
/// Most files watched for an address space.
const MOST_FILES: usize = 1024;
/// Most files that wait to be judged.
const MOST_WAITING: usize = 4096;

/// The files of an address space, by descriptor.
#[derive(Debug, Default)]
pub struct Files {
    uses: Map<u32, Use>,
    /// Files that were judged, which make room for others.
    judged: Vec<u32>,
}

/// How the requests to a file complete.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Use {
    all: Count,
    /// Requests that were submitted after the look that answered what the file is.
    since: Count,
    is_asked: bool,
    /// The answer what the file is: `Some(None)` if it cannot be found out.
    file: Option<Option<File>>,
    /// When the look was over that gave this answer. (Its size has what earlier writes added.)
    seen: u64,
    /// The result of the last look, and when the look was over.
    latest: Option<(u64, Option<File>)>,
    /// The second look was asked for, and nothing is counted any more.
    is_asked_again: bool,
    /// The answer of the second look, and when it was made.
    last: Option<(u64, Option<File>)>,
    /// The size of the file as far as it is known: as a look found it, or as the writes up to the second look made
    /// it.
    end: u64,
    is_judged: bool,
}

/// Counts io_submit calls whose last request was a read or a write that did not fail.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    calls: u64,
    /// How many of these requests were complete before io_submit returned.
    inline: u64,
    /// How many of these were writes beyond the end of the file.
    extending: u64,
}

impl Count {
    fn is_inline(self) -> bool {
        self.calls >= ENOUGH && self.inline * 10 >= self.calls * 9
    }
}

impl Use {
    /// How many calls there were, how many of them completed inline, and whether the file is open with
    /// O_DIRECT. Of a source that stops threads (`stops`), there are none if only such a stop may have let them complete.
    pub(super) fn counted(&self, stops: bool) -> (u64, u64, Option<bool>) {
        let counted = if stops && !self.is_explained() { Count::default() } else { self.all };
        (counted.calls, counted.inline, self.file.flatten().and_then(|it| it.direct))
    }

    /// Whether the file, or how it is written, makes the kernel complete requests before io_submit returns.
    fn is_explained(&self) -> bool {
        let Some(file) = self.file.flatten() else { return false };
        let last = self.last.and_then(|it| it.1);
        let is_longer = last.is_some_and(|it| it.size.is_some_and(|size| size > self.end));
        let is_extended = self.since.calls >= ENOUGH && self.is_extended() && !is_longer;
        let is_so = file.kind == FileKind::Other || file.in_memory || file.direct == Some(false);
        last.is_none_or(|last| is_same(file, last)) && (is_so || is_extended)
    }

    /// Whether most of the requests that completed inline were writes beyond the end of the file.
    fn is_extended(&self) -> bool {
        self.since.inline > 0 && self.since.extending * 2 > self.since.inline
    }
}

impl Files {
    /// All files that are watched.
    pub(super) fn uses(&self) -> &Map<u32, Use> {
        &self.uses
    }

    /// The use of a descriptor; `None`: there are too many files, and none is judged, so no other makes room. (So the
    /// first files are judged, however many come later.)
    fn of(&mut self, fd: u32) -> Option<&mut Use> {
        if self.uses.len() >= MOST_FILES && !self.uses.contains_key(&fd) {
            self.uses.remove(&self.judged.pop()?);
        }
        Some(self.uses.entry(fd).or_default())
    }

    /// The file behind a descriptor when it was first used.
    pub fn first(&self, fd: u32) -> Option<File> {
        self.uses.get(&fd)?.file?
    }

    /// Whether the last look before this time found the same file, opened in the same way.
    pub fn was_same(&self, fd: u32, file: File, time: u64) -> bool {
        let latest = self.uses.get(&fd).and_then(|it| it.latest).filter(|it| it.0 < time);
        latest.and_then(|it| it.1).is_some_and(|it| is_same(it, file))
    }

    /// Makes room for the next answer about a descriptor.
    pub fn expect(&mut self, fd: u32) {
        self.of(fd);
    }

    /// Takes the answer about a descriptor, whose look lay between these times.
    pub fn answered(&mut self, fd: u32, file: Option<File>, (time, until): (u64, u64)) {
        let Some(it) = self.uses.get_mut(&fd) else { return };
        it.latest = Some((until, file));
        if it.file.is_none() {
            (it.file, it.seen) = (Some(file), until);
            it.end = file.and_then(|it| it.size).unwrap_or(0);
        } else if it.is_asked_again && it.last.is_none() {
            it.last = Some((time, file));
        }
    }
}

impl Model {
    /// The last request of an io_submit was a read or a write; `is_inline`: it completed before io_submit returned.
    pub(super) fn inline(&mut self, event: &Event, request: &Request, is_inline: bool) {
        let space = self.space(event.pid);
        let Some(known) = self.spaces.get_mut(&space) else { return };
        let Some(it) = known.files.of(request.fd) else { return };
        if it.is_judged {
            return;
        }
        let is_first = !std::mem::replace(&mut it.is_asked, true);
        let (calls, inline) = (1, u64::from(is_inline));
        let is_counted = !it.is_asked_again;
        if is_counted {
            it.all.calls += calls;
            it.all.inline += inline;
        }
        let is_before = it.last.is_none_or(|(time, _)| request.entered <= time + TOLD_WITHIN);
        if it.file.is_some() && is_before {
            let end = (request.offset.max(0) as u64).saturating_add(request.nbytes);
            // A device has a size that is not known here, and writes do not change it.
            let is_regular = it.file.flatten().is_some_and(File::is_regular);
            let is_extending = is_regular && request.is_write() && end > it.end;
            if is_counted && request.entered >= it.seen {
                it.since.calls += calls;
                it.since.inline += inline;
                it.since.extending += u64::from(is_extending && is_inline);
            }
            it.end = it.end.max(if request.is_write() { end } else { 0 });
        }
        let is_enough = is_counted && it.since.calls == ENOUGH;
        let may_wait = is_counted && it.all.calls == ENOUGH && self.unjudged.len() < MOST_WAITING;
        if is_first {
            let question = Question::File { pid: event.pid, fd: request.fd };
            let is_asked = self.ask(question);
            if let Some(it) = self.file_mut(space, request.fd).filter(|_| !is_asked) {
                it.is_asked = false;
            }
        }
        if may_wait {
            self.unjudged.push((event.pid, request.fd));
        }
        if is_enough {
            self.ask_again(event.pid, request.fd);
        }
    }

    fn ask_again(&mut self, pid: u32, fd: u32) {
        let is_asked = self.ask(Question::File { pid, fd });
        let space = self.space(pid);
        if let Some(it) = self.file_mut(space, fd).filter(|_| is_asked) {
            it.is_asked_again = true;
        }
    }

    fn file_mut(&mut self, space: SpaceId, fd: u32) -> Option<&mut Use> {
        self.spaces.get_mut(&space)?.files.uses.get_mut(&fd)
    }

    /// Judges files about which nothing more can be learned; those of the process `of`, and with `at_end` all, are
    /// judged in any case.
    pub(super) fn judge_files(&mut self, of: Option<u32>, at_end: bool) {
        let mut list = std::mem::take(&mut self.unjudged);
        list.retain(|(pid, fd)| {
            let space = self.space(*pid);
            let known = self.spaces.get(&space).and_then(|it| it.files.uses.get(fd)).copied();
            let Some(known) = known.filter(|it| !it.is_judged) else { return false };
            let told = |(time, _): (u64, _)| time + TOLD_WITHIN <= self.now;
            let is_meant = at_end || of == Some(*pid) || known.last.is_some_and(told);
            if !is_meant && known.file.is_some() && !known.is_asked_again {
                self.ask_again(*pid, *fd);
            }
            if is_meant {
                self.judge_file(*pid, *fd, self.now);
            }
            !is_meant
        });
        self.unjudged.append(&mut list);
    }

    fn judge_file(&mut self, pid: u32, fd: u32, time: u64) {
        let space = self.space(pid);
        let Some(files) = self.spaces.get_mut(&space).map(|it| &mut it.files) else { return };
        let Some(it) = files.uses.get_mut(&fd) else { return };
        it.is_judged = true;
        files.judged.push(fd);
        let (it, file) = (*it, it.file.flatten());
        let last = it.last.and_then(|it| it.1);
        let count = if it.since.calls >= ENOUGH { it.since } else { it.all };
        if !count.is_inline() {
            return;
        }
        let evidence = InlineCompletion {
            fd,
            calls: count.calls,
            inline: count.inline,
            extending: it.since.extending,
            cause: it.cause(),
        };
        let mut finding = Finding::new(evidence, time, pid);
        if self.settings.stops && !it.is_explained() {
            finding.doubt = Some(Doubt::Stopped);
        }
        // Descriptors of one file count as one; so do descriptors about which nothing is known any more.
        let (detail, more) = last.or(file).and_then(|it| it.id).unwrap_or((u64::MAX, u64::MAX));
        self.find(finding, detail, more);
    }
}

impl Use {
    /// The reason that was looked up: one that holds for all requests that were counted, or one that may hold.
    fn cause(&self) -> String {
        let Some(first) = self.file.flatten() else {
            return "this file is not asynchronous (why could not be looked up: no O_DIRECT, writes that extend \
                    it, no disk, or a disk that is very fast)"
                .to_owned();
        };
        let since = self.since;
        let is_extended = self.is_extended();
        let last = self.last.and_then(|it| it.1);
        if last.is_some_and(|last| !is_same(first, last)) {
            return "the reason is unknown, because the descriptor led to another file before, or was opened \
                    differently (no O_DIRECT, writes that extend it, no disk, or a disk that is very fast)"
                .to_owned();
        }
        // Something else has made the file longer, perhaps before the writes that seemed to extend it.
        let is_otherwise = |last: File| last.size.is_some_and(|size| size > self.end);
        if is_extended && last.is_some_and(is_otherwise) && first.direct != Some(false) {
            return "the reason is unknown, because not only these writes have made the file longer (writes \
                    that extend it, or a disk that is very fast)"
                .to_owned();
        }
        // Most of the requests were made before anybody looked.
        if since.calls < ENOUGH && first.direct == Some(true) && !first.in_memory {
            return "it has O_DIRECT: perhaps writes that extended it before it was looked at, a disk that is very \
                    fast, a hole in the file, or a file system that does this synchronously"
                .to_owned();
        }
        let (unless_looked_at_twice, cause) = cause(first, is_extended);
        if last.is_some() { cause.to_owned() } else { format!("{unless_looked_at_twice}{cause}") }
    }
}

/// Why the offsets of writes to a file say nothing: each write goes behind the one before.
pub fn placeless(file: File) -> Option<Doubt> {
    match (file.kind, file.append) {
        (FileKind::Other, _) => Some(Doubt::Stream),
        (_, Some(true)) => Some(Doubt::Append),
        _ => None,
    }
}

/// Whether a descriptor still leads to the same file, opened in the same way.
fn is_same(first: File, last: File) -> bool {
    let of = |it: File| (it.id, it.kind, it.direct, it.in_memory);
    first.id.is_some() && of(first) == of(last)
}

/// The reason, and the words to put before it if the file was looked at only once.
fn cause(file: File, is_extended: bool) -> (&'static str, &'static str) {
    const BECAUSE: &str = "perhaps because ";
    match (file.kind, file.direct) {
        (FileKind::Other, _) => (BECAUSE, "it is neither a regular file nor a block device"),
        (FileKind::Storage, _) if file.in_memory => (BECAUSE, "it is a file in memory (tmpfs)"),
        (FileKind::Storage, Some(false)) => {
            (BECAUSE, "it is open without O_DIRECT, so it is not asynchronous")
        }
        (FileKind::Storage, _) if is_extended => {
            (BECAUSE, "the writes extend the file, which file systems do before io_submit returns")
        }
        (FileKind::Storage, Some(true)) => (
            "perhaps ",
            "it has O_DIRECT, and was not extended as far as seen: a disk that is very fast, a hole in the file, or a \
             file system that does this synchronously",
        ),
        (FileKind::Storage, None) => (
            "",
            "this file is not asynchronous (its flags could not be read: no O_DIRECT, or a disk that is very \
             fast)",
        ),
    }
}
