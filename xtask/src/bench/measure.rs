//! One measurement: a workload runs untraced, and then under a tool; what did the tool cost?

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Machine,
    tracer::{Ready, Tracer},
    workload::{Running, Workload},
};

/// How long a tool may take to attach or to end. bpftrace compiles, and strace writes a line for
/// each call, but neither takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The workload untraced, just before the traced run: nanoseconds of one operation, or IOPS.
    pub untraced: f64,
    /// The workload traced, in the same unit.
    pub traced: f64,
    /// How many times as much of its own processor time the target took when it was traced.
    pub own: Option<f64>,
    /// How many events the tool lost, if it says so.
    pub lost: Option<u64>,
    /// What the tool itself took; `None` if it starts the target, as the two cannot be told apart
    /// then.
    pub cost: Option<Cost>,
}

/// The processor time and the memory that a tool took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Nanoseconds of processor time for each operation, from when it was attached until its end.
    pub processor: f64,
    /// Most memory at a time, in MiB.
    pub memory: f64,
    /// Milliseconds from when the tool was started until it was attached, to 5 ms.
    pub start: f64,
}

/// Measures a workload once untraced and once under the tool.
pub fn sample(workload: Workload, tracer: &Tracer, machine: &Machine) -> Result<Sample> {
    let untraced = workload.start(machine, false)?.go()?;
    let stderr = machine.directory.join("stderr");
    let output = workload.output(machine);
    for file in [&stderr, &output] {
        // Empty both files: what an earlier run wrote must not be taken for this run's.
        File::create(file)?;
    }
    let said = || fs::read(&stderr).map(|it| String::from_utf8_lossy(&it).into_owned());
    let (traced, cost) = if tracer.launches() {
        let (command, count) = workload.command(machine, tracer.is_slow);
        let mut traced = tool(tracer, &command, 0, &output, machine);
        traced.stderr(File::create(&stderr)?);
        let running = Running::start(traced, count)
            .with_context(|| said().unwrap_or_default().trim().to_owned())?;
        (running.go()?, None)
    } else {
        let running = workload.start(machine, tracer.is_slow)?;
        let tool = tool(tracer, &[], running.pid(), &output, machine)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("cannot run {}", tracer.name))?;
        let begun = Instant::now();
        let mut attached = Attached(Some(tool));
        attached.wait_ready(tracer.ready, &said)?;
        let start = begun.elapsed().as_secs_f64() * 1000.0;
        let before = attached.processor_time()?;
        let measured = running.go()?;
        let (after, memory) = attached.end(tracer)?;
        let processor =
            after.saturating_sub(before).as_nanos() as f64 / measured.operations.max(1.0);
        (measured, Some(Cost { processor, memory, start }))
    };
    let lost = tracer.lost(&said()?, &lines_of_loss(&output)?);
    let own = traced.own.zip(untraced.own).map(|(traced, untraced)| traced / untraced);
    Ok(Sample { untraced: untraced.value, traced: traced.value, own, lost, cost })
}

/// The command of a tool, with the words in braces replaced.
fn tool(tracer: &Tracer, target: &[String], pid: u32, output: &Path, machine: &Machine) -> Command {
    let fill = |word: &&str| {
        word.replace("{pid}", &pid.to_string())
            .replace("{out}", &output.to_string_lossy())
            .replace("{aiotrace}", &machine.aiotrace.to_string_lossy())
            .replace("{floor}", &machine.floor.to_string_lossy())
            .replace("{object}", &machine.object.to_string_lossy())
    };
    let words = tracer.command.iter().filter(|it| **it != "{command}").map(fill);
    let words: Vec<String> = words.chain(target.iter().cloned()).collect();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("AIOTRACE_LOG", "aiotrace::begin=debug");
    command
}

/// The lines in which perf and bpftrace say what they lost. The rest of the output may be large.
fn lines_of_loss(output: &Path) -> Result<String> {
    use io::BufRead as _;
    let mut text = String::new();
    for line in io::BufReader::new(File::open(output)?).split(b'\n') {
        let line = line?;
        let has = |word: &[u8]| line.windows(word.len()).any(|it| it == word);
        if has(b"LOST ") || has(b"Lost ") {
            text.push_str(&String::from_utf8_lossy(&line));
            text.push('\n');
        }
    }
    Ok(text)
}

/// A running tool. It is killed on drop.
struct Attached(Option<Child>);

impl Attached {
    fn pid(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    fn wait_ready(&mut self, ready: Ready, said: &dyn Fn() -> io::Result<String>) -> Result<()> {
        let start = Instant::now();
        while !self.is_ready(ready, &said()?) {
            let ended = self.0.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || start.elapsed() > PATIENCE {
                bail!("it does not attach: {}", last_line(&said()?));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn is_ready(&self, ready: Ready, said: &str) -> bool {
        match ready {
            Ready::Says(line) => said.contains(line),
            Ready::Polls => {
                let call = fs::read_to_string(format!("/proc/{}/syscall", self.pid()));
                let number = call.ok().and_then(|it| it.split(' ').next()?.parse().ok());
                number.is_some_and(|it| POLLS.contains(&it))
            }
            Ready::Launches => true,
        }
    }

    /// The processor time of all threads of the tool until now, to a hundredth of a second.
    fn processor_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let ticks = ticks(&stat).context("/proc/PID/stat")?;
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Waits until the tool has ended, after the end of the target. Gives the tool's processor
    /// time, and its memory in MiB.
    fn end(&mut self, tracer: &Tracer) -> Result<(Duration, f64)> {
        let child = self.0.take().context("it runs")?;
        let pid = child.id() as libc::pid_t;
        if tracer.ready == Ready::Polls {
            // These tools do not notice that the target has ended, or notice it late.
            // SAFETY: the call takes no pointers. The process is our child and was not waited for,
            // so the pid is still its own.
            unsafe { libc::kill(pid, libc::SIGINT) };
        }
        let mut status = 0;
        // SAFETY: all zeros are a valid rusage.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let start = Instant::now();
        loop {
            // SAFETY: both pointers are to locals that live during the call.
            match unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) } {
                0 if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
                0 => {
                    self.0 = Some(child);
                    bail!("it does not end");
                }
                -1 => return Err(io::Error::last_os_error().into()),
                _ => break,
            }
        }
        let status: ExitStatus = std::os::unix::process::ExitStatusExt::from_raw(status);
        if tracer.is_ours() && !status.success() {
            bail!("it failed ({status})");
        }
        let time = |it: libc::timeval| {
            Duration::new(it.tv_sec as u64, 0) + Duration::from_micros(it.tv_usec as u64)
        };
        Ok((time(usage.ru_utime) + time(usage.ru_stime), usage.ru_maxrss as f64 / 1024.0))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Both fail only for a program that has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// poll, epoll_wait, ppoll and epoll_pwait (arch/x86/entry/syscalls/syscall_64.tbl).
const POLLS: [u64; 4] = [7, 232, 271, 281];

/// The sum of utime and stime: the twelfth and thirteenth fields after the name, which is in
/// parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 2301 0 4 0 150 25 0 0 20 0";
        assert_eq!(ticks(stat), Some(175));
        assert_eq!(ticks("7"), None);
    }
}
