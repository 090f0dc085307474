//! The findings: a file each, with what it rests on, what it says of that, and what looks for it, as far as that can be
//! told apart from the world that the model keeps. Its page is docs/reference/findings/NAME.md.
//!
//! A finding is added with one line in [`findings!`] below, its file here, its page, and a program that has it and one
//! that does not (programs/src/faults).

use super::Severity;

/// What a finding rests on. Its text is written when it is shown.
pub trait Basis {
    /// Its name, which is stable.
    const NAME: &'static str;
    /// How bad it is, unless what it rests on says otherwise.
    const SEVERITY: Severity;
    /// The names of its numbers, all there can be; its page describes them.
    const NUMBERS: &'static [&'static str];

    /// In words.
    fn message(&self) -> String;

    /// Its numbers, by name, each once.
    fn numbers(&self) -> Vec<(&'static str, i64)>;

    /// What of it, beside its name, says something else: those that differ in this are never counted as one.
    fn kind(&self) -> i64 {
        0
    }
}

/// One line a finding.
macro_rules! findings {
    ($($(#[$doc:meta])* $module:ident::$name:ident,)*) => {
        $(pub mod $module;)*

        /// What was found. docs/reference/findings has a page for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Name {
            $($(#[$doc])* $name,)*
        }

        impl Name {
            /// All there are, in the order of docs/reference/findings/README.md.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it is written.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $module::$name::NAME,)*
                }
            }

            /// How bad it is, unless what it rests on says otherwise.
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$name => $module::$name::SEVERITY,)*
                }
            }

            /// The names of its numbers, all there can be; the page of the finding describes them.
            pub fn evidence(self) -> &'static [&'static str] {
                match self {
                    $(Self::$name => $module::$name::NUMBERS,)*
                }
            }
        }

        /// What a finding rests on: see [`Basis`].
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is what its type says")]
        pub enum Evidence {
            $($name($module::$name),)*
        }

        impl Evidence {
            /// Of which finding.
            pub fn name(&self) -> Name {
                match self {
                    $(Self::$name(_) => Name::$name,)*
                }
            }

            /// In words.
            pub fn message(&self) -> String {
                match self {
                    $(Self::$name(it) => it.message(),)*
                }
            }

            /// The numbers, by name.
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
    /// Contexts alive at exit or exec.
    released_at_exit::ReleasedAtExit,
    /// A file request in flight for long.
    request_stuck::RequestStuck,
    /// The descriptor of a poll was closed while it pends.
    poll_on_closed::PollOnClosed,
    /// Completed, and not reaped for long.
    unreaped_completions::UnreapedCompletions,
    /// A context ended with requests in flight.
    discarded_requests::DiscardedRequests,
    /// An iocb was submitted again before it completed.
    iocb_reused_in_flight::IocbReusedInFlight,
    /// The rest of a short submit was never submitted again.
    short_submit_dropped::ShortSubmitDropped,
    /// io_submit says EAGAIN.
    submit_eagain::SubmitEagain,
    /// A request failed.
    failed_completion::FailedCompletion,
    /// A request with O_DIRECT failed, and is not aligned.
    direct_io_misaligned::DirectIoMisaligned,
    /// A request did less than it was asked for.
    short_io::ShortIo,
    /// Reads in a row began behind the end of their file.
    reads_past_end::ReadsPastEnd,
    /// Writes go to the end of their file, and not to their offsets.
    ignored_offset::IgnoredOffset,
    /// io_submit took long.
    blocking_submit::BlockingSubmit,
    /// Requests complete inside of io_submit.
    inline_completion::InlineCompletion,
    /// A call on a handle that was destroyed.
    use_after_destroy::UseAfterDestroy,
    /// io_setup says EAGAIN.
    setup_denied::SetupDenied,
    /// A seccomp filter answers.
    sandbox_denied::SandboxDenied,
    /// io_cancel of what cannot be cancelled.
    cancel_refused::CancelRefused,
    /// No AIO call was made.
    not_kernel_aio::NotKernelAio,
    /// Calls failed, and no other finding says why.
    refused_calls::RefusedCalls,
    /// A thread waits for what cannot come.
    endless_wait::EndlessWait,
    /// io_getevents returns nothing, again and again.
    busy_reaping::BusyReaping,
    /// A context for many requests never has more than one.
    shallow_queue::ShallowQueue,
}

/// ` (8 of fs.aio-nr)`, if it is known.
fn holding(charge: Option<u64>) -> String {
    charge.map_or_else(String::new, |it| format!(" ({it} of fs.aio-nr)"))
}

/// `s`, for other numbers than one.
fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
