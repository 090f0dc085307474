//! Writes text into a buffer, and never beyond it, whatever the size of the terminal is.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::Theme;
use crate::top::status::Part;

/// Writes into a buffer.
pub struct Pen<'a> {
    buffer: &'a mut Buffer,
}

impl<'a> Pen<'a> {
    /// Writes into this one.
    pub fn new(buffer: &'a mut Buffer) -> Self {
        Self { buffer }
    }

    /// Begins the first line of an area.
    pub fn line(&mut self, area: Rect) -> Line<'_> {
        let area = if area.height == 0 { Rect::ZERO } else { Rect { height: 1, ..area } };
        let area = area.intersection(self.buffer.area);
        Line { x: area.x, area, buffer: self.buffer }
    }

    /// Begins the line of this number of an area.
    pub fn line_at(&mut self, area: Rect, number: u16) -> Line<'_> {
        match number < area.height {
            true => self.line(Rect { y: area.y.saturating_add(number), height: 1, ..area }),
            false => self.line(Rect::ZERO),
        }
    }

    /// Writes as many of the parts as there is room for.
    pub fn parts(&mut self, area: Rect, parts: &[Part], theme: Theme) {
        let mut line = self.line(area);
        for (place, (text, look)) in parts.iter().enumerate() {
            let needed = text.chars().count() + 2 * usize::from(place > 0);
            if place > 0 && needed > line.left() {
                return;
            }
            if place > 0 {
                line.text("  ", Style::new());
            }
            line.text(text, theme.look(*look));
        }
    }
}

/// A line that is being written.
pub struct Line<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    x: u16,
}

impl Line<'_> {
    /// How many more characters there is room for.
    pub fn left(&self) -> usize {
        if self.area.is_empty() { 0 } else { usize::from(self.area.right() - self.x) }
    }

    /// Writes a text, as much of it as there is room for.
    pub fn text(&mut self, text: &str, style: Style) {
        let left = self.left();
        if left > 0 {
            self.x = self.buffer.set_stringn(self.x, self.area.y, text, left, style).0;
        }
    }

    /// Gives the whole line a style.
    pub fn style(&mut self, style: Style) {
        self.buffer.set_style(self.area, style);
    }
}
