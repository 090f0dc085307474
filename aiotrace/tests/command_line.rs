//! The command line without a kernel: how wrong use is refused, and what the answers say. The tests need no root.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "shared/schema.rs"]
mod schema;
#[path = "command_line/shells.rs"]
mod shells;

use std::process::{Command, Output};

fn aiotrace(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aiotrace")).args(arguments).output().unwrap()
}

fn stderr(arguments: &[&str], status: i32) -> String {
    let output = aiotrace(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

#[test]
fn a_target_is_required_and_there_is_one_kind_of_it() {
    // It says who uses AIO now, if somebody does.
    let text = stderr(&["attach"], 2);
    assert!(text.starts_with("aiotrace: which process?") && text.contains("-p "), "{text}");
    assert!(stderr(&["attach", "-a", "-p", "1"], 2).contains("cannot be used with"));
    assert!(stderr(&["attach", "--unit", "a", "-p", "1"], 2).contains("cannot be used with"));
    let text = stderr(&["attach", "-p", "no-such-name"], 2);
    assert!(text.contains("no process has the name no-such-name"), "{text}");
    let text = stderr(&["attach", "--unit", "no-such-unit"], 2);
    assert!(text.contains("no unit no-such-unit.service runs here"), "{text}");
    assert!(stderr(&["attach", "-p", ""], 2).contains("does the program run?"));
    assert!(stderr(&["run"], 125).contains("<CMD>"));
}

#[test]
fn a_process_that_is_not_there_is_said_so_before_anything_else() {
    // Larger than any pid (PID_MAX_LIMIT is 4,194,304).
    let text = stderr(&["attach", "-p", "4194305"], 2);
    assert!(text.contains("no such process: 4194305"), "{text}");
    assert!(text.contains("`pidof NAME`"), "{text}");
}

/// The processes of that name are said, and no other is taken.
#[test]
fn a_process_can_be_named() {
    let output =
        aiotrace(&["attach", "--source", "ptrace", "-p", "command_line-no,1x", "-d", "1ms"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("no process has the name command_line-no"), "{text}");
    let ours = std::fs::read_to_string("/proc/self/comm").unwrap();
    // A rule that is refused ends it before anything is traced.
    let arguments =
        ["attach", "-p", ours.trim(), "--inject", "io_submit:error=EAGAIN", "--source", "bpf"];
    let output = aiotrace(&[&arguments[..], &["--mechanism", "ptrace"]].concat());
    let text = String::from_utf8(output.stderr).unwrap();
    let named =
        text.lines().find_map(|it| it.strip_prefix(&format!("aiotrace: {} is ", ours.trim())));
    let us = std::process::id().to_string();
    assert!(named.is_some_and(|it| it.split(", ").any(|pid| pid == us)), "{text}");
}

#[test]
fn without_a_command_there_are_five_to_try() {
    let text = stderr(&[], 2);
    let tries: Vec<&str> = text.lines().filter(|it| it.starts_with("  aiotrace ")).collect();
    assert_eq!(tries.len(), 5, "{text}");
    assert!(text.lines().count() < 12, "{text}");
}

#[test]
fn a_program_that_cannot_be_executed_is_one_line() {
    for (program, status, why) in [
        ("no-such-program", 127, "ENOENT"),
        ("/etc/passwd", 126, "EACCES"),
        ("/tmp", 126, "EACCES"),
    ] {
        let output = aiotrace(&["run", "--", program]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{program}: {text}");
        assert!(text.starts_with(&format!("aiotrace: cannot execute {program}: {why}")), "{text}");
        assert_eq!((text.lines().count(), output.stdout.len()), (1, 0), "{text}");
    }
}

#[test]
fn wrong_values_say_what_is_right() {
    let text = stderr(&["attach", "-a", "-d", "soon"], 2);
    assert!(text.contains("write for instance 500ms, 10s or 2m"), "{text}");
    // The shortest time is accepted; days are refused, as the message says.
    let [small, days] = ["1ns", "1d"].map(|it| stderr(&["attach", "-p", "4194305", "-d", it], 2));
    assert!(small.contains("no such process"), "{small}");
    assert!(days.contains("\"1d\" is not a time: write for instance 500ms, 10s or 2m"), "{days}");
    for bad in ["0", "0s", "-1s"] {
        let text = stderr(&["attach", "-a", "-d", bad], 2);
        assert!(text.contains("is not a time: write for instance 500ms"), "{text}");
    }
    assert!(stderr(&["attach", "-p", "0"], 2).contains("no such process: 0"));
    let text = stderr(&["attach", "-a", "--format", "xml"], 2);
    assert!(text.contains("text, json"), "{text}");
}

/// Nothing is fetched from nowhere, and the program is not begun.
#[test]
fn debug_information_cannot_be_fetched_without_servers() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_aiotrace"))
        .args(["run", "--debuginfod", "--", "sh", "-c", "echo begun"])
        .env_remove("DEBUGINFOD_URLS")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(output.stdout.is_empty());
    assert!(text.starts_with("aiotrace: --debuginfod: DEBUGINFOD_URLS is not set\n"), "{text}");
    assert!(text.contains("--preserve-env=DEBUGINFOD_URLS"), "{text}");
}

#[test]
fn faults_that_cannot_be_meant_are_refused() {
    let rule = "io_submit:error=EAGAIN";
    assert!(stderr(&["attach", "-a", "--inject", rule], 2).contains("faults need a target"));
    assert!(stderr(&["attach", "-p", "1", "--inject", rule], 2).contains("no faults in process 1"));
    let wrong = "io_submit:error=EAGIAN";
    let marked = "io_submit:error=EAGIAN\n                ^^^^^^ no errno has this name";
    assert!(stderr(&["attach", "-p", "1", "--inject", wrong], 2).contains(marked));
    assert!(stderr(&["run", "--inject", wrong, "--", "true"], 125).contains(marked));
    let text = stderr(&["run", "--inject", "io_submit:accept=0", "--", "true"], 125);
    assert!(
        text.contains("io_submit:accept=0\n                 ^ io_submit never returns 0"),
        "{text}"
    );
    assert!(stderr(&["attach", "-p", "1", "--seed", "3"], 2).contains("--inject <RULE>"));
    assert!(stderr(&["run", "--dry-run", "--", "true"], 125).contains("--inject <RULE>"));
    let many = [&["run"][..], &["--inject", rule].repeat(17), &["--", "true"]].concat();
    assert!(stderr(&many, 125).contains("17 rules are too many: 16 at most"));
}

/// Options, targets and rules are refused here, all without a kernel.
#[test]
fn what_is_refused_leaves_the_files_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let rule = "io_submit:error=EAGAIN";
    for option in ["-o", "--record"] {
        let file = directory.path().join("kept");
        std::fs::write(&file, "mine").unwrap();
        let name = file.to_str().unwrap();
        let mechanism = ["--mechanism", "ptrace"];
        for refused in [
            &["-p", "1", "--inject", rule][..],
            &["-a", "--inject", rule],
            &["-a", "--inject", rule, mechanism[0], mechanism[1]],
            &["-a", "--source", "ptrace"],
            &["-p", "4194305"],
        ] {
            stderr(&[&["attach", option, name][..], refused].concat(), 2);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine", "{option} {refused:?}");
        }
    }
}

/// As root: another user has put the link into a directory that others can write to.
#[test]
fn a_link_that_somebody_else_put_there_is_not_followed() {
    use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let of = |name: &str| directory.path().join(name);
    let (open, meant, link) = (of("open"), of("meant"), of("open/link"));
    std::fs::create_dir(&open).unwrap();
    let report =
        |to: &std::path::Path| report(&["-o", to.to_str().unwrap()], recording("pairs").path());
    for mode in [0o777, 0o1777, 0o775] {
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::write(&meant, "mine").unwrap();
        symlink(&meant, &link).unwrap();
        lchown(&link, Some(65534), None).unwrap();
        let refused = report(&link);
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{text}");
        assert!(
            text.contains("on its way is a symbolic link of user 65534 in a directory"),
            "{text}"
        );
        assert!(text.contains("write to a directory of your own"), "{text}");
        assert_eq!(std::fs::read_to_string(&meant).unwrap(), "mine");
        // A link of our own is followed, and so is a link in a directory where nobody else can put one.
        lchown(&link, Some(0), None).unwrap();
        assert_eq!(report(&link).status.code(), Some(0));
        assert!(std::fs::read_to_string(&meant).unwrap().contains("io_submit"));
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
        lchown(&link, Some(65534), None).unwrap();
        assert_eq!(report(&link).status.code(), Some(0));
        std::fs::remove_file(&link).unwrap();
        // The same with a link that is a directory on the way to the file.
        let (elsewhere, way) = (of("elsewhere"), of("open/way"));
        let _ = std::fs::create_dir(&elsewhere);
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(mode)).unwrap();
        symlink("../elsewhere", &way).unwrap();
        lchown(&way, Some(65534), None).unwrap();
        let text = String::from_utf8(report(&way.join("new")).stderr).unwrap();
        assert!(text.contains("on its way is a symbolic link of user 65534"), "{text}");
        assert!(!elsewhere.join("new").exists());
        lchown(&way, Some(0), None).unwrap();
        assert_eq!(report(&way.join("../open/way/new")).status.code(), Some(0));
        assert!(elsewhere.join("new").exists());
        std::fs::remove_dir_all(&elsewhere).unwrap();
        std::fs::remove_file(&way).unwrap();
    }
}

/// Otherwise `-o`, `--record` and `report` would wait for 45 s (fs.lease-break-time).
#[test]
fn a_lease_on_a_file_is_not_waited_for() {
    use std::os::fd::AsRawFd as _;

    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler runs; the kernel sends the signal to ask us for the lease.
    unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "").unwrap();
    let path = path.to_str().unwrap();
    let leased = std::fs::File::open(path).unwrap();
    // SAFETY: fcntl touches no memory here.
    assert_eq!(unsafe { libc::fcntl(leased.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) }, 0);
    for arguments in
        [vec!["report", path], vec!["run", "--source", "ptrace", "-o", path, "--", "true"]]
    {
        let output = aiotrace(&arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("somebody holds a lease on it"), "{arguments:?}: {text}");
    }
}

