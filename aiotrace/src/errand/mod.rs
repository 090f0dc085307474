//! What may have to wait for a target is done by a helper process, which can be given up.
//!
//! A read of a target's memory waits for whoever serves the page (a FUSE file system, userfaultfd), and a read of
//! most of its files in /proc waits while it hangs in execve(2). A thread that waits so is not ended by SIGKILL, and
//! keeps its whole process from ending. So it is never a thread of ours:
//!
//! ```text
//!            ask                         a message                   the system call that may wait
//!  thread ─────────> Helpers ─────────────────────────────> helper ────────────────────────────────> target
//!    ^                  │  <──── the answer ───────────────   │
//!    └── an answer, or ─┘                                     │ forked by
//!        nothing: the helper is killed,                    nursery (one thread, no descriptor of ours)
//!        and the process is left alone for a time
//! ```
//! [`start`] forks the nursery when aiotrace has one thread and has opened nothing. So helpers have our privilege, and
//! neither a BPF program nor a map nor a tracee nor our output. They end with us.
//!
//! Here is how an errand is done. What errands there are, say the rooms whose functions they run, in tables of
//! [`Kind`]s.

mod debts;
mod helper;
mod helpers;
mod nursery;
mod processes;
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

use self::helpers::Helpers;

/// How an errand is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// How long it may take while the helper sleeps: it waits for the process, or for a disk.
    asleep: Duration,
    /// How long it may take while the helper has a processor, or waits for one.
    running: Duration,
    /// Its helper gets a processor before others, as whoever waits for it holds the target in a stop.
    is_urgent: bool,
    /// It is done also if the process is left alone: it gives something back that was taken.
    is_owed: bool,
}

/// While a helper waits for a process.
pub const ASLEEP: Duration = Duration::from_millis(200);
/// The process, or some threads of it, are stopped by us, and one of them may be what the helper waits for.
const AT_A_STOP: Duration = Duration::from_millis(100);
/// A file is read, perhaps from a slow disk.
pub const FROM_DISK: Duration = Duration::from_secs(1);
/// On a machine that is busy, or is emulated, a helper may have to wait long for a processor.
pub const USUAL: Duration = Duration::from_secs(10);
/// All memory of a process is read: longer than [`crate::proc::scan`] takes.
pub const A_SCAN: Duration = Duration::from_secs(20);

impl How {
    /// As most are.
    pub const USUAL: Self =
        Self { asleep: ASLEEP, running: USUAL, is_urgent: false, is_owed: false };

    /// It may take so long.
    pub const fn patience(self, asleep: Duration, running: Duration) -> Self {
        Self { asleep, running, ..self }
    }

    /// Somebody is held in a stop meanwhile.
    pub const fn urgent(self) -> Self {
        Self { asleep: AT_A_STOP, is_urgent: true, ..self }
    }

    /// It gives something back.
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
    /// Does one. It comes as it was encoded; the answer is as [`wire`] sends it.
    pub run: fn(&[u8]) -> postcard::Result<Vec<u8>>,
}

/// Tables of kinds.
pub type Kinds = &'static [&'static [Kind]];

/// Starts the process that makes helpers, which can do errands of these kinds. Only while there is one thread; without
/// it, errands are done by whoever asks.
///
/// # Errors
/// If there can be no process.
pub fn start(kinds: Kinds) -> io::Result<()> {
    let (nursery, id) = nursery::start(kinds)?;
    let _ = HELPERS.set(Helpers::new(nursery, id));
    Ok(())
}

/// The process that makes helpers.
pub fn nursery() -> Option<Pid> {
    HELPERS.get().map(Helpers::nursery)
}

/// Ends the helpers, and waits for them if they need not wait for anybody: else whoever is process 1 would have to, and
/// in a container it may not.
pub fn end() {
    if let Some(helpers) = HELPERS.get() {
        helpers.end();
    }
}

/// How many errands had no answer, mostly because their process, or its user, let us wait, then or earlier.
pub fn unanswered() -> u64 {
    HELPERS.get().map_or(0, Helpers::unanswered)
}

/// What helpers took of processors so far.
pub fn processor_time() -> Duration {
    HELPERS.get().map_or(Duration::ZERO, Helpers::processor_time)
}

/// Something to be done about a process.
pub trait Errand: Serialize + DeserializeOwned {
    /// What comes of it.
    type Answer: Serialize + DeserializeOwned;
    /// The name of its kind.
    const NAME: &'static str;
    /// How it is done.
    const HOW: How;

    /// The process, or one of its threads.
    fn pid(&self) -> u32;
    /// Does it, here.
    fn run(self) -> Self::Answer;

    /// Has it done; `None` if it had no answer in time.
    fn ask(self) -> Option<Self::Answer> {
        self.ask_with(&[]).map(|it| it.0)
    }

    /// The same, and lends descriptors for it. A descriptor may come with the answer.
    fn ask_with(self, lent: &[BorrowedFd<'_>]) -> Option<(Self::Answer, Option<OwnedFd>)> {
        if let Some(helpers) = HELPERS.get() {
            return helpers.ask(self, lent);
        }
        let lent = lent.iter().map(|it| it.try_clone_to_owned()).collect::<io::Result<_>>().ok()?;
        Some(helper::with(lent, || self.run()))
    }
}

/// The kind of these errands.
pub const fn kind<E: Errand>() -> Kind {
    let run = |encoded: &[u8]| wire::encoded(&postcard::from_bytes::<E>(encoded)?.run());
    Kind { name: E::NAME, run }
}

/// A table of kinds, an errand a line: what it needs to know, what comes of it, and what does it.
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
                    /// As what it does has it.
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
