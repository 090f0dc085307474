//! What this machine allows, and for each "no" why and what to do.

use std::{fmt::Write as _, path::Path};

use aiotrace_common::{
    abi::Syscall,
    fault::{Rule, action, what},
    names::{self, Feature, Hook},
    settings::{ABSENT, Settings, target},
};
use zerocopy::IntoBytes as _;

use super::machine::{facts, hint, lockdown};
use crate::{
    fault::Mechanism,
    proc,
    source::bpf::{
        self, ProbeSet, Wanted, btf,
        choice::By,
        faults::{Allowed, is_rough},
        features,
        load::{self, Probes},
        machine,
    },
};

/// What this machine allows, in words, and whether tracing works.
pub fn examine() -> (String, bool) {
    let mut out = String::new();
    let works = examine_into(&mut out);
    (out, works)
}

fn examine_into(out: &mut String) -> bool {
    let facts = facts(None);
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<22} {value}");
    };
    row("kernel", &format!("{} {}", proc::system::release(), features::ARCHITECTURE));
    row("user", if facts.root { "root" } else { "not root" });
    row(
        "capabilities",
        if facts.capable { "CAP_BPF and CAP_PERFMON" } else { "missing CAP_BPF or CAP_PERFMON" },
    );
    row(
        "pid namespace",
        match proc::system::pid_namespace() {
            None => "the initial one",
            Some(_) => "not the initial one: ids are shown as seen here",
        },
    );
    row(
        "lockdown",
        &lockdown().unwrap_or_else(|| "unknown (securityfs is not mounted) or none".into()),
    );
    let scope = proc::system::sysctl("kernel/yama/ptrace_scope");
    let scope = scope.as_deref().unwrap_or("none: processes of the same user");
    row("yama.ptrace_scope", scope);
    row(
        "tracefs",
        if Path::new("/sys/kernel/tracing/events").exists() {
            "mounted"
        } else {
            "not mounted (not needed)"
        },
    );
    row("BTF", if facts.btf { btf::VMLINUX } else { "none" });
    let read = |name: &str| proc::system::sysctl(name).unwrap_or_default();
    row("fs.aio-nr", &format!("{} of {}", read("fs/aio-nr"), read("fs/aio-max-nr")));
    probes(out)
}

fn probes(out: &mut String) -> bool {
    let listed = load::check_architecture().and_then(|()| machine::settings(target::LISTED));
    let settings = match listed {
        Ok(settings) => settings,
        Err(error) => return refused(out, &error),
    };
    let offsets = settings.offsets.as_bytes().chunks(4);
    let absent = offsets.filter(|it| *it == ABSENT.to_ne_bytes()).count();
    if absent > 0 {
        let _ = writeln!(out, "\n{absent} kernel fields are not in BTF; what needs them is off");
    }
    // There is no target yet, so attaching the probes affects no process.
    let loaded = |wanted| {
        let mut probes = Probes::load(&settings, wanted, None)?;
        probes.attach()?;
        Ok(probes)
    };
    let mut best = match loaded(Wanted::Auto) {
        Ok(probes) => probes,
        Err(error) => return refused(out, &error),
    };
    table(out, &mut best);
    // Also show the other probe sets, for users who may want to choose one.
    for (name, wanted, by) in [
        ("trampoline", Wanted::Trampoline, By::Trampoline),
        ("syscall", Wanted::Syscall, By::Tracepoint),
    ] {
        if best.set().calls == by {
            continue;
        }
        match loaded(wanted) {
            Ok(mut probes) => table(out, &mut probes),
            Err(error) => {
                let _ = writeln!(out, "\nprobe set {name}: no: {}", bpf::reason(&error));
            }
        }
    }
    let _ = writeln!(out, "\ntracing works");
    consequences(out, best.set());
    faults(out, &settings);
    true
}

/// Says what the reader of a trace will miss because of what the best set lacks.
fn consequences(out: &mut String, set: &ProbeSet) {
    let missing = [
        (
            set.by(Feature::Completions).is_none(),
            "when a request completed is known only as \"not later than the next call, or look\": latencies are \
             upper bounds, and what was in flight at exit is unsure. --source ptrace does not know more",
        ),
        (
            set.by(Feature::Refused).is_none(),
            "why io_submit took fewer requests than it was given is not seen; it shows when the program submits the \
             next one alone",
        ),
        (
            set.by(Feature::Gone).is_none(),
            "ends of contexts are seen at io_destroy, exit and exec; one whose ring is unmapped is found by looking, \
             within seconds",
        ),
        (
            set.by(Feature::Moved).is_none(),
            "a ring that is moved with mremap(2) is noticed at the next call on it",
        ),
        (
            set.calls != By::Trampoline,
            "while a trace runs, every system call of the machine takes some 100 ns longer",
        ),
    ];
    let missing: Vec<&str> = missing.iter().filter(|it| it.0).map(|it| it.1).collect();
    if missing.is_empty() {
        let _ = writeln!(
            out,
            "  nothing is missing: times are exact, and other system calls cost nothing"
        );
    } else {
        let _ = writeln!(out, "  what is missing here means:");
    }
    for it in missing {
        let _ = writeln!(out, "  - {it}");
    }
}

