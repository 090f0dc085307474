//! Every command of the README runs as it stands there, and those of the guides with names in the place of what the
//! reader has to put in. (CI or xtask run the commands that begin with `cargo`, or
//! these build what is tested here.)

use std::{path::Path, process::Command};

use super::{
    harness::Need,
    support::{Program, binary, programs},
};

fn the_commands_of_the_readme_work() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let mut script = String::from("set -e\n");
    for block in readme.split("\n```sh\n").skip(1) {
        let block = block.split("\n```").next().unwrap();
        let commands = block.lines().filter(|line| !line.starts_with("cargo "));
        for command in commands {
            script += command;
            script.push('\n');
        }
    }
    assert!(script.matches("aiotrace ").count() >= 4, "{script}");
    // The programs that the script started in the background end with it.
    script += "kill $(jobs -p)\n";
    let output = bash(&script, Path::new("."));
    let (out, err) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("tracing works"), "{out}");
    assert!(out.contains("io_submit(0x") && out.contains("(now /tmp/demo.img)"), "{out}");
    assert!(out.contains("all processes") && out.contains("p99"), "{out}");
    assert!(out.contains("=== contexts: 1, 1 of them alive") && out.contains(" adopted"), "{out}");
    let parts = out.split("\nunreaped-completions\n  severity  warning\n");
    assert_eq!(parts.count(), 2, "a finding is explained: {out}");
    assert!(out.contains("fs.aio-nr ") && out.contains("CHARGE"), "{out}");
    assert!(err.contains("aiotrace: fio is "), "{err}");
    assert!(out.contains("*** fault io_submit EAGAIN: retried after "), "{out}");
    assert!(out.contains("*** fault completion EIO: "), "{out}");
    assert!(out.contains("--- ptrace; "), "{out}");
    assert!(out.contains("REQ/s") && out.contains("fs.aio-nr"), "a table of top: {out}");
    std::fs::remove_file("/tmp/fio.pftrace").unwrap();
}

/// Runs a script in this directory, with aiotrace and its workloads on PATH.
fn bash(script: &str, directory: &Path) -> std::process::Output {
    let [ours, theirs] = [binary(), programs()].map(|it| it.parent().unwrap().to_owned());
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{}:{path}", ours.display(), theirs.display());
    let mut bash = Command::new("bash");
    bash.args(["-c", script]).current_dir(directory).env("PATH", path).output().unwrap()
}

/// The commands of a guide as a reader would type them: for a program, a process and a cgroup that are there, and for
/// a shorter time.
fn typed(line: &str, pid: u32, cgroup: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        let is_time = words.last().is_some_and(|it| it == "--duration");
        words.push(match word {
            _ if is_time => "300ms".to_owned(),
            "PID" => pid.to_string(),
            "mariadbd" => "aio-programs".to_owned(),
            "recordings/*.aiotrace" => "/var/tmp/trace.aiotrace".to_owned(),
            "PROGRAM" => "aio-programs pairs 2".to_owned(),
            "/sys/fs/cgroup/PATH" => cgroup.to_owned(),
            // The machine keeps the limit that it has.
            "fs.aio-max-nr=1048576" => "fs.aio-max-nr=$(cat /proc/sys/fs/aio-max-nr)".to_owned(),
            "--other-setting" => continue,
            other => other.to_owned(),
        });
    }
    let line = words.join(" ").replace("$(pidof fio)", &pid.to_string());
    // A program and an oracle of the reader's own.
    let line = line
        .replace("./program $AIOTRACE_SWEEP_DIR", "aio-programs pairs 2")
        .replace("./verify $AIOTRACE_SWEEP_DIR", "true")
        .replace("-- ./test", "-- aio-programs pairs 2");
    // Those that are not there: tests/kernel/names.rs makes some, and names them.
    let line = ["--container web", "--pod shop/db-0", "--unit mariadb"]
        .iter()
        .fold(line, |line, it| line.replace(it, &format!("--cgroup {cgroup}")));
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let line = line.replace("/usr/share/doc/aiotrace", repository);
    // A server that is not there.
    let line = match line.contains("--debuginfod") {
        true => format!("DEBUGINFOD_URLS=http://127.0.0.1:1/ {line}"),
        false => line,
    };
    // In a pipe it would write tables without end.
    let line = if line == "aiotrace top" { "aiotrace top -n 1".to_owned() } else { line };
    // What the program makes of faults is its status. Those of aiotrace itself are others.
    let failed = match line.starts_with("aiotrace sweep") {
        true => "2 | 3 | 4",
        false if line.contains("--fail-on") || line.contains("--inject") => "2 | 125",
        false => return line,
    };
    format!("{line} || case $? in {failed}) exit 9 ;; esac")
}

/// The guides are three tests, as one may take two minutes.
fn the_commands_of_guides_work(part: usize) {
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let guides = std::fs::read_dir(documents.join("how-to")).unwrap();
    let mut guides: Vec<_> = guides.map(|it| it.unwrap().path()).collect();
    guides.push(documents.join("first-trace.md"));
    guides.sort();
    let directory = tempfile::tempdir().unwrap();
    let cgroup = super::attach::test_cgroup();
    let mut count = 0;
    for guide in guides.into_iter().skip(part).step_by(3) {
        let target = Program::ready(&["hold", "3"]);
        std::fs::create_dir_all(&cgroup).unwrap();
        std::fs::write(cgroup.join("cgroup.procs"), target.pid().to_string()).unwrap();
        let text = std::fs::read_to_string(&guide).unwrap();
        // What the guide starts in the background ends with it, also if a command fails.
        let mut script = "set -ex\ntrap 'kill $(jobs -p) || true' EXIT\n".to_owned();
        let mut is_command = false;
        // The others of this one are those of build tools, in projects that are not there.
        let is_of_tools = guide.ends_with("in-your-tests.md");
        let is_run = |line: &str| match is_of_tools {
            true => line.starts_with("aiotrace "),
            false => !line.starts_with("cargo ") && !line.starts_with("export PATH="),
        };
        for line in text.lines().map(str::trim) {
            if line.starts_with("```") {
                is_command = line == "```sh";
            } else if is_command && is_run(line) {
                script.push_str(&typed(line, target.pid(), cgroup.to_str().unwrap()));
                script.push('\n');
                count += 1;
            }
        }
        let output = bash(&script, directory.path());
        let (out, err) = [output.stdout, output.stderr]
            .map(|it| String::from_utf8_lossy(&it).into_owned())
            .into();
        assert!(output.status.success(), "{}: {out}\n{err}", guide.display());
    }
    assert!(count > 5, "{count}");
    let _ = std::fs::remove_dir(cgroup);
}

fn the_commands_of_the_first_guides_work() {
    the_commands_of_guides_work(0);
}

fn the_commands_of_the_second_guides_work() {
    the_commands_of_guides_work(1);
}

fn the_commands_of_the_third_guides_work() {
    the_commands_of_guides_work(2);
}

tests![
    the_commands_of_the_first_guides_work if Need::Native("it runs what the guides show"),
    the_commands_of_the_second_guides_work if Need::Native("it runs what the guides show"),
    the_commands_of_the_third_guides_work if Need::Native("it runs what the guides show"),
    the_commands_of_the_readme_work if Need::Native("it runs what the README shows"),
];
