//! The documents say what the program does.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "documents/generated.rs"]
mod generated;
#[path = "shared/schema.rs"]
mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use aiotrace::output::json::Line;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: impl AsRef<Path>) -> String {
    let path = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All documents in this directory and below it, as paths from the root.
fn documents(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join(directory)).unwrap() {
        let entry = entry.unwrap();
        let path = Path::new(directory).join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            found.extend(documents(path.to_str().unwrap()));
        } else if path.extension().is_some_and(|it| it == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Documents that say what to do.
fn guides() -> Vec<PathBuf> {
    let mut guides = documents("docs/how-to");
    guides.push("docs/first-trace.md".into());
    guides
}

/// The lines of a document outside of blocks of code, without the text between backticks.
fn prose(document: &str) -> String {
    let mut is_code = false;
    let mut text = String::new();
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            text.push_str(line);
            text.push('\n');
        }
    }
    text.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// The lines of a document that are in blocks of commands.
fn commands(document: &str) -> impl Iterator<Item = &str> {
    let mut kind = None;
    document.lines().map(str::trim).filter(move |line| {
        if let Some(name) = line.strip_prefix("```") {
            kind = if kind.is_none() { Some(name.to_owned()) } else { None };
        }
        kind.as_deref() == Some("sh")
    })
}

/// The targets of the links in a document: `[text](target)` and `[text]: target`.
fn links(document: &str) -> Vec<String> {
    let prose = prose(document);
    let inline = prose.split("](").skip(1).filter_map(|it| it.split(')').next());
    let below =
        prose.lines().filter_map(|it| it.strip_prefix('[')?.split_once("]: ")).map(|it| it.1);
    inline.chain(below).map(|it| it.split_whitespace().collect()).collect()
}

/// The anchors of a document, as GitHub makes them of its headings.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut seen = BTreeMap::new();
    let mut is_code = false;
    let mut anchors = BTreeSet::new();
    for line in document.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if is_code || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
        let anchor: String = kept.flat_map(char::to_lowercase).collect();
        let anchor = anchor.replace(' ', "-");
        let before = seen.entry(anchor.clone()).or_insert(0);
        anchors.insert(if *before == 0 { anchor } else { format!("{anchor}-{before}") });
        *before += 1;
    }
    anchors
}

#[test]
fn every_link_leads_somewhere() {
    let mut all = documents("docs");
    let others =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "aiotrace/tests/README.md"];
    all.extend(others.map(PathBuf::from));
    let (mut wrong, mut right) = (Vec::new(), 0);
    for path in all {
        let document = read(&path);
        for link in links(&document) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap_or(Path::new("")).join(file),
            };
            let is_there = root().join(&target).exists();
            let has_anchor = || anchor.is_empty() || anchors(&read(&target)).contains(anchor);
            if is_there && has_anchor() {
                right += 1;
            } else {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
        // `[fs/aio.c:1132]` without a line `[fs/aio.c:1132]: https://...` is no link.
        let prose = prose(&document);
        for place in prose.split('[').skip(1).filter_map(|it| it.split_once(']')).map(|it| it.0) {
            let is_place = place.rsplit_once(".c:").or(place.rsplit_once(".h:"));
            let is_place = is_place.is_some_and(|it| it.1.chars().all(|it| it.is_ascii_digit()));
            if is_place && !document.contains(&format!("\n[{place}]: https://")) {
                wrong.push(format!("{}: [{place}]", path.display()));
            }
        }
    }
    assert!(right > 100, "{right}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The sources of all crates, as paths from the root.
fn sources(directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join(directory)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{directory}/{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(sources(&path)),
            false if path.ends_with(".rs") => found.push(path),
            false => {}
        }
    }
    found
}

/// `a/{b,c}.rs`: `a/b.rs` and `a/c.rs`.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let (names, after) = rest.split_once('}').unwrap_or((rest, ""));
    names.split(',').map(|it| format!("{before}{it}{after}")).collect()
}

