//! Numbers, names and places, as they appear in lines.

use std::io::Write as _;

pub(crate) use crate::words::{number::hex, signal::signal};

use crate::{
    event::{Address, Sigset, Timespec},
    model::{Finding, Name},
    output::escape::escape,
    stacks::{Named, Symbolizer, culprit},
};

/// Most functions named for the place where a context was made.
const MAKERS: usize = 4;

pub(super) fn number(line: &mut Vec<u8>, value: impl itoa::Integer) {
    line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub(super) fn count(line: &mut Vec<u8>, name: &str, value: impl itoa::Integer) {
    line.push(b' ');
    line.extend_from_slice(name.as_bytes());
    line.push(b'=');
    number(line, value);
}

pub(super) fn field(line: &mut Vec<u8>, name: &str, value: u64) {
    line.push(b' ');
    line.extend_from_slice(name.as_bytes());
    line.push(b'=');
    hex(line, value);
}

pub(super) fn address(line: &mut Vec<u8>, value: Address) {
    if value.0 == 0 {
        line.extend_from_slice(b"NULL");
    } else {
        hex(line, value.0);
    }
}

pub(super) fn timespec(line: &mut Vec<u8>, at: Address, value: Option<Timespec>) {
    match value {
        Some(Timespec { sec, nsec }) if at.0 != 0 => {
            let _ = write!(line, "{{tv_sec={sec}, tv_nsec={nsec}}}");
        }
        _ => address(line, at),
    }
}

pub(super) fn signal_set(line: &mut Vec<u8>, at: Address, value: Option<Sigset>) {
    let Some(set) = value else {
        return address(line, at);
    };
    line.extend_from_slice(b"{sigmask=");
    match set.mask {
        Some(mask) => {
            line.push(b'[');
            for (index, number) in (1..=64).filter(|it| mask >> (it - 1) & 1 == 1).enumerate() {
                if index > 0 {
                    line.push(b' ');
                }
                line.extend_from_slice(signal(number).trim_start_matches("SIG").as_bytes());
            }
            line.push(b']');
        }
        None => address(line, set.address),
    }
    line.push(b',');
    count(line, "sigsetsize", set.size);
    line.push(b'}');
}

/// Writes the names of the bits that are set, joined by `|`; the other bits as a number.
pub(super) fn flags(line: &mut Vec<u8>, value: u64, names: &[(u64, &str)]) {
    if value == 0 {
        line.push(b'0');
        return;
    }
    let mut rest = value;
    let mut separator = false;
    for (bit, name) in names {
        if value & bit != 0 {
            if separator {
                line.push(b'|');
            }
            separator = true;
            line.extend_from_slice(name.as_bytes());
            rest &= !bit;
        }
    }
    if rest != 0 {
        if separator {
            line.push(b'|');
        }
        hex(line, rest);
    }
}

/// Writes `function (file:line)`, or what is known of that.
pub(super) fn function(line: &mut Vec<u8>, named: &Named) {
    let place = |line: &mut Vec<u8>| match (&named.module, named.offset) {
        (Some(module), Some(offset)) => {
            escape(line, &module.path);
            line.push(b'+');
            hex(line, offset);
        }
        _ => hex(line, named.address),
    };
    let Some(name) = &named.function else {
        return place(line);
    };
    escape(line, name.as_bytes());
    line.extend_from_slice(b" (");
    match &named.file {
        Some(file) => {
            escape(line, file.as_bytes());
            if let Some(number) = named.line {
                let _ = write!(line, ":{number}");
            }
        }
        None => place(line),
    }
    line.push(b')');
}

/// Where a context was made: `, made by function (file:line) <- caller (file:line)`, or nothing if that is unknown.
/// For a finding about a call, `called by` stands in the place of `made by`.
pub(super) fn made_by(symbols: &Symbolizer, finding: &Finding) -> String {
    let Some(stack) = &finding.stack else { return String::new() };
    let named = symbols.describe(finding.pid, stack);
    let Some(first) = culprit(&named) else { return String::new() };
    // Programs have their own functions around system calls: so several functions are named.
    let own = named.iter().skip_while(|it| !std::ptr::eq(*it, first)).take(MAKERS);
    let mut text = Vec::new();
    for (index, maker) in own.enumerate() {
        let verb = match finding.name {
            Name::RefusedCalls | Name::BlockingSubmit => ", called by ",
            _ => ", made by ",
        };
        text.extend_from_slice(if index == 0 { verb.as_bytes() } else { b" <- " });
        function(&mut text, maker);
    }
    String::from_utf8_lossy(&text).into_owned()
}
