//! The kernels of the virtual machines, and what each can do: the tests expect this, and do not ask the program under
//! test. xtask reads this table, too.

/// A kernel, and how it is booted.
#[derive(Debug)]
pub struct Kernel {
    /// The guest's name. The kernel's file is `vmlinuz-NAME`, without the comma and what follows it, and without
    /// `-arm64` at its end.
    pub name: &'static str,
    /// The kernel's architecture, as Rust names it.
    pub arch: &'static str,
    /// The beginning of its release.
    pub release: &'static str,
    /// The probe set that aiotrace takes if none is named.
    pub best: &'static str,
    /// Mechanisms of faults, and whether the kernel may skip their programs.
    pub mechanisms: &'static [(&'static str, Skips)],
    /// BPF programs can count.
    pub counts: bool,
    /// The kernel can be preempted, and skips some runs of probes while another thread is preempted in one;
    /// aiotrace says so (docs/reference/kernels.md).
    pub skips_runs: bool,
    /// Probe sets that miss events when runs are skipped. (With kprobes only a second look at each return is
    /// skipped, so nothing is missed.)
    pub skipped: &'static [&'static str],
    /// The same kernel is in another row: tests of what faults do run, and the share of this guest. (What else the
    /// other guest runs, with each probe set, would prove nothing more.)
    pub is_again: bool,
    /// Which of the [`SHARES`] this guest runs, of the tests that one guest is enough for.
    pub share: Option<usize>,
    /// A 32-bit program may give 32-bit times (CONFIG_COMPAT_32BIT_TIME).
    pub has_32_bit_times: bool,
    /// Additional parameters of the kernel's command line.
    pub parameters: &'static str,
    /// The processor that QEMU emulates.
    pub processor: &'static str,
}

/// How many guests divide the tests that one guest is enough for: those with the same kernel.
pub const SHARES: usize = 3;

/// Whether the kernel skips runs of a mechanism's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skips {
    Never,
    Sometimes,
}

use Skips::{Never, Sometimes};

/// The table, measured (docs/reference/faults.md, Mechanisms; docs/reference/kernels.md).
pub const KERNELS: [Kernel; 11] = [
    Kernel { name: "5.10-debian", release: "5.10.", counts: false, ..DEBIAN },
    Kernel { name: "6.1-debian", release: "6.1.", ..DEBIAN },
    Kernel { name: "6.12-debian", release: "6.12.", share: Some(0), ..DEBIAN },
    // Lockdown forbids BPF to write into the memory of programs, but not to read it.
    Kernel {
        name: "6.12-debian,lockdown",
        release: "6.12.",
        mechanisms: &[("file_permission", Never)],
        is_again: true,
        share: Some(1),
        parameters: "lockdown=integrity",
        ..DEBIAN
    },
    // This kernel has error injection, and so override (`cargo xtask kernel`).
    Kernel {
        name: "6.12-override",
        release: "6.12.",
        mechanisms: &[
            ("fmod_ret", Never),
            ("override", Never),
            ("file_permission", Never),
            ("write_user", Never),
        ],
        is_again: true,
        share: Some(2),
        has_32_bit_times: false,
        ..DEBIAN
    },
    Kernel {
        name: "6.18-debian",
        release: "6.18.",
        best: "kprobe",
        mechanisms: &[("file_permission", Sometimes), ("write_user", Never)],
        skips_runs: true,
        skipped: &["trampoline"],
        ..DEBIAN
    },
    Kernel {
        name: "7.2-debian",
        release: "7.2.",
        best: "kprobe",
        mechanisms: &[
            ("fmod_ret", Sometimes),
            ("file_permission", Sometimes),
            ("write_user", Sometimes),
        ],
        skips_runs: true,
        skipped: &["trampoline", "syscall"],
        ..DEBIAN
    },
    // Without DYNAMIC_FTRACE_WITH_DIRECT_CALLS there are no trampolines to kernel functions.
    Kernel {
        name: "6.1-debian-arm64",
        release: "6.1.",
        best: "syscall+kprobe",
        mechanisms: &[("write_user", Never)],
        ..ARM
    },
    Kernel { name: "6.12-debian-arm64", release: "6.12.", ..ARM },
    // This processor signs return addresses, and its guest runs the test of that only.
    Kernel { name: SIGNS, release: "6.12.", processor: "max,pauth-impdef=on", ..ARM },
    Kernel {
        name: "7.2-debian-arm64",
        release: "7.2.",
        best: "kprobe",
        mechanisms: &[
            ("fmod_ret", Sometimes),
            ("file_permission", Sometimes),
            ("write_user", Sometimes),
        ],
        skips_runs: true,
        skipped: &["trampoline", "syscall"],
        ..ARM
    },
];

/// The guest whose processor signs return addresses.
pub const SIGNS: &str = "6.12-debian-arm64,signs";

const ARM: Kernel = Kernel { arch: "aarch64", processor: "cortex-a72", ..DEBIAN };

const DEBIAN: Kernel = Kernel {
    name: "",
    arch: "x86_64",
    release: "",
    best: "trampoline",
    mechanisms: &[("file_permission", Never), ("write_user", Never)],
    counts: true,
    skips_runs: false,
    skipped: &[],
    is_again: false,
    share: None,
    has_32_bit_times: true,
    parameters: "",
    // `max` crashes some kernels.
    processor: "qemu64",
};
