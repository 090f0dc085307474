//! Work that may have to wait for a target: a helper process does it, and aiotrace can give the
//! helper up.
//!
//! A read of a target's memory waits for the program that serves the page (a FUSE file system,
//! userfaultfd):
//! <https://elixir.bootlin.com/linux/v6.12.117/source/mm/process_vm_access.c#L106>.
//! A read of most of a target's files in /proc waits while the target hangs in execve(2). SIGKILL
//! does not end a thread that waits like this, and the thread keeps its whole process from ending.
//! So it is never a thread of aiotrace itself:
//!
//! ```text
//!            ask                         a message                   the system call that may wait
//!  thread ─────────> Helpers ─────────────────────────────> helper ────────────────────────────────> target
//!    ^                  │  <──── the answer ───────────────   │
//!    └── an answer, or ─┘                                     │ forked by
//!        nothing: the helper is killed,                    nursery (one thread, no descriptor of ours)
//!        and the process is left alone for a time
//! ```
//! [`start`] forks the nursery while aiotrace has one thread and has opened nothing. So helpers
//! have aiotrace's privileges, but no BPF program, no map, no tracee and none of its output. They
//! end when aiotrace ends.
//!
//! This module says how an errand is done. The modules whose functions the errands run say which
//! errands there are, in tables of [`Kind`]s.

mod debts;
mod helper;
mod helpers;
mod nursery;
mod processes;
mod wait;
pub mod wire;

pub use helper::{give, lent};
pub use nursery::end_with_parent;
pub use processes::*;

use std::{
    cell::Cell,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::OnceLock,
    time::Duration,
};

use nix::unistd::Pid;
use serde::{Serialize, de::DeserializeOwned};

use self::{helpers::Helpers, wait::Used};

/// How an errand is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// How long it may take while the helper sleeps, because it waits for the process. For a disk it
    /// may wait longer.
    asleep: Duration,
    /// How long it may take while the helper has a processor, or waits for one.
    running: Duration,
    /// Whether the helper gets a processor before other processes, because a thread of the target
    /// is stopped until it is done.
    is_urgent: bool,
    /// Whether it is done even if the process is left alone, because it gives back something that
    /// was taken.
    is_owed: bool,
}

/// How long a helper may wait for a process.
pub const ASLEEP: Duration = Duration::from_millis(200);
/// How long a helper may wait while aiotrace has stopped some threads of the process: the helper
/// may wait for one of them.
const AT_A_STOP: Duration = Duration::from_millis(100);
/// How long a helper may wait for a file, perhaps on a slow disk.
pub const FROM_DISK: Duration = Duration::from_secs(1);
/// How long a helper may run: on a machine that is busy or emulated, it may have to wait long for a
/// processor.
pub const USUAL: Duration = Duration::from_secs(10);
/// How long a helper may run that reads all the memory of a process: longer than
/// [`crate::proc::scan`] takes.
pub const A_SCAN: Duration = Duration::from_secs(20);

impl How {
    /// How most errands are done.
    pub const USUAL: Self =
        Self { asleep: ASLEEP, running: USUAL, is_urgent: false, is_owed: false };

    /// The errand may take this long.
    pub const fn patience(self, asleep: Duration, running: Duration) -> Self {
        Self { asleep, running, ..self }
    }

    /// A thread of the target is stopped until the errand is done.
    pub const fn urgent(self) -> Self {
        Self { asleep: AT_A_STOP, is_urgent: true, ..self }
    }

    /// The errand gives back something that was taken.
    pub const fn owed(self) -> Self {
        Self { is_urgent: true, is_owed: true, ..self }
    }
}

static HELPERS: OnceLock<Helpers> = OnceLock::new();

thread_local! {
    static IS_URGENT: Cell<bool> = const { Cell::new(false) };
}

/// All that this thread asks from now on is urgent: it holds threads in stops. (A helper with the usual priority has to
/// wait for a processor behind the threads of a target that has many.)
pub fn all_are_urgent() {
    IS_URGENT.set(true);
}

/// How the calling thread has this errand done.
fn how<E: Errand>() -> How {
    if IS_URGENT.get() { E::HOW.urgent() } else { E::HOW }
}

