//! The generated parts of docs/reference/performance.md.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// A generated part of the document, between two marks.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// The tables that were measured on this machine.
    Machine,
    /// The tables that were measured in virtual machines.
    Guests,
}

impl Part {
    fn begin(self) -> &'static str {
        match self {
            Self::Machine => "<!-- made by `cargo xtask bench --docs` -->\n",
            Self::Guests => "<!-- made by `cargo xtask bench --vm KERNEL --docs` -->\n",
        }
    }
}

const END: &str = "<!-- end -->";

/// Replaces the part in the document by `content`.
pub fn write(part: Part, content: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/performance.md");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let text = replaced(&text, part.begin(), content)
        .with_context(|| format!("docs/reference/performance.md has no {}", part.begin().trim()))?;
    fs::write(&path, text).with_context(|| path.display().to_string())
}

fn replaced(text: &str, begin: &str, content: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}{}\n{END}{after}", content.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_marks_is_replaced() {
        let text = "a\n<b>\nold\n<!-- end -->\nc <!-- end -->";
        let new = replaced(text, "<b>\n", "new\n\n");
        assert_eq!(new.as_deref(), Some("a\n<b>\nnew\n<!-- end -->\nc <!-- end -->"));
        assert_eq!(replaced(text, "<x>\n", ""), None);
    }
}
