//! refused-calls: calls that failed, and that no other finding explains. `refused` of [`crate::model`] decides which
//! are reported, and when.

use super::Basis;
use crate::{
    errno::{self, returned::{EINVAL}},
    event::{Address, Syscall, errno_name},
    model::{Severity, Subject},
};

/// Most iovecs shown.
const MOST_SHOWN: usize = 4;

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedCalls {
    /// The call.
    pub syscall: Syscall,
    /// The call in words, with those arguments that are not in the request.
    pub call: String,
    /// What it returned.
    pub ret: i64,
    /// The request that was refused.
    pub request: Option<Subject>,
    /// The reason, as far as it is known.
    pub cause: Option<String>,
    /// A context with this handle is known, or the call needs none.
    pub has_context: bool,
    /// The iovecs of the request, if they were looked up.
    pub iovecs: Option<Iovecs>,
}

/// Iovecs at the moment when they were looked up: the kernel read them at the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iovecs {
    /// The first of them; `None`: they could not be read.
    pub first: Option<Vec<(Address, u64)>>,
    /// How many there are.
    pub count: u64,
}

impl Basis for RefusedCalls {
    const NAME: &'static str = "refused-calls";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["ret"];

    fn message(&self) -> String {
        let mut text = format!("{} = {}", self.call, in_words(self.ret));
        if let Some(request) = self.request {
            text.push_str(&format!(": {}", request.in_words()));
        }
        if let Some(cause) = &self.cause {
            text.push_str(&format!(": {cause}"));
        } else if self.ret == EINVAL && !self.has_context {
            text.push_str(": no context with this handle is known");
        }
        match &self.iovecs {
            None => (),
            Some(Iovecs { first: None, .. }) => text.push_str("; its iovecs cannot be read now"),
            Some(Iovecs { first: Some(list), count }) => {
                let first = list.iter().take(MOST_SHOWN);
                let shown = first.map(|(base, length)| format!("{{{:#x}, {length}}}", base.0));
                let mut shown: Vec<String> = shown.collect();
                let more = count.saturating_sub(shown.len() as u64);
                if more > 0 {
                    shown.push(format!("... {more} more"));
                }
                text.push_str(&format!("; its iovecs now: [{}]", shown.join(", ")));
            }
        }
        text
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![("ret", self.ret)]
    }

    /// The errno, which is below 4096, and the call.
    fn kind(&self) -> i64 {
        self.ret << 8 | self.syscall as i64
    }
}

/// An errno in words: `EBADF (Bad file descriptor)`.
fn in_words(ret: i64) -> String {
    match (errno_name(ret), i32::try_from(-ret).ok().and_then(errno::text)) {
        (Some(name), Some(text)) => format!("{name} ({text})"),
        (Some(name), None) => name.to_owned(),
        (None, _) => ret.to_string(),
    }
}
