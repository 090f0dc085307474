//! Signals of Linux on x86-64, by number.

/// The names of signals by number, from 1 on (signal(7)).
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The process executed an invalid instruction.
pub const SIGILL: i32 = 4;
/// The process met a breakpoint.
pub const SIGTRAP: i32 = 5;
/// The process called abort(3).
pub const SIGABRT: i32 = 6;
/// The process used memory that the kernel cannot provide, such as a page beyond the end of a file.
pub const SIGBUS: i32 = 7;
/// The process divided by 0, for instance.
pub const SIGFPE: i32 = 8;
/// The process used memory that is not mapped.
pub const SIGSEGV: i32 = 11;
/// The default signal of kill(1).
pub const SIGTERM: i32 = 15;
/// The process made a system call that does not exist, or that a filter denies.
pub const SIGSYS: i32 = 31;

/// The name of a signal.
pub fn signal(number: i32) -> String {
    let index = usize::try_from(number).ok().and_then(|it| it.checked_sub(1));
    match index.and_then(|it| NAMES.get(it)) {
        Some(name) => (*name).to_owned(),
        None if number >= 32 => format!("SIGRT_{}", number - 32),
        None => format!("signal {number}"),
    }
}

/// Whether a program gets this signal for what it did itself. (Others come from somebody else, SIGQUIT from a key.)
pub fn is_own(number: i32) -> bool {
    [SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS].contains(&number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_names_of_the_manual() {
        let named =
            [SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGTERM, SIGSYS].map(signal);
        let names =
            ["SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGTERM", "SIGSYS"];
        assert_eq!(named, names);
        assert_eq!([0, 34, -1].map(signal), ["signal 0", "SIGRT_2", "signal -1"]);
    }
}
