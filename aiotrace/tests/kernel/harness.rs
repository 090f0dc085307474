//! Runs the tests of this binary, on this machine and in the virtual machines.
//!
//! The runner behaves like libtest (filters, `--ignored`, `--exact`, `--list`), and does what libtest cannot. A test
//! says where it cannot run, and is *ignored* there with that reason. A test that hangs fails alone, with the state
//! of its processes. A test leaves no process behind. A failure names the kernel and the probe set. A test that fails
//! is tried once more, because machines are shared: if it passes then, it is *unstable*, and the run says so at its
//! end, with the failure.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::{kernels::SHARES, machine, processes, session};

/// One test.
#[derive(Clone, Copy)]
pub struct Test {
    pub module: &'static str,
    pub name: &'static str,
    pub run: fn(),
    pub needs: Option<Need>,
}

/// Where a test can run, if not everywhere, and why.
#[derive(Clone, Copy)]
pub enum Need {
    /// Not in a guest.
    Native(&'static str),
    /// In only one of the guests ([`Kernel::share`](super::kernels::Kernel::share)), unless `cargo xtask vm` is told
    /// otherwise: the test would prove little more in the others.
    OneGuest(&'static str),
    /// Not in guests, unless `cargo xtask vm` is told otherwise: the test proves as much on this machine.
    Here(&'static str),
    /// In guests, and with the sources that are not the first choice, only where all is asked for: it takes long, and
    /// would prove little more there.
    NotInHaste(&'static str),
    /// Only where the processor's clock counts instructions.
    CountedInstructions,
}

impl Need {
    /// The reason why most tests need no guest.
    pub const SAME: Self = Self::Here("the kernel makes no difference");
    /// For a test that is worth running on every kernel, but is too slow where a processor is emulated.
    pub const SLOW: Self = Self::OneGuest("it is slow where a processor is emulated");
    /// Of those that take longest.
    pub const LONG: Self = Self::NotInHaste("it takes long");

    /// Why the test with this name does not run here.
    fn why_not_here(self, name: &str) -> Option<String> {
        let guest = machine::guest();
        match self {
            Self::Native(why) if guest.is_some() => Some(format!("native: {why}")),
            Self::OneGuest(why) if !machine::runs_everything() => {
                let is_another = guest.is_some_and(|it| it.share != Some(share(name)));
                is_another.then(|| format!("in one guest: {why}"))
            }
            Self::Here(why) if !machine::runs_everything() => {
                guest.is_some().then(|| format!("with --everywhere: {why}"))
            }
            Self::NotInHaste(why) if !machine::runs_everything() => {
                let is_another = guest.is_some() || machine::set() != "auto";
                is_another.then(|| format!("with --everywhere or --long: {why}"))
            }
            Self::CountedInstructions if !machine::counts_instructions() => {
                Some("only where a clock counts instructions: `cargo xtask vm --cost`".to_owned())
            }
            _ => None,
        }
    }
}

/// The tests of a module: `tests![one, another if Need::Native("it runs strace")]`.
macro_rules! tests {
    ($($name:ident $(if $need:expr)?),* $(,)?) => {
        pub const TESTS: &[$crate::harness::Test] = &[
            $($crate::harness::Test {
                module: module_path!(),
                name: stringify!($name),
                run: $name,
                needs: tests!(@ $($need)?),
            }),*
        ];
    };
    (@) => { None };
    (@ $need:expr) => { Some($need) };
}

/// The test that is running, since when it has been running, and whether it was given up.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

struct Running {
    name: String,
    since: Instant,
    is_given_up: bool,
}

/// The reason why the running test cannot run here, which it found out itself.
static CANNOT: Mutex<Option<String>> = Mutex::new(None);

/// Called by a test that cannot run here, at least in part, because this machine lacks something. The test is
/// *ignored* with this reason.
pub fn cannot_run(why: &str) {
    *CANNOT.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.trim().to_owned());
}

/// The test that ends the sessions.
const LAST: &str = "session::nothing_was_found_late";

/// Limits of the machine that some tests change for a moment: a test that is killed leaves them changed, so they are
/// put back.
struct Limits(Vec<(&'static str, String)>);

impl Limits {
    fn now() -> Self {
        let of = |path| Some((path, std::fs::read_to_string(path).ok()?));
        let paths = ["/proc/sys/fs/aio-max-nr", "/proc/sys/kernel/bpf_stats_enabled"];
        Self(paths.into_iter().filter_map(of).collect())
    }

    fn restore(self) {
        for (path, before) in self.0 {
            if std::fs::read_to_string(path).is_ok_and(|it| it != before) {
                let _ = std::fs::write(path, before);
            }
        }
    }
}

/// The time of a test that takes longer is printed.
const WORTH_TELLING: Duration = Duration::from_secs(2);

/// The longest time that a test may take. In a guest a processor is emulated, and there may be two guests.
fn patience() -> Duration {
    Duration::from_secs(if machine::guest().is_some() { 240 } else { 120 })
}

/// Runs the tests that the arguments ask for.
pub fn main(modules: &[&[Test]]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let trials = modules.iter().copied().flatten().map(|test| trial(*test));
    let mut trials: Vec<Trial> = trials.collect();
    // This test is the last one: it ends the sessions that the others share.
    let silent = Trial::ignorable_test(LAST, || {
        if session::is_unused() {
            return Ok(Completion::ignored_with("no session was begun"));
        }
        Ok(attempt(LAST, &session::end_all)?)
    });
    trials.push(silent.with_ignored_flag(true));
    // Several filters are separated by commas: a test runs if its name contains one of them.
    if let Some(filters) = arguments.filter.take_if(|_| !arguments.exact) {
        trials.retain(|test| {
            test.name() == LAST || filters.split(',').any(|it| test.name().contains(it))
        });
    }
    // Tests run one at a time: each of them counts what happens on the machine.
    arguments.test_threads = Some(1);
    if !arguments.ignored && !arguments.include_ignored && !arguments.list {
        // All tests but LAST.
        let count = trials.len() - 1;
        println!("{count} kernel tests are left out here: as root, `cargo xtask test` runs them");
        return ExitCode::SUCCESS;
    }
    if !arguments.list {
        if let Err(error) = machine::check() {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
        println!("on {}", machine::name());
        processes::adopt_orphans();
        std::thread::spawn(watch);
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    session::abandon_all();
    if tell_unstable() {
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Which of the guests with the same kernel runs a test that one guest is enough for: always the same one, whatever
/// other tests there are.
fn share(name: &str) -> usize {
    name.bytes().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % SHARES
}

/// Why the test with this name does not run here.
fn why_not_here(test: Test, name: &str) -> Option<String> {
    let is_about_faults = name.starts_with("received::");
    let is_again = machine::guest().is_some_and(|it| it.is_again) && !machine::runs_everything();
    match test.needs {
        None if is_again && !is_about_faults => {
            Some("with --everywhere: another guest has the same kernel".to_owned())
        }
        needs => needs?.why_not_here(name),
    }
}

fn trial(test: Test) -> Trial {
    let module = test.module.split_once("::").map_or(test.module, |it| it.1);
    let name = format!("{module}::{}", test.name);
    let its_name = name.clone();
    let run = move || match why_not_here(test, &its_name) {
        Some(reason) => Ok(Completion::ignored_with(reason)),
        // A test that compares with a table has measured three times already.
        None if matches!(test.needs, Some(Need::CountedInstructions)) => {
            Ok(attempt(&its_name, &test.run)?)
        }
        None => guarded(&its_name, &test.run),
    };
    // A plain `cargo test` runs none of the tests, because they need root.
    Trial::ignorable_test(name, run).with_ignored_flag(true)
}

/// Tests that failed, and passed when they were tried again, each with its failure.
static UNSTABLE: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// More unstable tests in a run are no accident.
const MOST_UNSTABLE: usize = 3;

/// Why a test failed.
struct Failure {
    text: String,
    /// The test took too long.
    is_given_up: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::from(failure.text)
    }
}

/// Runs a test, and once more if it fails.
fn guarded(name: &str, run: &impl Fn()) -> Result<Completion, Failed> {
    let first = match attempt(name, run) {
        Ok(done) => return Ok(done),
        // A second attempt would take as long.
        Err(failure) if failure.is_given_up => return Err(failure.into()),
        Err(failure) => failure.text.trim().to_owned(),
    };
    eprint!("\ntest {name}, tried again: ");
    match attempt(name, run) {
        Ok(Completion::Completed) => {
            let mut unstable = UNSTABLE.lock().unwrap_or_else(PoisonError::into_inner);
            unstable.push((name.to_owned(), first));
            Ok(Completion::Completed)
        }
        // The first attempt failed, and at the second the test cannot run here: the failure counts.
        Ok(_) => Err(Failed::from(first)),
        Err(second) => {
            Err(Failed::from(format!("{first}\nand, at the second attempt:\n{}", second.text)))
        }
    }
}

/// Prints the unstable tests: a line for each, and its failure, indented. Returns whether there are too many.
fn tell_unstable() -> bool {
    let unstable = UNSTABLE.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, first) in unstable.iter() {
        println!("unstable: {name}");
        first.lines().for_each(|line| println!("    {line}"));
    }
    let are_too_many = unstable.len() > MOST_UNSTABLE;
    if are_too_many {
        println!("more than {MOST_UNSTABLE} tests are unstable: that is no accident");
    }
    are_too_many
}

/// Runs a test while [`watch`] looks at the time, and ends all processes that it leaves.
fn attempt(name: &str, run: &impl Fn()) -> Result<Completion, Failure> {
    let running = Running { name: name.to_owned(), since: Instant::now(), is_given_up: false };
    *lock() = Some(running);
    let limits = Limits::now();
    let result = catch_unwind(AssertUnwindSafe(run));
    let took = lock().as_ref().map(|it| it.since.elapsed()).unwrap_or_default();
    let left = processes::kill_all_but(&session::tracers());
    limits.restore();
    let cannot = CANNOT.lock().unwrap_or_else(PoisonError::into_inner).take();
    let is_given_up = lock().take().is_some_and(|it| it.is_given_up);
    if !left.is_empty() {
        eprintln!("these processes of {name} do not end: {left:?}\n{}", processes::state());
    }
    if machine::guest().is_some() || took > WORTH_TELLING {
        eprint!("<{:.1} s> ", took.as_secs_f64());
    }
    let panic = match result {
        Ok(()) if !is_given_up => {
            return Ok(cannot.map_or(Completion::Completed, Completion::ignored_with));
        }
        Ok(()) => String::new(),
        Err(panic) if panic.is::<session::Skipped>() => {
            let why = "the kernel skipped runs of the probes, and aiotrace said so";
            return Ok(Completion::ignored_with(why));
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()))
                .unwrap_or_default()
        }
    };
    let hung = if is_given_up {
        format!("it took longer than {} s; its processes were killed\n", patience().as_secs())
    } else {
        String::new()
    };
    Err(Failure { text: format!("on {}\n{hung}{panic}", machine::name()), is_given_up })
}

/// Kills the processes of a test that takes too long, which makes it fail; if the test does not end even then, the
/// run ends.
fn watch() {
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let mut guard = lock();
        let Some(running) = guard.as_mut() else { continue };
        let since = running.since.elapsed();
        if since > patience() && !running.is_given_up {
            running.is_given_up = true;
            eprintln!("\n{} hangs. Its processes:\n{}", running.name, processes::state());
            // A test that is over waits for this lock: so no process of the next test is killed.
            session::abandon_all();
            processes::kill_all_but(&[]);
        } else if since > patience() + Duration::from_secs(60) {
            eprintln!("{} does not end, though it has no processes any more", running.name);
            std::process::exit(101);
        }
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
