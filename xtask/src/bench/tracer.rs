//! The tools that trace: aiotrace in several ways, the tools that people use, and the least that
//! can be done with tracepoints.

use super::workload::Workload::{self, Batch, Disk, Getppid, Other, Pair, Tmpfs};

/// A tool and how it is used.
#[derive(Debug)]
pub struct Tracer {
    /// The tool's part of a row's name.
    pub name: &'static str,
    /// The command. `{pid}` stands for the target, `{out}` for the file to write, and `{aiotrace}`,
    /// `{floor}` and `{object}` for what is built here. A word `{command}` stands for the
    /// workload's command, which the tool starts.
    pub command: &'static [&'static str],
    /// How to know that the tool traces.
    pub ready: Ready,
    /// Whether the tool stops the target at each call: fewer calls are made then.
    pub is_slow: bool,
    /// The workloads with which the tool is measured.
    pub on: &'static [Workload],
}

/// How to know that a tool is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It says so on stderr, with this text.
    Says(&'static str),
    /// It waits in poll or epoll_wait, which it does once it has attached everything.
    Polls,
    /// It starts the target itself.
    Launches,
}

impl Tracer {
    /// Whether the tool starts the target.
    pub fn launches(&self) -> bool {
        self.ready == Ready::Launches
    }

    /// Whether the tool is aiotrace.
    pub fn is_ours(&self) -> bool {
        self.command.first() == Some(&"{aiotrace}")
    }

    /// How many events the tool lost, by what it wrote; `None` if it does not say.
    pub fn lost(&self, stderr: &str, output: &str) -> Option<u64> {
        let number = |text: &str| text.replace(',', "").parse::<u64>().ok();
        let sum_after = |text: &str, word: &str| -> u64 {
            text.lines()
                .filter_map(|line| number(line.split_once(word)?.1.split_whitespace().next()?))
                .sum()
        };
        match *self.command.first()? {
            "{aiotrace}" => {
                let line = stderr.lines().rev().find(|it| it.contains(" events in "))?;
                let lost = line.split_once(" s, ")?.1.split_whitespace().next()?;
                if lost == "none" { Some(0) } else { number(lost) }
            }
            "{floor}" => {
                let line = stderr.lines().find(|it| it.contains(" records, "))?;
                number(line.split_whitespace().nth(2)?)
            }
            // strace stops the target at each call, so nothing is lost.
            "strace" => Some(0),
            "perf" => Some(sum_after(output, "LOST ")),
            _ => Some(sum_after(stderr, "Lost ") + sum_after(output, "Lost ")),
        }
    }
}

const ATTACHED: Ready = Ready::Says("tracing begins");
const LOOPS: &[Workload] = &[Pair, Batch, Getppid, Other, Disk, Tmpfs];
const TRACED: &[Workload] = &[Pair, Batch, Getppid, Disk, Tmpfs];

