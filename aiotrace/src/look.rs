//! Answers to the questions of the model: what has to be looked up in the running system.

use std::{fs, os::unix::fs::FileTypeExt as _};

use aiotrace_common::settings::target;

use crate::{
    event::{Args, File, FileKind, Handle, Holder, Limit, RingFound, Syscall},
    process, ring,
    source::bpf::{arguments, list::Lister, load},
};

/// Holders told, at most.
const MOST_HOLDERS: usize = 10;

/// What is in the ring of a context. `is_known`: whether a handle is that of another known context.
pub fn at_ring(pid: u32, ctx: Handle, is_known: impl Fn(Handle) -> bool) -> (RingFound, bool) {
    let found = match ring::read(pid, ctx.0) {
        Some(ring) => RingFound::There(ring),
        None => missing(pid, ctx, is_known),
    };
    // Looked at last: who begins io_destroy after this had the ring mapped before.
    let destroying = process::blocked_calls(pid).iter().any(|it| {
        it.syscall == Syscall::Destroy
            && matches!(arguments(it.syscall, &it.args), Args::Destroy { ctx: of } if of == ctx)
    });
    (found, destroying)
}

fn missing(pid: u32, ctx: Handle, is_known: impl Fn(Handle) -> bool) -> RingFound {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return RingFound::Unknown;
    };
    if maps.is_empty() || !process::is_alive(pid) {
        return RingFound::Unknown;
    }
    let mut rings = ring::mapped(&maps).into_iter().map(Handle);
    // One that nobody knows is perhaps this one, moved.
    if rings.any(|it| it == ctx || !is_known(it)) {
        return RingFound::Unknown;
    }
    RingFound::Unmapped
}

/// What a descriptor is.
pub fn file(pid: u32, fd: u32) -> Option<File> {
    let status = fs::metadata(format!("/proc/{pid}/fd/{fd}")).ok()?;
    let kind = status.file_type();
    Some(if kind.is_file() {
        File { kind: FileKind::Storage, size: Some(status.len()) }
    } else if kind.is_block_device() {
        File { kind: FileKind::Storage, size: None }
    } else {
        File { kind: FileKind::Other, size: None }
    })
}

/// Who holds fs.aio-nr: exact with BPF, else only the limit is known.
pub fn limit() -> Option<Limit> {
    let number =
        |name: &str| fs::read_to_string(format!("/proc/sys/fs/{name}")).ok()?.trim().parse().ok();
    let (used, limit) = (number("aio-nr")?, number("aio-max-nr")?);
    let listed = load::settings(target::ALL)
        .and_then(|settings| Lister::load(&settings))
        .and_then(|mut lister| lister.list());
    let mut holders: Vec<Holder> = Vec::new();
    for it in listed.map_or(Vec::new(), |(contexts, _)| contexts) {
        match holders.iter_mut().find(|known| known.pid == it.pid) {
            Some(known) => {
                known.contexts += 1;
                known.charge += u64::from(it.charge);
            }
            None => holders.push(Holder {
                pid: it.pid,
                name: process::name(it.pid).unwrap_or_default(),
                contexts: 1,
                charge: u64::from(it.charge),
            }),
        }
    }
    holders.sort_by_key(|it| (std::cmp::Reverse(it.charge), it.pid));
    holders.truncate(MOST_HOLDERS);
    Some(Limit { used, limit, holders })
}
