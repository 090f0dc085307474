//! The programs that are traced: loops that do next to nothing between two calls
//! (programs/src/bench.rs), and fio.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::Machine;

/// A program that is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// One io_submit and one io_getevents of one request on /dev/zero.
    Pair,
    /// The same with 32 requests at once.
    Batch,
    /// getppid: no AIO.
    Getppid,
    /// Pairs in a process that is not traced, while another one is.
    Other,
    /// fio, on the disk of the target directory.
    Disk,
    /// fio, on tmpfs.
    Tmpfs,
}

impl Workload {
    /// All workloads, in the order of the tables.
    pub const ALL: [Self; 6] =
        [Self::Pair, Self::Batch, Self::Getppid, Self::Other, Self::Disk, Self::Tmpfs];

    /// The workload's part of a row's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Batch => "batch",
            Self::Getppid => "getppid",
            Self::Other => "other",
            Self::Disk => "disk",
            Self::Tmpfs => "tmpfs",
        }
    }

    /// The title above the workload's table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Pair => "A pair: io_submit of one read of /dev/zero, and io_getevents of it",
            Self::Batch => "A batch: the same with 32 reads in one io_submit and one io_getevents",
            Self::Getppid => "getppid in the traced process: a call that is not of AIO",
            Self::Other => {
                "Another process's AIO: pairs that are not traced, while an idle process is"
            }
            Self::Disk => "fio, 4k random reads, libaio, queue depth 32, O_DIRECT, on a disk",
            Self::Tmpfs => "fio, the same on tmpfs",
        }
    }

    /// Whether more is better: the unit is IOPS. If not, it is nanoseconds of one operation.
    pub fn is_rate(self) -> bool {
        matches!(self, Self::Disk | Self::Tmpfs)
    }

    fn program(self) -> Option<&'static str> {
        match self {
            Self::Pair | Self::Other => Some("bench-pair"),
            Self::Batch => Some("bench-batch"),
            Self::Getppid => Some("bench-getppid"),
            Self::Disk | Self::Tmpfs => None,
        }
    }

    /// How many operations to make: untraced some 0.3 s of them, and fewer under a tool that stops
    /// each call.
    fn count(self, is_slow: bool) -> u64 {
        match (self, is_slow) {
            (Self::Pair | Self::Other, false) => 500_000,
            (Self::Pair | Self::Other, true) => 15_000,
            (Self::Batch, false) => 30_000,
            (Self::Batch, true) => 5_000,
            (Self::Getppid, false) => 2_000_000,
            (Self::Getppid, true) => 20_000,
            (Self::Disk | Self::Tmpfs, _) => 0,
        }
    }

    /// The command, and how many operations it makes in all, before and while it measures; `None`
    /// if the command says so itself.
    pub fn command(self, machine: &Machine, is_slow: bool) -> (Vec<String>, Option<u64>) {
        let programs = machine.programs.display().to_string();
        if let Some(program) = self.program() {
            let count = self.count(is_slow) / if machine.is_quick { 10 } else { 1 };
            let command = [programs, program.to_owned(), count.to_string()];
            return (command.to_vec(), Some(count + count / 10));
        }
        let seconds = if machine.is_quick { 1 } else { 2 };
        let fio = format!(
            "bench-becomes fio --name=bench --ioengine=libaio --rw=randread --bs=4k --size={FILE_SIZE} \
             --filename={} --direct=1 --iodepth=32 --thread --time_based --runtime={seconds} --minimal",
            self.file(machine).display()
        );
        let words = fio.split(' ').map(str::to_owned);
        ([programs].into_iter().chain(words).collect(), None)
    }

    /// The file that fio reads.
    fn file(self, machine: &Machine) -> PathBuf {
        let directory = match self {
            Self::Tmpfs => PathBuf::from("/dev/shm"),
            _ => machine.directory.clone(),
        };
        directory.join("aiotrace-bench.img")
    }

    /// The file that the tool writes: it is not on the disk that is measured.
    pub fn output(self, machine: &Machine) -> PathBuf {
        match self {
            Self::Disk => PathBuf::from("/dev/shm/aiotrace-bench.out"),
            _ => machine.directory.join("output"),
        }
    }

    /// Writes the file that fio reads, if the workload is fio.
    pub fn prepare(self, machine: &Machine) -> Result<()> {
        if self.is_rate() {
            let file = self.file(machine);
            write(&file).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }

    /// Removes the workload's files.
    pub fn clean(self, machine: &Machine) {
        if self.is_rate() {
            let _ = fs::remove_file(self.file(machine));
            let _ = fs::remove_file(self.output(machine));
        }
    }

    /// Starts the workload, which then waits for [`Running::go`].
    pub fn start(self, machine: &Machine, is_slow: bool) -> Result<Running> {
        let (words, count) = self.command(machine, is_slow);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stderr(Stdio::null());
        let mut running = Running::start(command, count)?;
        if self == Self::Other {
            let mut idle = Command::new(&machine.programs);
            idle.arg("wait").stderr(Stdio::null());
            running.idle = Some(Box::new(Running::start(idle, None)?));
        }
        Ok(running)
    }
}