/// aiotrace, attached.
const fn aiotrace(name: &'static str, command: &'static [&'static str]) -> Tracer {
    Tracer { name, command, ready: ATTACHED, is_slow: false, on: LOOPS }
}

const AIO: &str = "trace=io_setup,io_submit,io_getevents,io_pgetevents,io_cancel,io_destroy";

/// tracefs is not mounted everywhere, and bpftrace does not mount it: mount it in a mount namespace
/// of the tool's own.
const BPFTRACE: &str = "mountpoint -q /sys/kernel/tracing || mount -t tracefs none /sys/kernel/tracing; \
                        exec bpftrace -o \"$0\" -e \"$1\"";

/// All tools, each in the ways in which it is measured.
pub const TRACERS: &[Tracer] = &[
    Tracer {
        name: "floor: two empty programs",
        command: &["{floor}", "{object}", "empty", "{pid}"],
        ready: Ready::Says("ready"),
        is_slow: false,
        on: &[Pair, Getppid],
    },
    Tracer {
        name: "floor: four records of 64 bytes",
        command: &["{floor}", "{object}", "ring", "{pid}"],
        ready: Ready::Says("ready"),
        is_slow: false,
        on: &[Pair, Getppid],
    },
    aiotrace("aiotrace, text", &["{aiotrace}", "attach", "-p", "{pid}", "-o", "{out}"]),
    Tracer {
        on: &[Pair, Batch, Disk, Tmpfs],
        ..aiotrace(
            "aiotrace --format json",
            &["{aiotrace}", "attach", "-p", "{pid}", "--format", "json", "-o", "{out}"],
        )
    },
    Tracer {
        on: &[Pair, Batch, Disk, Tmpfs],
        ..aiotrace(
            "aiotrace -q --record",
            &["{aiotrace}", "attach", "-p", "{pid}", "-q", "--record", "{out}", "-o", "/dev/null"],
        )
    },
    Tracer {
        on: &[Pair, Batch],
        ..aiotrace(
            "aiotrace -v --stacks",
            &["{aiotrace}", "attach", "-p", "{pid}", "-v", "--stacks", "-o", "{out}"],
        )
    },
    aiotrace("aiotrace -c", &["{aiotrace}", "attach", "-p", "{pid}", "-c", "-o", "{out}"]),
    Tracer {
        on: &[Pair, Batch],
        ..aiotrace(
            "aiotrace -c --requests",
            &["{aiotrace}", "attach", "-p", "{pid}", "-c", "--requests", "-o", "{out}"],
        )
    },
    Tracer {
        on: &[Pair],
        ..aiotrace(
            "aiotrace, text, --dry-run",
            &[
                "{aiotrace}",
                "attach",
                "-p",
                "{pid}",
                "-o",
                "{out}",
                "--inject",
                "io_submit:error=EAGAIN:when=1000000000",
                "--dry-run",
            ],
        )
    },
    Tracer {
        name: "aiotrace --source ptrace",
        command: &["{aiotrace}", "attach", "-p", "{pid}", "--source", "ptrace", "-o", "{out}"],
        ready: ATTACHED,
        is_slow: true,
        on: TRACED,
    },
    Tracer {
        name: "strace",
        command: &["strace", "-p", "{pid}", "-f", "-e", AIO, "-o", "{out}"],
        ready: Ready::Says(" attached"),
        is_slow: true,
        on: TRACED,
    },
    Tracer {
        name: "strace -c",
        command: &["strace", "-c", "-p", "{pid}", "-f", "-e", AIO, "-o", "{out}"],
        ready: Ready::Says(" attached"),
        is_slow: true,
        on: &[Pair],
    },
    Tracer {
        name: "aiotrace run --source ptrace",
        command: &["{aiotrace}", "run", "--source", "ptrace", "-o", "{out}", "--", "{command}"],
        ready: Ready::Launches,
        is_slow: true,
        on: &[Pair, Getppid, Tmpfs],
    },
    Tracer {
        name: "strace --seccomp-bpf",
        command: &["strace", "-f", "--seccomp-bpf", "-e", AIO, "-o", "{out}", "{command}"],
        ready: Ready::Launches,
        is_slow: true,
        on: &[Pair, Getppid, Tmpfs],
    },
    Tracer {
        name: "perf trace",
        command: &["perf", "trace", "-p", "{pid}", "-e", "io_*", "-o", "{out}"],
        ready: Ready::Polls,
        is_slow: true,
        on: &[Pair, Batch, Getppid, Other],
    },
    // perf trace, when attached, does not see threads that begin later, and one such thread does
    // fio's work.
    Tracer {
        name: "perf trace",
        command: &["perf", "trace", "-e", "io_*", "-o", "{out}", "{command}"],
        ready: Ready::Launches,
        is_slow: true,
        on: &[Disk, Tmpfs],
    },
    Tracer {
        name: "bpftrace, histogram",
        command: &[
            "unshare",
            "-m",
            "sh",
            "-c",
            BPFTRACE,
            "{out}",
            "tracepoint:syscalls:sys_enter_io_submit, tracepoint:syscalls:sys_enter_io_getevents \
             /pid == {pid}/ { @start[tid] = nsecs; } \
             tracepoint:syscalls:sys_exit_io_submit, tracepoint:syscalls:sys_exit_io_getevents \
             /@start[tid]/ { @[probe] = hist(nsecs - @start[tid]); delete(@start[tid]); }",
        ],
        ready: Ready::Polls,
        is_slow: false,
        on: LOOPS,
    },
    Tracer {
        name: "bpftrace, printf",
        command: &[
            "unshare",
            "-m",
            "sh",
            "-c",
            BPFTRACE,
            "{out}",
            "tracepoint:syscalls:sys_exit_io_submit, tracepoint:syscalls:sys_exit_io_getevents \
             /pid == {pid}/ { printf(\"%d %s %d\\n\", tid, probe, args->ret); }",
        ],
        ready: Ready::Polls,
        is_slow: false,
        on: &[Pair, Disk, Tmpfs],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tool_says_it_lost_is_read() {
        let of = |name: &str, stderr: &str, output: &str| {
            TRACERS.iter().find(|it| it.name == name).and_then(|it| it.lost(stderr, output))
        };
        let none = "aiotrace: 990,004 events in 2.1 s, none lost\n";
        assert_eq!(of("aiotrace, text", none, ""), Some(0));
        let some = "aiotrace: 10 events in 2.1 s, 1,004 LOST: 1,004 no room in the ring buffer\n";
        assert_eq!(of("aiotrace, text", some, ""), Some(1004));
        assert_eq!(of("aiotrace, text", "killed", ""), None);
        assert_eq!(of("perf trace", "", "a\nLOST 12 events!\nLOST 3 events!\n"), Some(15));
        assert_eq!(of("bpftrace, printf", "Lost 7 events\n", "x\n"), Some(7));
        assert_eq!(of("floor: four records of 64 bytes", "8 records, 2 lost (0)", ""), Some(2));
    }
}
