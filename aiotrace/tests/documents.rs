//! What the documents say is what the program does.

use aiotrace::output::json::Line;

fn read(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of this kind in a document.
fn blocks<'a>(document: &'a str, kind: &str) -> Vec<&'a str> {
    let start = format!("\n```{kind}\n");
    let after = document.split(start.as_str()).skip(1);
    after.map(|rest| rest.split("\n```").next().unwrap_or_default()).collect()
}

#[test]
fn every_example_in_json_md_is_of_the_format() {
    let document = read("docs/reference/json.md");
    let mut events = std::collections::BTreeSet::new();
    for line in blocks(&document, "json").iter().flat_map(|it| it.lines()) {
        let parsed = Line::parse(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let value = serde_json::to_value(parsed).unwrap();
        events.insert(value["event"].as_str().unwrap().to_owned());
    }
    let all = [
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
    // A field that may be null must still be there.
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
    let help = help("attach") + &help("run") + &help("report");
    let readme = read("README.md");
    // fio has options of its own, all in lines that name it.
    let ours = readme.lines().filter(|line| !line.contains("fio --name"));
    let words = ours.flat_map(|line| line.split(|it: char| !it.is_alphanumeric() && it != '-'));
    let is_option = |it: &&str| it.starts_with("--") && it[2..].starts_with(char::is_alphabetic);
    let options: std::collections::BTreeSet<&str> = words.filter(is_option).collect();
    assert!(options.len() >= 3, "{options:?}");
    for option in options {
        assert!(option == "--path" || help.contains(option), "{option} is in no --help");
    }
}

#[test]
fn the_readme_counts_the_findings() {
    let count = aiotrace::model::Name::ALL.len();
    assert!(read("README.md").contains(&format!("[{count} findings](docs/reference/findings/README.md)")));
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
fn every_rule_in_faults_md_is_one() {
    let document = read("docs/reference/faults.md");
    let examples = blocks(&document, "text").join("\n");
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
