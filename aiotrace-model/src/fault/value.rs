//! Values of actions and conditions: numbers, times, errnos.

use super::{mistake::Mistake, piece::Piece, words::did_you_mean};
use crate::{
    errno,
    event::{SiteId, opcode_name},
    opcode::Opcode,
    words,
};

/// The kernel gives no errno above this one.
const LAST_ERRNO: i32 = 4095;
/// No request moves more bytes (MAX_RW_COUNT).
const MOST_BYTES: i64 = 0x7fff_f000;
/// What strace knows by two names, and the C library too.
const ALIASES: [(&str, i32); 3] =
    [("EWOULDBLOCK", errno::EAGAIN), ("ENOTSUP", errno::EOPNOTSUPP), ("EDEADLOCK", errno::EDEADLK)];

/// A number of digits; `None` for anything else.
pub(super) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|it| it.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A count: from 1 on.
fn count(piece: Piece<'_>, why: &str) -> Result<u64, Mistake> {
    digits(piece.text()).filter(|it| *it >= 1).ok_or_else(|| piece.mistake(why))
}

/// `max=N`
pub(super) fn max(piece: Piece<'_>) -> Result<u64, Mistake> {
    count(piece, "not a number from 1 on: write for instance max=3")
}

/// `accept=K`
pub(super) fn accept(piece: Piece<'_>) -> Result<i64, Mistake> {
    if digits(piece.text()) == Some(0) {
        return Err(piece.mistake(
            "io_submit never returns 0 if it is given requests: it returns the errno of the first; \
             write error=EAGAIN for none",
        ));
    }
    let why = "not a number of requests, from 1 on: write for instance accept=1";
    count(piece, why)?.try_into().map_err(|_| piece.mistake(why))
}

/// `when=FIRST[..LAST][+[STEP]]`: the first, the last, the step.
pub(super) fn when(piece: Piece<'_>) -> Result<(u64, u64, u64), Mistake> {
    let (range, step) = match piece.split_once("+") {
        Some((range, step)) => (range, Some(step)),
        None => (piece, None),
    };
    let (first, last) = match range.split_once("..") {
        Some((first, last)) => (first, Some(last)),
        None => (range, None),
    };
    let counted = |piece: Piece<'_>| {
        match digits(piece.text()) {
        Some(0) => Err(piece.mistake("counts begin at 1")),
        Some(number) => Ok(number),
        None => Err(piece.mistake(
            "not a count: write when=3 for the third, when=3+ for all from the third on, when=3+2 for each \
             second from then on, when=2..5, when=2..10+2",
        )),
    }
    };
    let from = counted(first)?;
    let to = match last {
        Some(last) => {
            let to = counted(last)?;
            if to < from {
                return Err(range.mistake("the last is before the first"));
            }
            to
        }
        None if step.is_some() => u64::MAX,
        None => from,
    };
    let step = match step {
        Some(step) if !step.is_empty() => count(
            step,
            "not a step, from 1 on: write for instance when=3+2, or when=3 for the third alone",
        )?,
        _ => 1,
    };
    Ok((from, to, step))
}

/// `prob=P`: how often of 2^64 times.
pub(super) fn odds(piece: Piece<'_>) -> Result<u64, Mistake> {
    let text = piece.text();
    let (number, of) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let probability = number.parse::<f64>().ok().map(|it| it / of);
    let Some(probability) = probability.filter(|it| *it > 0.0 && *it <= 1.0) else {
        let percent = match probability {
            Some(it) if it > 1.0 && it <= 100.0 => format!("; did you mean {text}%?"),
            _ => String::new(),
        };
        return Err(piece.mistake(format!(
            "not a probability, more than 0 and at most 1: write for instance prob=0.1 or prob=10%{percent}"
        )));
    };
    // As a cast saturates, 1 is always.
    Ok(((probability * 2f64.powi(64)) as u64).max(1))
}

/// `after=T`, `for=T`: nanoseconds. A plain number is seconds.
pub(super) fn time(piece: Piece<'_>) -> Result<u64, Mistake> {
    nanoseconds(piece.text(), 1.0)
        .ok_or_else(|| piece.mistake("not a time: write for instance 500ms, 10s or 2m"))
}

/// `delay_enter=T`, `delay_exit=T`: nanoseconds. A plain number is microseconds, as for strace.
pub(super) fn delay(piece: Piece<'_>) -> Result<i64, Mistake> {
    nanoseconds(piece.text(), 1e-6).and_then(|it| it.try_into().ok()).ok_or_else(|| {
        piece.mistake("not a delay: write for instance 200 (microseconds), 500us, 20ms or 1s")
    })
}

fn nanoseconds(text: &str, seconds: f64) -> Option<u64> {
    let duration = words::duration::parse(text, seconds)?;
    u64::try_from(duration.as_nanos()).ok().filter(|it| *it > 0)
}

