//! The files with code that were found. A stack has only their numbers, so that it is plain data.
//! Code that wants the names of its functions asks here for the very file, whatever has become of
//! its path. They were found and not opened (`O_PATH`), so that to close one waits for nobody.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::ModuleId;

/// When there are this many files, those that nobody keeps any more are forgotten.
const MANY: usize = 1024;

/// The files that are kept somewhere, by number. A clone is the same table.
#[derive(Clone, Debug, Default)]
pub struct OpenFiles(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// The number of the next file.
    next: u64,
    files: HashMap<ModuleId, Weak<File>, foldhash::fast::RandomState>,
}

impl OpenFiles {
    /// Adds a file and returns its number. The file can be found as long as the `Arc` is kept
    /// somewhere.
    pub fn add(&self, file: &Arc<File>) -> ModuleId {
        let table = &mut *self.table();
        if table.files.len() >= MANY {
            table.files.retain(|_, file| file.strong_count() > 0);
        }
        let id = ModuleId(table.next);
        table.next += 1;
        table.files.insert(id, Arc::downgrade(file));
        id
    }

    /// The file with this number, if it is still kept somewhere.
    pub fn file(&self, id: ModuleId) -> Option<Arc<File>> {
        self.table().files.get(&id)?.upgrade()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_as_long_as_it_is_open() {
        let open = OpenFiles::default();
        let found = || Arc::new(tempfile::tempfile().unwrap());
        let (first, second) = (found(), found());
        let ids = [open.add(&first), open.clone().add(&second)];
        assert_ne!(ids[0], ids[1]);
        assert!(open.file(ids[0]).is_some_and(|it| Arc::ptr_eq(&it, &first)));
        drop(first);
        assert!(open.file(ids[0]).is_none() && open.file(ids[1]).is_some());
        for _ in 0..2 * MANY {
            assert!(!ids.contains(&open.add(&found())));
        }
        assert!(open.table().files.len() <= MANY && open.file(ids[1]).is_some());
    }
}
