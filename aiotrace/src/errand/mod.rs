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

mod debts;
mod helper;
mod helpers;
mod nursery;
pub mod wire;

pub use helper::{give, lent};
pub use nursery::end_with_parent;

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::OnceLock,
    time::Duration,
};

use aiotrace_common::abi::{IoEvent, RingHeader, Timespec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use self::helpers::Helpers;
use crate::{
    event::{Address, File, Handle},
    look,
    process::{self, Blocked},
    ring, scan,
    source::ptrace::{self, memory},
    stacks,
};

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

const ASLEEP: Duration = Duration::from_millis(200);
/// The process, or some threads of it, are stopped by us, and one of them may be what the helper waits for.
const AT_A_STOP: Duration = Duration::from_millis(100);
/// A file is read, perhaps from a slow disk.
const FROM_DISK: Duration = Duration::from_secs(1);
/// On a machine that is busy, or is emulated, a helper may have to wait long for a processor.
const USUAL: Duration = Duration::from_secs(10);
/// All memory of a process is read: longer than [`scan`] takes.
const A_SCAN: Duration = Duration::from_secs(20);

impl How {
    const USUAL: Self = Self { asleep: ASLEEP, running: USUAL, is_urgent: false, is_owed: false };

    const fn patience(self, asleep: Duration, running: Duration) -> Self {
        Self { asleep, running, ..self }
    }

    const fn urgent(self) -> Self {
        Self { asleep: AT_A_STOP, is_urgent: true, ..self }
    }

    const fn owed(self) -> Self {
        Self { is_urgent: true, is_owed: true, ..self }
    }
}

static HELPERS: OnceLock<Helpers> = OnceLock::new();

/// Starts the process that makes helpers. Only while there is one thread; without it, errands are done by whoever
/// asks.
///
/// # Errors
/// If there can be no process.
pub fn start() -> io::Result<()> {
    let (nursery, id) = nursery::start()?;
    let _ = HELPERS.set(Helpers::new(nursery, id));
    Ok(())
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
pub trait Errand: Into<Any> {
    /// What comes of it.
    type Answer: DeserializeOwned;
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

/// An errand a line: what it needs to know, what comes of it, and what does it.
macro_rules! errands {
    ($($(#[$doc:meta])* $name:ident($($field:ident: $type:ty),*) -> $answer:ty = $run:expr
        $(, $how:ident $(($($argument:expr),*))?)?;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Serialize, Deserialize)]
            #[expect(missing_docs, reason = "the fields are the arguments of what it does")]
            pub struct $name { pub pid: u32, $(pub $field: $type),* }

            impl Errand for $name {
                type Answer = $answer;
                const HOW: How = How::USUAL$(.$how($($($argument),*)?))?;

                fn pid(&self) -> u32 {
                    self.pid
                }

                fn run(self) -> $answer {
                    let run: fn(u32, $($type),*) -> $answer = $run;
                    run(self.pid, $(self.$field),*)
                }
            }

            impl From<$name> for Any {
                fn from(it: $name) -> Self {
                    Self::$name(it)
                }
            }
        )*

        /// One of them, as it is sent.
        #[derive(Debug, Serialize, Deserialize)]
        #[expect(missing_docs, reason = "each is what its type says")]
        pub enum Any {
            $($name($name)),*
        }

        impl Any {
            /// Whether its helper gets a processor before others.
            fn is_urgent(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$name as Errand>::HOW.is_urgent,)*
                }
            }

            /// Does it. The answer is as [`wire`] sends it.
            fn run(self) -> postcard::Result<Vec<u8>> {
                match self {
                    $(Self::$name(it) => wire::encoded(&it.run()),)*
                }
            }
        }
    };
}

errands! {
    /// [`process::status`]
    Status(tid: u32) -> Option<Vec<u8>> = process::status;
    /// [`process::started_at`]
    Started() -> Option<u64> = process::started_at;
    /// [`process::thread_state`]
    ThreadState(tid: u32) -> Option<u8> = process::thread_state;
    /// [`process::blocked_calls`]
    BlockedCalls() -> Vec<Blocked> = process::blocked_calls;
    /// [`process::blocked_call`]
    BlockedCall(tid: u32) -> Option<Blocked> = process::blocked_call;
    /// [`process::read_timespec`]
    ReadTimespec(at: u64) -> Option<Timespec> = process::read_timespec;
    /// [`process::waits_in_exit`]
    WaitsInExit() -> Option<u32> = process::waits_in_exit;
    /// [`process::has_seccomp_filter`]
    HasSeccompFilter() -> bool = process::has_seccomp_filter;

    /// [`ring::of_process`]
    Rings() -> Vec<(u64, u64)> = ring::of_process;
    /// [`ring::headers`]
    Headers(handles: Vec<u64>, all_pages: bool) -> Vec<Option<RingHeader>> = ring::headers;
    /// [`ring::entries`]
    Entries(handle: u64, first: u32, count: u32) -> Option<Vec<IoEvent>> = ring::entries;
    /// [`ring::touch`]
    Touch(handle: u64) -> () = ring::touch, urgent;

    /// [`look::at_place`]
    Place(handle: Handle) -> look::AtPlace = look::at_place;
    /// [`look::file`]
    Descriptor(fd: u32) -> Option<File> = look::file;
    /// [`look::path`]
    Path(fd: u32) -> Option<Vec<u8>> = look::path;
    /// [`look::position`]
    Position(fd: u32) -> Option<i64> = look::position;
    /// [`look::iovecs`]
    Iovecs(at: Address, count: u64) -> Option<Vec<(Address, u64)>> = look::iovecs;

    /// [`scan::missing`]
    Missing(handles: Vec<u64>) -> Option<Vec<u64>> = scan::missing, patience(ASLEEP, A_SCAN);

    /// [`stacks::regions`]
    Regions() -> Option<Vec<stacks::Region>> = stacks::regions;
    /// [`stacks::load`]
    Load(region: stacks::Region) -> Option<stacks::Layout> = stacks::load, patience(FROM_DISK, USUAL);
    /// [`stacks::hand_over`]
    HandOver(module: u64, path: Vec<u8>) -> bool = stacks::hand_over, patience(FROM_DISK, USUAL);

    /// [`memory::fetch`]
    Fetch(tid: u32, wanted: Vec<memory::Wanted>) -> Result<memory::Fetched, i32> = memory::fetch, urgent;
    /// [`memory::write`]
    Write(tid: u32, at: u64, bytes: Vec<u8>) -> Result<(), i32> = memory::write, urgent;
    /// The same: it is given back.
    Restore(tid: u32, at: u64, bytes: Vec<u8>) -> Result<(), i32> = memory::write, owed;
    /// [`ptrace::executed_path`]
    ExecutedPath() -> Vec<u8> = ptrace::executed_path;
    /// [`ptrace::go_to_processor_of`]
    GoToProcessor() -> Option<usize> = ptrace::go_to_processor_of, urgent;
    /// [`ptrace::share_space`]
    SharesSpace(other: u32) -> Option<bool> = ptrace::share_space;
    /// [`ptrace::seize_returns`]
    SeizeReturns() -> () = ptrace::seize_returns;
}
