//! A text over the table: the keys, or what a finding means.

use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::{keys, snapshot::FindingRow};
use crate::explain::findings::{self, Paragraph};

/// A text that can be scrolled.
#[derive(Clone, Debug)]
pub struct Popup {
    /// What it is.
    pub title: String,
    /// Its paragraphs.
    pub text: Vec<String>,
    /// How many lines are above what is in sight.
    pub scrolled: u16,
}

impl Popup {
    /// All keys.
    pub fn help() -> Self {
        let text = keys::HELP.iter().map(|(keys, what)| format!("{keys}: {what}")).collect();
        Self { title: "all keys".to_owned(), text, scrolled: 0 }
    }

    /// What a finding means.
    pub fn explain(it: &FindingRow) -> Self {
        let mut text = vec![format!("{}:{} {}", it.process, it.pid, it.text)];
        for part in findings::of(it.name) {
            for paragraph in part.paragraphs {
                text.push(match paragraph {
                    Paragraph::Text(text) => format!("{}: {text}", part.label),
                    Paragraph::Item(text) => format!("- {text}"),
                });
            }
        }
        let title = format!("{} {}", it.severity.text(), it.name.text());
        Self { title, text, scrolled: 0 }
    }

    /// Takes a key. Gives whether it stays.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        let by = match key.code {
            KeyCode::Down | KeyCode::Char('j') => 1,
            KeyCode::Up | KeyCode::Char('k') => -1,
            KeyCode::PageDown | KeyCode::Char(' ') => 10,
            KeyCode::PageUp => -10,
            _ => return false,
        };
        self.scrolled = self.scrolled.saturating_add_signed(by).min(self.text.len() as u16 * 4);
        true
    }
}
