//! aiotrace: see, account for and break Linux native AIO in running programs.
//!
//! docs/internals/architecture.md has a drawing. Events come from a [`source`], are decoded to
//! [`event::Event`]s, and are shown by an [`output`]. The part of this that needs no operating
//! system is a crate of its own, [`aiotrace_model`].

pub mod arch;
pub mod cli;
pub mod clock;
pub mod errand;
pub mod explain;
pub mod failure;
pub mod fault;
pub mod fuzz;
pub mod inventory;
pub mod output;
pub mod proc;
mod seccomp;
pub mod source;
pub mod stacks;
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
