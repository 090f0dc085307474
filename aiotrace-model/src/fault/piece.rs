//! A part of a rule's text that knows where it stands.

use super::mistake::Mistake;

/// A part of a rule's text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    rule: &'a str,
    start: usize,
    end: usize,
}

impl<'a> Piece<'a> {
    /// All of it.
    pub fn new(rule: &'a str) -> Self {
        Self { rule, start: 0, end: rule.len() }
    }

    pub fn text(self) -> &'a str {
        &self.rule[self.start..self.end]
    }

    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The place behind it.
    pub fn behind(self) -> Self {
        Self { start: self.end, ..self }
    }

    pub fn mistake(self, why: impl Into<String>) -> Mistake {
        Mistake::new(self.rule, self.start..self.end, why)
    }

    /// What stands before the first separator, and what behind it.
    pub fn split_once(self, separator: &str) -> Option<(Self, Self)> {
        let at = self.start + self.text().find(separator)?;
        let behind = Self { start: at + separator.len(), ..self };
        Some((Self { end: at, ..self }, behind))
    }

    /// What stands between separators; at least one piece.
    pub fn split(self, separator: &str) -> Vec<Self> {
        let mut pieces = Vec::new();
        let mut rest = self;
        while let Some((piece, behind)) = rest.split_once(separator) {
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(rest);
        pieces
    }

    /// What stands between colons. A backslash takes the meaning of what comes next.
    pub fn parts(self) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut start = self.start;
        let mut chars = self.text().char_indices();
        while let Some((offset, char)) = chars.next() {
            let at = self.start + offset;
            match char {
                '\\' => drop(chars.next()),
                ':' => {
                    parts.push(Self { start, end: at, ..self });
                    start = at + 1;
                }
                _ => (),
            }
        }
        parts.push(Self { start, ..self });
        parts
    }
}
