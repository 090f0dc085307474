//! Event times for people.

use std::io::Write;

pub use aiotrace_model::trace::Clock;
use jiff::{Timestamp, tz::TimeZone};

/// How the time of an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Seconds since the trace began.
    #[default]
    Relative,
    /// Local time of day.
    Absolute,
    /// Seconds since the line before.
    Delta,
}

/// Writes the times of events. It remembers the time zone's offset, which is slow to look up.
#[derive(Clone)]
pub struct Stamps {
    format: Format,
    clock: Clock,
    zone: TimeZone,
    last: u64,
    /// The second of wall-clock time up to which the offset of local time to UTC holds, and this offset in seconds.
    zone_offset: (i64, i64),
}

impl Stamps {
    /// A writer of times in this format and time zone.
    pub fn new(format: Format, clock: Clock, zone: TimeZone) -> Self {
        Self { format, clock, zone, last: clock.start, zone_offset: (i64::MIN, 0) }
    }

    /// Writes a time, with microseconds.
    pub fn write(&mut self, out: &mut Vec<u8>, time: u64) {
        match self.format {
            Format::Relative => seconds(out, time.saturating_sub(self.clock.start)),
            Format::Delta => seconds(out, time.saturating_sub(self.last)),
            Format::Absolute => self.time_of_day(out, time),
        }
        self.last = time;
    }

    /// A time within a text, with so many digits behind the point (at most 6): `0.104 s` since the trace began, or
    /// `14:05:49.104`.
    pub fn in_words(&self, time: u64, digits: usize) -> String {
        if self.format != Format::Absolute {
            let since = time.saturating_sub(self.clock.start) as f64 / 1e9;
            return format!("{since:.digits$} s");
        }
        let mut text = Vec::new();
        self.clone().time_of_day(&mut text, time);
        text.truncate("00:00:00.".len() + digits);
        text.iter().map(|it| char::from(*it)).collect()
    }

    fn time_of_day(&mut self, out: &mut Vec<u8>, time: u64) {
        let wall = (time as i64).wrapping_add(self.clock.to_wall);
        let second = wall.div_euclid(1_000_000_000);
        if second >= self.zone_offset.0 {
            let offset = Timestamp::from_second(second)
                .map_or(0, |at| i64::from(self.zone.to_offset(at).seconds()));
            // Offsets change at full minutes only.
            self.zone_offset = (second - second.rem_euclid(60) + 60, offset);
        }
        let local = (second + self.zone_offset.1).rem_euclid(86_400);
        let micros = wall.rem_euclid(1_000_000_000) / 1000;
        let (hour, minute, second) = (local / 3600, local / 60 % 60, local % 60);
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{hour:02}:{minute:02}:{second:02}.{micros:06}");
    }
}

fn seconds(out: &mut Vec<u8>, nanos: u64) {
    let micros = nanos / 1000;
    let mut whole = itoa::Buffer::new();
    let whole = whole.format(micros / 1_000_000);
    out.extend(std::iter::repeat_n(b' ', 4usize.saturating_sub(whole.len())));
    out.extend_from_slice(whole.as_bytes());
    out.push(b'.');
    let mut digits = [b'0'; 6];
    let mut rest = micros % 1_000_000;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_format_says_when() {
        let clock = Clock { start: 5_000_000_000, to_wall: 1_700_000_000_000_000_000, to_boot: 0 };
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let two = |format| {
            let mut stamps = Stamps::new(format, clock, zone.clone());
            written(|out| {
                stamps.write(out, 6_000_001_000);
                out.push(b'|');
                stamps.write(out, 6_500_000_000);
            })
        };
        assert_eq!(two(Format::Relative), "   1.000001|   1.500000");
        assert_eq!(two(Format::Delta), "   1.000001|   0.499999");
        // 1700000000 is 22:13:20 UTC.
        assert_eq!(two(Format::Absolute), "00:13:26.000001|00:13:26.500000");
        let said = |format| Stamps::new(format, clock, zone.clone()).in_words(6_104_512_000, 3);
        assert_eq!(said(Format::Relative), "1.105 s");
        assert_eq!(said(Format::Delta), "1.105 s");
        assert_eq!(said(Format::Absolute), "00:13:26.104");
    }
}
