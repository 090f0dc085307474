//! The lines with which sanitizers say what they found, in what a program writes.

/// What is in such a line.
const SAY: [&str; 5] = [
    "ERROR: AddressSanitizer",
    "WARNING: ThreadSanitizer",
    "WARNING: MemorySanitizer",
    "ERROR: HWAddressSanitizer",
    ": runtime error: ",
];
/// The longest line that is looked at, in bytes; of a longer one, its beginning.
const LONGEST: usize = 4096;
/// The most lines that are kept.
const MOST: usize = 64;
/// The most characters of a line that are kept.
const SHOWN: usize = 200;

/// Looks for such lines in what comes piece by piece.
#[derive(Debug, Default)]
pub struct Search {
    line: Vec<u8>,
}

impl Search {
    /// The lines that end in this piece.
    pub fn add(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for piece in bytes.split_inclusive(|it| *it == b'\n') {
            let room = LONGEST.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                found.extend(self.end());
            }
        }
        found
    }

    /// The last line, which has no end.
    pub fn end(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let is_it = SAY.iter().any(|it| line.contains(it));
        is_it.then(|| line.chars().filter(|it| !it.is_control()).take(SHOWN).collect())
    }
}

/// Adds a line that was found, if there is room.
pub fn keep(kept: &mut Vec<String>, line: String) {
    if kept.len() < MOST {
        kept.push(line);
    }
}

/// The first line that is in none of the baseline's logs.
pub fn new(found: &[String], usual: &[String]) -> Option<String> {
    let is_usual = |it: &&String| usual.iter().any(|usual| plain(usual) == plain(it));
    found.iter().find(|it| !is_usual(it)).cloned()
}

/// A line without what is another number in each run: the process, and addresses.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some(at) =
        ["==", "pid=", "0x"].iter().filter_map(|it| Some(rest.find(it)? + it.len())).min()
    {
        plain.push_str(&rest[..at]);
        rest = rest[at..].trim_start_matches(|it: char| it.is_ascii_hexdigit());
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_wherever_they_are_cut() {
        let text = "begin\n==7==ERROR: AddressSanitizer: heap-use-after-free\nx.c:3:1: runtime error: shift";
        for size in [1, 7, 200] {
            let mut search = Search::default();
            let mut found: Vec<_> =
                text.as_bytes().chunks(size).flat_map(|it| search.add(it)).collect();
            found.extend(search.end());
            let expected = [
                "==7==ERROR: AddressSanitizer: heap-use-after-free",
                "x.c:3:1: runtime error: shift",
            ];
            assert_eq!(found, expected);
        }
        let long = "x".repeat(1 << 20);
        assert!(Search::default().add(long.as_bytes()).is_empty());
    }

    #[test]
    fn what_the_baseline_says_too_is_no_crash() {
        let usual = ["x.c:3:1: runtime error: load of 0x7f01".to_owned()];
        let lines = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let same = lines(&["x.c:3:1: runtime error: load of 0x55aa"]);
        assert_eq!(new(&same, &usual), None);
        let other = "x.c:9:1: runtime error: load of 0x55aa";
        let both = lines(&["x.c:3:1: runtime error: load of 0x1", other]);
        assert_eq!(new(&both, &usual).as_deref(), Some(other));
        let asan = |pid| lines(&[&format!("=={pid}==ERROR: AddressSanitizer: SEGV")]);
        assert_eq!(new(&asan(7), &asan(8123)), None);
    }
}
