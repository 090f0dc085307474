//! Runs the tests of this binary, on this machine and in the virtual machines.
//!
//! The runner is libtest's in behaviour (filters, `--ignored`, `--exact`, `--list`), and does what libtest
//! cannot: a test says where it cannot run, and is *ignored* there with that reason; a test that hangs
//! fails alone, with the state of its processes; a test leaves no process behind; a failure names
//! the kernel and the probe set; and a test that fails is tried once more, as machines are shared: if it
//! passes then, it is *unstable*, which the run says at its end, with what had failed.

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

/// Where a test can run, if not everywhere; and why.
#[derive(Clone, Copy)]
pub enum Need {
    /// Not in a guest.
    Native(&'static str),
    /// Of the guests, in one only ([`Kernel::share`](super::kernels::Kernel::share)), unless `cargo xtask vm` is told
    /// otherwise: it would prove little more in the others.
    OneGuest(&'static str),
    /// In guests, and with the sources that are not the first choice, only where all is asked for: it takes long, and
    /// would prove little more there.
    NotInHaste(&'static str),
    /// Where the processor's clock counts instructions.
    CountedInstructions,
}

impl Need {
    /// The reason of most tests that one guest is enough for.
    pub const SAME: Self = Self::OneGuest("the kernel makes no difference");
    /// Worth running on every kernel, but too slow where a processor is emulated.
    pub const SLOW: Self = Self::OneGuest("it is slow where a processor is emulated");
    /// Of those that take longest.
    pub const LONG: Self = Self::NotInHaste("it takes long");

    /// Why the test of this name does not run here.
    fn why_not_here(self, name: &str) -> Option<String> {
        let guest = machine::guest();
        match self {
            Self::Native(why) if guest.is_some() => Some(format!("native: {why}")),
            Self::OneGuest(why) if !machine::runs_everything() => {
                let is_another = guest.is_some_and(|it| it.share != Some(share(name)));
                is_another.then(|| format!("in one guest: {why}"))
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

/// The test that runs, since when, and whether it has been given up.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

struct Running {
    name: String,
    since: Instant,
    is_given_up: bool,
}

/// Why the test that runs cannot, as it found out itself.
static CANNOT: Mutex<Option<String>> = Mutex::new(None);

/// The test that runs cannot, at least in part: this machine lacks something. It is *ignored* with this reason.
pub fn cannot_run(why: &str) {
    *CANNOT.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.trim().to_owned());
}

/// The test that ends the sessions.
const LAST: &str = "session::nothing_was_found_late";

/// Limits of the machine that some tests change for a moment: one that is killed leaves them changed.
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

/// What takes longer is said.
const WORTH_TELLING: Duration = Duration::from_secs(2);

/// What a test may take. In a guest a processor is emulated, and there may be two guests.
fn patience() -> Duration {
    Duration::from_secs(if machine::guest().is_some() { 240 } else { 120 })
}

/// Runs what the arguments ask for.
pub fn main(modules: &[&[Test]]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let trials = modules.iter().copied().flatten().map(|test| trial(*test));
    let mut trials: Vec<Trial> = trials.collect();
    // The last one: it ends the sessions that the others share.
    let silent = Trial::ignorable_test(LAST, || {
        if session::is_unused() {
            return Ok(Completion::ignored_with("no session was begun"));
        }
        Ok(attempt(LAST, &session::end_all)?)
    });
    trials.push(silent.with_ignored_flag(true));
    // Several filters have commas between them: what has one of them in its name.
    if let Some(filters) = arguments.filter.take_if(|_| !arguments.exact) {
        trials.retain(|test| {
            test.name() == LAST || filters.split(',').any(|it| test.name().contains(it))
        });
    }
    // One at a time: each counts what happens on the machine.
    arguments.test_threads = Some(1);
    if !arguments.ignored && !arguments.include_ignored && !arguments.list {
        // All but LAST.
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

/// Which of the guests with the same kernel takes a test that one is enough for: always the same one, whatever
/// tests there are.
fn share(name: &str) -> usize {
    name.bytes().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % SHARES
}

fn trial(test: Test) -> Trial {
    let module = test.module.split_once("::").map_or(test.module, |it| it.1);
    let name = format!("{module}::{}", test.name);
    let its_name = name.clone();
    let run = move || match test.needs.and_then(|it| it.why_not_here(&its_name)) {
        Some(reason) => Ok(Completion::ignored_with(reason)),
        // What is compared with a table is measured three times already.
        None if matches!(test.needs, Some(Need::CountedInstructions)) => {
            Ok(attempt(&its_name, &test.run)?)
        }
        None => guarded(&its_name, &test.run),
    };
    // A plain `cargo test` runs none: they need root.
    Trial::ignorable_test(name, run).with_ignored_flag(true)
}

/// Tests that failed, and passed when they were tried again, with what had failed.
static UNSTABLE: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// So many of a run are no accident.
const MOST_UNSTABLE: usize = 3;

/// What is wrong with a test.
struct Failure {
    text: String,
    /// It took too long.
    is_given_up: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::from(failure.text)
    }
}

/// Runs it, and once more if it fails.
fn guarded(name: &str, run: &impl Fn()) -> Result<Completion, Failed> {
    let first = match attempt(name, run) {
        Ok(done) => return Ok(done),
        // Another one would take as long.
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
        // It failed, and cannot say any more why that was.
        Ok(_) => Err(Failed::from(first)),
        Err(second) => {
            Err(Failed::from(format!("{first}\nand, at the second attempt:\n{}", second.text)))
        }
    }
}

/// Says which tests are unstable: a line for each, and what had failed, indented. Whether these are too many.
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

/// Runs it while [`watch`] looks at the time, and leaves no process behind.
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

/// A test that takes too long loses its processes, which makes it fail; one that does not even end then
/// ends the run.
fn watch() {
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let mut guard = lock();
        let Some(running) = guard.as_mut() else { continue };
        let since = running.since.elapsed();
        if since > patience() && !running.is_given_up {
            running.is_given_up = true;
            eprintln!("\n{} hangs. Its processes:\n{}", running.name, processes::state());
            // The test waits for the lock when it is over: so nothing of the next one is killed.
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
