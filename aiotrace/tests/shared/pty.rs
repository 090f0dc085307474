//! A program in a terminal of its own: what it shows, and the settings that it leaves behind.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use nix::{
    pty::{Winsize, openpty},
    sys::termios::{Termios, tcgetattr},
};

/// The longest time that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal with a program in it.
pub struct Pty {
    pub child: Child,
    master: File,
    /// Kept open, so that the settings can be looked at after the program has ended.
    slave: File,
    before: Termios,
    shown: Arc<(Mutex<vt100::Parser>, Condvar)>,
}

impl Pty {
    /// Starts a program in a terminal of this size. It is the leader of a session, as a shell is.
    pub fn start(mut command: Command, (columns, rows): (u16, u16)) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None::<&Termios>).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm-256color");
        // SAFETY: both calls may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().unwrap();
        drop(command);
        let master = File::from(pty.master);
        let parser = vt100::Parser::new(rows.try_into().unwrap(), columns.try_into().unwrap(), 0);
        let shown = Arc::new((Mutex::new(parser), Condvar::new()));
        let (mut reader, its) = (master.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // EIO: the other end is closed.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                its.0.lock().unwrap().process(&bytes[..count]);
                its.1.notify_all();
            }
        });
        Self { child, master, slave: File::from(pty.slave), before, shown }
    }

    /// Types.
    pub fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until what is shown meets a condition, and gives it.
    pub fn await_screen(
        &self,
        what: &str,
        mut is_so: impl FnMut(&vt100::Screen) -> bool,
    ) -> String {
        let until = Instant::now() + PATIENCE;
        let (parser, changed) = &*self.shown;
        let mut parser = parser.lock().unwrap();
        loop {
            if is_so(parser.screen()) {
                return parser.screen().contents();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}:\n{}", parser.screen().contents());
            parser = changed.wait_timeout(parser, left).unwrap().0;
        }
    }

    /// Waits until this text is shown, and gives the screen.
    pub fn await_text(&self, text: &str) -> String {
        self.await_screen(text, |it| it.contents().contains(text))
    }

    /// Whether the settings of the terminal are those from before the program.
    pub fn is_restored(&self) -> bool {
        tcgetattr(self.slave.as_fd()).unwrap() == self.before
    }

    /// Waits for the end of the program, and demands that the terminal is as it was before.
    pub fn end(mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        assert!(self.is_restored(), "{status}");
        self.await_screen("the usual screen is back", |it| !it.alternate_screen());
        assert!(!self.shown.0.lock().unwrap().screen().hide_cursor(), "the cursor is back");
        status
    }
}
