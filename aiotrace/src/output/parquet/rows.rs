//! The rows of calls and of requests.

use std::{collections::HashMap, io};

use super::{
    Open,
    file::{Value, count},
};
use crate::{
    event::{
        Args, Body, Call, Change, Completion, Event, Handle, How, Iocb, Ring, errno_name,
        opcode_name,
    },
    opcode::Opcode,
    output::{
        escape::escaped,
        paths::Paths,
        requests::{Done, Over, Request, Requests},
    },
};

/// Most contexts that are followed at a time.
const MOST: usize = 65_536;
/// Most requests of all contexts together of which more is known than the context needs.
const MOST_REQUESTS: usize = 1 << 18;

/// The requests that are in flight or not reaped.
#[derive(Default)]
pub struct Followed {
    contexts: HashMap<(u32, Handle), Requests>,
    about: HashMap<u64, About>,
    /// The iocbs that io_submit refused, until it returns.
    refused: HashMap<(u32, u32), (u64, i64)>,
    /// The rules that changed completions, by the context and the iocb.
    changed: HashMap<(u32, Handle, u64), u32>,
    number: u64,
    /// Requests without a row.
    pub left_out: u64,
}

/// What is known of a request.
#[derive(Clone, Debug)]
struct About {
    names: [Value; 5],
    op: Option<&'static str>,
    fd: Option<i64>,
    path: Value,
}

/// How a request ended.
#[derive(Clone, Copy)]
struct End {
    time: Option<u64>,
    text: &'static str,
}

