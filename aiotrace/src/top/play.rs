//! `aiotrace top FILE`: plays a recording on the same screen. The whole recording is read first, in
//! bounded memory: where it is long, the intervals get longer.

use std::{
    io::{self, Read},
    path::Path,
    time::{Duration, Instant},
};

use super::{
    app::{Action, App, Input},
    snapshot::{ByOwner, FindingRow, Flags, Identity, Numbers, Row, Snapshot},
    terminal::Terminal,
};
use crate::{
    counted::{Counted, Tally},
    event::{Body, Event, opcode_name},
    failure::{Failure, Result},
    model::{Model, Report, Rules, Settings},
    output::Start,
    source::recording::Item,
    trace::{Items, Next, Paths},
    words::escape::escaped,
};

/// Most intervals that are kept. When there are more, two become one.
const MOST: usize = 1024;
/// Most rows that are kept, of all intervals together.
const MOST_ROWS: usize = 100_000;
/// Most findings that are kept.
const MOST_FINDINGS: usize = 256;

/// Reads a recording into snapshots of this length.
///
/// # Errors
/// If it cannot be read at all. One that is damaged is read up to there, with a warning.
pub fn read(path: &Path, every: Duration) -> Result<Vec<Snapshot>> {
    let (items, start, settings) = Items::open(path)?;
    let (snapshots, warning) = film(items, &start, settings, every);
    if let Some(warning) = warning {
        eprintln!("aiotrace: {warning}");
    }
    match snapshots.is_empty() {
        true => Err(Failure::new("nothing happens in this recording")),
        false => Ok(snapshots),
    }
}

/// The snapshots of what can be read, and why not all can.
pub fn film<R: Read>(
    mut items: Items<R>,
    start: &Start,
    settings: Settings,
    every: Duration,
) -> (Vec<Snapshot>, Option<String>) {
    let mut model = Model::new(settings);
    model.set_rules(Rules::of(start.faults.as_ref()));
    let mut film = Film::new(start, every);
    let warning = loop {
        match items.following() {
            Ok(Next::Item(Item::End(ended))) => {
                film.until(ended.time, &model);
                model.finish(ended.time);
                film.lost = ended.losses.total();
                film.findings(&mut model);
                film.end(ended.time, &model);
                break items.unknown();
            }
            Ok(Next::Item(item)) => film.item(item, &mut model),
            Ok(Next::Over { why, .. }) => {
                film.end(film.last_event, &model);
                break Some(why);
            }
            Err(error) => {
                film.end(film.last_event, &model);
                break Some(format!("{error}; this is what came before"));
            }
        }
        film.findings(&mut model);
        while model.next_question().is_some() {}
        while model.next_verdict().is_some() {}
    };
    (film.snapshots, warning)
}

/// What is known while a recording is read.
struct Film {
    snapshots: Vec<Snapshot>,
    tally: Tally,
    before: Counted,
    kinds: std::collections::HashMap<Identity, (u64, u64, u64)>,
    findings: Vec<FindingRow>,
    more_findings: u64,
    paths: Paths,
    lost: u64,
    source: String,
    began: u64,
    last: u64,
    last_event: u64,
    every: u64,
}

