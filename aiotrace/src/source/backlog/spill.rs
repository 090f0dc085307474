//! A file in which batches wait.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicU64, Ordering},
};

use super::batch::Batch;

/// Bytes of the file, which begins again when all of it was read.
const MOST_IN_FILE: u64 = 4 << 30;
const BATCH_HEAD: usize = 16;

/// Batches in a file, each with its size and number of records before it. One thread writes, one
/// reads.
pub struct Spill {
    file: File,
    /// Bytes.
    written: AtomicU64,
    read: AtomicU64,
    /// Records written and not yet read.
    records: AtomicU64,
    /// Records that were written and could not be read back.
    unreadable: AtomicU64,
}

impl Spill {
    pub fn new(file: File) -> Self {
        let zero = || AtomicU64::new(0);
        Self { file, written: zero(), read: zero(), records: zero(), unreadable: zero() }
    }

    /// Bytes written and not yet read.
    pub fn waiting(&self) -> u64 {
        let read = self.read.load(Ordering::Acquire);
        self.written.load(Ordering::Acquire).saturating_sub(read)
    }

    /// How many records had to be dropped instead: the disk is full, or the bound is reached.
    pub fn write(&self, batch: &Batch) -> u64 {
        if self.waiting() == 0 {
            // From the beginning again. In this order the reader never sees anything waiting.
            self.written.store(0, Ordering::Release);
            self.read.store(0, Ordering::Release);
        }
        let at = self.written.load(Ordering::Relaxed);
        let head = [batch.bytes.len() as u64, batch.records].map(u64::to_ne_bytes).concat();
        let size = (BATCH_HEAD + batch.bytes.len()) as u64;
        let fits = at + size <= MOST_IN_FILE;
        let written = fits
            && self.file.write_all_at(&head, at).is_ok()
            && self.file.write_all_at(&batch.bytes, at + BATCH_HEAD as u64).is_ok();
        if !written {
            return batch.records;
        }
        self.records.fetch_add(batch.records, Ordering::Relaxed);
        self.written.store(at + size, Ordering::Release);
        0
    }

    /// The next batch, in place of an empty one; there must be one. (Giving its place on the disk back
    /// would lock the file against the writer, which may not wait.)
    pub fn read(&self, mut batch: Batch) -> Batch {
        let at = self.read.load(Ordering::Relaxed);
        let Some(size) = self.batch_at(at, &mut batch) else {
            // Nothing behind it can be found.
            self.read.store(self.written.load(Ordering::Acquire), Ordering::Release);
            self.unreadable.fetch_add(self.records.swap(0, Ordering::Relaxed), Ordering::Relaxed);
            return Batch::default();
        };
        self.records.fetch_sub(batch.records, Ordering::Relaxed);
        self.read.store(at + size, Ordering::Release);
        batch
    }

    /// Its size in the file.
    fn batch_at(&self, at: u64, batch: &mut Batch) -> Option<u64> {
        let mut head = [0; BATCH_HEAD];
        self.file.read_exact_at(&mut head, at).ok()?;
        let (length, records) = head.split_at(8);
        let length = u64::from_ne_bytes(length.try_into().ok()?);
        batch.bytes.resize(usize::try_from(length).ok()?, 0);
        self.file.read_exact_at(&mut batch.bytes, at + BATCH_HEAD as u64).ok()?;
        batch.records = u64::from_ne_bytes(records.try_into().ok()?);
        Some(BATCH_HEAD as u64 + length)
    }

    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }
}
