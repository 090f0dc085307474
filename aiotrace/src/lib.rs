//! aiotrace: see, account for and break Linux native AIO in running programs.
//!
//! docs/internals/architecture.md has a drawing. Events come from a [`source`], are decoded to
//! [`event::Event`]s, and are shown by an [`output`]. The part of this that needs no operating
//! system is a crate of its own, [`aiotrace_model`].
//!
//! The findings of a recording (`--record FILE`), without the command line:
//!
//! ```
//! use aiotrace::{
//!     model::Model,
//!     source::recording::{Item, Reader},
//! };
//!
//! # fn open() -> std::io::Cursor<Vec<u8>> {
//! #     let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/recording/short.hex");
//! #     let text = std::fs::read_to_string(seed).unwrap();
//! #     let digits: Vec<u32> = text.chars().filter_map(|it| it.to_digit(16)).collect();
//! #     std::io::Cursor::new(digits.chunks(2).map(|it| (it[0] << 4 | it[1]) as u8).collect())
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut reader = Reader::new(open())?;
//! let mut model = None;
//! let mut names = Vec::new();
//! while let Some(item) = reader.next_item()? {
//!     if let Item::Start(_, settings) = &item {
//!         model = Some(Model::new(*settings));
//!     }
//!     let Some(model) = &mut model else { return Err("it has no beginning".into()) };
//!     match item {
//!         Item::Event(event) => model.handle_event(&event),
//!         Item::Time(now) => model.handle_timeout(now),
//!         Item::End(ended) => model.finish(ended.time),
//!         _ => (),
//!     }
//!     while let Some(finding) = model.next_finding() {
//!         names.push(finding.name.text());
//!     }
//! }
//! assert!(names.contains(&"short-submit-dropped"), "{names:?}");
//! # Ok(())
//! # }
//! ```

pub mod arch;
pub mod cli;
pub mod clock;
pub mod errand;
pub mod explain;
pub mod failure;
pub mod fault;
pub mod fuzz;
pub mod inventory;
pub mod names;
pub mod output;
pub mod privileges;
pub mod proc;
mod seccomp;
pub mod serve;
pub mod source;
pub mod stacks;
pub mod sweep;
pub mod top;
pub mod trace;

pub use aiotrace_model::{bounded, counted, errno, event, model, opcode, words};

#[cfg(test)]
mod tests {
    use nix::{errno::Errno, sys::signal::Signal};

    use crate::{errno, words::signal::signal};

    #[test]
    fn errnos_and_signals_have_the_names_and_texts_of_this_machine() {
        for number in 0..200 {
            let known = Some(Errno::from_raw(number)).filter(|it| *it != Errno::UnknownErrno);
            assert_eq!(
                errno::name(number),
                known.map(|it| format!("{it:?}")).as_deref(),
                "{number}"
            );
            let text = std::io::Error::from_raw_os_error(number).to_string();
            let text = text.split(" (os error").next().filter(|_| known.is_some());
            assert_eq!(errno::text(number), text, "{number}");
        }
        for it in Signal::iterator() {
            assert_eq!(signal(it as i32), it.as_str());
        }
    }
}
