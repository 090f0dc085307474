//! The findings. Each has a file with what it rests on, its words, and what looks for it, as far as that can be
//! separated from the state of the model. Its page is docs/reference/findings/NAME.md.
//!
//! To add a finding, add a line in `findings!` below, its file here, its page, and two programs: one that has it
//! and one that does not (programs/src/faults).

use super::Severity;

/// The facts that a finding rests on. Its text is made from them when it is shown.
pub trait Basis {
    /// The name of the finding, which is stable.
    const NAME: &'static str;
    /// How bad it is, unless the facts say otherwise.
    const SEVERITY: Severity;
    /// The names of all its numbers; its page describes them.
    const NUMBERS: &'static [&'static str];

    /// The finding in words.
    fn message(&self) -> String;

    /// The numbers by name, each once.
    fn numbers(&self) -> Vec<(&'static str, i64)>;

    /// A number that sets findings apart that say something else although their names are equal: those with different
    /// numbers are never counted as one.
    fn kind(&self) -> i64 {
        0
    }
}

/// Makes the enums of names and of evidence from a list with one line for each finding.
macro_rules! findings {
    ($($(#[$doc:meta])* $module:ident::$name:ident,)*) => {
        $(pub mod $module;)*

        /// The name of a finding. docs/reference/findings has a page for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Name {
            $($(#[$doc])* $name,)*
        }

        impl Name {
            /// All names, in the order of docs/reference/findings/README.md.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word for it.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $module::$name::NAME,)*
                }
            }

            /// How bad it is, unless its evidence says otherwise.
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$name => $module::$name::SEVERITY,)*
                }
            }

            /// The names of all its numbers; the page of the finding describes them.
            pub fn evidence(self) -> &'static [&'static str] {
                match self {
                    $(Self::$name => $module::$name::NUMBERS,)*
                }
            }
        }

        /// The facts that a finding rests on: see [`Basis`].
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is what its type says")]
        pub enum Evidence {
            $($name($module::$name),)*
        }

        impl Evidence {
            /// The name of the finding.
            pub fn name(&self) -> Name {
                match self {
                    $(Self::$name(_) => Name::$name,)*
                }
            }

            /// The finding in words.
            pub fn message(&self) -> String {
                match self {
                    $(Self::$name(it) => it.message(),)*
                }
            }

            /// Its numbers by name.
            pub fn numbers(&self) -> Vec<(&'static str, i64)> {
                match self {
                    $(Self::$name(it) => it.numbers(),)*
                }
            }

            /// See [`Basis::kind`].
            pub fn kind(&self) -> i64 {
                match self {
                    $(Self::$name(it) => it.kind(),)*
                }
            }
        }

        $(
            impl From<$module::$name> for Evidence {
                fn from(it: $module::$name) -> Self {
                    Self::$name(it)
                }
            }
        )*
    };
}

findings! {
    /// A live process lost a context.
    context_leak::ContextLeak,
    /// Contexts grow in number while old ones stay idle.
    context_growth::ContextGrowth,
    /// Contexts were alive at exit or exec.
    released_at_exit::ReleasedAtExit,
    /// A request to a file is in flight for long.
    request_stuck::RequestStuck,
    /// The descriptor of a poll was closed while the poll pends.
    poll_on_closed::PollOnClosed,
    /// Completions are not reaped for long.
    unreaped_completions::UnreapedCompletions,
    /// A context ended with requests in flight.
    discarded_requests::DiscardedRequests,
    /// An iocb was submitted again before its request completed.
    iocb_reused_in_flight::IocbReusedInFlight,
    /// The rest of a short submit was never done.
    short_submit_dropped::ShortSubmitDropped,
    /// io_submit returned EAGAIN.
    submit_eagain::SubmitEagain,
    /// A request failed.
    failed_completion::FailedCompletion,
    /// A request to a file with O_DIRECT failed, and is not aligned.
    direct_io_misaligned::DirectIoMisaligned,
    /// A request moved less than it was asked for.
    short_io::ShortIo,
    /// Reads in a row began beyond the end of their file.
    reads_past_end::ReadsPastEnd,
    /// Writes go to the end of their file, and not to their offsets.
    ignored_offset::IgnoredOffset,
    /// An io_submit took long.
    blocking_submit::BlockingSubmit,
    /// Requests complete before io_submit returns.
    inline_completion::InlineCompletion,
    /// A call used a handle that was destroyed.
    use_after_destroy::UseAfterDestroy,
    /// io_setup returned EAGAIN.
    setup_denied::SetupDenied,
    /// A seccomp filter answers a call.
    sandbox_denied::SandboxDenied,
    /// io_cancel was called for something that cannot be cancelled.
    cancel_refused::CancelRefused,
    /// The target made no AIO call.
    not_kernel_aio::NotKernelAio,
    /// Calls failed, and no other finding says why.
    refused_calls::RefusedCalls,
    /// A thread waits for completions that cannot come.
    endless_wait::EndlessWait,
    /// io_getevents returns nothing, again and again.
    busy_reaping::BusyReaping,
    /// A context for many requests never has more than one in flight.
    shallow_queue::ShallowQueue,
}

/// ` (8 of fs.aio-nr)`, or nothing if the charge is unknown.
fn holding(charge: Option<u64>) -> String {
    charge.map_or_else(String::new, |it| {
        format!(" ({} of fs.aio-nr)", crate::words::number::thousands(it))
    })
}

/// `s`, unless the number is one.
fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
