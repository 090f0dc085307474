//! Every command of the README runs as it stands there. (CI or xtask run the commands that begin with `cargo`, or
//! these build what is tested here.)

use std::{path::Path, process::Command};

use super::harness::Need;

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
    let binary = super::support::binary();
    let binaries = binary.parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash").args(["-c", &script]).env("PATH", path).output().unwrap();
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
}

tests![
    the_commands_of_the_readme_work if Need::Native("it runs what the README shows"),
];
