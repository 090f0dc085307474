//! Threads inside of a call from which they do not return: what a process that hangs waits for.
//!
//! Nothing is concluded here: the report says what is known of the wait, and what is not.

use std::collections::BTreeMap;

use super::{Context, MOST_NAMES, Model, Question, SECOND, timeout::Until};
use crate::{
    event::{Args, Event, Handle, Unfinished, Why},
    words::{duration::in_words, number::thousands},
};

/// The threads that are inside of a call, by their ids.
#[derive(Default)]
pub(super) struct Inside {
    threads: BTreeMap<u32, Entered>,
    /// There was such a thread at some time: so the program uses kernel AIO.
    pub any: bool,
}

struct Entered {
    pid: u32,
    /// When the call was entered, if that was seen; otherwise when the thread was found in it.
    since: u64,
    is_older: bool,
    what: What,
}

enum What {
    Call(Args),
    Exit,
}

/// One or more threads that wait for the same thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Process.
    pub pid: u32,
    /// Its name: any bytes.
    pub process: Vec<u8>,
    /// One of the threads that wait.
    pub tid: u32,
    /// How many threads wait for the same thing.
    pub threads: u64,
    /// Name of the call, or `exit`.
    pub call: &'static str,
    /// How long it has waited, nanoseconds; with `is_older`, at least so long.
    pub age: u64,
    /// It began before the attach.
    pub is_older: bool,
    /// The wait in words.
    pub message: String,
}

impl Model {
    /// Notes that a thread is in a call.
    pub(super) fn in_call(&mut self, event: &Event, call: &Unfinished) {
        let Unfinished { entered, args, why } = call;
        self.inside.any = true;
        match args {
            // Calls that were waiting on this context got EINVAL by design.
            Args::Destroy { ctx } => {
                self.excuse_refusals((self.space(event.pid), *ctx), entered.unwrap_or(0));
            }
            // (While a program runs, its ring may be ahead of the events by more than a whole round.)
            Args::Getevents { ctx, .. } if self.settings.every_call && *why == Why::TraceEnds => {
                self.ask(Question::Ring { pid: event.pid, ctx: *ctx });
            }
            // (When a report is asked for, it may still return, and is told then.)
            Args::Submit { .. } if *why == Why::TraceEnds => {
                if let Some(entered) = entered {
                    self.in_submit(event, *entered, args);
                }
            }
            _ => (),
        }
        let since = entered.unwrap_or(event.time);
        let is_older = *why == Why::BlockedAtAttach;
        self.enter(event, since, is_older, What::Call(args.clone()));
    }

    /// Notes that a thread is in exit, and waits there for requests.
    pub(super) fn in_exit(&mut self, event: &Event) {
        self.inside.any = true;
        self.enter(event, event.time, true, What::Exit);
    }

    fn enter(&mut self, event: &Event, since: u64, is_older: bool, what: What) {
        let threads = &mut self.inside.threads;
        if threads.len() < MOST_NAMES && !threads.contains_key(&event.tid) {
            threads.insert(event.tid, Entered { pid: event.pid, since, is_older, what });
        }
    }

    /// Notes that a thread returned from its call.
    pub(super) fn left_call(&mut self, tid: u32) {
        self.inside.threads.remove(&tid);
    }

    /// Notes that no thread of this process is in a call any more.
    pub(super) fn left_calls(&mut self, pid: u32) {
        self.inside.threads.retain(|_, it| it.pid != pid);
    }