#[test]
fn every_source_that_a_document_names_is_there() {
    let crates = ["aiotrace", "aiotrace-common", "aiotrace-ebpf", "aiotrace-model"];
    let mut all: Vec<String> = crates.iter().flat_map(|it| sources(it)).collect();
    all.extend(
        ["programs", "programs-32", "xtask", "fuzz/fuzz_targets"].into_iter().flat_map(sources),
    );
    let mut documents = documents("docs");
    documents.extend(["CONTRIBUTING.md", "aiotrace/tests/README.md"].map(PathBuf::from));
    let (mut missing, mut found) = (Vec::new(), 0);
    for document in documents {
        let text = read(&document);
        let quoted = text.split('`').skip(1).step_by(2).filter(|it| it.ends_with(".rs"));
        let names = quoted.filter(|it| !it.contains([' ', '*', '\n']) && !it.contains("NAME"));
        for name in names.flat_map(expanded) {
            match all.iter().any(|it| *it == name || it.ends_with(&format!("/{name}"))) {
                true => found += 1,
                false => missing.push(format!("{}: {name}", document.display())),
            }
        }
    }
    assert!(found > 100, "{found}");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// How many characters a line has, without the targets of its links: these cannot be divided.
fn width(line: &str) -> usize {
    let mut parts = line.split("](");
    let first = parts.next().unwrap_or_default().chars().count();
    let after = |part: &str| part.split_once(')').map_or(0, |it| 1 + it.1.chars().count());
    first + parts.map(|it| 2 + after(it)).sum::<usize>()
}

#[test]
fn prose_has_lines_of_at_most_100_characters() {
    let mut all = documents("docs");
    all.extend(["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from));
    let mut long = Vec::new();
    for path in all {
        let mut is_code = false;
        for line in read(&path).lines() {
            let is_fence = line.trim_start().starts_with("```");
            is_code ^= is_fence;
            // Tables, headings and targets of links cannot be divided. What is between backticks can.
            let is_target = line.starts_with('[') && line.contains("]: ");
            let is_table = line.trim_start().starts_with('|');
            let is_heading = line.starts_with('#');
            let is_other = is_code || is_fence || is_target || is_table || is_heading;
            if !is_other && width(line) > 100 {
                long.push(format!("{}: {line}", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
    assert_eq!(width("see [it](a/long/path.md#x), `and` this"), "see [it](), `and` this".len());
    assert_eq!(width("[a](b) [c](d"), "[a]() [c](".len());
}

#[test]
fn every_word_of_the_glossary_stands_there_once_and_in_order() {
    let document = read("docs/glossary.md");
    let rows = document.lines().filter_map(|it| it.strip_prefix("| ")).skip(1);
    let words: Vec<String> =
        rows.filter_map(|it| it.split(" | ").next()).map(str::to_lowercase).collect();
    assert!((25..=40).contains(&words.len()), "{}", words.len());
    assert!(words.is_sorted(), "{words:?}");
}

#[test]
fn the_guides_name_only_options_that_exist() {
    let mut options = 0;
    for path in guides() {
        let document = read(&path);
        for line in commands(&document).filter_map(|it| it.strip_prefix("aiotrace ")) {
            let ours = line.split(" -- ").next().unwrap().split(" | ").next().unwrap();
            let command = ours.split(' ').next().unwrap();
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_aiotrace"))
                .args([command, "--help"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}: {line}", path.display());
            let help = String::from_utf8(output.stdout).unwrap();
            for option in ours.split(' ').filter(|it| it.starts_with('-')) {
                let is_there = help
                    .split([' ', ',', '\n'])
                    .any(|it| it == option || it.starts_with(&format!("{option}[")));
                assert!(is_there, "{}: {option} in {line}", path.display());
                options += 1;
            }
        }
    }
    assert!(options > 50, "{options}");
}

/// The blocks of code with this name in a document.
fn blocks<'a>(document: &'a str, kind: &str) -> Vec<&'a str> {
    let start = format!("\n```{kind}\n");
    let after = document.split(start.as_str()).skip(1);
    after.map(|rest| rest.split("\n```").next().unwrap_or_default()).collect()
}

#[test]
fn every_example_in_json_md_is_of_the_format() {
    let document = read("docs/reference/json.md");
    let mut events = BTreeSet::new();
    for line in blocks(&document, "json").iter().flat_map(|it| it.lines()) {
        let parsed = Line::parse(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let value = serde_json::to_value(parsed).unwrap();
        events.insert(value["event"].as_str().unwrap().to_owned());
    }
    let all = [
        "capacity",
        "completion",
        "context_adopted",
        "context_gone",
        "context_moved",
        "fault",
        "finding",
        "interval",
        "io_cancel",
        "io_destroy",
        "io_getevents",
        "io_pgetevents",
        "io_setup",
        "io_submit",
        "lost",
        "ls",
        "process",
        "refused",
        "report",
        "start",
        "synchronous",
        "unfinished",
    ];
    assert_eq!(events.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn every_field_is_described_in_json_md() {
    let document = read("docs/reference/json.md");
    for line in blocks(&document, "json").iter().flat_map(|it| it.lines()) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        for field in value.as_object().unwrap().keys() {
            assert!(document.contains(&format!("`{field}`")), "{field} of {line}");
        }
    }
}

#[test]
fn unknown_missing_and_ill_formed_fields_are_refused() {
    let good = r#"{"v":1,"event":"lost","ts":"5","pid":1,"tid":2,"records":3}"#;
    assert!(Line::parse(good).is_ok());
    for bad in [
        r#"{"v":2,"event":"lost","ts":"5","pid":1,"tid":2,"records":3}"#,
        r#"{"v":1,"event":"lots","ts":"5","pid":1,"tid":2,"records":3}"#,
        r#"{"v":1,"event":"lost","ts":5,"pid":1,"tid":2,"records":3}"#,
        r#"{"v":1,"event":"lost","ts":"5","pid":1,"tid":2}"#,
        r#"{"v":1,"event":"lost","ts":"5","pid":1,"tid":2,"records":3,"more":4}"#,
        r#"{"v":1,"event":"lost","#,
        "",
    ] {
        assert!(Line::parse(bad).is_err(), "{bad}");
    }
    // A field that may be null must be in the example all the same.
    let report = blocks(&read("docs/reference/json.md"), "json")
        .into_iter()
        .find(|it| it.contains(r#""calls":null"#))
        .expect("an example of a report")
        .replace(r#","calls":null"#, "");
    assert!(Line::parse(&report).is_err(), "{report}");
}

#[test]
fn the_readme_names_only_options_that_exist() {
    let help = |command: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_aiotrace"))
            .args([command, "--help"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let help = ["attach", "run", "report", "serve"].map(help).concat();
    let readme = read("README.md");
    // fio has options of its own, all in lines that name it.
    let ours = readme.lines().filter(|line| !line.contains("fio --name"));
    let words = ours.flat_map(|line| line.split(|it: char| !it.is_alphanumeric() && it != '-'));
    let is_option = |it: &&str| it.starts_with("--") && it[2..].starts_with(char::is_alphabetic);
    let options: BTreeSet<&str> = words.filter(is_option).collect();
    assert!(options.len() >= 3, "{options:?}");
    for option in options {
        assert!(option == "--path" || help.contains(option), "{option} is in no --help");
    }
}

#[test]
fn the_readme_counts_the_findings() {
    let count = aiotrace::model::Name::ALL.len();
    assert!(
        read("README.md")
            .contains(&format!("[{count} findings](docs/reference/findings/README.md)"))
    );
}

#[test]
fn every_threshold_has_its_default_in_the_page_on_findings() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_aiotrace"))
        .args(["attach", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let help: String = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let document = read("docs/reference/findings/README.md");
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `--")).collect();
    assert!(rows.len() >= 5, "{rows:?}");
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let option = cells[1].trim_matches('`').split(' ').next().unwrap();
        let of_option = help.split(&format!("{option} <")).nth(1);
        let of_option = of_option.unwrap_or_else(|| panic!("{option} is no option"));
        let default = of_option.split("[default: ").nth(1).and_then(|it| it.split(']').next());
        assert_eq!(default, Some(cells[2]), "{option}");
    }
}

#[test]
fn every_rule_in_the_documents_is_one() {
    let document = read("docs/reference/faults.md");
    let mut examples = blocks(&document, "text").join("\n");
    for path in guides() {
        examples.push_str(&read(path));
    }
    let rules: Vec<&str> = examples
        .split("--inject ")
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next())
        .map(|rule| rule.trim_matches('\''))
        .filter(|rule| !rule.contains("ACTION") && !rule.contains("RESULT"))
        .collect();
    assert!(rules.len() >= 15, "{rules:?}");
    for rule in rules {
        rule.parse::<aiotrace::fault::Rule>().unwrap_or_else(|mistake| panic!("{mistake}"));
    }
    let mistake = "io_submit:error=EAGIAN:when=3".parse::<aiotrace::fault::Rule>().unwrap_err();
    assert!(document.contains(&mistake.to_string()));
}

#[test]
fn the_errnos_in_faults_md_are_those_of_explain() {
    use aiotrace::{errno, event::Syscall, explain::calls};

    let document = read("docs/reference/faults.md");
    let rows = document.lines().filter(|line| line.starts_with("| io_")).filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        cells[2].starts_with('E').then(|| (cells[1].to_owned(), cells[2].to_owned()))
    });
    let mut found = 0;
    for (names, errnos) in rows {
        for name in names.split(", ") {
            let call = Syscall::ALL.into_iter().find(|it| it.name() == name).unwrap();
            let known: Vec<_> = calls::of(call).filter_map(|it| errno::name(it.errno)).collect();
            assert_eq!(errnos, known.join(", "), "{name}");
            found += 1;
        }
    }
    assert_eq!(found, 6);
}
