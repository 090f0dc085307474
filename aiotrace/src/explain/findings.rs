//! What each finding means: its page, docs/reference/findings/NAME.md, which is the only place
//! where this is written.
//!
//! ```text
//!  # context-leak                     the name of the finding
//!  **Severity.** error                a part: its label, and the first of its paragraphs
//!  - `charge`: what it takes          an item: a paragraph of the same part
//!  ## See also                        not shown here: links, for those who read the page in a browser
//! ```

use crate::model::Name;

macro_rules! pages {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../docs/reference/findings/", $name, ".md"))),)*]
    };
}

/// The pages, by the names of their findings.
static PAGES: &[(&str, &str)] = pages! {
    "context-leak"
    "context-growth"
    "released-at-exit"
    "request-stuck"
    "poll-on-closed"
    "unreaped-completions"
    "discarded-requests"
    "iocb-reused-in-flight"
    "short-submit-dropped"
    "submit-eagain"
    "failed-completion"
    "direct-io-misaligned"
    "short-io"
    "reads-past-end"
    "ignored-offset"
    "blocking-submit"
    "inline-completion"
    "use-after-destroy"
    "setup-denied"
    "sandbox-denied"
    "cancel-refused"
    "not-kernel-aio"
    "refused-calls"
    "endless-wait"
    "busy-reaping"
    "shallow-queue"
};

/// A labelled part of a finding's page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The label, for instance "Means".
    pub label: &'static str,
    /// The paragraphs, in plain text; none has line breaks.
    pub paragraphs: Vec<Paragraph>,
}

/// A paragraph of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paragraph {
    /// A paragraph of running text.
    Text(String),
    /// An item of a list.
    Item(String),
}

/// All pages in one document: what findings have in common, and each of them.
pub fn document() -> String {
    const COMMON: &str = include_str!("../../docs/reference/findings/README.md");
    let mut document = COMMON.to_owned();
    for (name, page) in PAGES {
        // The links at the end of a page are for those who read it in a browser.
        let page = page.split_once("\n## ").map_or(*page, |it| it.0);
        let text = page.split_once('\n').map_or("", |it| it.1);
        document.push_str(&format!("\n## {name}\n{text}\n"));
    }
    document
}

/// The parts of a finding's page.
pub fn of(name: Name) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    // Whether the next line continues the last paragraph, and whether it is part of an example.
    let (mut is_open, mut is_example) = (false, false);
    for line in page(name).lines().map(str::trim) {
        if let Some((label, rest)) = labelled(line) {
            parts.push(Part { label, paragraphs: vec![Paragraph::Text(rest.to_owned())] });
            is_open = true;
            continue;
        }
        let Some(Part { paragraphs, .. }) = parts.last_mut() else { continue };
        if line.is_empty() || line.starts_with("```") {
            is_open = false;
            is_example ^= line.starts_with("```");
        } else if let Some(item) = line.strip_prefix("- ") {
            paragraphs.push(Paragraph::Item(item.to_owned()));
            is_open = true;
        } else {
            match paragraphs.last_mut().filter(|_| is_open) {
                Some(Paragraph::Text(text) | Paragraph::Item(text)) => {
                    text.push(' ');
                    text.push_str(line);
                }
                None => paragraphs.push(Paragraph::Text(line.to_owned())),
            }
            is_open = !is_example;
        }
    }
    parts
}

/// The first sentence of the part "Means".
pub fn summary(name: Name) -> String {
    let parts = of(name);
    let means = parts.iter().find(|it| it.label == "Means").and_then(|it| it.paragraphs.first());
    let Some(Paragraph::Text(text) | Paragraph::Item(text)) = means else { return String::new() };
    text.split_once(". ").map_or(text.as_str(), |it| it.0).trim_end_matches('.').to_owned()
}

/// Splits a line `**Label.** text`.
fn labelled(line: &str) -> Option<(&str, &str)> {
    let (label, rest) = line.strip_prefix("**")?.split_once(".**")?;
    Some((label, rest.trim_start()))
}

