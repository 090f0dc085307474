//! Options that several subcommands share, and the plain settings that they become.

mod host_root;
mod inject;
mod judge;
mod show;
mod view;

use std::time::Duration;

pub use self::{
    host_root::HostRoot,
    inject::FAULTS,
    judge::FailOn,
    show::Show,
    view::{Color, View},
};
use crate::{output, words};

/// Declares the values of an option with their help, and converts them to the type that they stand
/// for, whose variants have the same names.
macro_rules! values {
    ($(#[$about:meta])* $name:ident of $meant:ty { $($(#[$help:meta])* $value:ident,)* }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
        $(#[$about])*
        pub enum $name { $($(#[$help])* $value,)* }

        impl From<$name> for $meant {
            fn from(it: $name) -> Self {
                match it { $($name::$value => Self::$value,)* }
            }
        }
    };
}
pub(super) use values;

values! {
    Format of output::Format {
        Text,
        Json,
    }
}

/// Reads a time, which has a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a time: write for instance 500ms, 10s or 2m");
    let duration = words::duration::parse(text, 1.0).ok_or_else(bad)?;
    if duration.is_zero() { Err(bad()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "-1", "0", "0s", "-5s", "soon", "nan", "1e40"] {
            let message = parse_duration(bad).unwrap_err();
            assert!(message.contains("write for instance"), "{bad}: {message}");
        }
    }
}
