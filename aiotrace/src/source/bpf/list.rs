//! Lists every context of every address space that this pid namespace can see, from the kernel's
//! own tables (aiotrace-ebpf/src/list.rs). Nothing is attached.

use std::{collections::BTreeMap, io::Read as _};

use aiotrace_common::{
    names,
    record::{CONTEXTS_PER_WALK, Cursor, ListedContext},
    settings::Settings,
};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, RingBuf},
    programs::{Iter, ProgramError},
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{error::Error, machine::with_kernel_types, objects::OBJECTS};

/// Lists contexts as often as it is asked to.
pub struct Lister {
    ebpf: Ebpf,
    listed: RingBuf<MapData>,
    walk: u32,
}

impl Lister {
    /// Loads the program.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn load(settings: &Settings) -> Result<Self, Error> {
        let name = names::LIST_CONTEXTS;
        let fail = |source: ProgramError| Error::Program { name, source: Box::new(source) };
        let mut ebpf = EbpfLoader::new()
            .override_global(names::SETTINGS, settings.as_bytes(), true)
            .load(OBJECTS.list.ok_or(Error::NotBuilt)?)
            .map_err(|error| Error::Maps(Box::new(error)))?;
        let program: &mut Iter = ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or(Error::Object(name))?;
        with_kernel_types(|types| program.load("task", types).map_err(fail))?;
        let map = ebpf.take_map(names::LISTED).ok_or(Error::Object(names::LISTED))?;
        let listed = RingBuf::try_from(map).map_err(|_| Error::Object(names::LISTED))?;
        Ok(Self { ebpf, listed, walk: 0 })
    }

    /// The contexts that exist at present, each once, and how many more there was no room for.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn list(&mut self) -> Result<(Vec<ListedContext>, u32), Error> {
        // A walk meets an address space once for each of its threads, and so do later walks.
        let mut found: BTreeMap<(u64, u64), ListedContext> = BTreeMap::new();
        let (mut first, mut lost) = (0, 0);
        loop {
            self.walk += 1;
            let cursor = Cursor { walk: self.walk, first, more: 0, lost: 0 };
            let words: Words = zerocopy::transmute!(cursor);
            self.cursor()?.set(0, words, 0).map_err(|_| Error::Object(names::CURSOR))?;
            self.walk_once()?;
            while let Some(record) = self.listed.next() {
                if let Ok(context) = ListedContext::read_from_bytes(&record) {
                    found.entry((context.space, context.handle)).or_insert(context);
                }
            }
            let words = self.cursor()?.get(&0, 0).map_err(|_| Error::Object(names::CURSOR))?;
            let after: Cursor = zerocopy::transmute!(words);
            lost += after.lost;
            if after.more == 0 {
                return Ok((found.into_values().collect(), lost));
            }
            first += CONTEXTS_PER_WALK;
        }
    }

    /// Runs the program for each task, by reading the iterator.
    fn walk_once(&mut self) -> Result<(), Error> {
        let name = names::LIST_CONTEXTS;
        let fail = |source: ProgramError| Error::Program { name, source: Box::new(source) };
        let program: &mut Iter = self
            .ebpf
            .program_mut(name)
            .and_then(|program| program.try_into().ok())
            .ok_or(Error::Object(name))?;
        let link = program.attach().and_then(|id| program.take_link(id)).map_err(fail)?;
        let mut tasks = link.into_file().map_err(|_| Error::Object(name))?;
        let mut nothing = Vec::new();
        tasks.read_to_end(&mut nothing).map_err(|error| fail(ProgramError::IOError(error)))?;
        Ok(())
    }

    fn cursor(&mut self) -> Result<Array<&mut MapData, Words>, Error> {
        let map = self.ebpf.map_mut(names::CURSOR).ok_or(Error::Object(names::CURSOR))?;
        Array::try_from(map).map_err(|_| Error::Object(names::CURSOR))
    }
}

/// A [`Cursor`], as the loader library's maps take it.
type Words = [u32; 4];
