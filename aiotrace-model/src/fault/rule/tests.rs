//! What each rule means, and what is said of those that mean nothing.

use super::*;
use aiotrace_common::fault::{ANY_FD, Rule as Plain, looked_up};

fn plain(text: &str) -> Plain {
    Rule::parse(text).unwrap_or_else(|mistake| panic!("{mistake}")).rule
}

/// The example of strace(1), and each combination it calls useful.
#[test]
fn when_is_that_of_strace() {
    let acts = |when: &str| -> Vec<u64> {
        let rule = plain(&format!("io_submit:error=EAGAIN{when}"));
        (1..=12).filter(|count| rule.is_due(*count)).collect()
    };
    assert_eq!(acts(""), (1..=12).collect::<Vec<_>>());
    assert_eq!(acts(":when=3"), [3]);
    assert_eq!(acts(":when=2..5"), [2, 3, 4, 5]);
    assert_eq!(acts(":when=3+"), (3..=12).collect::<Vec<_>>());
    assert_eq!(acts(":when=2..5+"), [2, 3, 4, 5]);
    assert_eq!(acts(":when=3+2"), [3, 5, 7, 9, 11]);
    assert_eq!(acts(":when=2..10+2"), [2, 4, 6, 8, 10]);
    assert_eq!(acts(":when=2..9+3"), [2, 5, 8]);
    assert_eq!(acts(":when=4..4"), [4]);
}

#[test]
fn actions_are_read() {
    let of = |text: &str| (plain(text).action, plain(text).value);
    assert_eq!(of("io_submit:error=EAGAIN"), (action::ERROR, -11));
    assert_eq!(of("io_submit:error=eagain"), (action::ERROR, -11));
    assert_eq!(of("io_submit:error=EWOULDBLOCK"), (action::ERROR, -11));
    assert_eq!(of("io_submit:error=11"), (action::ERROR, -11));
    assert_eq!(of("io_submit:error=EIO:force"), (action::ERROR, -5));
    assert_eq!(of("io_submit:accept=2"), (action::ACCEPT, 2));
    assert_eq!(of("io_submit:delay_enter=200"), (action::DELAY_ENTER, 200_000));
    assert_eq!(of("io_submit:delay_exit=1.5ms"), (action::DELAY_EXIT, 1_500_000));
    assert_eq!(of("io_submit:delay_exit=1s"), (action::DELAY_EXIT, 1_000_000_000));
    assert_eq!(of("io_submit:delay_exit=700ns"), (action::DELAY_EXIT, 700));
    assert_eq!(of("complete:res=EIO"), (action::RESULT, -5));
    assert_eq!(of("complete:res=-28"), (action::RESULT, -28));
    assert_eq!(of("complete:res=512"), (action::RESULT, 512));
    assert_eq!(of("complete:res=0"), (action::RESULT, 0));
}

#[test]
fn conditions_are_read() {
    let rule = Rule::parse(
        r"io_submit,io_cancel:max=2:after=500ms:for=10:op=pread|preadv:fd=7:error=EINVAL:path=/d/a\:b*:ctx=0x7f00:tid=9:per=thread:prob=25%",
    )
    .unwrap();
    let expected = Plain {
        about: 1 << 4 | 1 << 5,
        action: action::ERROR,
        value: -22,
        odds: 1 << 62,
        max: 2,
        after: 500_000_000,
        until: 10_500_000_000,
        ctx: 0x7f00,
        ops: 1 | 1 << 7,
        fd: 7,
        tid: 9,
        per: per::THREAD,
        looked_up: looked_up::FILES,
        ..Plain::NONE
    };
    assert_eq!(rule.rule, expected);
    assert_eq!(rule.calls().collect::<Vec<_>>(), [Syscall::Submit, Syscall::Cancel]);
    assert!(!rule.is_about_completions() && rule.needs_requests() && !rule.force);
    assert!(rule.describes(0, 7, Some(Path::new("/d/a:bc"))));
    assert!(!rule.describes(0, 7, Some(Path::new("/d/ab"))));
    assert!(!rule.describes(0, 7, None));
    assert!(!rule.describes(1, 7, Some(Path::new("/d/a:bc"))));
    let rule = Rule::parse("complete:res=EIO").unwrap();
    assert!(rule.is_about_completions() && !rule.needs_requests() && rule.calls().next().is_none());
    assert_eq!((rule.rule.fd, rule.rule.until), (ANY_FD, u64::MAX));
    assert_eq!(plain("complete:res=EIO:prob=1").odds, u64::MAX);
    assert_eq!(plain("complete:res=EIO:prob=1e-300").odds, 1);
}

#[test]
fn less_only_makes_a_result_less() {
    let rule = Rule::parse("complete:res=512:less:op=read").unwrap();
    assert!(rule.needs_requests() && !rule.needs_place());
    assert!(rule.may_replace(513) && !rule.may_replace(512) && !rule.may_replace(0));
    assert!(Rule::parse("complete:res=512").unwrap().may_replace(0));
}

