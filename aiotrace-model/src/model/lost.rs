//! Contexts whose ring was unmapped. They end with their process, unless a call on the handle works all the same.
//!
//! The kernel looks for a context by the first word of its ring, which it reads wherever the handle leads
//! (<https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n1086>). In memory that was
//! mapped there since, that word is 0: the number of the first context of the process, which so works again.

use super::{Context, Doubt, Model, report::End};
use crate::event::{Handle, SpaceId};

/// Contexts that are kept in case that a call on them works.
const MOST: usize = 64;
/// One that has more requests in flight is not kept.
const MOST_REQUESTS: u64 = 256;

/// A context whose ring was unmapped.
pub(super) struct Lost {
    pub key: (SpaceId, Handle),
    pub context: Context,
    /// When that was found.
    pub time: u64,
}

impl Model {
    /// Its ring is not mapped at this time. From now on it has ended, as far as known.
    pub(super) fn lose(&mut self, key: (SpaceId, Handle), context: Context, time: u64) {
        // Where another one has its handle, that one's ring is there.
        if self.contexts.contains_key(&key) || context.requests.followed() > MOST_REQUESTS {
            return self.forget(context, time, End::Leaked);
        }
        self.lost.push(Lost { key, context, time });
        if self.lost.len() > MOST {
            let oldest = self.lost.remove(0);
            self.forget(oldest.context, oldest.time, End::Leaked);
        }
    }

    /// Whether the ring of the context with this handle was unmapped.
    pub(super) fn is_lost(&self, key: (SpaceId, Handle)) -> bool {
        self.lost.iter().any(|it| it.key == key)
    }

    /// A call with this handle has worked that began at this time. If its context was said to be lost before, it is not.
    /// (Who was in the call before that had the context, and needs its handle no more.)
    pub(super) fn is_no_leak(&mut self, key: (SpaceId, Handle), began: u64) {
        let is_it = |it: &Lost| it.key == key && it.time <= began;
        if let Some(place) = self.lost.iter().position(is_it)
            && !self.contexts.contains_key(&key)
        {
            let Lost { mut context, .. } = self.lost.remove(place);
            context.look.unmapped = None;
            context.look.works_without = true;
            // What completes goes into the ring, where nobody can see it.
            context.doubts(Doubt::Covered);
            self.contexts.insert(key, context);
        }
        let Some(context) = self.contexts.get_mut(&key) else { return };
        if context.leak_told.take_if(|told| *told <= began).is_none() {
            return;
        }
        let finding = (super::Name::ContextLeak, context.pid, context.place, 0);
        let name = context.name;
        self.findings.withdraw(&finding, name);
    }

    /// No call on these works any more: their handle is another context's, or their process is gone.
    pub(super) fn forget_lost(&mut self, is_meant: impl Fn((SpaceId, Handle)) -> bool) {
        let meant: Vec<Lost> = self.lost.extract_if(.., |it| is_meant(it.key)).collect();
        for it in meant {
            self.forget(it.context, it.time, End::Leaked);
        }
    }
}
