//! Debug information from a server (`--debuginfod`).

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use aiotrace::output::json::{FunctionObject, Line};

use super::{
    harness::Need,
    stacks::{Callers, line_with},
    support::{aiotrace, parse},
};

/// A debuginfod that serves the files of a directory.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn of(directory: &Path) -> Self {
        // A port that is free, though somebody may take it until the server does.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut process = Command::new("debuginfod")
            .args(["-F", "-vvv", "-d", ":memory:", "-p", &free.port().to_string()])
            .arg(directory)
            .env_remove("DEBUGINFOD_URLS")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let is_read = |it: &String| it.contains("recorded buildid=") && it.ends_with("atype=D");
        assert!(said.any(|it| is_read(&it)), "debuginfod has read no file");
        // It must not wait for a reader of what it says.
        std::thread::spawn(move || said.for_each(drop));
        Self { process, url: format!("http://{free}") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The debug information of a stripped program is on a server; without the option, or if the server does not have it,
/// there are no names.
fn debug_information_comes_from_a_server_if_asked_for() {
    let program = Callers::with("no", &["-C", "link-arg=-Wl,--build-id"]);
    let directory = tempfile::tempdir().unwrap();
    let tool = |tool: &str, option: &str, file: &Path, to: &Path| {
        let done = Command::new(tool).arg(option).arg("-o").arg(to).arg(file).status();
        assert!(done.unwrap().success(), "{tool}");
    };
    let (path, debug) = (program.path(), directory.path().join("callers.debug"));
    tool("strip", "--only-keep-debug", &path, &debug);
    tool("strip", "--strip-all", &path, &path);
    let server = Server::of(directory.path());
    let traced = |options: &[&str], url: &str| -> (Vec<FunctionObject>, String) {
        let mut aiotrace = aiotrace();
        aiotrace.args(["run", "--format", "json"]).args(options).arg("--").arg(&path).arg("raw");
        let output = aiotrace.env("DEBUGINFOD_URLS", url).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        let mut lines = parse(std::str::from_utf8(&output.stdout).unwrap()).into_iter();
        let stack = lines.find_map(|it| match it {
            Line::Setup(it) => it.stack,
            _ => None,
        });
        (stack.unwrap(), said)
    };
    let ours = |stack: &[FunctionObject]| -> Option<u32> {
        let it = stack.iter().find(|it| it.function.as_deref() == Some("callers::leak_here"))?;
        assert!(it.file.as_ref()?.ends_with("tests/programs/callers.rs"));
        it.line
    };
    let (stack, said) = traced(&["--debuginfod"], &server.url);
    assert_eq!(ours(&stack), Some(line_with("// here: raw")), "{stack:?} {said}");
    assert_eq!(ours(&traced(&[], &server.url).0), None);
    drop(server);
    let (stack, said) = traced(&["--debuginfod"], "http://127.0.0.1:1");
    assert_eq!(ours(&stack), None);
    let told = format!("no debug information of {} by debuginfod: ", path.display());
    assert!(said.contains(&told), "{said}");
}

tests![
    debug_information_comes_from_a_server_if_asked_for if Need::Native("it runs rustc, strip and debuginfod"),
];