#[test]
fn the_help_fits_a_terminal() {
    for command in [
        &["--help"][..],
        &["attach", "-h"],
        &["run", "-h"],
        &["ls", "-h"],
        &["top", "-h"],
        &["serve", "-h"],
        &["explain", "-h"],
    ] {
        let output = aiotrace(command);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(!text.contains('\x1b'), "no colours where there is no terminal");
    }
    let [short, long] = ["-h", "--help"].map(|it| aiotrace(&["attach", it]).stdout);
    let lines = |text: &[u8]| text.split(|it| *it == b'\n').count();
    assert!(lines(&short) < 60 && lines(&long) > 2 * lines(&short), "{}", lines(&short));
    insta::assert_snapshot!(String::from_utf8(short).unwrap());
}

#[test]
fn an_errno_is_explained() {
    let text = String::from_utf8(aiotrace(&["explain", "io_setup", "EAGAIN"]).stdout).unwrap();
    insta::assert_snapshot!(text);
    let same = aiotrace(&["explain", "io_setup", "-11"]);
    assert_eq!(String::from_utf8(same.stdout).unwrap(), text, "numbers will do");
    let all = String::from_utf8(aiotrace(&["explain", "io_cancel"]).stdout).unwrap();
    assert!(all.contains("io_cancel EINPROGRESS"), "{all}");
    let text = stderr(&["explain", "io_uring"], 2);
    assert!(text.contains("the calls are io_setup, "), "{text}");
    assert!(text.contains("the findings are context-leak, "), "{text}");
    assert!(stderr(&["explain", "io_setup", "EGAIN"], 2).contains("\"EGAIN\" is no errno"));
    let text = stderr(&["explain", "io_setup", "EPIPE"], 2);
    assert!(
        text.contains("io_setup is not known to return EPIPE; it returns EAGAIN, EFAULT"),
        "{text}"
    );
}

