//! Records that are handed on together.

/// A batch is handed on when it has this size.
pub(super) const BATCH: usize = 256 << 10;

/// Records, one behind the other, each with its length before it.
#[derive(Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) records: u64,
}

impl Batch {
    /// Room for all that it will hold: growing would double it.
    pub(super) fn empty() -> Self {
        const LARGEST_RECORD: usize = 8 << 10;
        Self { bytes: Vec::with_capacity(BATCH + LARGEST_RECORD), records: 0 }
    }

    pub(super) fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(&(record.len() as u32).to_ne_bytes());
        self.bytes.extend_from_slice(record);
        self.records += 1;
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
    }

    /// The records.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (record, after) = after.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
            rest = after;
            Some(record)
        })
    }
}
