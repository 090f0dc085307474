//! What there is besides requests: files, the descriptors of the program, and what else has the files. A look finds what is so
//! at that time.

use std::collections::{BTreeMap, BTreeSet};

use aiotrace_model::event::{File, FileKind, Others, Ways};

use super::{
    plan::Around,
    truth::{Truth, Work},
};

/// The first descriptor of a read that may end with its file.
const FIRST_SHORT: u32 = 20;
/// A socket.
pub const SOCKET: u32 = 9;
/// Its number as a file.
const NO_FILE: u32 = 99;

/// An open file, which several descriptors may share.
#[derive(Clone, Copy, Debug)]
struct Opened {
    file: u32,
    append: bool,
    /// O_APPEND was set while nobody watched, and nobody has looked since.
    is_hidden: bool,
}

#[derive(Debug, Default)]
pub struct World {
    opened: Vec<Opened>,
    /// By number.
    descriptors: BTreeMap<u32, usize>,
    /// Files that the program has mapped; whether what is stored there goes to the file.
    mapped: BTreeMap<u32, bool>,
    /// Files that a process has which is not traced.
    untraced: BTreeSet<u32>,
    /// Files that the other traced process has.
    pub traced: BTreeSet<u32>,
    /// How often other data were put into the memory of this place.
    refilled: BTreeMap<i64, u32>,
    /// The process has ended.
    pub is_over: bool,
}

impl World {
    /// The files 0 and 1 have two descriptors each, of which one pair is a copy, and file 2 has two that no request uses.
    pub fn new(around: Around) -> Self {
        let mut world = Self::default();
        for (fd, file) in [(3, 0), (4, 1), (6, 1), (7, 2), (8, 2), (SOCKET, NO_FILE)] {
            world.open(fd, file);
        }
        world.descriptors.insert(5, world.descriptors[&3]);
        world.mapped.extend(around.mapped.map(|it| (it.0.into(), it.1)));
        world.untraced.extend(around.untraced.map(u32::from));
        world
    }

    /// The number leads to this file from now on.
    pub fn open(&mut self, fd: u32, file: u32) {
        self.descriptors.insert(fd, self.opened.len());
        self.opened.push(Opened { file, append: false, is_hidden: false });
    }

    /// Opens a file that only one read is about. It ends near the end of the read.
    pub fn open_short(&mut self, number: u32, offset: i64, truth: &mut Truth) -> u32 {
        let fd = FIRST_SHORT + number;
        self.open(fd, fd);
        let more = u64::from(number) * 1237 % 6000;
        truth.sizes.insert(fd, offset as u64 + more);
        fd
    }

    fn find(&self, fd: u32) -> Opened {
        self.opened[self.descriptors[&fd]]
    }

    pub fn file(&self, fd: u32) -> u32 {
        self.find(fd).file
    }

    pub fn appends(&self, fd: u32) -> bool {
        self.find(fd).append
    }

    /// O_APPEND is set. `is_seen`: the source has seen that.
    pub fn set_append(&mut self, fd: u32, is_seen: bool) {
        let it = &mut self.opened[self.descriptors[&fd]];
        it.is_hidden |= !is_seen && !it.append;
        it.append = true;
    }

    /// Whether O_APPEND was set and nobody can know.
    pub fn has_hidden(&self) -> bool {
        self.opened.iter().any(|it| it.is_hidden)
    }

    /// The work as it would be done now.
    pub fn resolve(&self, work: Work) -> Work {
        let append = work.is_write() && self.appends(work.fd);
        let data = if work.is_write() { self.data(work.offset) } else { 0 };
        Work { file: self.file(work.fd), append, data, ..work }
    }

    /// Which data the memory of this place has.
    pub fn data(&self, offset: i64) -> u32 {
        let before = self.refilled.range(..=offset).next_back();
        before.filter(|it| offset < *it.0 + super::play::PAGE).map_or(0, |it| *it.1)
    }

    /// Other data were put into the memory of the page of this place.
    pub fn refill(&mut self, offset: i64) {
        *self.refilled.entry(offset - offset % super::play::PAGE).or_default() += 1;
    }

    pub fn map(&mut self, file: u32, stores: bool) {
        *self.mapped.entry(file).or_default() |= stores;
    }

    pub fn unmap(&mut self) {
        self.mapped.clear();
    }

    /// Whether this can be done without a call of a traced process.
    pub fn may_be_done_silently(&self, work: Work) -> bool {
        let mapped = self.mapped.get(&work.file);
        match work.opcode {
            2 | 3 => self.untraced.contains(&work.file),
            0 => mapped.is_some(),
            _ => mapped == Some(&true) || self.untraced.contains(&work.file),
        }
    }

    /// What a look at a descriptor finds.
    pub fn look_at_file(&mut self, fd: u32, truth: &Truth) -> Option<File> {
        let it = self.descriptors.get(&fd).filter(|_| !self.is_over)?;
        self.opened[*it].is_hidden = false;
        let Opened { file, append, .. } = self.opened[*it];
        let kind = if file == NO_FILE { FileKind::Other } else { FileKind::Storage };
        let size = Some(truth.sizes.get(&file).copied().unwrap_or(1 << 40));
        let id = Some((1, u64::from(file) + 100));
        Some(File { kind, size, id, append: Some(append), ..File::default() })
    }

    /// What a look finds by which its file may be read or written.
    pub fn look_at_ways(&self, fd: u32) -> Option<Ways> {
        let it = self.descriptors.get(&fd).filter(|_| !self.is_over)?;
        let file = self.opened[*it].file;
        let mapped = self.mapped.get(&file);
        let has = self.untraced.contains(&file) || self.traced.contains(&file);
        let others = if has { Others::Some } else { Others::None };
        Some(Ways {
            stored: mapped == Some(&true),
            mapped: mapped.is_some(),
            writers: others,
            others,
            ..Ways::default()
        })
    }
}
