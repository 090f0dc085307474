//! A document in Markdown as a manual page. Links lose their targets: a terminal cannot follow them.

use clap_mangen::roff::{Inline, Roff, bold, italic, line_break, roman};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::Page;

/// The page of a document.
pub(super) fn page(page: &Page, document: &str, version: &str) -> String {
    let mut writer = Writer::default();
    let section = page.section.to_string();
    let source = format!("aiotrace {version}");
    writer.out.control("TH", [page.name, &section, "", &source, ""]);
    writer.out.control("SH", ["NAME"]);
    writer.out.text([roman(format!("{} - {}", page.name, page.about))]);
    writer.out.control("SH", ["DESCRIPTION"]);
    for event in Parser::new_ext(document, Options::ENABLE_TABLES) {
        writer.event(event);
    }
    writer.out.to_roff()
}

/// How text is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Face {
    #[default]
    Roman,
    Bold,
    Italic,
}

#[derive(Default)]
struct Writer {
    out: Roff,
    /// The paragraph that is being read.
    line: Vec<Inline>,
    face: Face,
    /// The cells of the row of a table.
    cells: Vec<Vec<Inline>>,
    is_head: bool,
    /// How many lists we are in.
    lists: usize,
    /// Whether the text is that of an item which has none yet.
    is_item: bool,
    /// The text of a title, or of a block of code.
    plain: Option<String>,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.plain {
                Some(plain) => plain.push_str(&text),
                None => {
                    let text = text.to_string();
                    self.line.push(match self.face {
                        Face::Roman => roman(text),
                        Face::Bold => bold(text),
                        Face::Italic => italic(text),
                    });
                }
            },
            Event::Code(text) => match &mut self.plain {
                Some(plain) => plain.push_str(&text),
                None => self.line.push(bold(text.to_string())),
            },
            Event::SoftBreak => self.line.push(roman(" ")),
            Event::HardBreak => self.line.push(line_break()),
            // A comment: the marks of tables that are generated.
            Event::Html(_) | Event::InlineHtml(_) | Event::Rule => (),
            Event::FootnoteReference(_)
            | Event::TaskListMarker(_)
            | Event::InlineMath(_)
            | Event::DisplayMath(_) => (),
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { .. } | Tag::CodeBlock(_) => {
                // The text of an item may end with a block of code.
                self.paragraph();
                self.plain = Some(String::new());
            }
            Tag::Strong => self.face = Face::Bold,
            Tag::Emphasis => self.face = Face::Italic,
            Tag::TableHead => self.is_head = true,
            Tag::TableRow => self.cells.clear(),
            Tag::TableCell => self.line.clear(),
            Tag::List(_) => {
                self.paragraph();
                if self.lists > 0 {
                    self.out.control("RS", ["4"]);
                }
                self.lists += 1;
            }
            Tag::Item => self.is_item = true,
            _ => (),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let title = self.plain.take().unwrap_or_default();
                match level {
                    // The name of the page stands there already.
                    HeadingLevel::H1 => (),
                    HeadingLevel::H2 => {
                        let _ = self.out.control("SH", [title.to_uppercase().as_str()]);
                    }
                    _ => {
                        let _ = self.out.control("SS", [title.as_str()]);
                    }
                }
            }
            TagEnd::CodeBlock => {
                let code = self.plain.take().unwrap_or_default();
                self.out.control("PP", []).control("RS", ["4"]).control("nf", []);
                for line in code.lines() {
                    self.out.text([roman(line)]);
                }
                self.out.control("fi", []).control("RE", []);
            }
            TagEnd::Strong | TagEnd::Emphasis => self.face = Face::Roman,
            TagEnd::Paragraph | TagEnd::Item => self.paragraph(),
            TagEnd::List(_) => {
                self.lists -= 1;
                if self.lists > 0 {
                    self.out.control("RE", []);
                }
            }
            TagEnd::TableCell => self.cells.push(std::mem::take(&mut self.line)),
            TagEnd::TableHead => {
                self.is_head = false;
                self.cells.clear();
            }
            TagEnd::TableRow => self.row(),
            _ => (),
        }
    }

    /// Writes the text that was read, as a paragraph or as the beginning of an item.
    fn paragraph(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let line = std::mem::take(&mut self.line);
        match std::mem::take(&mut self.is_item) {
            true => self.out.control("IP", ["\\(bu", "2"]),
            false if self.lists > 0 => self.out.control("IP", ["", "2"]),
            false => self.out.control("PP", []),
        };
        self.out.text(line);
    }

    /// Writes a row of a table: its first cell, and the others below it.
    fn row(&mut self) {
        let mut cells = std::mem::take(&mut self.cells).into_iter();
        let Some(first) = cells.next() else { return };
        self.out.control("TP", []);
        self.out.text(if first.is_empty() { vec![roman("-")] } else { first });
        let mut rest = Vec::new();
        for cell in cells.filter(|it| !it.is_empty()) {
            if !rest.is_empty() {
                rest.push(roman("; "));
            }
            rest.extend(cell);
        }
        self.out.text(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_document_has_its_form() {
        let it = Page { name: "aiotrace-x", section: 7, about: "an example", text: String::new };
        let text = "# Title\nOne [link](a.md)\nand `code`.\n\n## Part\n- item\n- *two*\n\n\
                    | a | b |\n|---|---|\n| x | y |\n\n```text\n.dot\n```\n";
        let made = page(&it, text, "1.2.3");
        let made = made.split_once(".SH DESCRIPTION\n").unwrap().1;
        assert_eq!(
            made,
            ".PP\nOne link and \\fBcode\\fR.\n.SH PART\n.IP \\(bu 2\nitem\n.IP \\(bu 2\n\\fItwo\\fR\n\
             .TP\nx\ny\n.PP\n.RS 4\n.nf\n\\&.dot\n.fi\n.RE\n"
        );
    }
}
