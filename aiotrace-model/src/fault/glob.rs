//! `path=GLOB`: which files. `caller=GLOB`: which functions.

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
        let pattern = match text.starts_with('/') || text.starts_with("**/") {
            true => text.to_owned(),
            false if text.contains('/') => {
                return Err("it begins with neither / nor **/: no path would match".to_owned());
            }
            false => format!("**/{text}"),
        };
        Ok(Self { text: text.to_owned(), set: set(&pattern, true)? })
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

/// A glob of names of functions: `*` matches anything.
#[derive(Clone, Debug)]
pub struct Callers(GlobSet);

impl Callers {
    /// Reads a glob; or what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("a function is missing, for instance caller=flush_*".to_owned()),
            text => set(text, false).map(Self),
        }
    }

    /// Whether a function of this name is one of them.
    pub fn is_match(&self, function: &str) -> bool {
        self.0.is_match(function)
    }
}

/// `stops`: a star stops at a slash.
fn set(pattern: &str, stops: bool) -> Result<GlobSet, String> {
    if pattern.matches('{').count() > MOST_BRACES {
        return Err(format!("more than {MOST_BRACES} times {{: write several rules"));
    }
    let glob = GlobBuilder::new(pattern).literal_separator(stops).build();
    let set = glob.and_then(|glob| GlobSetBuilder::new().add(glob).build());
    set.map_err(|error| format!("not a glob: {}", error.kind()))
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
    fn a_caller_is_any_function_that_the_glob_matches() {
        let matches = |glob: &str, name| Callers::parse(glob).unwrap().is_match(name);
        assert!(matches("flush", "flush") && !matches("flush", "flush_all"));
        assert!(matches(r"std\:\:*", "std::thread::spawn/x"));
        assert!(Callers::parse("").unwrap_err().starts_with("a function is missing"));
        assert!(Callers::parse("[a").unwrap_err().starts_with("not a glob: "));
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
