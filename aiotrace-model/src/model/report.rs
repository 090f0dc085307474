//! The report at the end, or whenever it is asked for.

use std::collections::BTreeMap;

use super::{
    Alive, Context, ContextRef, Done, Doubt, FaultRow, Finding, Map, Model, Peak, SECOND,
    Thresholds, Wait,
    latency::{Latency, Percentiles},
    sums::{Disagreement, Sums},
    usage::{Usage, Usages},
    verdict::RuleRow,
};
use crate::{
    any_order::AnyOrder as _,
    counted::Counted,
    event::{Gone, Handle, How, SpaceId},
    opcode::Opcode,
};

/// Most contexts with a row of their own; the others share a row.
const MOST_ROWS: usize = 256;
/// A process whose last call is longer ago is reported as quiet.
const QUIET: u64 = 5 * SECOND;

/// Contexts that have ended.
#[derive(Default)]
pub(super) struct Ends {
    rows: Vec<Row>,
    others: Option<Row>,
    /// Contexts whose io_destroy has not returned.
    pub destroying: Vec<Destroying>,
    /// What became of the ended contexts, and of their requests.
    sums: Sums,
    /// Completions of ended contexts whose entries could not be read.
    unread: u64,
    /// Completions of ended contexts that only their rings showed.
    unseen: u64,
}

/// A context that io_destroy ended, before the call returned.
pub(super) struct Destroying {
    pub key: (SpaceId, Handle),
    pub context: Context,
    /// How it ended.
    pub gone: Gone,
    /// When it ended.
    pub time: u64,
}

/// All conclusions.
#[derive(Clone, Debug)]
pub struct Report {
    /// Contexts, those with most requests first.
    pub contexts: Vec<Row>,
    /// The contexts that have no row of their own, as one.
    pub others: Option<Row>,
    /// How each process uses AIO, those with most requests first; empty where calls are only counted.
    pub usages: Vec<Usage>,
    /// Requests by process, descriptor and operation.
    pub kinds: Vec<KindRow>,
    /// Findings, the worst first.
    pub findings: Vec<Finding>,
    /// Findings that were not kept one by one.
    pub more_findings: u64,
    /// Contexts and requests that were too many to follow.
    pub evicted: u64,
    /// The thresholds of findings.
    pub thresholds: Thresholds,
    /// Threads that wait in a call; or that did when `--timeout` ended the program.
    pub waits: Vec<Wait>,
    /// `--timeout` has ended the program.
    pub is_timed_out: bool,
    /// Processes that live and have made no AIO call for a while.
    pub quiet: Vec<Quiet>,
    /// Contexts that are made again and again, when it is too early for context-growth.
    pub trends: Vec<Trend>,
    /// What became of all contexts and requests.
    pub sums: Sums,
    /// Sums that do not agree: then something was counted wrong, and nothing in this report is sure.
    pub disagreements: Vec<Disagreement>,
    /// Faults by rule, call and what the program was given.
    pub faults: Vec<FaultRow>,
    /// The fault rules, including those that never acted.
    pub rules: Vec<RuleRow>,
    /// Set if calls are counted in the kernel and only some have events. Then nothing is concluded about requests,
    /// and there are no rows of contexts and requests.
    pub counted: Option<Box<Counts>>,
}

/// A process that has made no AIO call for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// Process.
    pub pid: u32,
    /// Its name: any bytes.
    pub process: Vec<u8>,
    /// When its last call returned; `None`: there was no call.
    pub last_call: Option<u64>,
    /// How long ago that was; without a call, how long ago we attached. Nanoseconds.
    pub age: u64,
    /// Its requests in flight, if the number is known for all its contexts.
    pub in_flight: Option<u64>,
    /// The number is an upper bound: requests complete without a call, and are seen at the next look.
    pub is_at_most: bool,
}

/// Contexts that a process makes again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trend {
    /// Process.
    pub pid: u32,
    /// Its name: any bytes.
    pub process: Vec<u8>,
    /// How many contexts were made, none of which has ended.
    pub made: u64,
    /// How many of these are older, and were not used for `unused_for`.
    pub unused: u64,
    /// How long the older ones were not used, nanoseconds.
    pub unused_for: u64,
    /// Time since the first was made, nanoseconds.
    pub within: u64,
}