impl Film {
    fn new(start: &Start, every: Duration) -> Self {
        Self {
            snapshots: Vec::new(),
            tally: Tally::with_requests(),
            before: Counted::default(),
            kinds: std::collections::HashMap::new(),
            findings: Vec::new(),
            more_findings: 0,
            paths: Paths::default(),
            lost: 0,
            source: format!("a recording by {} probes", escaped(start.probes.text().as_bytes())),
            began: start.clock.start,
            last: start.clock.start,
            last_event: start.clock.start,
            every: u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1),
        }
    }

    fn item(&mut self, item: Item<Event>, model: &mut Model) {
        match item {
            Item::Event(event) => {
                self.until(event.time, model);
                if let Body::Call(call) = &event.body {
                    self.tally.call(&event, call, false);
                }
                if let Body::Lost { records } = &event.body {
                    self.lost = self.lost.saturating_add((*records).max(1));
                }
                model.handle_event(&event);
            }
            Item::Time(now) => model.handle_timeout(now),
            Item::TimedOut(now) => model.timed_out(now),
            Item::Path { pid, fd, path } => self.paths.set((pid, fd), 0, path),
            Item::Report(_)
            | Item::Functions { .. }
            | Item::Process { .. }
            | Item::Who { .. }
            | Item::Start(..)
            | Item::End(_) => (),
        }
    }

    /// Ends the intervals that are over at this time. A recording may jump in time: what is between
    /// is one interval.
    fn until(&mut self, time: u64, model: &Model) {
        self.last_event = self.last_event.max(time);
        let over = time.saturating_sub(self.last) / self.every;
        if over > 0 {
            self.end(self.last.saturating_add(over.saturating_mul(self.every)), model);
        }
    }

    fn findings(&mut self, model: &mut Model) {
        while let Some(it) = model.next_finding() {
            match self.findings.len() < MOST_FINDINGS {
                true => self.findings.push(FindingRow::of(&it, self.findings.len() as u64)),
                false => self.more_findings += 1,
            }
        }
    }

    fn end(&mut self, time: u64, model: &Model) {
        if time <= self.last && !self.snapshots.is_empty() {
            return;
        }
        let snapshot = self.snapshot(time, &model.report());
        self.last = time;
        self.snapshots.push(snapshot);
        let rows = |it: &Snapshot| it.processes.len() + it.contexts.len() + 1;
        while self.snapshots.len() > 1
            && (self.snapshots.len() > MOST
                || self.snapshots.iter().map(rows).sum::<usize>() > MOST_ROWS)
        {
            self.every = self.every.saturating_mul(2);
            let mut halved = Vec::with_capacity(self.snapshots.len() / 2 + 1);
            let mut all = std::mem::take(&mut self.snapshots).into_iter();
            while let Some(first) = all.next() {
                halved.push(match all.next() {
                    Some(mut second) => {
                        second.prepend(&first);
                        second
                    }
                    None => first,
                });
            }
            self.snapshots = halved;
        }
    }

    fn snapshot(&mut self, time: u64, report: &Report) -> Snapshot {
        let mut counted = self.tally.counted().clone();
        counted.time = time;
        let since = counted.since(&self.before);
        let (now, all) = (ByOwner::of(&since), ByOwner::of(&counted));
        self.before = counted;
        let nothing = Numbers::default();
        let mut processes: std::collections::BTreeMap<u32, Row> = Default::default();
        let mut contexts = Vec::new();
        for it in report.contexts.iter().filter(|it| it.end.is_none()) {
            let handle = it.context.handle;
            // The number of a context is never used again, so it tells contexts apart.
            let mut row = Row::new(
                Identity::Context(it.pid, it.context.id.0, handle),
                it.pid,
                escaped(&it.process),
            );
            row.what = format!("{:#x}", handle.0);
            (row.contexts, row.charge) = (Some(1), it.asked);
            (row.in_flight, row.unreaped) = (Some(it.in_flight), it.unreaped);
            row.now = now.contexts.get(&(it.pid, handle)).unwrap_or(&nothing).clone();
            row.all = all.contexts.get(&(it.pid, handle)).unwrap_or(&nothing).clone();
            let process = processes.entry(it.pid).or_insert_with(|| {
                let mut row = Row::new(Identity::Process(it.pid, 0), it.pid, row.name.clone());
                (row.contexts, row.charge) = (Some(0), Some(0));
                (row.in_flight, row.unreaped) = (Some(0), Some(0));
                row
            });
            process.contexts = process.contexts.map(|it| it + 1);
            process.charge = process.charge.zip(row.charge).map(|(a, b)| a + b);
            process.in_flight = process.in_flight.zip(row.in_flight).map(|(a, b)| a + b);
            process.unreaped = process.unreaped.zip(row.unreaped).map(|(a, b)| a + b);
            contexts.push(row);
        }
        for (pid, numbers) in &now.processes {
            let name = report.contexts.iter().find(|it| it.pid == *pid);
            let name = name.map_or_else(|| "?".to_owned(), |it| escaped(&it.process));
            let row = processes.entry(*pid);
            row.or_insert_with(|| Row::new(Identity::Process(*pid, 0), *pid, name)).now =
                numbers.clone();
        }
        for (pid, row) in &mut processes {
            row.all = all.processes.get(pid).unwrap_or(&nothing).clone();
        }
        for it in &self.findings {
            let flag = |flags: &mut Flags| flags.count(it.severity);
            if let Some(row) = processes.get_mut(&it.pid) {
                flag(&mut row.flags);
            }
            let is_it = |row: &&mut Row| match row.id {
                Identity::Context(pid, _, handle) => it.pid == pid && it.context == Some(handle),
                _ => false,
            };
            contexts.iter_mut().filter(is_it).for_each(|row| flag(&mut row.flags));
        }
        Snapshot {
            time,
            length: time.saturating_sub(self.last),
            since: time.saturating_sub(self.began),
            every: self.every,
            asked: self.every,
            limit: None,
            calls: since.total(),
            source: self.source.clone(),
            lost: self.lost,
            own: None,
            processes: processes.into_values().collect(),
            contexts,
            descriptors: Some(self.descriptors(report)),
            findings: self.findings.clone(),
            more_findings: self.more_findings,
            counted: true,
        }
    }

    fn descriptors(&mut self, report: &Report) -> Vec<Row> {
        let mut rows = Vec::new();
        for it in report.kinds.iter().take(64) {
            let id = Identity::Descriptor(it.pid, 0, it.fd, it.opcode);
            let mut row = Row::new(id, it.pid, escaped(&it.process));
            let op = opcode_name(it.opcode).unwrap_or("?");
            let path = self.paths.get((it.pid, it.fd));
            let path = path.map_or_else(String::new, |it| format!(" now {}", escaped(&it)));
            row.what = format!("{op} fd={}{path}", it.fd as i32);
            row.all.requests = it.done.requests + it.refused;
            row.all.bytes = it.done.bytes;
            row.all.errors = it.done.failed + it.refused;
            let before = self
                .kinds
                .insert(id, (row.all.requests, row.all.bytes, row.all.errors))
                .unwrap_or_default();
            row.now.requests = row.all.requests.saturating_sub(before.0);
            row.now.bytes = row.all.bytes.saturating_sub(before.1);
            row.now.errors = row.all.errors.saturating_sub(before.2);
            row.since_start = it.complete.map(|it| (it.p50, it.p99));
            rows.push(row);
        }
        rows
    }
}

