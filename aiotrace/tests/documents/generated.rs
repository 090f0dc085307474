//! The tables of docs/reference/json.md, and docs/aiotrace.schema.json, are made from the types of the format,
//! docs/reference/options.md from the help, and the table of docs/reference/metrics.md from that of the metrics. With `AIOTRACE_WRITE_DOCS=1`, these tests write them.

use std::collections::BTreeSet;

use aiotrace::output::json::{Line, schema, table};

use super::{blocks, read, root, schema as validator};

const JSON_MD: &str = "docs/reference/json.md";
const SCHEMA: &str = "docs/aiotrace.schema.json";

/// The line before a table: `<!-- table: StartLine -->`.
const BEGIN: &str = "<!-- table: ";
/// The line after a table.
const END: &str = "<!-- end -->";

/// Compares the document with the text that it must have, or writes this text.
fn compare(name: &str, wanted: &str) {
    if std::env::var_os("AIOTRACE_WRITE_DOCS").is_some() {
        std::fs::write(root().join(name), wanted).unwrap();
        return;
    }
    let found = std::fs::read_to_string(root().join(name)).unwrap_or_default();
    if let Some((found, wanted)) = found.lines().zip(wanted.lines()).find(|(a, b)| a != b) {
        panic!("{name} has\n{found}\nin the place of\n{wanted}\n{HOW}");
    }
    assert_eq!(found.len(), wanted.len(), "{name} is not what the types say; {HOW}");
}

const HOW: &str =
    "AIOTRACE_WRITE_DOCS=1 cargo test -p aiotrace --test documents generated writes it anew";

#[test]
fn the_tables_of_json_md_are_made_from_the_types() {
    let document = read(JSON_MD);
    let mut parts = document.split(BEGIN);
    let mut wanted = parts.next().unwrap().to_owned();
    let mut names = BTreeSet::new();
    for part in parts {
        let (name, rest) = part.split_once(" -->").unwrap();
        let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("{name} has no end"));
        let table = table(name).unwrap_or_else(|| panic!("there is no type {name}"));
        assert!(!table.contains("|  |"), "a field has no comment: {table}");
        wanted.push_str(&format!("{BEGIN}{name} -->\n{table}{END}{after}"));
        assert!(names.insert(name.to_owned()), "{name} is there twice");
    }
    compare(JSON_MD, &wanted);
    // If a part has no table, the links to it are broken: another test finds them.
    for (name, object) in schema()["$defs"].as_object().unwrap() {
        let is_line = object["properties"]["event"].is_object();
        assert!(!is_line || names.contains(name), "{JSON_MD} has no table of {name}");
    }
    assert!(names.contains("every call"));
}

const OPTIONS_MD: &str = "docs/reference/options.md";

#[test]
fn the_page_of_options_is_the_help() {
    let help = |arguments: &[&str]| {
        let mut aiotrace = std::process::Command::new(env!("CARGO_BIN_EXE_aiotrace"));
        let output = aiotrace.args(arguments).arg("--help").output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    };
    let all = help(&[]);
    let commands = all.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = commands.lines().filter(|it| it.starts_with("  ") && !it.starts_with("   "));
    let names = names.filter_map(|it| it.split_whitespace().next()).filter(|it| *it != "help");
    let mut wanted =
        "# Options\n\nAll commands with all their options, as `--help` has them; `-h` is \
                      shorter.\nThis page is made from the program.\n"
            .to_owned();
    wanted.push_str(&format!("\n## aiotrace\n\n```text\n{all}\n```\n"));
    for name in names {
        wanted.push_str(&format!("\n## aiotrace {name}\n\n```text\n{}\n```\n", help(&[name])));
    }
    compare(OPTIONS_MD, &wanted);
}

const METRICS_MD: &str = "docs/reference/metrics.md";

#[test]
fn the_page_of_metrics_has_all_of_them() {
    let document = read(METRICS_MD);
    let (before, rest) = document.split_once("<!-- metrics -->\n").unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let table = aiotrace::serve::metrics::table();
    compare(METRICS_MD, &format!("{before}<!-- metrics -->\n{table}{END}{after}"));
}

#[test]
fn the_tables_of_parquet_md_are_made_from_the_columns() {
    use aiotrace::output::parquet::{described, described_first};

    const PARQUET_MD: &str = "docs/reference/parquet.md";
    let mut document = read(PARQUET_MD);
    for (name, text) in [("<!-- first -->", described_first()), ("<!-- tables -->", described())] {
        let (before, rest) = document.split_once(name).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        document = format!("{before}{name}\n{text}{END}{after}");
    }
    compare(PARQUET_MD, &document);
}

#[test]
fn the_schema_is_made_from_the_types() {
    let mut wanted = serde_json::to_string_pretty(&schema()).unwrap();
    wanted.push('\n');
    compare(SCHEMA, &wanted);
}

#[test]
fn every_example_in_json_md_is_of_the_schema() {
    let examples = blocks(&read(JSON_MD), "json").join("\n");
    assert!(examples.lines().count() > 20);
    examples.lines().for_each(validator::check);
}

/// The schema refuses the lines that the format refuses.
#[test]
fn the_schema_refuses_what_the_format_refuses() {
    let good = r#"{"v":1,"event":"context_gone","ts":"5","pid":1,"ctx":"0x0","how":"exec","in_flight":null,"at_most":false}"#;
    validator::check(good);
    assert!(Line::parse(good).is_ok());
    let changes = [
        (r#""v":1"#, r#""v":2"#),
        ("context_gone", "lost"),
        (r#""ts":"5""#, r#""ts":5"#),
        (r#""ts":"5""#, r#""ts":"five""#),
        (r#""ctx":"0x0""#, r#""ctx":"0""#),
        (r#""pid":1"#, r#""pid":-1"#),
        (r#","in_flight":null"#, ""),
        (r#""in_flight":null"#, r#""in_flight":null,"more":1"#),
    ];
    for (from, to) in changes {
        let bad = good.replace(from, to);
        assert_ne!(good, bad);
        assert!(Line::parse(&bad).is_err(), "{bad}");
        assert!(!validator::errors(&bad).is_empty(), "{bad}");
    }
    // The schema knows the values of a field, too.
    assert!(!validator::errors(&good.replace("exec", "exe")).is_empty());
}
