//! Numbers for people.

/// Writes `0x` and as many digits as are needed.
pub fn hex(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(b"0x");
    let digits = (16 - value.leading_zeros() as usize / 4).max(1);
    for index in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(value >> (index * 4) & 15) as usize]);
    }
}

/// Writes `1234567` as `1,234,567`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_digits_it_needs() {
        let written = |value| {
            let mut out = Vec::new();
            hex(&mut out, value);
            String::from_utf8(out).unwrap()
        };
        assert_eq!((written(0), written(0x10)), ("0x0".to_owned(), "0x10".to_owned()));
        assert_eq!(written(u64::MAX), "0xffffffffffffffff");
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(123), "123");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}
