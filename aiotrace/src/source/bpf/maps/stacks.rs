//! Stacks that were unwound, which the probes need not copy again.

use std::sync::mpsc;

use aiotrace_common::{
    names,
    record::{KnownStack, StackKey},
};
use aya::maps::{HashMap, MapData};

use crate::{source::bpf::load::Probes, stacks::Known};

impl Probes {
    /// Makes a sender for the stacks that the probes are to be told of.
    pub fn known_stacks(&mut self) -> KnownStacks {
        let (sender, receiver) = mpsc::channel();
        self.known_stacks = Some(receiver);
        KnownStacks(sender)
    }

    /// Tells the probes what was sent.
    pub fn tell_stacks(&mut self) {
        let Self { ebpf, known_stacks: Some(told), .. } = self else { return };
        let mut map = None;
        // If something fails here, the probes copy the next stack as well, which does no harm.
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

/// Sends stacks to the drain thread: see [`Probes::known_stacks`]. It does not write to the map
/// itself. While a thread is inside of a call for a map, the kernel runs no kprobe program on its
/// processor, even if the thread is preempted there:
/// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/include/linux/bpf.h?h=v6.12.117#n2239>.
/// So only the drain thread makes such calls, because it is not preempted.
pub struct KnownStacks(mpsc::Sender<Told>);

pub enum Told {
    Known(Box<(StackKey, KnownStack)>),
    Withdrawn(StackKey),
}

type StackMap<'a> =
    HashMap<&'a mut MapData, [u8; size_of::<StackKey>()], [u8; size_of::<KnownStack>()]>;

impl Known for KnownStacks {
    fn tell(&mut self, key: &StackKey, stack: &KnownStack) {
        // At the end of the trace nobody receives this.
        let _ = self.0.send(Told::Known(Box::new((*key, *stack))));
    }

    fn withdraw(&mut self, key: &StackKey) {
        let _ = self.0.send(Told::Withdrawn(*key));
    }
}
