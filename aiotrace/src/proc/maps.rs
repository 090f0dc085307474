//! Lines of /proc/PID/maps.

/// A line of maps: `55d0c8e40000-55d0c8e60000 r-xp 00002000 fe:01 1234   /usr/bin/fio`
pub struct Mapping<'a> {
    /// The first address.
    pub start: u64,
    /// The address after the last one.
    pub end: u64,
    permissions: &'a [u8],
    /// The position in the file where it begins.
    pub offset: u64,
    /// The device, as the kernel writes it.
    pub device: &'a [u8],
    /// The inode; 0: no file is mapped.
    pub inode: u64,
    /// The path as the kernel writes it, or a name in brackets.
    pub path: &'a [u8],
}

impl<'a> Mapping<'a> {
    /// Reads a line.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut rest = line;
        let mut word = || {
            let begin = rest.trim_ascii_start();
            let end = begin.iter().position(|byte| *byte == b' ').unwrap_or(begin.len());
            let (word, after) = begin.split_at(end);
            rest = after;
            word
        };
        let text = |word: &'a [u8]| str::from_utf8(word).ok();
        let number = |hex| u64::from_str_radix(hex, 16).ok();
        let (start, end) = text(word())?.split_once('-')?;
        let permissions = word();
        let offset = number(text(word())?)?;
        let device = word();
        let inode = text(word())?.parse().ok()?;
        let (start, end, path) = (number(start)?, number(end)?, rest.trim_ascii_start());
        Some(Self { start, end, permissions, offset, device, inode, path })
    }

    /// Whether it may be run.
    pub fn is_code(&self) -> bool {
        self.permissions.get(2) == Some(&b'x')
    }

    /// Whether it may be read and written.
    pub fn is_writable(&self) -> bool {
        self.permissions.starts_with(b"rw")
    }

    /// Whether stores go to the file.
    pub fn is_stored(&self) -> bool {
        self.permissions.get(1) == Some(&b'w') && self.permissions.get(3) == Some(&b's')
    }

    /// Whether it is the ring of a context.
    pub fn is_ring(&self) -> bool {
        self.path == b"/[aio] (deleted)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = b"7f00-7f01 rw-s 00001000 08:01 77                  /a b";
        let it = Mapping::parse(line).unwrap();
        assert_eq!((it.start, it.end, it.offset, it.inode), (0x7f00, 0x7f01, 0x1000, 77));
        assert_eq!((it.device, it.path), (&b"08:01"[..], &b"/a b"[..]));
        assert!(it.is_stored() && it.is_writable() && !it.is_code() && !it.is_ring());
        let stored = |line: &[u8]| Mapping::parse(line).is_some_and(|it| it.is_stored());
        assert!(!stored(b"7f00-7f01 rw-p 00000000 08:01 77   /a"));
        assert!(!stored(b"7f00-7f01 rw"));
        let anonymous = Mapping::parse(b"7f00-7f01 rw-s 00000000 00:00 0 ").unwrap();
        assert_eq!((anonymous.inode, anonymous.path), (0, &b""[..]));
    }
}