/// Plays snapshots on the terminal until its user ends it.
///
/// # Errors
/// If there is no terminal.
pub fn play(mut app: App, snapshots: Vec<Snapshot>) -> io::Result<()> {
    let mut terminal = Terminal::open()?;
    app.is_recording = true;
    let (mut at, mut speed) = (0usize, 1.0f64);
    let mut since = Instant::now();
    show(&mut app, &snapshots, at, speed);
    loop {
        terminal.show(&mut app)?;
        let next = Duration::from_secs_f64(snapshots[at].every as f64 / 1e9 / speed);
        let left = if app.is_paused || at + 1 == snapshots.len() {
            Duration::from_millis(200)
        } else {
            next.saturating_sub(since.elapsed()).min(Duration::from_millis(200))
        };
        if ratatui::crossterm::event::poll(left)? {
            let ratatui::crossterm::event::Event::Key(key) = ratatui::crossterm::event::read()?
            else {
                continue;
            };
            match app.handle(Input::Key(key)) {
                Action::Quit => return Ok(()),
                Action::Suspend => terminal.suspend()?,
                Action::Redraw => terminal.renew()?,
                Action::Seek(by) => {
                    at = at.saturating_add_signed(by as isize).min(snapshots.len() - 1);
                    since = Instant::now();
                    show(&mut app, &snapshots, at, speed);
                }
                Action::Pace(every) => {
                    let is_longer = every.as_nanos() > u128::from(snapshots[at].every);
                    speed = (if is_longer { speed / 2.0 } else { speed * 2.0 }).clamp(0.125, 64.0);
                    show(&mut app, &snapshots, at, speed);
                }
                Action::Write => app.message = Some(super::screen::written(&app)),
                Action::Hold(_) => since = Instant::now(),
                Action::None => (),
            }
        }
        if !app.is_paused && at + 1 < snapshots.len() && since.elapsed() >= next {
            at += 1;
            since = Instant::now();
            show(&mut app, &snapshots, at, speed);
        }
    }
}

/// Shows the snapshot of this number, with the graphs of what came before it.
fn show(app: &mut App, snapshots: &[Snapshot], at: usize, speed: f64) {
    app.history = Default::default();
    app.shown = Snapshot::default();
    for it in &snapshots[(at + 1).saturating_sub(super::history::POINTS)..=at] {
        app.handle(Input::Snapshot(Box::new(it.clone())));
    }
    app.message = Some(format!(
        "{} of {}, {speed} x: space stops, left and right, + slower, - faster, q quits",
        super::column::time(snapshots[at].since),
        super::column::time(snapshots[snapshots.len() - 1].since)
    ));
}
