//! JSON piece by piece, for the lines that are written by hand.

use crate::output::{escape::escape, text as of_text};

/// Writes a piece of JSON as it is.
pub fn put(line: &mut Vec<u8>, literal: &str) {
    line.extend_from_slice(literal.as_bytes());
}

/// Writes a number after its key.
pub fn number(line: &mut Vec<u8>, key: &str, value: impl itoa::Integer) {
    put(line, key);
    put(line, itoa::Buffer::new().format(value));
}

/// Writes a string after its key; `value` must need no escaping.
pub fn text(line: &mut Vec<u8>, key: &str, value: &str) {
    put(line, key);
    line.push(b'"');
    put(line, value);
    line.push(b'"');
}

/// Writes a number as a string of hexadecimal digits.
pub fn hex(line: &mut Vec<u8>, value: u64) {
    line.push(b'"');
    of_text::hex(line, value);
    line.push(b'"');
}

/// Writes a number as a string of decimal digits.
pub fn decimal(line: &mut Vec<u8>, value: u64) {
    text(line, "", itoa::Buffer::new().format(value));
}

/// Writes a value, or null if there is none.
pub fn optional<T>(line: &mut Vec<u8>, value: Option<&T>, write: impl FnOnce(&mut Vec<u8>, &T)) {
    match value {
        Some(value) => write(line, value),
        None => put(line, "null"),
    }
}

/// Writes an array.
pub fn list<T>(line: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    line.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        write(line, item);
    }
    line.push(b']');
}

/// Writes bytes that come from the target: made readable as in text, then as a JSON string.
pub fn string(line: &mut Vec<u8>, bytes: &[u8]) {
    line.push(b'"');
    let from = line.len();
    escape(line, bytes);
    if line[from..].iter().any(|byte| matches!(byte, b'"' | b'\\')) {
        let readable = line.split_off(from);
        for byte in readable {
            if matches!(byte, b'"' | b'\\') {
                line.push(b'\\');
            }
            line.push(byte);
        }
    }
    line.push(b'"');
}
