//! The steps of a random run.

use proptest::prelude::*;

use crate::reference::{POLL, PREAD, PWRITE};

/// A step. Its numbers choose among what exists.
#[derive(Clone, Debug)]
pub enum Op {
    Setup { thread: u8, asked: u8 },
    Submit { thread: u8, ctx: u8, opcodes: Vec<u16>, twice: bool, bad: Option<u8>, waits: bool },
    Getevents { thread: u8, ctx: u8, most: u8, waits: bool, unread: bool },
    Destroy { thread: u8, ctx: u8, waits: bool },
    Cancel { thread: u8, ctx: u8, which: u8 },
    Progress { thread: u8, most: u8 },
    Return { thread: u8 },
    Complete { ctx: u8, which: u8, fails: bool },
    Reap { ctx: u8, most: u8 },
    Move { thread: u8, ctx: u8 },
    Thread { process: u8 },
    Fork { process: u8, shares: bool },
    Exec { process: u8, clean: bool },
    Exit { process: u8, clean: bool, killed: bool, gone_later: bool },
    Wait { steps: u8 },
    Unmap { ctx: u8 },
    UseAfterDestroy { thread: u8, which: u8 },
    ReuseInFlight { thread: u8, ctx: u8, which: u8 },
    DropRest { process: u8 },
    Lose { thread: u8, records: u8 },
    LoseCompletion,
}

pub fn op() -> impl Strategy<Value = Op> {
    use Op::*;
    let n = any::<u8>;
    let opcode = prop_oneof![4 => Just(PREAD), 4 => Just(PWRITE), 1 => Just(POLL)];
    let opcodes = prop::collection::vec(opcode, 1..6);
    let rare = || prop::bool::weighted(0.15);
    let bad = prop::option::weighted(0.1, n());
    prop_oneof![
        6 => (n(), 1..12u8).prop_map(|(thread, asked)| Setup { thread, asked }),
        24 => (n(), n(), opcodes, rare(), bad, any::<bool>()).prop_map(
            |(thread, ctx, opcodes, twice, bad, waits)| {
                Submit { thread, ctx, opcodes, twice, bad, waits }
            }
        ),
        16 => (n(), n(), n(), rare(), rare()).prop_map(|(thread, ctx, most, waits, unread)| {
            Getevents { thread, ctx, most, waits, unread }
        }),
        4 => (n(), n(), any::<bool>())
            .prop_map(|(thread, ctx, waits)| Destroy { thread, ctx, waits }),
        2 => (n(), n(), n()).prop_map(|(thread, ctx, which)| Cancel { thread, ctx, which }),
        6 => (n(), 1..4u8).prop_map(|(thread, most)| Progress { thread, most }),
        12 => n().prop_map(|thread| Return { thread }),
        36 => (n(), n(), rare()).prop_map(|(ctx, which, fails)| Complete { ctx, which, fails }),
        8 => (n(), 1..9u8).prop_map(|(ctx, most)| Reap { ctx, most }),
        1 => (n(), n()).prop_map(|(thread, ctx)| Move { thread, ctx }),
        3 => n().prop_map(|process| Thread { process }),
        1 => (n(), any::<bool>()).prop_map(|(process, shares)| Fork { process, shares }),
        1 => (n(), any::<bool>()).prop_map(|(process, clean)| Exec { process, clean }),
        1 => (n(), any::<bool>(), rare(), any::<bool>()).prop_map(
            |(process, clean, killed, gone_later)| Exit { process, clean, killed, gone_later }
        ),
        2 => (1..5u8).prop_map(|steps| Wait { steps }),
        1 => n().prop_map(|ctx| Unmap { ctx }),
        2 => (n(), n()).prop_map(|(thread, which)| UseAfterDestroy { thread, which }),
        2 => (n(), n(), n())
            .prop_map(|(thread, ctx, which)| ReuseInFlight { thread, ctx, which }),
        1 => n().prop_map(|process| DropRest { process }),
        3 => (n(), 1..4u8).prop_map(|(thread, records)| Lose { thread, records }),
        1 => Just(LoseCompletion),
    ]
}