const FILE_SIZE: usize = 256 << 20;

/// Writes the file in small pieces: a tool that is forked from this process begins with its memory,
/// and that would count as the tool's.
fn write(file: &Path) -> io::Result<()> {
    let mut file = fs::File::create(file)?;
    let piece = vec![0xa5; 1 << 20];
    for _ in 0..FILE_SIZE / piece.len() {
        file.write_all(&piece)?;
    }
    file.sync_all()
}

/// A workload, or a tool that traces it and starts it itself. It is killed on drop.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    count: Option<u64>,
    idle: Option<Box<Self>>,
}

impl Running {
    /// `count`: how many operations the workload makes, if it does not say that itself.
    pub fn start(mut command: Command, count: Option<u64>) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut running = Self { child, stdin, stdout, count, idle: None };
        if running.line()? != "ready" {
            bail!("{program} is not ready");
        }
        Ok(running)
    }

    /// The process to trace.
    pub fn pid(&self) -> u32 {
        self.idle.as_ref().map_or_else(|| self.child.id(), |idle| idle.child.id())
    }

    /// Lets the workload run to its end.
    pub fn go(mut self) -> Result<Measured> {
        self.stdin.take().context("it runs")?.write_all(b"\n")?;
        let line = self.line()?;
        let measured = measured(&line, self.count).with_context(|| format!("it said {line:?}"))?;
        self.child.wait()?;
        Ok(measured)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a program that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the workload says it measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Nanoseconds of one operation, or IOPS.
    pub value: f64,
    /// Nanoseconds of the workload's own processor time for one operation: without what else ran on
    /// that processor meanwhile.
    pub own: Option<f64>,
    /// How many operations there were.
    pub operations: f64,
}

/// Reads a line of the loops, `ns | BY THE CLOCK | ON THE PROCESSOR`, or of fio, whose eighth field
/// is the IOPS.
pub fn measured(line: &str, count: Option<u64>) -> Option<Measured> {
    if let Some(times) = line.strip_prefix("ns | ") {
        let (value, own) = times.split_once(" | ")?;
        let (value, own) = (value.parse().ok()?, own.parse().ok());
        return Some(Measured { value, own, operations: count? as f64 });
    }
    let fields: Vec<&str> = line.split(';').collect();
    let (iops, milliseconds) = (fields.get(7)?.parse().ok()?, fields.get(8)?.parse::<f64>().ok()?);
    Some(Measured { value: iops, own: None, operations: iops * milliseconds / 1000.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loops_and_fio_say_is_read() {
        let pair = measured("ns | 612.5 | 611.0", Some(10));
        assert_eq!(pair, Some(Measured { value: 612.5, own: Some(611.0), operations: 10.0 }));
        let fio = measured("3;fio-3.33;j;0;0;322184;321862;80465;2000;1;1634", None);
        assert_eq!(fio, Some(Measured { value: 80465.0, own: None, operations: 160_930.0 }));
        assert_eq!(measured("fio: refused", None), None);
    }
}
