//! Durations, read and written.

use std::time::Duration;

/// A duration in the unit that suits it: `870ns`, `12.3us`, `4.5ms`, `2.01s`.
pub fn duration(out: &mut Vec<u8>, nanos: u64) {
    let (value, unit) = match nanos {
        0..1_000 => {
            out.extend_from_slice(itoa::Buffer::new().format(nanos).as_bytes());
            out.extend_from_slice(b"ns");
            return;
        }
        1_000..1_000_000 => (nanos, "us"),
        1_000_000..1_000_000_000 => (nanos / 1_000, "ms"),
        _ => (nanos / 1_000_000, "s"),
    };
    // `value` is in thousandths of the unit, and three digits are enough.
    let (whole, thousandths) = (value / 1000, value % 1000);
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    if whole < 10 {
        let hundredths = thousandths / 10;
        out.extend_from_slice(&[
            b'.',
            b'0' + (hundredths / 10) as u8,
            b'0' + (hundredths % 10) as u8,
        ]);
    } else if whole < 100 {
        out.extend_from_slice(&[b'.', b'0' + (thousandths / 100) as u8]);
    }
    out.extend_from_slice(unit.as_bytes());
}

/// A duration as a string.
pub fn in_words(nanos: u64) -> String {
    let mut text = Vec::new();
    duration(&mut text, nanos);
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads `500ms`, `10s` or `2m`; a plain number is in units of `unit` seconds.
pub fn parse(text: &str, unit: f64) -> Option<Duration> {
    match text.parse::<f64>() {
        Ok(number) => Duration::try_from_secs_f64(number * unit).ok(),
        Err(_) => Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        let cases = [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1.00us"),
            (12_345, "12.3us"),
            (999_999, "999us"),
            (4_560_000, "4.56ms"),
            (2_005_000_000, "2.00s"),
            (7_200_000_000_000, "7200s"),
        ];
        for (nanos, expected) in cases {
            assert_eq!(in_words(nanos), expected);
        }
    }

    #[test]
    fn a_plain_number_is_in_the_unit_that_was_asked_for() {
        assert_eq!(parse("200", 1e-6), Some(Duration::from_micros(200)));
        assert_eq!(parse("1.5", 1.0), Some(Duration::from_millis(1500)));
        assert_eq!(parse("2m", 1e-6), Some(Duration::from_secs(120)));
        assert_eq!([parse("-1", 1.0), parse("-1s", 1.0), parse("soon", 1.0)], [None; 3]);
    }
}
