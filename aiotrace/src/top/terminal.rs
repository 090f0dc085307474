//! The terminal: raw and with a screen of its own while `aiotrace top` is shown, and as it was
//! before in every other moment: at the end, while the process is stopped, after a panic, and when a
//! second signal ends it at once.

use std::io::{self, IsTerminal as _, Write as _};

use nix::{
    sys::signal::{Signal, raise},
    unistd::Pid,
};
use ratatui::{
    DefaultTerminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Hide,
        execute, style,
        terminal::{Clear, ClearType, EnterAlternateScreen, enable_raw_mode},
    },
};

use super::{
    app::{App, Input},
    draw,
};
use crate::source::collector::before_death;

/// A terminal that shows a screen.
pub struct Terminal {
    /// To draw on.
    pub inner: DefaultTerminal,
}

impl Terminal {
    /// Begins to show a screen.
    ///
    /// # Errors
    /// If it is no terminal, or it does not answer.
    pub fn open() -> io::Result<Self> {
        before_death(|| {
            let _ = ratatui::try_restore();
        });
        Ok(Self { inner: ratatui::try_init()? })
    }

    /// Draws the screen, in the size that the terminal has now.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn show(&mut self, app: &mut App) -> io::Result<()> {
        let size = self.inner.size()?;
        if app.size != (0, 0) && app.size != (size.width, size.height) {
            self.renew()?;
        }
        app.handle(Input::Size(size.width, size.height));
        self.inner.draw(|frame| {
            let area = frame.area();
            draw::draw(app, area, frame.buffer_mut());
        })?;
        Ok(())
    }

    /// Stops this process, as Ctrl-Z does, until somebody lets it go on. The terminal is as it was
    /// meanwhile.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn suspend(&mut self) -> io::Result<()> {
        ratatui::try_restore()?;
        // SIGTSTP is dropped in a group of processes that has lost its shell; SIGSTOP is not.
        let group = nix::unistd::getpgrp();
        if group == Pid::this() {
            raise(Signal::SIGSTOP)?;
        } else {
            nix::sys::signal::killpg(group, Signal::SIGSTOP)?;
        }
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen)?;
        self.renew()
    }

    /// Begins anew with an empty screen of the size that the terminal has now. (The library's own
    /// way asks the terminal where the cursor is, and waits for the answer.)
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn renew(&mut self) -> io::Result<()> {
        execute!(io::stdout(), Clear(ClearType::All), Hide)?;
        self.inner = ratatui::Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = ratatui::try_restore();
        let _ = io::stdout().flush();
    }
}

/// Decides whether colours are used, and tells the library that writes them.
pub fn colors(wanted: Option<bool>) -> bool {
    let is_asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
    let color = wanted.unwrap_or(io::stdout().is_terminal() && !is_asked_not_to);
    style::force_color_output(color);
    color
}
