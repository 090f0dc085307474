//! For each finding of aiotrace, a program that has what the finding reports, `bad-NAME`, and one
//! that does the same work without it, `good-NAME`.
//!
//! Where time has to pass before aiotrace can find it, the program says `ready` and waits for a
//! line. Programs that need the held file (crate::fuse) need /dev/fuse, and end with status 77
//! without it.

mod calls;
mod closed;
pub mod contexts;
mod direct;
mod endless;
mod ends;
mod growth;
mod held;
mod reaping;
mod requests;
mod results;

/// The programs by name.
pub const PROGRAMS: &[(&str, fn())] = &[
    ("bad-context-leak", crate::alarms::unmapped),
    ("good-context-leak", contexts::destroyed),
    ("bad-lost-handle", contexts::lost),
    ("good-lost-handle", contexts::kept),
    ("bad-context-growth", growth::grows),
    ("good-context-growth", growth::pool),
    ("bad-released-at-exit", contexts::alive_at_exit),
    ("good-released-at-exit", contexts::none_at_exit),
    ("bad-request-stuck", held::stuck),
    ("good-request-stuck", held::answered),
    ("good-request-stuck-poll", requests::poll_pending),
    ("bad-poll-on-closed", closed::while_it_pends),
    ("bad-poll-on-reused", closed::one_number_for_all),
    ("good-poll-on-closed", closed::after_it_completed),
    ("bad-unreaped-completions", requests::unreaped),
    ("good-unreaped-completions", requests::reaped),
    ("bad-discarded-requests", held::discarded_by_destroy),
    ("good-discarded-requests", held::reaped_before_destroy),
    ("bad-discarded-at-exit", held::discarded_at_exit),
    ("good-discarded-at-exit", held::reaped_before_exit),
    ("good-discarded-poll", requests::poll_discarded),
    ("bad-iocb-reused-in-flight", requests::reused_in_flight),
    ("good-iocb-reused-in-flight", requests::reused_after_reaping),
    ("bad-short-submit-dropped", requests::rest_dropped),
    ("good-short-submit-dropped", requests::rest_submitted),
    ("bad-submit-eagain", requests::submitted_until_refused),
    ("good-submit-eagain", requests::submitted_as_many_as_fit),
    ("bad-failed-completion", results::failed),
    ("good-failed-completion", results::succeeded),
    ("bad-direct-io-misaligned", direct::misaligned),
    ("good-direct-io-misaligned", direct::aligned),
    ("bad-short-io", results::short_write),
    ("good-short-io", results::short_reads),
    ("bad-reads-past-end", ends::read_on),
    ("good-reads-past-end", ends::read_to_the_end),
    ("bad-ignored-offset", ends::written_at_the_beginning),
    ("good-ignored-offset", ends::written_where_it_ends),
    ("bad-blocking-submit", results::blocks),
    ("good-blocking-submit", results::does_not_block),
    ("bad-inline-completion", results::completes_inside),
    ("good-inline-completion", results::completes_later),
    ("bad-use-after-destroy", calls::after_destroy),
    ("good-use-after-destroy", crate::alarms::destroyed_by_another_thread),
    ("bad-setup-denied", calls::setup_denied),
    ("good-setup-denied", calls::setup_allowed),
    ("bad-sandbox-denied", calls::in_a_sandbox),
    ("good-sandbox-denied", calls::in_no_sandbox),
    ("bad-cancel-refused", calls::cancelled_too_late),
    ("good-cancel-refused", calls::cancelled),
    ("bad-not-kernel-aio", calls::no_aio),
    ("good-not-kernel-aio", calls::some_aio),
    ("bad-endless-wait", endless::both_wait),
    ("bad-endless-wait-until-a-signal", endless::waits_until_a_signal),
    ("bad-endless-wait-negative", endless::waits_negative_time),
    ("bad-endless-wait-beside-another", endless::waits_beside_another),
    ("good-endless-wait", endless::somebody_can),
    ("bad-busy-reaping", reaping::polls_all_the_time),
    ("good-busy-reaping", reaping::polls_now_and_then),
    ("bad-shallow-queue", reaping::one_at_a_time),
    ("good-shallow-queue", reaping::two_at_a_time),
];