/// What is said of a mechanism that works, but that this kernel sometimes skips.
const ROUGH: &str = "yes; rules that count go by ptrace unless --mechanism asks for it (this kernel skips \
                     programs that are preempted: with several threads some faults are missed, and reported)";

/// Shows which faults can be made, and by which mechanisms.
fn faults(out: &mut String, settings: &Settings) {
    let allowed = match Allowed::find_out(settings, &Mechanism::IN_KERNEL) {
        Ok(allowed) => allowed,
        Err(error) => {
            return by_ptrace_only(out, &bpf::reason(&error));
        }
    };
    let _ = writeln!(out, "\nfaults, by which mechanisms, best first");
    let all = names::CALLS.iter().fold(0, |all, (syscall, _)| all | 1 << what::call(*syscall));
    let kinds = [
        ("error, any call", all, action::ERROR),
        ("error, io_submit", 1 << what::call(Syscall::Submit), action::ERROR),
        ("accept (short submit)", 1 << what::call(Syscall::Submit), action::ACCEPT),
        ("res (completions)", 1 << what::COMPLETE, action::RESULT),
        ("delay", all, action::DELAY_ENTER),
    ];
    for (name, about, action) in kinds {
        let rule = Rule { about, action, ..Rule::NONE };
        let by = |by: &Mechanism| by.delivers(&rule).is_ok() && allowed.can(&rule, *by).is_ok();
        let by: Vec<_> = Mechanism::ALL.into_iter().filter(by).map(Mechanism::text).collect();
        let _ = writeln!(out, "  {name:<24} {}", by.join(", "));
    }
    for (by, works) in &allowed.mechanisms {
        let _ = match works {
            Ok(()) if is_rough(*by) => writeln!(out, "  {:<24} {ROUGH}", by.text()),
            Ok(()) => writeln!(out, "  {:<24} yes", by.text()),
            Err(why) => {
                writeln!(out, "  {:<24} no: {why}; it needs {}", by.text(), by.needs())
            }
        };
    }
    ptrace_row(out);
    let counts = allowed.counting.as_ref().map_or_else(
        |why| format!("no, rules that count go by ptrace: {why}"),
        |()| "yes".to_owned(),
    );
    let _ = writeln!(out, "  {:<24} {counts}", "counting in BPF");
}

fn ptrace_row(out: &mut String) {
    let _ = writeln!(out, "  {:<24} yes: needs {}", "ptrace", Mechanism::Ptrace.needs());
}

fn by_ptrace_only(out: &mut String, why: &str) {
    let _ = writeln!(out, "\nfaults, by ptrace only: {why}");
    ptrace_row(out);
}

/// Shows what a probe set sees, and its programs.
fn table(out: &mut String, probes: &mut Probes) {
    let set = probes.set().clone();
    let _ = writeln!(out, "\nprobe set {}", set.probes());
    let by = |by| match by {
        By::Tracepoint => "tracepoints of all system calls",
        By::Trampoline => "trampolines",
        By::Kprobe => "kprobes",
    };
    let mut row = |what: &str, value: &str| {
        let _ = writeln!(out, "  {what:<24} {value}");
    };
    row("calls", by(set.calls));
    for feature in Feature::ALL {
        let without = match feature {
            Feature::Completions => "from the ring at the next call, with a time window",
            Feature::Refused => "no",
            Feature::Gone => "from io_destroy, exit and exec",
            Feature::Moved => "at the next call on the context",
        };
        row(load::feature_name(feature), set.by(feature).map_or(without, by));
    }
    for refused in &set.refused {
        row("refused", &format!("{}: {}", refused.what, refused.why));
    }
    for program in &set.programs {
        let instructions = probes.verified_instructions(program.name);
        let cost = instructions.map(|it| format!(", {it} instructions verified"));
        let hook = match program.hook {
            Hook::Tracepoint => "tp_btf",
            Hook::Entry => "fentry",
            Hook::Return => "fexit",
            Hook::KprobeEntry => "kprobe",
            Hook::KprobeReturn => "kretprobe",
        };
        let cost = cost.unwrap_or_default();
        let _ = writeln!(out, "  {:<24} yes ({hook}/{}{cost})", program.name, program.at);
    }
    probes.detach();
}

fn refused(out: &mut String, error: &bpf::Error) -> bool {
    let _ = writeln!(out, "\nprobes: no: {}", bpf::reason(error));
    let _ = writeln!(out, "\ntracing with probes does not work: {}", hint(error));
    by_ptrace_only(out, "there are no probes");
    false
}
