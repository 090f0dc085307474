//! The format as a JSON Schema, and as the tables of docs/reference/json.md.

use serde_json::{Value, json};

use super::{
    Line, VERSION,
    described::{Field, Objects},
};

/// The events of one type of line.
pub(super) struct Events {
    /// The name of the type.
    pub object: &'static str,
    /// The values that `event` may have.
    pub events: &'static [&'static str],
}

/// The fields of every line, which docs/reference/json.md describes once.
const OF_LINES: [&str; 2] = ["v", "event"];
/// The fields of every call, which docs/reference/json.md describes once.
const OF_CALLS: [&str; 12] = [
    "ts",
    "pid",
    "tid",
    "entered",
    "duration_ns",
    "entry",
    "ret",
    "errno",
    "injected",
    "fault",
    "ring",
    "abi",
];
/// The name of the table of [`OF_CALLS`].
const EVERY_CALL: &str = "every call";

/// The JSON Schema of a line: draft 2020-12.
pub fn schema() -> Value {
    let mut all = Objects::new();
    let lines = Line::all(&mut all);
    let mut objects: serde_json::Map<String, Value> =
        all.iter().map(|(name, it)| ((*name).to_owned(), it.schema())).collect();
    for Events { object, events } in &lines {
        let fields = &mut objects[*object]["properties"];
        fields["v"] = json!({"const": VERSION});
        fields["event"] = json!({"enum": events});
    }
    let of = |it: &Events| json!({"$ref": format!("#/$defs/{}", it.object)});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of aiotrace --format json",
        "description": format!("Version {VERSION}. docs/reference/json.md says more."),
        "oneOf": lines.iter().map(of).collect::<Vec<_>>(),
        "$defs": objects,
    })
}

/// The table of the type with this name, or of [`EVERY_CALL`]; `None` if there is no such type.
pub fn table(name: &str) -> Option<String> {
    let mut all = Objects::new();
    Line::all(&mut all);
    let object = all.get(if name == EVERY_CALL { "DestroyLine" } else { name })?;
    let is_of_call = |it: &Field| OF_CALLS.contains(&it.name);
    let is_call = object.fields.iter().filter(|it| is_of_call(it)).count() == OF_CALLS.len();
    let fields = object.fields.iter().filter(|it| !OF_LINES.contains(&it.name));
    let fields = fields.filter(|it| match name {
        EVERY_CALL => is_of_call(it),
        _ => !(is_call && is_of_call(it)),
    });
    let rows: String = fields.map(row).collect();
    Some(format!("| field | type | |\n|---|---|---|\n{rows}"))
}

fn row(it: &Field) -> String {
    let about = it.about.strip_suffix('.').filter(|it| !it.ends_with("..")).unwrap_or(&it.about);
    let (kind, fields) = (&it.words.kind, &it.words.fields);
    format!("| `{}` | {kind}{fields} | {about} |\n", it.name)
}