/// A kind of errand, as a helper knows it.
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Does an errand of this kind. It gets the encoded errand, and returns the answer, with what the
    /// helper has used up, as [`wire`] sends it.
    pub run: fn(&[u8]) -> postcard::Result<Vec<u8>>,
}

/// Tables of kinds.
pub type Kinds = &'static [&'static [Kind]];

/// Starts the nursery, whose helpers can do errands of these kinds. Call it only while there is one
/// thread. Without it, aiotrace does errands itself. The nursery calls `begin` first, for itself and its helpers.
///
/// # Errors
/// If the process cannot be made.
pub fn start(kinds: Kinds, begin: fn() -> io::Result<()>) -> io::Result<()> {
    let (nursery, id) = nursery::start(kinds, begin)?;
    let _ = HELPERS.set(Helpers::new(nursery, id));
    Ok(())
}

/// The process that makes helpers.
pub fn nursery() -> Option<Pid> {
    HELPERS.get().map(Helpers::nursery)
}

/// Ends the helpers, and waits for those that do not wait for a target themselves. Otherwise
/// process 1 would have to reap them, and in a container it may not do so.
pub fn end() {
    if let Some(helpers) = HELPERS.get() {
        helpers.end();
    }
}

/// How many errands got no answer, mostly because their process or its user made aiotrace wait, at
/// that time or before.
pub fn unanswered() -> u64 {
    HELPERS.get().map_or(0, Helpers::unanswered)
}

/// The processor time that helpers have taken so far.
pub fn processor_time() -> Duration {
    HELPERS.get().map_or(Duration::ZERO, Helpers::processor_time)
}

/// Work to be done about a process.
pub trait Errand: Serialize + DeserializeOwned {
    /// The answer.
    type Answer: Serialize + DeserializeOwned;
    /// The name of its kind.
    const NAME: &'static str;
    /// How it is done.
    const HOW: How;

    /// The process, or one of its threads.
    fn pid(&self) -> u32;
    /// Does the errand in this process.
    fn run(self) -> Self::Answer;

    /// Has a helper do the errand; `None` if there was no answer in time.
    fn ask(self) -> Option<Self::Answer> {
        self.ask_with(&[]).map(|it| it.0)
    }

    /// [`Self::ask`], and lends descriptors for the errand. A descriptor may come with the answer.
    fn ask_with(self, lent: &[BorrowedFd<'_>]) -> Option<(Self::Answer, Option<OwnedFd>)> {
        if let Some(helpers) = HELPERS.get() {
            return helpers.ask(self, lent);
        }
        let lent = lent.iter().map(|it| it.try_clone_to_owned()).collect::<io::Result<_>>().ok()?;
        Some(helper::with(lent, || self.run()))
    }
}

/// The kind to which these errands belong.
pub const fn kind<E: Errand>() -> Kind {
    let run = |encoded: &[u8]| {
        let answer = postcard::from_bytes::<E>(encoded)?.run();
        wire::encoded(&(answer, Used::now()))
    };
    Kind { name: E::NAME, run }
}

/// Makes a table of kinds. Each line is an errand: the arguments it needs, its answer, and the
/// function that does it.
macro_rules! errands {
    ($(#[$about:meta])* $table:ident = [
        $($(#[$doc:meta])* $name:ident($($field:ident: $type:ty),*) -> $answer:ty = $run:expr
            $(, $how:ident $(($($argument:expr),*))?)?;)*
    ]) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
            pub struct $name {
                /// The process, or one of its threads.
                pub pid: u32,
                $(
                    /// The argument of this name of the function that does the errand.
                    pub $field: $type,
                )*
            }

            impl $crate::errand::Errand for $name {
                type Answer = $answer;
                const NAME: &'static str = stringify!($name);
                const HOW: $crate::errand::How = $crate::errand::How::USUAL$(.$how($($($argument),*)?))?;

                fn pid(&self) -> u32 {
                    self.pid
                }

                fn run(self) -> $answer {
                    let run: fn(u32, $($type),*) -> $answer = $run;
                    run(self.pid, $(self.$field),*)
                }
            }
        )*

        $(#[$about])*
        pub const $table: &[$crate::errand::Kind] = &[$($crate::errand::kind::<$name>()),*];
    };
}
pub(crate) use errands;