    /// The threads that have waited for a while; equal waits are one.
    pub(super) fn waits_in_calls(&self) -> Vec<Wait> {
        let mut waits: Vec<Wait> = Vec::new();
        let mut places: BTreeMap<(u32, String), usize> = BTreeMap::new();
        for (tid, it) in &self.inside.threads {
            let age = self.now.saturating_sub(it.since);
            // A thread that waits in exit does not return; a thread in another call may return at any moment.
            let is_long = age >= SECOND || matches!(it.what, What::Exit);
            let Some((call, what)) = self.in_which(it).filter(|_| is_long) else { continue };
            if let Some(place) = places.get(&(it.pid, what.clone())) {
                waits[*place].threads += 1;
                continue;
            }
            let for_how_long = match it.what {
                What::Exit => String::new(),
                What::Call(_) if it.is_older => {
                    format!("; since before the attach, {} ago", in_words(age))
                }
                What::Call(_) => format!("; for {}", in_words(age)),
            };
            places.insert((it.pid, what.clone()), waits.len());
            waits.push(Wait {
                pid: it.pid,
                process: self.names.get(&it.pid).cloned().unwrap_or_default(),
                tid: *tid,
                threads: 1,
                call,
                age,
                is_older: it.is_older,
                message: format!("{what}{for_how_long}"),
            });
        }
        waits
    }

    fn in_which(&self, it: &Entered) -> Option<(&'static str, String)> {
        Some(match &it.what {
            What::Exit => (
                "exit",
                "is in exit and waits there for requests in flight (in exit_aio, state D: it cannot be \
                 killed)"
                    .to_owned(),
            ),
            What::Call(args @ Args::Getevents { ctx, min_nr, timeout, timeout_value, .. }) => {
                let name = args.syscall().name();
                let plural = if *min_nr == 1 { "" } else { "s" };
                let until = match Until::of(*min_nr, *timeout, *timeout_value) {
                    Until::Ever if timeout.0 == 0 => "without a timeout".to_owned(),
                    Until::Ever => "without a timeout (it is negative)".to_owned(),
                    Until::Within(nanos) => format!("for at most {}", in_words(nanos)),
                    Until::AtOnce => format!("for at most {}", in_words(0)),
                    Until::Unknown => "with a timeout that was not read".to_owned(),
                };
                let known = self.what_comes(it.pid, *ctx, *min_nr);
                (name, format!("waits in {name} for {min_nr} completion{plural} {until}; {known}"))
            }
            What::Call(args @ Args::Destroy { .. }) => {
                let name = args.syscall().name();
                let text = "is in io_destroy, which waits for the requests in flight, and cannot be killed";
                (name, text.to_owned())
            }
            What::Call(args @ Args::Submit { nr, .. }) => {
                let name = args.syscall().name();
                (name, format!("is in io_submit of {nr}, which should only hand them over"))
            }
            What::Call(_) => return None,
        })
    }

    /// What can still come for a wait, in words: `the ring is empty; what is in flight is not known (...)`.
    fn what_comes(&self, pid: u32, ctx: Handle, most: i64) -> String {
        let Some(context) = self.contexts.get(&(self.space(pid), ctx)) else {
            return "its context is not known".to_owned();
        };
        let ring = match context.ring.map(crate::event::Ring::unreaped) {
            None => "its ring could not be read".to_owned(),
            // A call that waits for several completions takes each one out of the ring as it comes.
            Some(0) if most > 1 => format!(
                "the ring is empty (the call may have taken up to {} of them out of it already, which nobody can see)",
                thousands((most - 1).unsigned_abs())
            ),
            Some(0) => "the ring is empty".to_owned(),
            Some(1) => "1 completion is in the ring".to_owned(),
            Some(count) => format!("{count} completions are in the ring"),
        };
        format!("{ring}; {}", in_flight(context, self.settings.every_call))
    }
}

fn in_flight(context: &Context, every_call: bool) -> String {
    if !every_call {
        return "what is in flight is not known (calls are counted)".to_owned();
    }
    match (context.in_flight(), context.doubt_of_requests()) {
        (Some(0), _) => "no request is in flight".to_owned(),
        (Some(1), _) => "1 request is in flight".to_owned(),
        (Some(count), _) => format!("{count} requests are in flight"),
        (None, Some(doubt)) => format!("what is in flight is not known ({})", doubt.text()),
        (None, None) => match context.requests.in_flight() {
            0 => "what is in flight is not known (submitted before the attach; under `aiotrace run` it would be)"
                .to_owned(),
            count => format!(
                "at least {count} request{} in flight, submitted since the attach (what was submitted before is not \
                 known; under `aiotrace run` it would be)",
                if count == 1 { " is" } else { "s are" }
            ),
        },
    }
}
