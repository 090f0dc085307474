//! `aiotrace serve`, scraped by a client of ours and by Prometheus.

pub mod bounds;
pub mod prometheus;
pub mod scrapes;
pub mod unit;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::support::{PATIENCE, Program, aiotrace, as_nobody, programs};

/// The workloads under a name of their own, so that those of other tests are not taken for them.
pub struct Named(tempfile::TempDir, String);

impl Named {
    pub fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::copy(programs(), directory.path().join(name)).unwrap();
        Self(directory, name.to_owned())
    }

    pub fn command(&self) -> Command {
        Command::new(self.0.path().join(&self.1))
    }

    /// Starts a workload, and waits until it says that it is ready.
    pub fn ready(&self, arguments: &[&str]) -> Program {
        let mut program = Program::of(self.command().args(arguments));
        assert_eq!(program.line(), "ready");
        program
    }

    /// The same as a user without any privilege.
    pub fn ready_as_nobody(&self, arguments: &[&str]) -> Program {
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.0.path(), all).unwrap();
        let mut program = Program::of(as_nobody(self.command().args(arguments)));
        assert_eq!(program.line(), "ready");
        program
    }

    /// Runs a workload to its end.
    pub fn run(&self, arguments: &[&str]) {
        let status = self.command().args(arguments).stdout(Stdio::null()).status();
        assert!(status.unwrap().success(), "{arguments:?}");
    }
}

/// A server that runs beside the test. It is killed by its id when this value is dropped.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    stderr: BufReader<ChildStderr>,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Server {
    /// Starts a server with these options, and waits until it is ready.
    pub fn start(options: &[&str]) -> Self {
        let mut command = aiotrace();
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(options);
        Self::of(&mut command)
    }

    pub fn of(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it has ended: {text}");
            if let Some(url) = line.strip_prefix("aiotrace: serving http://") {
                break url.trim_end().strip_suffix("/metrics").unwrap().parse().unwrap();
            }
            text.push_str(&line);
        };
        Self { child, address, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn get(&self, path: &str) -> Answer {
        ask(self.address, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
    }

    /// The text of a scrape.
    pub fn scrape(&self) -> String {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// Scrapes until it tells counters that were read after this call.
    pub fn scrape_counted(&self) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let read = "aiotrace_last_read_timestamp_seconds{tier=\"count\"}";
        let start = std::time::Instant::now();
        loop {
            let text = self.scrape();
            if value(&text, read).expect("it counts") > now.as_secs_f64() {
                return text;
            }
            assert!(start.elapsed() < PATIENCE, "the counters are not read");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Ends it; what it wrote to stderr after it was ready, and its status.
    pub fn end(mut self) -> (String, ExitStatus) {
        self.signal(Signal::SIGTERM);
        let mut text = String::new();
        self.stderr.read_to_string(&mut text).unwrap();
        (text, self.child.wait().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request, and reads the answer to its end.
pub fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    answer(&mut stream)
}

pub fn answer(stream: &mut TcpStream) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// The value of a sample, by its name with its labels.
pub fn value(text: &str, sample: &str) -> Option<f64> {
    let line =
        text.lines().find(|it| it.strip_prefix(sample).is_some_and(|it| it.starts_with(' ')));
    line.map(|it| it.rsplit(' ').next().unwrap().parse().unwrap())
}

/// The sum of all samples of this name.
pub fn sum(text: &str, name: &str) -> f64 {
    let is_it = |it: &&str| it.strip_prefix(name).is_some_and(|it| it.starts_with(['{', ' ']));
    text.lines()
        .filter(is_it)
        .map(|it| it.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}