/// A user can ask for whatever an output says: an errno, a verdict, a word.
#[test]
fn each_word_of_an_output_is_explained() {
    let explain = |words: &[&str]| {
        let output = aiotrace(&[&["explain"], words].concat());
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (word, says) in [
        ("EBADF", "io_submit EBADF (Bad file descriptor)"),
        ("EIO", "completion res=-5 EIO"),
        ("retried", "the program tried again"),
        ("lost", "were never submitted again"),
        ("unsure", "what was not seen may have happened"),
        // The advice would make things worse where each request waits.
        ("blocking-submit", "it helps only where that is rare"),
    ] {
        let text = explain(&[word]);
        assert!(text.contains(says), "{word}: {text}");
    }
    for arguments in [&["io_cancel"][..], &["io_cancel", "EINVAL"]] {
        let text = explain(arguments);
        assert!(text.contains("aio_key of the iocb is not 0"), "{text}");
        assert!(text.contains("no request of an iocb at this address is in flight"), "{text}");
    }
}

#[test]
fn a_finding_is_explained() {
    let explain = |name: &[&str]| {
        let output = aiotrace(&[&["explain"], name].concat());
        assert_eq!(output.status.code(), Some(0), "{name:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        // Tables of the document are not for a terminal.
        assert!(text.lines().all(|line| line.chars().count() <= 88), "{text}");
        text
    };
    insta::assert_snapshot!(explain(&["unreaped-completions"]));
    for name in aiotrace::model::Name::ALL {
        let text = explain(&[name.text()]);
        assert!(text.starts_with(&format!("{}\n  severity  ", name.text())), "{text}");
        assert!(text.contains("\n  do        "), "{text}");
    }
    let all = explain(&[]);
    assert!(all.contains("\n  short-io ") && all.contains("\n  io_cancel "), "{all}");
    let text = stderr(&["explain", "short-io", "EIO"], 2);
    assert!(text.contains("short-io stands alone"), "{text}");
}

/// `report` reads recordings that are seeds of the fuzz targets, without a kernel or root, on any machine: that of
/// `arm64` was made there, of a 32-bit program, and the others on x86-64.
#[test]
fn a_recording_is_told_again() {
    for name in ["pairs", "short", "pending", "faults", "arm64"] {
        let file = recording(name);
        for (form, options) in [
            ("text", &["--color", "never"][..]),
            ("json", &["--format", "json"]),
            ("summary", &["-c"]),
        ] {
            let output = report(options, file.path());
            assert_eq!(output.status.code(), Some(0), "{name}, {form}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.lines().count() > 3, "{name}, {form}: {text}");
            if form == "json" {
                text.lines().for_each(schema::check);
                // The recorded workload was stripped, so its recording names no file of the machine that built it.
                assert!(!text.contains(".rs\""), "{name}");
            }
            insta::assert_snapshot!(format!("report_{name}_{form}"), text);
        }
    }
    let fails = report(&["-q", "--fail-on", "info"], recording("short").path());
    assert_eq!(fails.status.code(), Some(1), "a finding that is asked for");
}

#[test]
fn what_is_no_recording_is_said_so() {
    let text = stderr(&["report", "/dev/null"], 2);
    assert!(text.contains("this is no recording of aiotrace"), "{text}");
    assert!(text.contains("make one with"), "{text}");
    assert!(stderr(&["report", "/nonexistent"], 2).contains("cannot open /nonexistent"));
    let file = recording("pairs");
    let whole = std::fs::read(file.path()).unwrap();
    std::fs::write(file.path(), &whole[..whole.len() - 7]).unwrap();
    let cut = report(&[], file.path());
    assert!(String::from_utf8(cut.stderr).unwrap().contains("the recording ends early"));
}

fn report(options: &[&str], file: &std::path::Path) -> Output {
    let arguments = [&["report"], options, &[file.to_str().unwrap()]].concat();
    aiotrace(&arguments)
}

/// A seed of the fuzz targets, as a file.
fn recording(name: &str) -> tempfile::NamedTempFile {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/recording");
    let hex = std::fs::read_to_string(seeds.join(name).with_extension("hex")).unwrap();
    let digits: Vec<u32> = hex.chars().filter_map(|it| it.to_digit(16)).collect();
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

#[test]
fn a_screen_needs_a_terminal_and_a_timeline_a_file() {
    // Here stdout is a pipe.
    assert!(stderr(&["top", "-n", "0"], 2).contains("0 is not in 1.."));
    assert!(stderr(&["top", "-s", "cpu"], 2).contains("the columns are pid, name"));
    assert!(stderr(&["top", "-F", "("], 2).contains("is no regular expression"));
    assert!(stderr(&["top", "-p", "1", "--proc"], 2).contains("cannot be used with"));
    assert!(stderr(&["top", "/nonexistent"], 2).contains("cannot open /nonexistent"));
    let text = stderr(&["attach", "-a", "-q", "--format", "perfetto"], 2);
    assert!(text.contains("-c and -q do not go with it") && text.contains("-o FILE"), "{text}");
}