/// Writes the rows that an event makes.
pub fn event(
    open: &mut Open,
    paths: &mut Paths,
    names: [Value; 5],
    event: &Event,
) -> io::Result<()> {
    match &event.body {
        Body::Call(it) => call(open, paths, names, event, it),
        Body::Completion(it) => {
            completed(open, event, it);
            Ok(())
        }
        Body::Changed(it) => {
            let changed = &mut open.followed.changed;
            if it.fault.effect.is_made() && changed.len() < MOST_REQUESTS {
                changed.insert((event.pid, it.ctx, it.event.obj), it.fault.rule);
            }
            let key = (event.pid, it.ctx);
            if let Some(context) = open.followed.contexts.get_mut(&key) {
                context
                    .completed(it.event.obj, Done { time: event.time, after: None, res: it.res });
            }
            Ok(())
        }
        Body::Refused(it) => {
            if open.followed.refused.len() < MOST {
                open.followed.refused.insert((event.pid, event.tid), (it.index, it.ret));
            }
            Ok(())
        }
        Body::ContextMoved(it) => {
            if let Some(context) = open.followed.contexts.remove(&(event.pid, it.from)) {
                open.followed.contexts.insert((event.pid, it.to), context);
            }
            Ok(())
        }
        Body::ContextGone(it) => {
            let text = match it.how {
                How::Destroy => "destroyed",
                How::Exit => "exit",
                How::Exec => "exec",
            };
            gone(open, (event.pid, it.ctx), End { time: Some(event.time), text })
        }
        Body::Process(it) if matches!(it.change, Change::Exit { .. }) => {
            let keys = open.followed.contexts.keys().copied();
            let its: Vec<_> = keys.filter(|it| it.0 == event.pid).collect();
            for key in its {
                gone(open, key, End { time: Some(event.time), text: "exit" })?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Writes the rows of requests that were open when the trace ended.
pub fn left(open: &mut Open, _names: impl Fn(u32) -> [Value; 5]) -> io::Result<()> {
    let mut keys: Vec<(u32, Handle)> = open.followed.contexts.keys().copied().collect();
    keys.sort_unstable();
    keys.into_iter().try_for_each(|key| gone(open, key, End { time: None, text: "open" }))
}

fn gone(open: &mut Open, key: (u32, Handle), end: End) -> io::Result<()> {
    let Some(context) = open.followed.contexts.remove(&key) else { return Ok(()) };
    context.left().iter().try_for_each(|it| request(open, key, it, end))
}

fn call(
    open: &mut Open,
    paths: &mut Paths,
    names: [Value; 5],
    event: &Event,
    it: &Call,
) -> io::Result<()> {
    let key = (event.pid, it.args.handle());
    let nr = match &it.args {
        Args::Setup { nr_events, .. } => Some(i64::from(*nr_events)),
        Args::Submit { nr, .. } | Args::Getevents { nr, .. } => Some(*nr),
        Args::Destroy { .. } | Args::Cancel { .. } => None,
    };
    let handle = match &it.args {
        Args::Setup { stored, .. } => stored.filter(|_| it.ret == 0),
        _ => Some(key.1),
    };
    let rule = it.fault.filter(|it| it.effect.is_made()).map(|it| it.rule);
    let entered = it.entered.map(|it| it.min(event.time));
    let rest = [
        event.tid.into(),
        handle.map(|it| format!("{:#x}", it.0)).into(),
        it.args.syscall().name().into(),
        entered.map(|it| open.time(it)).unwrap_or(Value::Null),
        open.time(event.time),
        entered.map(|it| count(event.time - it)).unwrap_or(Value::Null),
        nr.into(),
        it.ret.into(),
        errno_name(it.ret).into(),
        rule.into(),
    ];
    let row = open.row(names.clone(), rest);
    open.calls.row(row)?;
    match &it.args {
        Args::Submit { iocbs, .. } => submitted(open, paths, &names, event, it, iocbs)?,
        Args::Getevents { list, .. } => {
            for found in list.iter().flatten() {
                let context = open.followed.contexts.get_mut(&key);
                if let Some(over) = context.and_then(|it| it.reaped(found.obj, event.time)) {
                    reaped(open, key, &over, "reaped")?;
                }
            }
        }
        _ => (),
    }
    emptied(open, key, it.ring, it.began(event))
}

fn submitted(
    open: &mut Open,
    paths: &mut Paths,
    names: &[Value; 5],
    event: &Event,
    it: &Call,
    iocbs: &[Option<Iocb>],
) -> io::Result<()> {
    let key = (event.pid, it.args.handle());
    let refused = open.followed.refused.remove(&(event.pid, event.tid));
    // A short io_submit that is a fault has queued what it says, too.
    let accepted = usize::try_from(it.ret).unwrap_or(0);
    let from = it.began(event).min(event.time);
    for (index, iocb) in iocbs.iter().enumerate() {
        let is_accepted = index < accepted;
        let refusal = refused.filter(|(at, _)| *at == index as u64 && !is_accepted).map(|it| it.1);
        if !is_accepted && refusal.is_none() {
            continue;
        }
        let Some(iocb) = iocb else {
            open.followed.left_out += u64::from(is_accepted);
            continue;
        };
        let value = iocb.value;
        let path = value.and_then(|it| paths.now(event.pid, it.fildes, event.time)).map(escaped);
        let about = About {
            names: names.clone(),
            op: value.and_then(|it| opcode_name(Opcode(it.opcode))),
            fd: value.map(|it| i64::from(it.fildes as i32)),
            path: path.into(),
        };
        let [offset, length] = value.map_or([0; 2], |it| [it.offset as u64, it.nbytes]);
        open.followed.number += 1;
        let number = open.followed.number;
        let address = iocb.address.map_or(0, |it| it.0);
        let mut new =
            Request { number, from, iocb: [address, offset, length, 0], ..Request::default() };
        if let Some(ret) = refusal {
            new.completed = Some(Done { time: event.time, after: None, res: ret });
            open.followed.about.insert(number, about);
            request(open, key, &new, End { time: Some(event.time), text: "refused" })?;
            continue;
        }
        let followed = &mut open.followed;
        let is_room = followed.contexts.len() < MOST || followed.contexts.contains_key(&key);
        let is_room = is_room && followed.about.len() < MOST_REQUESTS;
        let added = match is_room && address != 0 {
            true => followed.contexts.entry(key).or_default().submitted(new),
            false => None,
        };
        let Some((_, over)) = added else {
            followed.left_out += 1;
            continue;
        };
        followed.about.insert(number, about);
        if let Some(over) = over {
            reaped(open, key, &over, "reaped")?;
        }
    }
    // Requests whose iocbs were not read.
    open.followed.left_out += accepted.saturating_sub(iocbs.len()) as u64;
    Ok(())
}

fn completed(open: &mut Open, event: &Event, it: &Completion) {
    let Some(found) = it.event.filter(|_| !it.discarded) else { return };
    // It may come before the first io_submit of its context returns.
    let contexts = &mut open.followed.contexts;
    let key = (event.pid, it.ctx);
    if contexts.len() < MOST || contexts.contains_key(&key) {
        let done = Done { time: event.time, after: it.since, res: found.res };
        contexts.entry(key).or_default().completed(found.obj, done);
    }
}

fn emptied(open: &mut Open, key: (u32, Handle), ring: Option<Ring>, began: u64) -> io::Result<()> {
    let is_empty = ring.is_some_and(|it| it.nr > 0 && it.unreaped() == 0);
    let context = open.followed.contexts.get_mut(&key).filter(|_| is_empty);
    let all = context.map(|it| it.emptied(began)).unwrap_or_default();
    all.iter().try_for_each(|it| reaped(open, key, it, "ring"))
}

fn reaped(open: &mut Open, key: (u32, Handle), over: &Over, text: &'static str) -> io::Result<()> {
    request(open, key, &over.request, End { time: Some(over.reaped), text })
}

/// Writes the row of a request.
fn request(open: &mut Open, key: (u32, Handle), it: &Request, end: End) -> io::Result<()> {
    let Some(About { names, op, fd, path }) = open.followed.about.remove(&it.number) else {
        return Ok(());
    };
    let rule = open.followed.changed.remove(&(key.0, key.1, it.iocb[0]));
    let time = |it: Option<u64>| it.map(|it| open.time(it)).unwrap_or(Value::Null);
    let done = it.completed;
    let is_known = fd.is_some();
    let known = |it: u64| if is_known { Value::Number(it as i64) } else { Value::Null };
    // Where nothing is known of the beginning, it is 0 on the machine's clock, and no time of the day.
    let after = done.and_then(|it| it.after);
    let after = match after {
        Some(0) => Value::Number(0),
        other => time(other),
    };
    let latency = done.map(|done| count(done.time.saturating_sub(it.from))).unwrap_or(Value::Null);
    let rest = [
        format!("{:#x}", key.1.0).into(),
        op.into(),
        fd.into(),
        path,
        known(it.iocb[1]),
        known(it.iocb[2]),
        time(Some(it.from)),
        time(done.map(|it| it.time)),
        after,
        latency,
        time(end.time),
        end.text.into(),
        done.map(|it| it.res).into(),
        done.and_then(|it| errno_name(it.res)).into(),
        rule.into(),
    ];
    let row = open.row(names, rest);
    open.requests.row(row)
}
