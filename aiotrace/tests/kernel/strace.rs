//! strace's own view of the calls, as text, and ours in the same words.

use std::{collections::BTreeMap, path::Path};

use aiotrace::{
    event::{self, opcode_name},
    opcode::Opcode,
    output::json::{EventObject, IocbObject, Line},
};
use regex_lite::Regex;

/// The options of strace.
pub const OPTIONS: [&str; 7] = [
    "-ff",
    "-v",
    "-s",
    "0",
    "-e",
    "trace=io_setup,io_submit,io_getevents,io_pgetevents,io_cancel,io_destroy",
    "-o",
];

/// Calls by thread.
pub type Calls = BTreeMap<u32, Vec<String>>;

/// Reads `PREFIX.TID`, as `strace -ff -o PREFIX` writes them.
pub fn read(directory: &Path) -> Calls {
    // Results without their explanations, and no contents of buffers.
    let result = Regex::new(r"\) += (-?\d+|\?)(?: (E\w+) \([^()]*\))?$").unwrap();
    let buffer = Regex::new(r#"aio_buf=(?:""(?:\.\.\.)?|\[[^\]]*\]), "#).unwrap();
    let mut calls = Calls::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let Some(tid) = name.strip_prefix("strace.") else { continue };
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let lines: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with("io_"))
            .map(|line| {
                let line = result.replace(line, |found: &regex_lite::Captures<'_>| {
                    let errno = found.get(2).map(|it| format!(" {}", it.as_str()));
                    format!(") = {}{}", &found[1], errno.unwrap_or_default())
                });
                buffer.replace_all(&line, "").into_owned()
            })
            .collect();
        if !lines.is_empty() {
            calls.insert(tid.parse().unwrap(), lines);
        }
    }
    calls
}

/// Our calls in strace's words.
pub fn of(lines: &[Line]) -> Calls {
    let mut calls = Calls::new();
    for line in lines {
        if let Some((tid, call)) = words(line) {
            calls.entry(tid).or_default().push(call);
        }
    }
    calls
}

fn words(line: &Line) -> Option<(u32, String)> {
    Some(match line {
        Line::Setup(it) => {
            let stored = match it.handle {
                Some(handle) if it.ret == 0 => format!("[{}]", hex(handle.0)),
                _ => pointer(it.args.ctxp.0),
            };
            (it.tid, format!("io_setup({}, {stored}){}", it.args.nr_events, result(it.ret)))
        }
        Line::Destroy(it) => {
            (it.tid, format!("io_destroy({}){}", hex(it.args.ctx.0), result(it.ret)))
        }
        Line::Submit(it) => {
            let mut iocbs: Vec<String> =
                it.iocbs.iter().map(|it| iocb(it.as_ref().expect("nothing lost"))).collect();
            if let Some(end) = it.iocbs.iter().flatten().position(|it| it.address.is_none()) {
                iocbs.truncate(end);
                iocbs.push(format!("... /* {} */", hex(it.args.iocbpp.0 + 8 * end as u64)));
            }
            if it.truncated > 0 {
                iocbs.push("...".into());
            }
            let list = match iocbs.as_slice() {
                [] => pointer(it.args.iocbpp.0),
                [only] if only.starts_with("... ") => pointer(it.args.iocbpp.0),
                list => format!("[{}]", list.join(", ")),
            };
            let (ctx, nr) = (hex(it.args.ctx.0), it.args.nr);
            (it.tid, format!("io_submit({ctx}, {nr}, {list}){}", result(it.ret)))
        }
        Line::Getevents(it) => {
            let events = if it.ret < 0 {
                pointer(it.args.events.0)
            } else {
                let mut list: Vec<String> =
                    it.events.iter().map(|it| io_event(it.as_ref().expect("readable"))).collect();
                if it.truncated > 0 {
                    list.push("...".into());
                }
                format!("[{}]", list.join(", "))
            };
            let timeout = match &it.timeout {
                Some(it) => format!("{{tv_sec={}, tv_nsec={}}}", it.tv_sec, it.tv_nsec),
                None => pointer(it.args.timeout.0),
            };
            let sigset = match (&it.sigset, it.args.sigset) {
                (Some(set), _) => {
                    // strace does not read a mask if the kernel refuses its size.
                    let mask = match set.mask {
                        Some(mask) if set.sigsetsize == 8 => signals(mask.0),
                        _ => pointer(set.sigmask.0),
                    };
                    format!(", {{sigmask={mask}, sigsetsize={}}}", set.sigsetsize)
                }
                (None, Some(at)) => format!(", {}", pointer(at.0)),
                (None, None) => String::new(),
            };
            let (ctx, min, nr) = (hex(it.args.ctx.0), it.args.min_nr, it.args.nr);
            let call = format!("{}({ctx}, {min}, {nr}, {events}, {timeout}{sigset})", it.event);
            (it.tid, call + &result(it.ret))
        }
        Line::Cancel(it) => {
            let iocb = match &it.iocb {
                // strace shows only the head of an iocb here.
                Some(it) => format!("{{{}}}", iocb_head(it)),
                None => pointer(it.args.iocb.0),
            };
            let (ctx, at) = (hex(it.args.ctx.0), pointer(it.args.result.0));
            (it.tid, format!("io_cancel({ctx}, {iocb}, {at}){}", result(it.ret)))
        }
        _ => return None,
    })
}