/// What was counted in the kernel.
#[derive(Clone, Debug)]
pub struct Counts {
    /// The numbers.
    pub counted: Counted,
    /// The names of processes: any bytes.
    pub names: BTreeMap<u32, Vec<u8>>,
    /// How many calls were shown one by one, if calls are shown.
    pub shown: Option<u64>,
}

/// A row for one context, or for many.
#[derive(Clone, Debug)]
pub struct Row {
    /// The context.
    pub context: ContextRef,
    /// Number of contexts in this row: 1, unless it stands for many.
    pub contexts: u64,
    /// Process.
    pub pid: u32,
    /// Its name: any bytes.
    pub process: Vec<u8>,
    /// It existed before we attached.
    pub adopted: bool,
    /// Time from when it became known until it ended, or until now; nanoseconds.
    pub lifetime: u64,
    /// How it ended; `None`: it is alive.
    pub end: Option<End>,
    /// Of several contexts together: some ended in another way, or have not ended.
    has_several_ends: bool,
    /// What io_setup was asked for, if it is known.
    pub asked: Option<u64>,
    /// Most requests in flight at a time.
    pub peak: Peak,
    /// In flight now, or at its end.
    pub in_flight: u64,
    /// Unreaped completions now, or at its end. `None`: it ended with its process, which may have reaped them without
    /// a call.
    pub unreaped: Option<u64>,
    /// Requests that completed with an unknown result, because their entries could not be read in the ring.
    pub unknown: u64,
    /// Requests that completed.
    pub done: Done,
    /// From io_submit to completion.
    pub complete: Option<Percentiles>,
    /// From completion to reaping.
    pub reap: Option<Percentiles>,
    /// Why what is known of it may be wrong; `None`: nothing about it was lost.
    pub doubt: Option<Doubt>,
    latency: Option<Box<Latency>>,
}

/// How a context ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// io_destroy
    Destroyed,
    /// It ended with its process.
    Exit,
    /// Its process ran another program.
    Exec,
    /// Its ring was unmapped: nobody can use it or end it.
    Leaked,
}

impl End {
    /// The word for it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Destroyed => "destroyed",
            Self::Exit => "exit",
            Self::Exec => "exec",
            Self::Leaked => "leaked",
        }
    }
}

/// A row for the requests of one kind.
#[derive(Clone, Debug)]
pub struct KindRow {
    /// Process.
    pub pid: u32,
    /// Its name: any bytes.
    pub process: Vec<u8>,
    /// Descriptor.
    pub fd: u32,
    /// `IOCB_CMD_*`.
    pub opcode: Opcode,
    /// Requests that completed.
    pub done: Done,
    /// Requests that io_submit did not accept, without those that a fault rule refused.
    pub refused: u64,
    /// How long their io_submit took.
    pub submit: Option<Percentiles>,
    /// From io_submit to completion.
    pub complete: Option<Percentiles>,
}

impl From<How> for End {
    fn from(how: How) -> Self {
        match how {
            How::Destroy => Self::Destroyed,
            How::Exit => Self::Exit,
            How::Exec => Self::Exec,
        }
    }
}

impl Row {
    fn of(context: &Context, until: u64, end: Option<End>) -> Self {
        Self {
            context: context.name,
            contexts: 1,
            pid: context.pid,
            process: Vec::new(),
            adopted: context.adopted,
            lifetime: until.saturating_sub(context.since),
            end,
            has_several_ends: false,
            asked: context.charge.map(u64::from),
            peak: context.most(),
            in_flight: context.requests.in_flight(),
            unreaped: Some(context.requests.unreaped())
                .filter(|count| *count == 0 || !matches!(end, Some(End::Exit | End::Exec))),
            unknown: context.requests.unknown(),
            done: context.done,
            complete: None,
            reap: None,
            doubt: context
                .doubt
                .or_else(|| (context.requests.unknown() > 0).then_some(Doubt::Unread)),
            latency: context.latency.clone(),
        }
    }

