//! JSON piece by piece, for what is written by hand.

use crate::output::{escape::escape, text as of_text};

/// As it is.
pub fn put(line: &mut Vec<u8>, literal: &str) {
    line.extend_from_slice(literal.as_bytes());
}

/// After its key.
pub fn number(line: &mut Vec<u8>, key: &str, value: impl itoa::Integer) {
    put(line, key);
    put(line, itoa::Buffer::new().format(value));
}

/// After its key; `value` must need no escaping.
pub fn text(line: &mut Vec<u8>, key: &str, value: &str) {
    put(line, key);
    line.push(b'"');
    put(line, value);
    line.push(b'"');
}

/// A string.
pub fn hex(line: &mut Vec<u8>, value: u64) {
    line.push(b'"');
    of_text::hex(line, value);
    line.push(b'"');
}

/// A string.
pub fn decimal(line: &mut Vec<u8>, value: u64) {
    text(line, "", itoa::Buffer::new().format(value));
}

/// null, if there is none.
pub fn optional<T>(line: &mut Vec<u8>, value: Option<&T>, write: impl FnOnce(&mut Vec<u8>, &T)) {
    match value {
        Some(value) => write(line, value),
        None => put(line, "null"),
    }
}

/// An array.
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

/// Bytes of the target: made readable as in text, then a JSON string.
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
