//! Makes text of names and paths, which come from the target and may hold any bytes. Nothing that a terminal could
//! take for a command reaches it.

use std::io::Write;

/// Writes bytes as text: control characters and bytes that are not UTF-8 as `\xNN`, a backslash as `\\`.
pub fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'\\') {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.extend_from_slice(br"\\"),
                // This includes characters that change the direction of text, or are invisible.
                _ if must_be_escaped(character) => {
                    let mut buffer = [0; 4];
                    hex(out, character.encode_utf8(&mut buffer).as_bytes());
                }
                _ => {
                    let mut buffer = [0; 4];
                    out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                }
            }
        }
        hex(out, chunk.invalid());
    }
}

/// The same text as a string.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    escape(&mut out, bytes);
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether a terminal could take a character for a command, or show what follows in another order.
pub fn must_be_escaped(character: char) -> bool {
    character.is_control() || is_format(character)
}

fn is_format(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_passes() {
        assert_eq!(escaped(b"fio"), "fio");
        assert_eq!(escaped("größe".as_bytes()), "größe");
        assert_eq!(escaped(b"\x1b[31mred"), r"\x1b[31mred");
        assert_eq!(escaped(b"a\nb\tc"), r"a\x0ab\x09c");
        assert_eq!(escaped(b"\xff\xfe"), r"\xff\xfe");
        assert_eq!(escaped(br"a\x1b"), r"a\\x1b");
        assert_eq!(escaped("\u{9b}31m".as_bytes()), r"\xc2\x9b31m");
        assert_eq!(escaped("\u{202e}oif".as_bytes()), r"\xe2\x80\xaeoif");
    }
}
