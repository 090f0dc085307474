//! The format of JSON Lines. Each line that is written has one of these types; [`Line::parse`] reads it back, and
//! refuses fields that are unknown or missing. The tables of docs/reference/json.md are the comments of the types,
//! and [`schema`] is made from them, too.

mod calls;
mod capacity;
mod conclusions;
mod counted;
mod described;
mod events;
mod listing;
mod report;
mod schema;
mod values;

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::Error as _};

pub use self::{
    calls::*,
    capacity::*,
    conclusions::{ContextObject, FaultLine, FindingLine, HolderObject, SubjectObject},
    counted::*,
    events::*,
    listing::*,
    report::*,
    schema::{schema, table},
    values::{Decimal, Hex},
};
use self::{
    described::{Described as _, Objects},
    schema::Events,
};

/// Version of the format, in every line.
pub const VERSION: u32 = 1;

type Name = Cow<'static, str>;

macro_rules! lines {
    ($($($event:literal)|+ => $variant:ident($type:ident),)*) => {
        /// Any line.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        #[expect(missing_docs, reason = "each is documented at its type")]
        #[expect(
            clippy::large_enum_variant,
            reason = "read in tests, and by whoever reads one line at a time"
        )]
        pub enum Line { $($variant($type),)* }

        impl Line {
            fn of(event: &str, line: &str) -> Result<Self, serde_json::Error> {
                match event {
                    $($($event)|+ => serde_json::from_str(line).map(Self::$variant),)*
                    other => Err(serde_json::Error::custom(format!("unknown event {other}"))),
                }
            }

            /// The types of lines, each with its events; their descriptions are put into `all`.
            fn all(all: &mut Objects) -> Vec<Events> {
                vec![$({
                    $type::schema(all);
                    Events { object: stringify!($type), events: &[$($event),+] }
                },)*]
            }
        }
    };
}

lines! {
    "start" => Start(StartLine),
    "io_setup" => Setup(SetupLine),
    "io_destroy" => Destroy(DestroyLine),
    "io_submit" => Submit(SubmitLine),
    "io_getevents" | "io_pgetevents" => Getevents(GeteventsLine),
    "io_cancel" => Cancel(CancelLine),
    "unfinished" => Unfinished(UnfinishedLine),
    "completion" => Completion(CompletionLine),
    "refused" => Refused(RefusedLine),
    "context_gone" => ContextGone(ContextGoneLine),
    "context_moved" => ContextMoved(ContextMovedLine),
    "context_adopted" => ContextAdopted(ContextAdoptedLine),
    "process" => Process(ProcessLine),
    "lost" => Lost(LostLine),
    "finding" => Finding(FindingLine),
    "fault" => Fault(FaultLine),
    "synchronous" => Synchronous(SynchronousLine),
    "interval" => Interval(IntervalLine),
    "report" => Report(ReportLine),
    "ls" => Ls(ListingLine),
    "capacity" => Capacity(CapacityLine),
}

impl Line {
    /// Reads one line.
    ///
    /// # Errors
    /// If it is not JSON, has an unknown event or version, lacks a field or has one too many.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Head {
            v: u32,
            event: String,
        }
        let head: Head = serde_json::from_str(line)?;
        if head.v != VERSION {
            return Err(serde_json::Error::custom(format!("version {}", head.v)));
        }
        let parsed = Self::of(&head.event, line)?;
        // serde reads a missing field as null: only the comparison finds it.
        let (given, known): (serde_json::Value, _) =
            (serde_json::from_str(line)?, serde_json::to_value(&parsed)?);
        if given != known {
            return Err(serde_json::Error::custom("a field is missing, or has another form"));
        }
        Ok(parsed)
    }
}