/// `error=ERRNO`, a positive number.
pub(super) fn error(piece: Piece<'_>) -> Result<i32, Mistake> {
    let text = piece.text();
    match digits(text).map(i32::try_from) {
        // ERESTARTSYS and its like: the kernel would start the call again, for ever.
        Some(Ok(512..=514 | 516)) => Err(piece
            .mistake("no program ever sees this one: it makes the kernel start the call again")),
        Some(Ok(number @ 1..=LAST_ERRNO)) => Ok(number),
        Some(_) => Err(piece.mistake(format!("errnos are from 1 to {LAST_ERRNO}"))),
        None if text.starts_with('-') => {
            Err(piece.mistake("without the minus: write for instance error=EAGAIN or error=11"))
        }
        None => by_name(piece),
    }
}

/// `res=ERRNO|N`
pub(super) fn result(piece: Piece<'_>) -> Result<i64, Mistake> {
    let text = piece.text();
    let minus = text.strip_prefix('-');
    match digits(minus.unwrap_or(text)).map(i64::try_from) {
        Some(Ok(number)) => match minus {
            Some(_) if (1..=LAST_ERRNO.into()).contains(&number) => Ok(-number),
            Some(_) => Err(piece.mistake(format!("errnos are from -1 to -{LAST_ERRNO}"))),
            None if number <= MOST_BYTES => Ok(number),
            None => Err(piece.mistake(format!("no request moves more than {MOST_BYTES} bytes"))),
        },
        Some(Err(_)) => Err(piece.mistake("too large")),
        None if minus.is_some() => {
            Err(piece.mistake("a name is without the minus: write for instance res=EIO or res=-5"))
        }
        None => by_name(piece).map(|errno| -i64::from(errno)),
    }
}

/// The errno of this name, in upper case or not, as strace has it.
fn by_name(piece: Piece<'_>) -> Result<i32, Mistake> {
    let text = piece.text();
    let named = errno::all().map(|(number, name)| (name, number));
    let mut all = named.clone().chain(ALIASES);
    if let Some((_, number)) = all.find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Ok(number);
    }
    let near = did_you_mean(text, named.map(|it| it.0));
    Err(piece.mistake(format!("no errno has this name{near}")))
}

/// Both kinds, of one buffer and of vectors: programs use one or the other for the same work.
const BOTH: [(&str, u32); 2] = [("read", 1 | 1 << 7), ("write", 1 << 1 | 1 << 8)];

/// The opcodes that the kernel knows (it refuses a noop), with their names.
fn known_operations() -> [(u16, &'static str); 7] {
    [0, 1, 2, 3, 5, 7, 8].map(|code| (code, opcode_name(Opcode(code)).unwrap_or_default()))
}

/// What may stand in `op=`.
pub(super) fn names_of_operations() -> impl Iterator<Item = &'static str> {
    known_operations().into_iter().map(|it| it.1).chain(BOTH.into_iter().map(|it| it.0))
}

/// `op=NAME[|NAME]`: a bit for each.
pub(super) fn operations(piece: Piece<'_>) -> Result<u32, Mistake> {
    let known = known_operations();
    piece.split("|").into_iter().try_fold(0, |bits, name| {
        let text = name.text();
        if let Some((_, both)) = BOTH.iter().find(|(known, _)| *known == text) {
            return Ok(bits | both);
        }
        match known.iter().find(|(_, known)| *known == text) {
            Some((code, _)) => Ok(bits | 1 << code),
            None => {
                let names: Vec<_> = names_of_operations().collect();
                let near = did_you_mean(text, names.iter().copied());
                Err(name.mistake(format!("not one of {}{near}", names.join(", "))))
            }
        }
    })
}

/// `fd=N`
pub(super) fn descriptor(piece: Piece<'_>) -> Result<u32, Mistake> {
    let number = digits(piece.text()).filter(|it| *it <= i32::MAX as u64);
    number
        .and_then(|it| it.try_into().ok())
        .ok_or_else(|| piece.mistake("not a descriptor: write one number from 0 on"))
}

/// `ctx=0x...`
pub(super) fn context(piece: Piece<'_>) -> Result<u64, Mistake> {
    let hex = piece.text().strip_prefix("0x").filter(|it| !it.starts_with('+'));
    hex.and_then(|it| u64::from_str_radix(it, 16).ok()).filter(|it| *it != 0).ok_or_else(|| {
        piece.mistake(
            "not the handle of a context: write it as aiotrace shows it, for instance ctx=0x7f5ea8e81000",
        )
    })
}

/// `site=ID`
pub(super) fn site(piece: Piece<'_>) -> Result<SiteId, Mistake> {
    SiteId::parse(piece.text()).ok_or_else(|| {
        piece.mistake(
            "not the id of a call site: write its eight digits as `aiotrace run --stacks` and `aiotrace sweep` \
             show them, for instance site=3f9a1c07",
        )
    })
}

/// `tid=N`
pub(super) fn thread(piece: Piece<'_>) -> Result<u32, Mistake> {
    let number = digits(piece.text()).filter(|it| (1..=i32::MAX as u64).contains(it));
    number
        .and_then(|it| it.try_into().ok())
        .ok_or_else(|| piece.mistake("not a thread: write one number from 1 on"))
}
