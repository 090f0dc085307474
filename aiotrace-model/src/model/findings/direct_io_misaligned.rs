//! direct-io-misaligned: a request to a file with O_DIRECT failed with EINVAL, and is not aligned as the file asks.
//!
//! The kernel checks the alignment when the request is made, which is after io_submit has accepted it. So the
//! completion has the errno, and never io_submit ([`aio_rw_done`]).
//!
//! [`aio_rw_done`]: https://elixir.bootlin.com/linux/v6.12.117/source/fs/aio.c#L1571

use super::{Basis, failed_completion};
use crate::{
    opcode,
    errno::returned::{EINVAL},
    event::{Address, Alignment, AlignmentSource, File, SpaceId},
    model::{
        Doubt, Evidence, Finding, Map, Model, Needs, Question, SECOND, Severity, Subject,
        pace::Budget, questions::Waiting, requests::Request,
    },
};

/// An alignment that was looked up holds for this long; nanoseconds.
const FRESH: u64 = SECOND;
/// Files whose alignments are remembered.
const MOST_FILES: usize = 256;
/// Looks for this finding in a second.
const MOST_LOOKS: u32 = 64;

/// What files with O_DIRECT ask for, by address space and descriptor, as it was looked up last; and how often looks are taken.
#[derive(Debug, Default)]
pub struct Alignments {
    known: Map<(SpaceId, u32), (u64, Option<File>)>,
    looks: Budget,
}

/// Numbers with more zeros at their ends than this are in one class, while requests wait to be judged.
const MOST_ZEROS: u32 = 20;

/// A request that is not aligned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectIoMisaligned {
    request: Subject,
    source: AlignmentSource,
    memory: u32,
    range: u32,
    off: Off,
}

/// By how much the parts of a request exceed a multiple of what the file asks for; for a vectored request, the first
/// iovec that does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Off {
    offset: u64,
    length: u64,
    buffer: u64,
    iovec: Option<u64>,
}

impl Off {
    fn is_none(self) -> bool {
        (self.offset, self.length, self.buffer) == (0, 0, 0)
    }
}

/// What is needed to judge a request that gave EINVAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    request: Subject,
    /// The address of the buffer, or of the iovecs.
    buf: u64,
    /// When io_submit was entered.
    entered: u64,
    /// For a request whose iovecs are asked for: the alignment of the file, and what makes it unsure.
    known: Option<(Alignment, Option<Doubt>)>,
}

impl Asked {
    fn is_vectored(&self) -> bool {
        opcode::is_vectored(self.request.opcode)
    }

    /// What has to be looked up.
    pub fn question(self, pid: u32) -> Question {
        let (fd, at, count) = (self.request.fd, Address(self.buf), self.request.nbytes);
        match self.known {
            Some(_) => Question::Iovecs { pid, at, count },
            None => Question::File { pid, fd },
        }
    }

    /// The key of failed-completion, where the request is counted if alignment is not the cause.
    pub fn place(self) -> (u64, u64) {
        (failed_completion::which(self.request.fd, self.request.opcode), EINVAL as u64)
    }

    /// Requests of a class are misaligned alike, whatever power of two the file asks for: those with the same iovecs,
    /// or with as many zeros at the ends of their numbers.
    fn class(self) -> u64 {
        let zeros = |it: u64| u64::from(it.trailing_zeros().min(MOST_ZEROS));
        let offset = zeros(self.request.offset as u64);
        if self.is_vectored() {
            return self.buf << 5 | offset;
        }
        zeros(self.request.nbytes) << 10 | zeros(self.buf) << 5 | offset
    }

    fn range(self, alignment: Alignment) -> u32 {
        if opcode::is_write(self.request.opcode) { alignment.write } else { alignment.read }
    }

    fn over(self, alignment: Alignment, iovecs: &[(Address, u64)]) -> Off {
        let over = |it: u64, of: u32| if of == 0 { 0 } else { it % u64::from(of) };
        let range = self.range(alignment);
        let part = |(at, length): (Address, u64)| Off {
            buffer: over(at.0, alignment.memory),
            length: over(length, range),
            ..Off::default()
        };
        let offset = over(self.request.offset as u64, range);
        if !self.is_vectored() {
            return Off { offset, ..part((Address(self.buf), self.request.nbytes)) };
        }
        let mut parts = (0..).zip(iovecs.iter().map(|it| part(*it)));
        let first = parts.find(|(_, it)| !it.is_none());
        first.map_or(Off { offset, ..Off::default() }, |(iovec, it)| {
            Off { offset, iovec: Some(iovec), ..it }
        })
    }
}

impl Basis for DirectIoMisaligned {
    const NAME: &'static str = "direct-io-misaligned";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] =
        &["range_align", "memory_align", "offset_over", "length_over", "buffer_over", "iovec"];

