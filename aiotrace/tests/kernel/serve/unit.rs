//! What a service manager sees: notifications, and what is left of the privileges.

use std::{
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use super::{Named, Server, value};
use crate::{
    harness::Need,
    support::{PATIENCE, aiotrace},
};

const CAP_SYS_PTRACE: u64 = 1 << 19;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// The capability sets of a thread, by the name of the set.
fn set(status: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(status).unwrap();
    let line = text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(":\t"));
    u64::from_str_radix(line.unwrap(), 16).unwrap()
}

/// The processes below a process.
fn below(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten() {
        let children = std::fs::read_to_string(task.unwrap().path().join("children"));
        for child in children.unwrap_or_default().split_whitespace() {
            let child = child.parse().unwrap();
            found.push(child);
            found.extend(below(child));
        }
    }
    found
}

/// Exactly what is still needed: nothing from Linux 5.19 on, CAP_BPF before; of the helpers, CAP_SYS_PTRACE.
fn no_capability_is_kept_that_is_not_needed() {
    // The rings of other users' processes are read all the same.
    let named = Named::new("ofnobody");
    let _held = named.ready_as_nobody(&["hold-unreaped"]);
    let version = aiotrace::proc::system::kernel_version(&aiotrace::proc::system::release());
    let left = if version < (5, 19) { CAP_BPF } else { 0 };
    for options in [&["--list-only"][..], &["--count", "--interval", "200ms"]] {
        let server = Server::start(options);
        let text = if options.len() > 1 { server.scrape_counted() } else { server.scrape() };
        let unreaped = "aiotrace_unreaped_completions{process=\"ofnobody\"}";
        assert_eq!(value(&text, unreaped), Some(3.0), "{text}");
        let tasks = format!("/proc/{}/task", server.pid());
        let mut threads = 0;
        for task in std::fs::read_dir(&tasks).unwrap() {
            let status = task.unwrap().path().join("status");
            for name in ["CapEff", "CapPrm"] {
                let set = set(&status, name);
                let is_kept = if threads == 0 { set == left } else { set & !left == 0 };
                assert!(is_kept, "{name} of {}: {set:x}, {options:?}", status.display());
            }
            assert_eq!(set(&status, "CapInh") | set(&status, "CapAmb"), 0);
            assert_eq!(set(&status, "CapBnd") & !(CAP_BPF | CAP_PERFMON | CAP_SYS_PTRACE), 0);
            assert_eq!(set(&status, "NoNewPrivs"), 1);
            threads += 1;
        }
        assert!(threads >= 3, "{threads}");
        let helpers = below(server.pid());
        assert!(!helpers.is_empty());
        for pid in helpers {
            let status = format!("/proc/{pid}/status");
            assert_eq!(set(Path::new(&status), "CapPrm"), CAP_SYS_PTRACE, "{pid}");
        }
    }
}

fn the_service_manager_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut bytes = [0; 256];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).trim().to_owned()
    };
    let mut command = aiotrace();
    command.args(["serve", "--count", "--interval", "200ms", "--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
    let mut server = Server::of(&mut command);
    let start = Instant::now();
    let mut seen = Vec::new();
    while start.elapsed() < Duration::from_secs(3) {
        seen.push(next());
    }
    let beats = seen.iter().filter(|it| *it == "WATCHDOG=1").count();
    assert!(seen.contains(&"READY=1".to_owned()) && beats > 8, "{seen:?}");
    // Who does not read what it is told holds the server up.
    server.signal(nix::sys::signal::Signal::SIGTERM);
    while next() != "STOPPING=1" {}
    assert!(server.child.wait().unwrap().success());
}

/// Without a look at the rings, nobody keeps CAP_SYS_PTRACE.
fn no_ring_is_read_without_unreaped() {
    let named = Named::new("notread");
    let _held = named.ready_as_nobody(&["hold-unreaped"]);
    let server = Server::start(&["--list-only", "--no-unreaped"]);
    let text = server.scrape();
    assert_eq!(value(&text, "aiotrace_contexts{process=\"notread\"}"), Some(1.0), "{text}");
    assert!(!text.contains("aiotrace_unreaped_completions{"), "{text}");
    assert!(!text.contains("aiotrace_unread_rings{"), "{text}");
    assert!(text.contains("unreaped completions: --no-unreaped"), "{text}");
    let helpers = below(server.pid());
    assert!(!helpers.is_empty());
    for pid in helpers.into_iter().chain([server.pid()]) {
        let path = format!("/proc/{pid}/status");
        let status = Path::new(&path);
        let kept = set(status, "CapPrm") | set(status, "CapEff") | set(status, "CapBnd");
        assert_eq!(kept & CAP_SYS_PTRACE, 0, "{pid}: {kept:x}");
    }
}

/// The unit of the package: what systemd thinks of it.
fn the_unit_is_hardened() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/systemd/aiotrace.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(text.contains("Type=notify\n") && text.contains("WatchdogSec="), "{text}");
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--threshold=30"]).arg(&unit);
    let output = command.output().expect("systemd-analyze is missing: install systemd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

tests![
    no_capability_is_kept_that_is_not_needed if Need::SLOW,
    no_ring_is_read_without_unreaped if Need::SAME,
    the_service_manager_is_told if Need::SAME,
    the_unit_is_hardened if Need::Native("it needs systemd-analyze"),
];