    /// How it ended, in one word; `None`: it is alive.
    pub fn end_text(&self) -> Option<&'static str> {
        if self.has_several_ends { Some("several") } else { self.end.map(End::text) }
    }

    /// How long its requests took.
    pub(super) fn latency(&self) -> Option<&Latency> {
        self.latency.as_deref()
    }

    /// Adds another row to this one.
    pub fn add(&mut self, other: &Self) {
        self.contexts += other.contexts;
        self.has_several_ends |= other.has_several_ends || self.end != other.end;
        self.asked = self.asked.zip(other.asked).map(|(a, b)| a + b);
        self.peak = self.peak.or(other.peak);
        self.in_flight += other.in_flight;
        self.unknown += other.unknown;
        self.unreaped = self.unreaped.zip(other.unreaped).map(|(a, b)| a + b);
        self.lifetime = self.lifetime.max(other.lifetime);
        self.done.add(other.done);
        self.doubt = self.doubt.or(other.doubt);
        if let Some(latency) = &other.latency {
            self.latency.get_or_insert_default().add(latency);
        }
    }

    fn finished(mut self, names: &Map<u32, Vec<u8>>) -> Self {
        let latency = self.latency.take();
        self.complete = latency.as_ref().and_then(|it| it.complete.percentiles());
        self.reap = latency.as_ref().and_then(|it| it.reap.percentiles());
        if self.process.is_empty() {
            self.process = names.get(&self.pid).cloned().unwrap_or_default();
        }
        self
    }
}

impl Ends {
    /// `process`: the name of its process then.
    pub(super) fn add(
        &mut self,
        process: Vec<u8>,
        context: &Context,
        time: u64,
        end: End,
        usages: &mut Usages,
    ) {
        self.sums += context.sums(Some(end));
        let (unread, unseen) = unread(context);
        (self.unread, self.unseen) = (self.unread + unread, self.unseen + unseen);
        let row = Row { process, ..Row::of(context, time, Some(end)) };
        if self.rows.len() < MOST_ROWS {
            return self.rows.push(row);
        }
        usages.context(&row);
        match &mut self.others {
            Some(others) => others.add(&row),
            None => self.others = Some(row),
        }
    }
}

/// Completions that could not be read; and completions that only the ring showed, if no loss explains that.
fn unread(context: &Context) -> (u64, u64) {
    let unseen = context.requests.unseen();
    (context.requests.unknown() - unseen, if context.doubt.is_none() { unseen } else { 0 })
}

impl Model {
    /// All contexts that have not ended, as far as known.
    fn live(&self) -> impl Iterator<Item = &Context> {
        let leaving = self.leaving.iter().map(|it| &it.1);
        let destroying = self.ends.destroying.iter().map(|it| &it.context);
        self.contexts.in_any_order().map(|it| it.1).chain(leaving).chain(destroying)
    }

    /// All contexts that have not ended, or whose end may turn out to be none, and what they would have ended as.
    fn kept(&self) -> impl Iterator<Item = (&Context, u64, Option<End>)> {
        let lost = self.lost.iter().map(|it| (&it.context, it.time, Some(End::Leaked)));
        self.live().map(|it| (it, self.now, None)).chain(lost)
    }

    /// Completions whose results are not known, because they could not be read in the ring. `is_lossless`: no
    /// loss explains that only the ring tells of some.
    pub fn unread(&self, is_lossless: bool) -> u64 {
        let all = self.kept().map(|it| unread(it.0)).chain([(self.ends.unread, self.ends.unseen)]);
        all.map(|(unread, unseen)| unread + if is_lossless { unseen } else { 0 }).sum()
    }

    /// Requests in flight by address space; `None` if the number is unknown for one of the contexts.
    fn in_flight(&self) -> Map<SpaceId, Option<u64>> {
        let mut all: Map<SpaceId, Option<u64>> = Map::default();
        for ((space, _), it) in self.contexts.in_any_order() {
            let sum = all.entry(*space).or_insert(Some(0));
            *sum = sum.zip(it.in_flight()).map(|(one, other)| one + other);
        }
        let leaving = self.leaving.iter().map(|it| it.0.0);
        for space in leaving.chain(self.ends.destroying.iter().map(|it| it.key.0)) {
            all.insert(space, None);
        }
        all
    }