    fn message(&self) -> String {
        let Self { off, memory, range, .. } = *self;
        let part = off.iovec.map_or_else(String::new, |it| format!(" of iovec {it}"));
        let over = |what: String, by: u64, of: u32| {
            (by > 0).then(|| format!("{what} is {by} more than a multiple of {of}"))
        };
        let wrong: Vec<String> = [
            over("its offset".to_owned(), off.offset, range),
            over(format!("the length{part}"), off.length, range),
            over(format!("the address{part}"), off.buffer, memory),
        ]
        .into_iter()
        .flatten()
        .collect();
        let source = match self.source {
            AlignmentSource::Statx => "what statx(2) says",
            AlignmentSource::Device => "the size of a logical block of the device",
            AlignmentSource::FileSystem => "the size of a block of the file system",
        };
        format!(
            "{} completed with res=-22 (EINVAL): the file is open with O_DIRECT, and {} ({source})",
            self.request.in_words(),
            wrong.join(", and ")
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        let off = self.off;
        let over = [
            ("offset_over", off.offset),
            ("length_over", off.length),
            ("buffer_over", off.buffer),
        ];
        let over = over.into_iter().filter(|it| it.1 > 0).map(|(name, it)| (name, it as i64));
        let wanted = [("range_align", self.range.into()), ("memory_align", self.memory.into())];
        wanted.into_iter().chain(over).chain(off.iovec.map(|it| ("iovec", it as i64))).collect()
    }
}

impl Model {
    /// A read or a write gave EINVAL. `finding` is reported if the request is aligned as its file asks, or if that is
    /// unknown.
    pub(in crate::model) fn perhaps_misaligned(&mut self, mut finding: Finding, request: &Request) {
        let Some(subject) = Subject::of(request) else { return };
        let asked =
            Asked { request: subject, buf: request.buf, entered: request.entered, known: None };
        let number = self.space(finding.pid);
        if let Some(space) = self.spaces.get_mut(&number) {
            space.files.expect(request.fd);
        }
        let (detail, _) = asked.place();
        let known = self.alignments.known.get(&(number, request.fd)).copied();
        if let Some((_, file)) = known.filter(|it| it.0.saturating_add(FRESH) > self.now) {
            self.stamp(&mut finding);
            let key = (finding.name, finding.pid, detail, asked.class());
            let needs = Needs::Alignment(asked);
            let waiting = Waiting { finding, key, needs, since: self.now };
            return self.judge_alignment(waiting, asked, file, Some(Doubt::Later));
        }
        if self.alignments.looks.take(self.now, MOST_LOOKS) {
            return self.find_if(Needs::Alignment(asked), finding, detail, asked.class());
        }
        let (detail, more) = asked.place();
        self.find(finding, detail, more);
    }

    /// Takes the answer about the file behind a descriptor.
    pub(in crate::model) fn aligned_file(&mut self, pid: u32, fd: u32, file: Option<File>) {
        let answers = |it: &Waiting| match it.needs {
            Needs::Alignment(asked) => asked.request.fd == fd && asked.known.is_none(),
            _ => false,
        };
        let waiting = self.answered(pid, answers);
        if waiting.is_empty() {
            return;
        }
        let key = (self.space(pid), fd);
        if self.alignments.known.len() >= MOST_FILES && !self.alignments.known.contains_key(&key) {
            self.alignments.known.clear();
        }
        self.alignments.known.insert(key, (self.now, file));
        for waiting in waiting {
            let Needs::Alignment(asked) = waiting.needs else { continue };
            self.judge_alignment(waiting, asked, file, None);
        }
    }

    /// Judges a request by its file. `doubt`: the file was looked up for another request.
    fn judge_alignment(
        &mut self,
        waiting: Waiting,
        mut asked: Asked,
        file: Option<File>,
        doubt: Option<Doubt>,
    ) {
        let (pid, fd) = (waiting.finding.pid, asked.request.fd);
        let space = self.spaces.get(&self.space(pid));
        let Some((file, alignment)) = file.and_then(|it| Some((it, it.alignment?))) else {
            return self.tell_unanswered(waiting);
        };
        let was_so = space.is_some_and(|it| it.files.was_same(fd, file, asked.entered));
        let is_guess = alignment.source != AlignmentSource::Statx;
        let doubt = (is_guess.then_some(Doubt::Guessed))
            .or(doubt)
            .or_else(|| (!was_so).then_some(Doubt::Later));
        let off = asked.over(alignment, &[]);
        let has_iovecs = asked.is_vectored() && !space.is_some_and(|it| it.is_compat);
        if off.is_none() && has_iovecs {
            if !self.alignments.looks.take(self.now, MOST_LOOKS) {
                return self.tell_unanswered(waiting);
            }
            asked.known = Some((alignment, doubt));
            return self.wait(Waiting { needs: Needs::Alignment(asked), ..waiting });
        }
        self.misaligned(waiting, (alignment, doubt), off);
    }

    /// Takes the answer about iovecs.
    pub(in crate::model) fn aligned_iovecs(
        &mut self,
        pid: u32,
        at: Address,
        list: Option<&[(Address, u64)]>,
    ) {
        let answers = |it: &Waiting| match it.needs {
            Needs::Alignment(asked) => asked.buf == at.0 && asked.known.is_some(),
            _ => false,
        };
        for waiting in self.answered(pid, answers) {
            let Needs::Alignment(asked) = waiting.needs else { continue };
            let Some((alignment, doubt)) = asked.known else { continue };
            let off = asked.over(alignment, list.unwrap_or_default());
            // The program may have changed the iovecs by now.
            self.misaligned(waiting, (alignment, doubt.or(Some(Doubt::Later))), off);
        }
    }

    fn misaligned(&mut self, waiting: Waiting, known: (Alignment, Option<Doubt>), off: Off) {
        let ((alignment, doubt), Needs::Alignment(asked)) = (known, waiting.needs) else { return };
        if off.is_none() {
            return self.tell_unanswered(waiting);
        }
        let evidence = Evidence::from(DirectIoMisaligned {
            request: asked.request,
            source: alignment.source,
            memory: alignment.memory,
            range: asked.range(alignment),
            off,
        });
        let (name, failed) = (evidence.name(), waiting.finding);
        let finding = Finding { name, doubt: failed.doubt.or(doubt), evidence, ..failed };
        let (detail, _) = asked.place();
        let which = [off.offset, off.length, off.buffer].map(|it| u64::from(it > 0));
        self.tell(finding, detail, which[0] << 2 | which[1] << 1 | which[2]);
    }
}
