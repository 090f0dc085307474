//! Stacks that were unwound, so that the probes need not copy them again.

use std::sync::mpsc;

use aiotrace_common::{
    names,
    record::{KnownStack, StackKey},
};
use aya::maps::{HashMap, MapData};

use crate::{source::bpf::load::Probes, stacks::Known};

impl Probes {
    /// Takes what is to be told to the probes of stacks that were unwound.
    pub fn known_stacks(&mut self) -> KnownStacks {
        let (sender, receiver) = mpsc::channel();
        self.known_stacks = Some(receiver);
        KnownStacks(sender)
    }

    /// Tells it.
    pub fn tell_stacks(&mut self) {
        let Self { ebpf, known_stacks: Some(told), .. } = self else { return };
        let mut map = None;
        // If something fails, the next is copied, too.
        while let Ok(told) = told.try_recv() {
            if map.is_none() {
                let found = ebpf.map_mut(names::KNOWN_STACKS);
                map = found.and_then(|map| StackMap::try_from(map).ok());
            }
            let Some(map) = &mut map else { return };
            let _ = match &told {
                Told::Known(told) => {
                    let (key, stack): (&StackKey, &KnownStack) = (&told.0, &told.1);
                    map.insert(zerocopy::transmute_ref!(key), zerocopy::transmute_ref!(stack), 0)
                }
                Told::Withdrawn(key) => map.remove(zerocopy::transmute_ref!(key)),
            };
        }
    }
}

/// See [`Probes::known_stacks`]. Not the map itself: while a thread is inside of a call for a map, the
/// kernel runs no kprobe of ours on its processor, also if the thread is preempted there; so only the
/// drain thread, which is not, makes such calls.
pub struct KnownStacks(mpsc::Sender<Told>);

pub enum Told {
    Known(Box<(StackKey, KnownStack)>),
    Withdrawn(StackKey),
}

type StackMap<'a> =
    HashMap<&'a mut MapData, [u8; size_of::<StackKey>()], [u8; size_of::<KnownStack>()]>;

impl Known for KnownStacks {
    fn tell(&mut self, key: &StackKey, stack: &KnownStack) {
        // At the end of the trace nobody listens.
        let _ = self.0.send(Told::Known(Box::new((*key, *stack))));
    }

    fn withdraw(&mut self, key: &StackKey) {
        let _ = self.0.send(Told::Withdrawn(*key));
    }
}
