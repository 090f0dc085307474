//! A hash whose result never changes: ids are kept in files and in scripts, and machines divide work by it.
//! FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>).

/// The hash of the texts so far.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds a text.
    pub fn text(&mut self, bytes: &[u8]) {
        // A byte that no name has ends each of them.
        for byte in bytes.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
