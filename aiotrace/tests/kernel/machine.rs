//! Where the tests run, and what they can expect there.

use std::sync::OnceLock;

use super::{
    kernels::{KERNELS, Kernel, Skips},
    support::aiotrace,
};

/// Whether a 64-bit program can make the calls of 32-bit programs.
pub const HAS_32_BIT_ENTRY: bool = cfg!(target_arch = "x86_64");

/// The row of this guest; `None`: we run natively.
pub fn guest() -> Option<&'static Kernel> {
    let name = std::env::var("AIOTRACE_GUEST").ok().filter(|it| !it.is_empty())?;
    KERNELS.iter().find(|it| it.name == name)
}

/// The probe set under test: `auto`, one of `--probes`, `ptrace`, or `ptrace-no-seccomp`.
pub fn set() -> &'static str {
    static SET: OnceLock<String> = OnceLock::new();
    SET.get_or_init(|| {
        let set = std::env::var("AIOTRACE_PROBES").unwrap_or_default();
        if set.is_empty() { "auto".to_owned() } else { set }
    })
}

/// Whether the source under test is ptrace.
pub fn is_ptrace() -> bool {
    set().starts_with("ptrace")
}

/// The options that select the probe set under test.
pub fn set_options() -> &'static [&'static str] {
    match set() {
        "auto" => &[],
        "ptrace" => &["--source", "ptrace"],
        "ptrace-no-seccomp" => &["--source", "ptrace", "--no-seccomp"],
        set => [&["--probes", "trampoline"][..], &["--probes", "kprobe"], &["--probes", "syscall"]]
            .into_iter()
            .find(|it| it[1] == set)
            .expect("AIOTRACE_PROBES is the name of a probe set"),
    }
}

/// Whether this kernel may skip runs of probes. aiotrace reports each skipped run as lost; the event itself may
/// still have been seen.
pub fn skips_runs() -> bool {
    guest().is_some_and(|it| it.skips_runs)
}

/// Whether the probe set under test misses events when the kernel skips runs.
pub fn may_skip() -> bool {
    guest().is_some_and(|it| {
        let set = if set() == "auto" { it.best } else { set() };
        it.skipped.contains(&set)
    })
}

/// Whether completions are seen when they happen, even if nobody reaps them, and the errno of each refused iocb.
pub fn sees_inside() -> bool {
    match (guest(), set()) {
        (_, "trampoline" | "kprobe") => true,
        (_, "syscall" | "ptrace" | "ptrace-no-seccomp") => false,
        (Some(_), _) => true,
        (None, _) => ["trampolines", "kprobes"].contains(&doctor_says("completions")),
    }
}

/// Whether the probes, or ptrace, see synchronous calls: those at all system calls do.
pub fn watches() -> bool {
    let has_both = guest().is_some_and(|it| it.best.starts_with("syscall"));
    !sees_inside() || (set() == "auto" && has_both)
}

/// Whether a clock counts instructions here (`cargo xtask vm --cost`).
pub fn counts_instructions() -> bool {
    std::env::var_os("AIOTRACE_COST").is_some_and(|it| !it.is_empty())
}

/// Whether this mechanism can make faults here; natively, aiotrace itself is asked.
pub fn has(mechanism: &str) -> bool {
    match guest() {
        _ if mechanism == "ptrace" => true,
        Some(kernel) => kernel.mechanisms.iter().any(|it| it.0 == mechanism),
        None => doctor_says(mechanism).starts_with("yes"),
    }
}

/// Whether the kernel never skips a program of this mechanism.
pub fn is_exact(mechanism: &str) -> bool {
    match guest() {
        _ if mechanism == "ptrace" => true,
        Some(kernel) => kernel.mechanisms.contains(&(mechanism, Skips::Never)),
        None => !doctor_says(mechanism).contains("skips programs"),
    }
}

/// Whether rules that count can be decided in the kernel.
pub fn can_count() -> bool {
    guest().map_or_else(|| doctor_says("counting in BPF").starts_with("yes"), |it| it.counts)
}

/// The output of `aiotrace doctor`, which runs only once.
pub fn doctor() -> &'static str {
    static DOCTOR: OnceLock<String> = OnceLock::new();
    DOCTOR.get_or_init(|| {
        let output = aiotrace().arg("doctor").output().expect("aiotrace can be started");
        String::from_utf8(output.stdout).expect("UTF-8")
    })
}

/// The line of `aiotrace doctor` that begins with this.
pub fn doctor_says(about: &str) -> &'static str {
    let mut lines = doctor().lines().filter_map(|it| it.trim_start().strip_prefix(about));
    lines.next().map_or("", str::trim_start)
}

/// The machine and the probe set, in words.
pub fn name() -> String {
    let release = release();
    let guest = std::env::var("AIOTRACE_GUEST").ok().filter(|it| !it.is_empty());
    let guest = guest.map_or_else(|| "this machine".to_owned(), |it| format!("guest {it}"));
    format!("{guest} (Linux {release}), probe set {}", set())
}

fn release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// All tests run here, also those that one guest, or one source of events, is enough for (`cargo xtask vm --everywhere`,
/// or with a filter; `cargo xtask test --long`).
pub fn runs_everything() -> bool {
    std::env::var_os("AIOTRACE_EVERYWHERE").is_some_and(|it| !it.is_empty())
}

/// How long a test watches something in which nothing may happen: a minute if there is time.
pub fn a_while() -> std::time::Duration {
    std::time::Duration::from_secs(if runs_everything() { 60 } else { 15 })
}

/// That the tests can be run here. Says what may be in their way.
pub fn check() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("these tests load programs into the kernel: run them as root, by \
                    `cargo xtask test`"
            .to_owned());
    }
    if let Some(name) = std::env::var("AIOTRACE_GUEST").ok().filter(|it| !it.is_empty()) {
        let Some(kernel) = guest() else {
            return Err(format!(
                "nothing is known of the kernel {name}: add a row to \
                 aiotrace/tests/kernel/kernels.rs"
            ));
        };
        if !release().starts_with(kernel.release) {
            return Err(format!(
                "the kernel of {name} is {}, not {}*: name the right file, or mend \
                 aiotrace/tests/kernel/kernels.rs",
                release(),
                kernel.release
            ));
        }
    }
    let number = |name: &str| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/{name}")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    let (used, mut most) = (number("aio-nr"), number("aio-max-nr"));
    if most < DEFAULT_LIMIT {
        // A test that lowers the limit was killed before it could put it back.
        eprintln!("fs.aio-max-nr is {most}: it is set to the kernel's own {DEFAULT_LIMIT} again");
        if std::fs::write("/proc/sys/fs/aio-max-nr", DEFAULT_LIMIT.to_string()).is_ok() {
            most = DEFAULT_LIMIT;
        }
    }
    if used + ROOM > most {
        eprintln!(
            "fs.aio-nr is {used} of fs.aio-max-nr {most}: the tests need room for {ROOM}, and some will \
             fail. `aiotrace ls` says who holds it; `sysctl fs.aio-max-nr={}` makes room",
            used + ROOM
        );
    }
    Ok(())
}

/// fs.aio-max-nr of a kernel on which nobody has changed it (`aio_max_nr` of fs/aio.c).
const DEFAULT_LIMIT: u64 = 0x10000;

/// The largest charge that a test takes from fs.aio-nr.
const ROOM: u64 = 32_768;
