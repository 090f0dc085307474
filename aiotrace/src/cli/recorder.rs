//! `--record`: writes down what a trace sees.

use std::{
    cell::RefCell, collections::HashMap, fs::File, io, os::unix::ffi::OsStringExt as _, path::Path,
    rc::Rc,
};

use anyhow::{Context as _, Result};

use crate::{
    event::{Args, Body, Change, Event},
    model::Settings,
    output::{Ended, Start, paths::Paths},
    source::recording::{Item, Writer},
};

/// A looked-up path holds this long (in the time of events), nanoseconds.
const FRESH: u64 = 1_000_000_000;
/// Paths remembered at most.
const MOST: usize = 4096;

/// What descriptors are: looked up by the recorder, or read from a recording.
#[derive(Clone, Default)]
pub struct Known(Rc<RefCell<HashMap<(u32, u32), Found>>>);

/// When it was looked up, and what was found.
type Found = (u64, Option<Vec<u8>>);

impl Known {
    /// For an output.
    pub fn paths(&self) -> Paths {
        let known = Rc::clone(&self.0);
        Paths::with(move |pid, fd| known.borrow().get(&(pid, fd)).and_then(|it| it.1.clone()))
    }

    /// What was found.
    pub fn set(&self, (pid, fd): (u32, u32), time: u64, path: Option<Vec<u8>>) {
        let mut known = self.0.borrow_mut();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert((pid, fd), (time, path));
    }

    /// The process is gone, or another program.
    pub fn forget(&self, event: &Event) {
        if let Body::Process(process) = &event.body
            && matches!(process.change, Change::Exec { .. } | Change::Exit { .. })
        {
            self.0.borrow_mut().retain(|(pid, _), _| *pid != event.pid);
        }
    }

    fn is_fresh(&self, (pid, fd): (u32, u32), time: u64) -> bool {
        let known = self.0.borrow();
        known.get(&(pid, fd)).is_some_and(|(looked, _)| time.saturating_sub(*looked) <= FRESH)
    }
}

/// Writes a recording.
pub struct Recorder {
    writer: Writer<File>,
    known: Known,
    failed: Option<io::Error>,
}

impl Recorder {
    /// Makes the file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path)
            .with_context(|| format!("cannot write the recording {}", path.display()))?;
        let writer = Writer::new(file).context("cannot write the recording")?;
        Ok(Self { writer, known: Known::default(), failed: None })
    }

    /// What the recorder knows of descriptors.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// How the trace begins.
    pub fn start(&mut self, start: &Start, settings: Settings) {
        self.write(&Item::Start(start.clone(), settings));
    }

    /// Something happens. Before anybody shows it.
    pub fn event(&mut self, event: &Event) {
        self.known.forget(event);
        for fd in descriptors(event) {
            let key = (event.pid, fd);
            if !self.known.is_fresh(key, event.time) {
                let path = std::fs::read_link(format!("/proc/{}/fd/{fd}", event.pid)).ok();
                let path = path.map(|it| it.into_os_string().into_vec());
                self.known.set(key, event.time, path.clone());
                self.write(&Item::Path { pid: event.pid, fd, path });
            }
        }
        self.write(&Item::Event(event));
    }

    /// The model is told the time.
    pub fn time(&mut self, now: u64) {
        self.write(&Item::Time(now));
    }

    /// A report is asked for.
    pub fn report(&mut self, ended: &Ended) {
        self.write(&Item::Report(ended.clone()));
    }

    /// The trace is over.
    pub fn end(&mut self, ended: &Ended) {
        self.write(&Item::End(ended.clone()));
        self.flush();
    }

    /// Nothing happens: what was seen so far survives whatever comes.
    pub fn flush(&mut self) {
        if self.failed.is_none() {
            self.failed = self.writer.flush().err();
        }
    }

    /// What ended the recording.
    pub fn failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// Whether something ended it.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    fn write(&mut self, item: &Item<&Event>) {
        if self.failed.is_none() {
            self.failed = self.writer.item(item).err();
        }
    }
}

/// The descriptors that an event is about.
fn descriptors(event: &Event) -> Vec<u32> {
    let args = match &event.body {
        Body::Call(call) => &call.args,
        Body::Unfinished(call) => &call.args,
        _ => return Vec::new(),
    };
    let mut fds: Vec<u32> = match args {
        Args::Submit { iocbs, .. } => {
            iocbs.iter().flatten().filter_map(|it| it.value).map(|it| it.fildes).collect()
        }
        Args::Cancel { value, .. } => value.iter().map(|it| it.fildes).collect(),
        _ => Vec::new(),
    };
    fds.sort_unstable();
    fds.dedup();
    fds
}
