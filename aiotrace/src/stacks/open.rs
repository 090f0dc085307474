//! The files with code that were found. A stack has only their numbers, so that it is plain data; who wants to know the
//! names of its functions asks here for the very file, whatever became of its path.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Weak},
};

use super::{Found, ModuleId};

/// Files that nobody keeps are forgotten when there are so many.
const MANY: usize = 1024;

/// The files that somebody keeps, by number. Clones are the same.
#[derive(Clone, Default)]
pub struct OpenFiles(Rc<RefCell<Table>>);

#[derive(Default)]
struct Table {
    /// The number of the next one.
    next: u64,
    files: HashMap<ModuleId, Weak<Found>, foldhash::fast::RandomState>,
}

impl OpenFiles {
    /// One more; its number. It is there as long as somebody keeps it.
    pub fn add(&self, file: &Arc<Found>) -> ModuleId {
        let table = &mut *self.0.borrow_mut();
        if table.files.len() >= MANY {
            table.files.retain(|_, file| file.strong_count() > 0);
        }
        let id = ModuleId(table.next);
        table.next += 1;
        table.files.insert(id, Arc::downgrade(file));
        id
    }

    /// The file with this number, if somebody keeps it.
    pub fn file(&self, id: ModuleId) -> Option<Arc<Found>> {
        self.0.borrow().files.get(&id)?.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_as_long_as_it_is_open() {
        let open = OpenFiles::default();
        let found = || Arc::new(Found { pid: 7, file: tempfile::tempfile().unwrap() });
        let (first, second) = (found(), found());
        let ids = [open.add(&first), open.clone().add(&second)];
        assert_ne!(ids[0], ids[1]);
        assert!(open.file(ids[0]).is_some_and(|it| Arc::ptr_eq(&it, &first)));
        drop(first);
        assert!(open.file(ids[0]).is_none() && open.file(ids[1]).is_some());
        for _ in 0..2 * MANY {
            assert!(!ids.contains(&open.add(&found())));
        }
        assert!(open.0.borrow().files.len() <= MANY && open.file(ids[1]).is_some());
    }
}