/// The page of this finding, without its title and without the links at its end.
fn page(name: Name) -> &'static str {
    let page = PAGES.iter().find(|it| it.0 == name.text()).map_or("", |it| it.1);
    let page = page.split_once("\n## ").map_or(page, |it| it.0);
    page.split_once('\n').map_or("", |it| it.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels of a page, in this order; those in brackets may be missing.
    const LABELS: [&str; 8] =
        ["Severity", "Means", "Matters", "Shows", "Do", "Not told", "Probes", "(Options)"];

    #[test]
    fn there_is_a_page_for_each_finding_and_for_nothing_else() {
        let pages: Vec<&str> = PAGES.iter().map(|it| it.0).collect();
        let names: Vec<&str> = Name::ALL.iter().map(|it| it.text()).collect();
        assert_eq!(pages, names);
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/findings");
        let files = std::fs::read_dir(directory).unwrap();
        let mut files: Vec<_> =
            files.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let mut wanted: Vec<_> = names.iter().map(|it| format!("{it}.md")).collect();
        wanted.push("README.md".to_owned());
        wanted.sort();
        assert_eq!(files, wanted);
    }

    #[test]
    fn the_title_of_a_page_is_the_name_of_its_finding() {
        for (name, page) in PAGES {
            assert_eq!(page.lines().next(), Some(format!("# {name}").as_str()));
        }
    }

    #[test]
    fn each_page_has_all_parts_in_order() {
        for name in Name::ALL {
            let parts = of(*name);
            let has = |label: &str| parts.iter().any(|it| it.label == label);
            let wanted =
                LABELS.iter().filter(|it| !it.starts_with('(') || has(&it[1..it.len() - 1]));
            let wanted: Vec<&str> = wanted.map(|it| it.trim_matches(['(', ')'])).collect();
            let labels: Vec<&str> = parts.iter().map(|it| it.label).collect();
            assert_eq!(labels, wanted, "{}", name.text());
            assert!(!summary(*name).is_empty(), "{}", name.text());
        }
    }

    #[test]
    fn the_severity_is_the_one_of_the_code() {
        for name in Name::ALL {
            let Paragraph::Text(text) = &of(*name)[0].paragraphs[0] else {
                panic!("{}", name.text())
            };
            assert!(text.starts_with(name.severity().text()), "{}: {text}", name.text());
        }
    }

    /// The items of "Shows" are the names that the code declares as the evidence of the finding.
    #[test]
    fn every_number_of_the_evidence_is_described() {
        for name in Name::ALL {
            let parts = of(*name);
            let shows = parts.iter().find(|it| it.label == "Shows").unwrap();
            let described: Vec<&str> = shows
                .paragraphs
                .iter()
                .filter_map(|it| match it {
                    Paragraph::Item(text) => text.strip_prefix('`')?.split('`').next(),
                    Paragraph::Text(_) => None,
                })
                .collect();
            assert_eq!(described, name.evidence(), "{}", name.text());
        }
    }

    /// The example has lines as the text output writes them, so that the page can be found by them.
    #[test]
    fn every_example_is_of_its_finding() {
        for name in Name::ALL {
            let example = page(*name).split("```text\n").nth(1).unwrap_or_default();
            let is_its = |line: &str| line.contains(&format!(" {}", name.text()));
            let lines: Vec<&str> = example.lines().take_while(|it| *it != "```").collect();
            assert!(!lines.is_empty() && lines.iter().all(|it| is_its(it)), "{}", name.text());
        }
    }

    #[test]
    fn plain_text_has_no_marks() {
        for part in Name::ALL.iter().flat_map(|it| of(*it)) {
            for Paragraph::Text(text) | Paragraph::Item(text) in part.paragraphs {
                let text = text.replace("***", "");
                assert!(["](", "**", "|"].iter().all(|it| !text.contains(it)), "{text}");
            }
        }
    }
}
