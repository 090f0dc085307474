//! The thread that shows the screen: it waits for keys and snapshots, and draws after each.

use std::{
    io::{self, ErrorKind, Write as _},
    os::fd::{AsFd as _, BorrowedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use ratatui::{buffer::Buffer, crossterm::event};

use super::{
    app::{Action, App, Input},
    draw,
    gather::Sink,
    snapshot::Snapshot,
    terminal::Terminal,
};
use crate::source::collector::Pace;

/// How often it looks whether the size of the terminal has changed.
const LOOK: Duration = Duration::from_millis(200);
/// Snapshots that may wait while the screen is slow; further ones are dropped.
const WAITING: usize = 4;

/// The screen, seen by who gathers snapshots.
pub struct Screen {
    snapshots: Option<SyncSender<Box<Snapshot>>>,
    link: Arc<Link>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What both threads know.
struct Link {
    wake: EventFd,
    /// The screen has ended.
    over: AtomicBool,
    /// Why it ended, if that was an error.
    failed: Mutex<Option<io::Error>>,
}

impl Screen {
    /// Shows the screen. `pace`: where its user can ask for another interval.
    ///
    /// # Errors
    /// If there is no terminal, or there can be no thread.
    pub fn open(app: App, pace: Pace) -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let link = Arc::new(Link { wake, over: AtomicBool::new(false), failed: Mutex::default() });
        let (sender, receiver) = sync_channel(WAITING);
        let terminal = Terminal::open()?;
        let its = Arc::clone(&link);
        let run = move || {
            let end = End(&its);
            let result = show(app, terminal, &receiver, &its.wake, &pace);
            drop(end);
            result
        };
        let thread = std::thread::Builder::new().name("screen".into()).spawn(run)?;
        Ok(Self { snapshots: Some(sender), link, thread: Some(thread) })
    }
}

/// Says that the screen has ended, also after a panic.
struct End<'a>(&'a Link);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}

impl Sink for Screen {
    fn take(&mut self, snapshot: Snapshot) -> io::Result<()> {
        self.check()?;
        let Some(sender) = &self.snapshots else { return Ok(()) };
        match sender.try_send(Box::new(snapshot)) {
            Ok(()) | Err(TrySendError::Full(_)) => self.link.wake.write(1)?,
            Err(TrySendError::Disconnected(_)) => return Err(ErrorKind::BrokenPipe.into()),
        };
        Ok(())
    }

    fn check(&mut self) -> io::Result<()> {
        if let Ok(mut failed) = self.link.failed.lock()
            && let Some(error) = failed.take()
        {
            return Err(error);
        }
        let is_over = self.link.over.load(Ordering::Acquire);
        if is_over { Err(ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.snapshots = None;
        let _ = self.link.wake.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic has told itself already.
            if let Ok(Err(error)) = thread.join() {
                eprintln!("aiotrace: the terminal has failed: {error}");
            }
        }
    }
}

/// Shows the screen until its user or the gatherer ends it.
fn show(
    mut app: App,
    mut terminal: Terminal,
    snapshots: &Receiver<Box<Snapshot>>,
    wake: &EventFd,
    pace: &Pace,
) -> io::Result<()> {
    let stdin = io::stdin();
    let keys = io::IsTerminal::is_terminal(&stdin).then(|| stdin.as_fd());
    loop {
        terminal.show(&mut app)?;
        wait(keys, wake, app.size);
        let _ = wake.read();
        loop {
            match snapshots.try_recv() {
                Ok(snapshot) => drop(app.handle(Input::Snapshot(snapshot))),
                Err(std::sync::mpsc::TryRecvError::Empty) => break,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
            }
        }
        while event::poll(Duration::ZERO)? {
            let event::Event::Key(key) = event::read()? else { continue };
            match app.handle(Input::Key(key)) {
                Action::Quit => return Ok(()),
                Action::Suspend => terminal.suspend()?,
                Action::Redraw => terminal.renew()?,
                Action::Pace(every) => pace.set(every),
                Action::Write => app.message = Some(written(&app)),
                Action::None | Action::Seek(_) | Action::Hold(_) => (),
            }
        }
    }
}

/// Waits for a key, a snapshot, or another size.
fn wait(keys: Option<BorrowedFd<'_>>, wake: &EventFd, size: (u16, u16)) {
    loop {
        let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
        fds.extend(keys.map(|it| PollFd::new(it, PollFlags::POLLIN)));
        let is_quiet = poll(&mut fds, timeout) == Ok(0);
        let is_same = ratatui::crossterm::terminal::size().is_ok_and(|it| it == size);
        if !is_quiet || !is_same || keys.is_none() {
            return;
        }
    }
}

/// Writes what is shown to a new file. Gives what became of it, in words.
pub(super) fn written(app: &App) -> String {
    let area = ratatui::layout::Rect::new(0, 0, app.size.0, app.size.1);
    let mut buffer = Buffer::empty(area);
    draw::draw(app, area, &mut buffer);
    let mut text = String::new();
    for y in 0..area.height {
        let line: String = (0..area.width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let name = format!("aiotrace-top-{}.txt", app.shown.time / 1_000_000);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&name);
    match file.and_then(|mut it| it.write_all(text.as_bytes())) {
        Ok(()) => format!("written to {name}"),
        Err(error) => format!("cannot write {name}: {error}"),
    }
}
