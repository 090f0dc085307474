//! Values that recordings and JSON show by their names.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounded;

/// Makes an enum whose values have names. A recording holds the name; a name that this aiotrace does not know is
/// shown as it is.
macro_rules! named {
    ($(#[$about:meta])* $type:ident { $($(#[$doc:meta])* $value:ident = $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$doc])* $value,)*
            /// A name in a recording that this aiotrace does not know: any characters.
            Other(Box<str>),
        }

        impl $type {
            /// The name of the value.
            pub fn text(&self) -> &str {
                match self {
                    $(Self::$value => $name,)*
                    Self::Other(name) => name,
                }
            }
        }

        impl From<&str> for $type {
            fn from(name: &str) -> Self {
                match name {
                    $($name => Self::$value,)*
                    other => Self::Other(other.into()),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text())
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.text())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                bounded::text(deserializer).map(|name: Cow<'_, str>| Self::from(&*name))
            }
        }
    };
}

named! {
    /// Why a trace ended, or why there is a report before its end.
    Reason {
        /// No target is left.
        TargetsGone = "targets_gone",
        /// The time given by `--duration` is over.
        TimeOver = "time_over",
        /// Ctrl-C, SIGTERM or SIGHUP.
        Signal = "signal",
        /// Nobody reads the output any more.
        OutputClosed = "output_closed",
        /// A report was asked for; the trace goes on.
        Asked = "asked",
        /// The recording ends before its trace did.
        RecordingEnds = "recording_ends",
    }
}

named! {
    /// The source of the calls: ptrace, or a set of probes.
    Probes {
        /// Trampolines at kernel functions.
        Trampoline = "trampoline",
        /// kprobes at kernel functions.
        Kprobe = "kprobe",
        /// Tracepoints of all system calls.
        Syscall = "syscall",
        /// Tracepoints of all system calls, and trampolines for what happens between calls.
        SyscallTrampoline = "syscall+trampoline",
        /// Tracepoints of all system calls, and kprobes for what happens between calls.
        SyscallKprobe = "syscall+kprobe",
        /// No probes: ptrace(2).
        Ptrace = "ptrace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_holds_the_name_whether_it_is_known_or_not() {
        for name in ["targets_gone", "asked", "\x1b[31m", ""] {
            let bytes = postcard::to_stdvec(name).unwrap();
            let reason: Reason = postcard::from_bytes(&bytes).unwrap();
            assert_eq!((reason.text(), postcard::to_stdvec(&reason)), (name, Ok(bytes)));
        }
        assert_eq!(Reason::from("asked"), Reason::Asked);
        assert_eq!(Probes::from("kprobes"), Probes::Other("kprobes".into()));
        assert!(
            postcard::from_bytes::<Probes>(&postcard::to_stdvec(&"x".repeat(5000)).unwrap())
                .is_err()
        );
    }
}
