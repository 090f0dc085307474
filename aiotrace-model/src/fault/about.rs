//! What a rule is about: `SYSCALL[,SYSCALL]`, or `complete`.

use aiotrace_common::fault::what;

use super::{mistake::Mistake, piece::Piece, words::did_you_mean};
use crate::event::Syscall;

/// The name of what is no call.
const COMPLETE: &str = "complete";

/// What a rule is about.
#[derive(Debug)]
pub(super) enum About {
    /// These calls, at least one.
    Calls(Vec<Syscall>),
    /// Completions.
    Completions,
}

impl About {
    pub fn parse(names: Piece<'_>) -> Result<Self, Mistake> {
        let pieces = names.split(",");
        if let [only] = pieces[..]
            && only.text() == COMPLETE
        {
            return Ok(Self::Completions);
        }
        pieces.into_iter().map(call).collect::<Result<_, _>>().map(Self::Calls)
    }

    /// A bit for each.
    pub fn bits(&self) -> u32 {
        match self {
            Self::Calls(calls) => calls.iter().fold(0, |bits, call| bits | 1 << what::call(*call)),
            Self::Completions => 1 << what::COMPLETE,
        }
    }

    /// The first of the calls for which this is so.
    pub fn call_that(&self, is: impl Fn(Syscall) -> bool) -> Option<Syscall> {
        match self {
            Self::Calls(calls) => calls.iter().copied().find(|call| is(*call)),
            Self::Completions => None,
        }
    }
}

fn call(piece: Piece<'_>) -> Result<Syscall, Mistake> {
    let name = piece.text();
    if let Some(call) = Syscall::ALL.into_iter().find(|call| call.name() == name) {
        return Ok(call);
    }
    if name == COMPLETE {
        return Err(piece.mistake("complete stands alone: write a rule of its own for it"));
    }
    if name.is_empty() {
        return Err(piece.mistake(
            "the name of a call is missing; a rule is for instance io_submit:error=EAGAIN:when=3",
        ));
    }
    let names = Syscall::ALL.map(Syscall::name).into_iter().chain([COMPLETE]);
    let near = did_you_mean(name, names);
    let all = if near.is_empty() {
        ": io_setup, io_submit, io_getevents, io_pgetevents, io_cancel, io_destroy, or complete"
    } else {
        ""
    };
    Err(piece.mistake(format!("not a call of AIO{near}{all}")))
}