fn result(ret: i64) -> String {
    match event::errno_name(ret) {
        Some(name) if ret <= -512 => format!(" = ? {name}"),
        Some(name) => format!(" = -1 {name}"),
        None => format!(" = {ret}"),
    }
}

fn hex(value: u64) -> String {
    if value == 0 { "0".into() } else { format!("{value:#x}") }
}

fn pointer(value: u64) -> String {
    if value == 0 { "NULL".into() } else { format!("{value:#x}") }
}

fn iocb_head(it: &IocbObject) -> String {
    let mut text = format!("aio_data={}", hex(it.data.unwrap().0));
    if let Some(flags @ 1..) = it.rw_flags {
        text += &format!(", aio_rw_flags={flags:#x}");
    }
    let opcode = it.opcode.unwrap();
    let name = match opcode_name(Opcode(opcode)) {
        Some(name) => format!("IOCB_CMD_{}", name.to_uppercase()),
        None => format!("{opcode} /* IOCB_CMD_??? */"),
    };
    text + &format!(", aio_lio_opcode={name}, aio_fildes={}", it.fd.unwrap())
}

fn iocb(it: &IocbObject) -> String {
    let Some(opcode) = it.opcode else {
        return it.address.map_or_else(String::new, |at| pointer(at.0));
    };
    let mut text = iocb_head(it);
    let (buf, nbytes, offset) = (it.buf.unwrap().0, it.nbytes.unwrap(), it.offset.unwrap());
    match opcode {
        0 => {
            text += &format!(", aio_buf={}, aio_nbytes={nbytes}, aio_offset={offset}", pointer(buf))
        }
        1 => text += &format!(", aio_nbytes={nbytes}, aio_offset={offset}"),
        7 | 8 => text += &format!(", aio_offset={offset}"),
        5 => text += if buf == 1 { ", aio_buf=POLLIN" } else { panic!("another poll") },
        _ => (),
    }
    if it.flags == Some(1) {
        text += &format!(", aio_flags=IOCB_FLAG_RESFD, aio_resfd={}", it.resfd.unwrap());
    }
    format!("{{{text}}}")
}

fn io_event(it: &EventObject) -> String {
    let (data, obj) = (hex(it.data.0), hex(it.obj.0));
    format!("{{data={data}, obj={obj}, res={}, res2={}}}", it.res, it.res2)
}

fn signals(mask: u64) -> String {
    let names: Vec<String> = (1..=31)
        .filter(|number| mask >> (number - 1) & 1 == 1)
        .map(|number| {
            let signal = nix::sys::signal::Signal::try_from(number).unwrap();
            signal.as_str().trim_start_matches("SIG").to_owned()
        })
        .collect();
    format!("[{}]", names.join(" "))
}