/// Each mistake, with its mark and what is said.
#[test]
fn mistakes_point_at_their_place() {
    let cases = [
        (
            "",
            "^ the name of a call is missing; a rule is for instance io_submit:error=EAGAIN:when=3",
        ),
        (
            ":error=EAGAIN",
            "^ the name of a call is missing; a rule is for instance io_submit:error=EAGAIN:when=3",
        ),
        ("io_submti:error=EAGAIN", "^^^^^^^^^ not a call of AIO; did you mean io_submit?"),
        (
            "read:error=EIO",
            "^^^^ not a call of AIO: io_setup, io_submit, io_getevents, io_pgetevents, io_cancel, io_destroy, or complete",
        ),
        (
            "complete,io_submit:res=EIO",
            "^^^^^^^^ complete stands alone: write a rule of its own for it",
        ),
        (
            "io_submit",
            "         ^ an action is missing: add for instance :error=EAGAIN, :accept=1 or :delay_enter=20ms to a call, :res=EIO to complete",
        ),
        (
            "io_submit:when=3",
            "                ^ an action is missing: add for instance :error=EAGAIN, :accept=1 or :delay_enter=20ms to a call, :res=EIO to complete",
        ),
        ("io_submit:error", "          ^^^^^ a value is missing: write error=..."),
        (
            "io_submit::error=EAGAIN",
            "          ^ something is missing here: an action or a condition, or leave out the colon",
        ),
        (
            "io_submit:eror=EAGAIN",
            "          ^^^^ neither an action nor a condition; did you mean error?",
        ),
        (
            "io_submit:error=EAGAIN:wehn=3",
            "                       ^^^^ neither an action nor a condition; did you mean when?",
        ),
        (
            "io_submit:retval=3",
            "          ^^^^^^ only strace has retval=; the actions here are error=, accept=, delay_enter=, delay_exit=, res=",
        ),
        (
            "io_submit:error=EAGIAN:when=3",
            "                ^^^^^^ no errno has this name; did you mean EAGAIN?",
        ),
        (
            "io_submit:error=EAGÄIAN",
            "                ^^^^^^^ no errno has this name; did you mean EAGAIN?",
        ),
        ("io_submit:error=0", "                ^ errnos are from 1 to 4095"),
        (
            "io_submit:error=-11",
            "                ^^^ without the minus: write for instance error=EAGAIN or error=11",
        ),
        (
            "io_submit:error=512:force",
            "                ^^^ no program ever sees this one: it makes the kernel start the call again",
        ),
        (
            "io_submit:error=EIO",
            "                ^^^ io_submit never returns EIO, only EAGAIN, EBADF, EFAULT, EINVAL, ENOSYS, EPERM, EOPNOTSUPP; add :force if it shall all the same",
        ),
        (
            "io_submit,io_getevents:error=EAGAIN",
            "                             ^^^^^^ io_getevents never returns EAGAIN, only EFAULT, EINTR, EINVAL, ENOSYS, EPERM; add :force if it shall all the same",
        ),
        (
            "io_submit:error=4000",
            "                ^^^^ io_submit never returns 4000, only EAGAIN, EBADF, EFAULT, EINVAL, ENOSYS, EPERM, EOPNOTSUPP; add :force if it shall all the same",
        ),
        (
            "complete:error=EIO",
            "         ^^^^^^^^^ a completion has a result: write res= instead of error=",
        ),
        ("complete:accept=1", "         ^^^^^^^^ only io_submit has accept=; complete has res="),
        (
            "complete:delay_exit=1",
            "         ^^^^^^^^^^^^ a completion cannot be delayed: it has res=",
        ),
        ("io_submit:res=EIO", "          ^^^^^^^ only complete has res=: a call fails with error="),
        (
            "io_submit:accept=0",
            "                 ^ io_submit never returns 0 if it is given requests: it returns the errno of the first; write error=EAGAIN for none",
        ),
        (
            "io_submit:accept=one",
            "                 ^^^ not a number of requests, from 1 on: write for instance accept=1",
        ),
        (
            "io_submit,io_cancel:accept=1",
            "                    ^^^^^^^^ only io_submit has accept=, io_cancel has not",
        ),
        (
            "io_submit:delay_enter=1:delay_exit=1",
            "                        ^^^^^^^^^^^^ a rule has one action, and delay_enter= is there already: write two rules, of which the first that is due acts",
        ),
        (
            "io_submit:delay_enter=0",
            "                      ^ not a delay: write for instance 200 (microseconds), 500us, 20ms or 1s",
        ),
        ("complete:res=-4096", "             ^^^^^ errnos are from -1 to -4095"),
        (
            "complete:res=-EIO",
            "             ^^^^ a name is without the minus: write for instance res=EIO or res=-5",
        ),
        (
            "complete:res=2147479553",
            "             ^^^^^^^^^^ no request moves more than 2147479552 bytes",
        ),
        (
            "complete:res=99999999999999999999",
            "             ^^^^^^^^^^^^^^^^^^^^ no errno has this name",
        ),
        ("io_submit:error=EAGAIN:when=0", "                            ^ counts begin at 1"),
        (
            "io_submit:error=EAGAIN:when=3+0",
            "                              ^ not a step, from 1 on: write for instance when=3+2, or when=3 for the third alone",
        ),
        (
            "io_submit:error=EAGAIN:when=5..2",
            "                            ^^^^ the last is before the first",
        ),
        (
            "io_submit:error=EAGAIN:when=3..",
            "                               ^ not a count: write when=3 for the third, when=3+ for all from the third on, when=3+2 for each second from then on, when=2..5, when=2..10+2",
        ),
        (
            "io_submit:error=EAGAIN:prob=10",
            "                            ^^ not a probability, more than 0 and at most 1: write for instance prob=0.1 or prob=10%; did you mean 10%?",
        ),
        (
            "io_submit:error=EAGAIN:prob=0",
            "                            ^ not a probability, more than 0 and at most 1: write for instance prob=0.1 or prob=10%",
        ),
        (
            "io_submit:error=EAGAIN:max=0",
            "                           ^ not a number from 1 on: write for instance max=3",
        ),
        (
            "io_submit:error=EAGAIN:after=soon",
            "                             ^^^^ not a time: write for instance 500ms, 10s or 2m",
        ),
        (
            "io_submit:error=EAGAIN:for=-1s",
            "                           ^^^ not a time: write for instance 500ms, 10s or 2m",
        ),
        (
            "io_submit:error=EAGAIN:op=pread|wirte",
            "                                ^^^^^ not one of pread, pwrite, fsync, fdsync, poll, preadv, pwritev, read, write; did you mean write?",
        ),
        (
            "io_submit:error=EAGAIN:fd=-1",
            "                          ^^ not a descriptor: write one number from 0 on",
        ),
        (
            "io_submit:error=EAGAIN:path=data/x",
            "                            ^^^^^^ it begins with neither / nor **/: no path would match",
        ),
        (
            "io_submit:error=EAGAIN:path=/a:b",
            "                               ^ neither an action nor a condition; if it belongs to the path, write \\: for its colon",
        ),
        (
            "io_submit:error=EAGAIN:path=/[a",
            "                            ^^^ not a glob: unclosed character class; missing ']'",
        ),
        (
            "io_submit:error=EAGAIN:ctx=0",
            "                           ^ not the handle of a context: write it as aiotrace shows it, for instance ctx=0x7f5ea8e81000",
        ),
        (
            "io_submit:error=EAGAIN:tid=0",
            "                           ^ not a thread: write one number from 1 on",
        ),
        (
            "io_submit:error=EAGAIN:per=treads",
            "                           ^^^^^^ not one of process, thread and context; did you mean thread?",
        ),
        (
            "complete:res=EIO:less",
            "                 ^^^^ less goes with a number of bytes: write for instance complete:res=512:less",
        ),
        (
            "io_submit:accept=1:less",
            "                   ^^^^ less goes with a number of bytes: write for instance complete:res=512:less",
        ),
        (
            "io_submit:error=EAGAIN:force=1",
            "                       ^^^^^^^ force has no value: write :force",
        ),
        (
            "io_submit:error=EAGAIN:max=1:max=2",
            "                             ^^^^^ max= is there twice: leave one out",
        ),
        (
            "io_getevents:error=EINTR:fd=3",
            "                         ^^^^ io_getevents has no requests: fd= goes with io_submit, io_cancel and complete",
        ),
        (
            "io_submit,io_destroy:error=EINVAL:op=poll",
            "                                  ^^^^^^^ io_destroy has no requests: op= goes with io_submit, io_cancel and complete",
        ),
        (
            "io_setup:error=EAGAIN:ctx=0x1",
            "                      ^^^^^^^ io_setup has no context yet: write a rule of its own for it",
        ),
        (
            "io_setup:error=EAGAIN:per=context",
            "                      ^^^^^^^^^^^ io_setup has no context yet: write a rule of its own for it",
        ),
    ];
    for (text, expected) in cases {
        let mistake = Rule::parse(text).expect_err(text);
        assert_eq!(mistake.to_string(), format!("{text}\n{expected}"));
    }
}

#[test]
fn a_terminal_does_not_obey_a_rule() {
    let shown = Rule::parse("io_submit:\u{1b}[31m=1").unwrap_err().to_string();
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let long = Rule::parse(&"io_submit,".repeat(1000)).unwrap_err().to_string();
    assert!(long.len() < 200 && long.contains("a rule has at most 4096 bytes"), "{long}");
}

#[test]
fn every_errno_that_a_call_can_return_is_accepted() {
    for call in Syscall::ALL {
        for number in errno::of_call(call) {
            let name = errno::name(*number).unwrap();
            assert_eq!(plain(&format!("{}:error={name}", call.name())).value, -i64::from(*number));
        }
    }
}
