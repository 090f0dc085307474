//! Checks with an independent validator that lines obey docs/aiotrace.schema.json.

use std::sync::LazyLock;

use jsonschema::Validator;

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let schema = include_str!("../../../docs/aiotrace.schema.json");
    let schema = serde_json::from_str(schema).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
});

/// Why a line does not obey the schema.
pub fn errors(line: &str) -> Vec<String> {
    match serde_json::from_str(line) {
        Ok(value) => VALIDATOR.iter_errors(&value).map(|it| it.to_string()).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// Asserts that a line obeys the schema.
pub fn check(line: &str) {
    let errors = errors(line);
    assert!(errors.is_empty(), "not of docs/aiotrace.schema.json: {errors:?}: {line}");
}
