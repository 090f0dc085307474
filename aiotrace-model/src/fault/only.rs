//! `--only`: which calls are shown. Its words are those of fault rules; the choice is made in the kernel.

use super::{mistake::Mistake, piece::Piece, value};
use crate::{
    errno,
    event::{Args, Call, Entry, Iocb, Syscall},
};

/// All that is given must be so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// About a request with one of these opcodes, a bit for each; 0: any.
    pub ops: u32,
    /// About a request for this descriptor.
    pub fd: Option<u32>,
    /// That fails, or gives a result that is an error.
    pub errors: bool,
}

impl Only {
    /// `op=NAME[|NAME]...`, `fd=N`, `error`, with commas between them.
    ///
    /// # Errors
    /// What is not understood, and where.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let mut only = Self::default();
        for piece in Piece::new(text).split(",") {
            let is_twice = match piece.split_once("=").map(|(name, it)| (name.text(), it)) {
                Some(("op", value)) => {
                    std::mem::replace(&mut only.ops, value::operations(value)?) != 0
                }
                Some(("fd", value)) => only.fd.replace(value::descriptor(value)?).is_some(),
                None if piece.text() == "error" => std::mem::replace(&mut only.errors, true),
                _ => return Err(piece.mistake("not one of op=NAME, fd=N, error")),
            };
            if is_twice {
                return Err(
                    piece.mistake("this is there twice: leave one out (op=pread|pwrite is either)")
                );
            }
        }
        Ok(only)
    }

    /// Whether a call is shown that the kernel tells in any case.
    pub fn wants(&self, call: &Call) -> bool {
        let is_short = |nr: i64| call.ret >= 0 && call.ret < nr;
        let requests: &[Option<Iocb>] = match &call.args {
            // The kernel chose it.
            Args::Submit { .. } | Args::Getevents { .. } if call.entry == Entry::Seen => {
                return true;
            }
            Args::Submit { iocbs, .. } => iocbs,
            Args::Cancel { value, .. } => {
                let is_it = value.is_some_and(|it| self.describes(it.opcode, it.fildes));
                return is_it && self.is_error(call, false);
            }
            _ => &[],
        };
        let nr = if let Args::Submit { nr, .. } = &call.args { *nr } else { 0 };
        let values = requests.iter().flatten().filter_map(|it| it.value);
        let is_any = self.ops == 0 && self.fd.is_none();
        let is_about = is_any || values.into_iter().any(|it| self.describes(it.opcode, it.fildes));
        is_about && self.is_error(call, is_short(nr))
    }

    fn is_error(&self, call: &Call, is_short: bool) -> bool {
        // What io_cancel returns when it has cancelled something.
        let in_progress = -i64::from(errno::EINPROGRESS);
        let is_success = call.args.syscall() == Syscall::Cancel && call.ret == in_progress;
        !self.errors || is_short || (call.ret < 0 && !is_success)
    }

    fn describes(&self, opcode: u16, fd: u32) -> bool {
        (self.ops == 0 || (opcode < 32 && self.ops & 1 << opcode != 0))
            && self.fd.is_none_or(|it| it == fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_those_of_fault_rules() {
        let only = |text: &str| Only::parse(text).map_err(|it| it.why().to_owned());
        assert_eq!(only("error"), Ok(Only { errors: true, ..Only::default() }));
        let both = Only { ops: 0b11, fd: Some(7), errors: false };
        assert_eq!(only("op=pread|pwrite,fd=7"), Ok(both));
        let writes = Only { ops: 1 << 1 | 1 << 8, fd: None, errors: false };
        assert_eq!(only("op=write"), Ok(writes), "pwrite and pwritev");
        for (text, why) in [
            ("", "not one of"),
            ("errors", "not one of"),
            ("op=reed", "read"),
            ("fd=-1", "not a descriptor"),
            ("fd=1,fd=2", "twice"),
            ("error,error", "twice"),
            ("path=/x", "not one of"),
        ] {
            let said = only(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