    /// Living processes whose last call is some time ago.
    fn quiet(&self) -> Vec<Quiet> {
        let (every_call, in_flight) = (self.settings.every_call, self.in_flight());
        let of = |(pid, it): (&u32, &Alive)| {
            let age = self.now.saturating_sub(it.last_call.unwrap_or(it.since));
            let is_meant = it.last_call.is_some() || it.is_attached;
            (is_meant && age > QUIET).then(|| Quiet {
                pid: *pid,
                process: self.names.get(pid).cloned().unwrap_or_default(),
                last_call: it.last_call,
                age,
                is_at_most: !self.settings.exact_completions,
                in_flight: in_flight
                    .get(&self.space(*pid))
                    .copied()
                    .flatten()
                    .filter(|_| every_call),
            })
        };
        let mut quiet: Vec<Quiet> = self.alive.in_any_order().filter_map(of).collect();
        quiet.sort_by_key(|it| (it.age, it.pid));
        quiet
    }

    /// The report on what is known now.
    pub fn report(&self) -> Report {
        let every_call = self.settings.every_call;
        let mut rows: Vec<Row> = self.ends.rows.clone();
        rows.extend(self.kept().map(|(it, until, end)| Row::of(it, until, end)));
        rows.sort_by_key(|it| (std::cmp::Reverse(it.done.requests), it.context.id));
        let usages = if every_call { self.usages(&rows) } else { Vec::new() };
        let mut others = self.ends.others.clone();
        for row in rows.drain(MOST_ROWS.min(rows.len())..) {
            match &mut others {
                Some(others) => others.add(&row),
                None => others = Some(row),
            }
        }
        let mut kinds: Vec<KindRow> = self
            .kinds
            .in_any_order()
            .map(|((pid, fd, opcode), kind)| KindRow {
                pid: *pid,
                process: kind.process.as_ref().or(self.names.get(pid)).cloned().unwrap_or_default(),
                fd: *fd,
                opcode: *opcode,
                done: kind.done,
                refused: kind.refused,
                submit: kind.latency.submit.percentiles(),
                complete: kind.latency.complete.percentiles(),
            })
            .collect();
        let weight = |it: &KindRow| std::cmp::Reverse(it.done.requests + it.refused);
        kinds.sort_by_key(|it| (weight(it), it.pid, it.fd, it.opcode));
        let mut sums = self.ends.sums;
        self.kept().for_each(|(it, _, end)| sums += it.sums(end));
        // Counted where they become known.
        sums.contexts = self.next_context - 1;
        if !every_call {
            let Sums { contexts, alive, ended, .. } = sums;
            sums = Sums { contexts, alive, ended, ..Sums::default() };
            // The rows would be wrong, because not every call was seen.
            (rows, others) = (Vec::new(), None);
        }
        Report {
            contexts: rows.into_iter().map(|it| it.finished(&self.names)).collect(),
            others: others.map(|it| it.finished(&self.names)),
            usages,
            kinds,
            findings: self.findings.ranked().into_iter().map(|it| self.with_sequel(it)).collect(),
            more_findings: self.findings.more(),
            evicted: self.evicted,
            thresholds: self.settings.thresholds,
            waits: self.waited.clone().unwrap_or_else(|| self.waits_in_calls()),
            is_timed_out: self.waited.is_some(),
            quiet: self.quiet(),
            trends: self.trends(),
            disagreements: sums.disagreements(),
            sums,
            faults: self.faults.rows(),
            rules: self.faults.rules(),
            counted: (!every_call).then(|| {
                let names = self.names.in_any_order().map(|(pid, name)| (*pid, name.clone()));
                let (counted, names) = (self.counted.clone(), names.collect());
                Box::new(Counts { counted, names, shown: None })
            }),
        }
    }
}
