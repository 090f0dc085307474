//! `path=GLOB`: which files.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// So many alternatives and no more: each nests in the regular expression that it becomes.
const MOST_BRACES: usize = 16;

/// A glob: `*` and `?` do not match `/`, `**` does. Without a `/` it is about the name of the file alone.
#[derive(Clone, Debug)]
pub struct Glob {
    text: String,
    // A set of one: it says what is wrong where a single glob would panic.
    set: GlobSet,
}

impl Glob {
    /// Reads a glob; or what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a glob is missing, for instance path=/data/*.ibd".to_owned());
        }
        if text.matches('{').count() > MOST_BRACES {
            return Err(format!("more than {MOST_BRACES} times {{: write several rules"));
        }
        let pattern = match text.starts_with('/') || text.starts_with("**/") {
            true => text.to_owned(),
            false if text.contains('/') => {
                return Err("it begins with neither / nor **/: no path would match".to_owned());
            }
            false => format!("**/{text}"),
        };
        let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
        let set = glob.and_then(|glob| GlobSetBuilder::new().add(glob).build());
        let set = set.map_err(|error| format!("not a glob: {}", error.kind()))?;
        Ok(Self { text: text.to_owned(), set })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a file of this path, absolute, is one of them.
    pub fn is_match(&self, path: &Path) -> bool {
        self.set.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, path: &str) -> bool {
        Glob::parse(glob).unwrap().is_match(Path::new(path))
    }

    #[test]
    fn a_star_stops_at_a_slash() {
        assert!(matches("/data/*.ibd", "/data/t.ibd"));
        assert!(!matches("/data/*.ibd", "/data/db/t.ibd"));
        assert!(matches("/data/**/*.ibd", "/data/db/t.ibd"));
        assert!(matches("/data/**/*.ibd", "/data/t.ibd"));
    }

    #[test]
    fn without_a_slash_it_is_the_name() {
        assert!(matches("*.ibd", "/data/db/t.ibd"));
        assert!(!matches("data", "/data/t.ibd"));
    }

    #[test]
    fn a_backslash_takes_the_meaning() {
        assert!(matches(r"/dev/disk/by-path/pci-0000\:00*", "/dev/disk/by-path/pci-0000:00:1f"));
        assert!(matches(r"/\*", "/*"));
        assert!(!matches(r"/\*", "/a"));
    }

    #[test]
    fn what_is_no_glob_is_refused() {
        let why = |text: &str| Glob::parse(text).unwrap_err();
        assert!(why("").starts_with("a glob is missing"));
        assert!(why("data/*").contains("neither / nor **/"));
        assert!(why("/[a").starts_with("not a glob: "));
        assert!(why(&"{".repeat(4000)).starts_with("more than 16 times {"));
        assert!(Glob::parse(&"/?".repeat(2000)).is_ok());
    }
}
