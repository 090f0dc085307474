//! What the verdicts on faults mean: the tables of docs/reference/faults.md, which are the only
//! place where this is written. They cover both halves of a verdict, and the kind that follows from
//! them.
//!
//! ```text
//!  ## Verdicts
//!  | what became of the requests | |
//!  |---|---|
//!  | lost | requests that io_submit did not take ... |
//!  ...
//!  **What counts as a retry.**            the end
//! ```

/// The document on rules and verdicts.
pub const DOCUMENT: &str = include_str!("../../docs/reference/faults.md");
const BEGIN: &str = "## Verdicts";
const END: &str = "**What counts as a retry.**";
/// A row that says only this refers to another row.
const REFERENCES: [&str; 2] = ["as the first half has it", "likewise"];

/// The words of verdicts, and what they mean; some words are in two tables.
pub fn all() -> impl Iterator<Item = (&'static str, String)> {
    let section = DOCUMENT.split(BEGIN).nth(1).unwrap_or_default();
    let section = section.split(END).next().unwrap_or_default();
    let tables = section.split("\n|---|---|\n").skip(1);
    let rows = tables.flat_map(|it| it.lines().take_while(|line| line.starts_with('|')));
    rows.filter_map(|row| row.trim_matches('|').split_once(" | ")).flat_map(|(names, means)| {
        let means = plain(means);
        let is_said = !REFERENCES.contains(&means.as_str());
        let names = names.split(',').map(str::trim).filter(move |_| is_said);
        names.map(move |name| (name, means.clone()))
    })
}

/// What a verdict means, in each half; JSON's spelling of the name (`gave_up`) will do, too. Empty
/// if there is no such verdict.
pub fn of(name: &str) -> Vec<String> {
    let name = name.replace(['_', '-'], " ");
    // The name may be followed by a variable part, as in `died by SIGNAL`.
    let is_it =
        |of: &str| of.strip_prefix(&name).is_some_and(|it| it.is_empty() || it.starts_with(' '));
    all().filter(|it| !name.is_empty() && is_it(it.0)).map(|it| it.1).collect()
}

/// The text without the marks of Markdown.
fn plain(text: &str) -> String {
    text.replace("**", "")
        .replace(['*', '`'], "")
        .trim()
        .trim_end_matches('|')
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_is_explained() {
        let verdicts = [
            "retried",
            "gave_up",
            "lost",
            "reported",
            "leaked",
            "hung",
            "exited",
            "died",
            "done",
            "undecided",
            "unsure",
        ];
        for verdict in verdicts {
            let means = of(verdict);
            assert!(!means.is_empty(), "{verdict}");
            assert!(means.iter().all(|it| it.len() > 20 && !it.contains(['*', '|'])), "{means:?}");
        }
        assert_eq!(of("lost").len(), 2, "what became of the requests, and what it comes to");
        assert_eq!(of("nothing"), [] as [&str; 0]);
    }
}
