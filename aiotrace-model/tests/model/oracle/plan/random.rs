//! Random plans.

use proptest::{collection::vec, option, prelude::*};

use super::{
    Around, By, Deal, End, Iocbs, Log, Looks, Made, Meanwhile, Others, Plan, Refill, Reopen, Step,
};

fn step() -> impl Strategy<Value = Step> {
    let opcode =
        prop_oneof![4 => Just(1u16), 3 => Just(0), 1 => Just(2), 1 => Just(3), 1 => Just(8)];
    let batch = (vec(opcode, 1..5), any::<bool>(), prop::bool::weighted(0.1));
    let again = option::weighted(0.1, any::<u8>());
    prop_oneof![
        6 => (batch, again).prop_map(|((opcodes, inline, bad), again)| {
            Step::Submit { opcodes, inline, bad, again }
        }),
        3 => any::<u8>().prop_map(Step::Complete),
        3 => (0u8..6, prop::bool::weighted(0.3))
            .prop_map(|(most, from_ring)| Step::Reap { most, from_ring }),
        1 => (1u8..8).prop_map(Step::Wait),
    ]
}

fn deal() -> impl Strategy<Value = Deal> {
    prop_oneof![
        3 => Just(Deal::AtOnce),
        2 => Just(Deal::OneByOne),
        3 => (0u8..6).prop_map(|after| Deal::Elsewhere { after }),
        4 => Just(Deal::Drop),
        3 => (1u8..4).prop_map(|pieces| Deal::Synchronously { pieces }),
        1 => Just(Deal::Halfway),
        1 => Just(Deal::Somewhere),
        1 => Just(Deal::Map),
        1 => Just(Deal::OtherMemory),
        1 => (0u8..3, 0u16..8000).prop_map(|(status, after)| Deal::Exit { status, after }),
        1 => Just(Deal::Abort),
        1 => Just(Deal::Hang),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Exit(0)),
        2 => Just(End::Exit(1)),
        1 => Just(End::Signal(6)),
        1 => Just(End::Signal(9)),
        1 => Just(End::Exec),
        2 => Just(End::Stays),
    ]
}

/// A program that writes a log, and drops whatever is refused or fails. Its last records meet no fault.
pub fn dropped_log() -> impl Strategy<Value = Plan> {
    let log = prop_oneof![
        Just(Log::HeaderFirst),
        Just(Log::RecordFirst),
        Just(Log::Together),
        Just(Log::Synced)
    ];
    let step =
        prop_oneof![5 => log.clone().prop_map(Step::Log), 1 => (1u8..8).prop_map(Step::Wait)];
    let made = prop_oneof![2 => Just(Made::Error), 1 => Just(Made::Short)];
    let last = vec(log.prop_map(Step::Log), 3);
    let faults = (vec((0u8..10, made.clone()), 0..4), vec((0u8..10, made), 0..4));
    (any::<bool>(), vec(step, 1..10), last, faults, end()).prop_map(
        |(exact, mut steps, last, (mut submits, completions), end)| {
            let calls = |step: &Step| match step {
                Step::Log(Log::HeaderFirst | Log::RecordFirst) => 2,
                Step::Log(Log::Together) => 1,
                Step::Log(Log::Synced) => 4,
                _ => 0,
            };
            let count: u8 = steps.iter().map(calls).sum();
            submits.retain(|it| it.0 < count);
            steps.extend(last);
            Plan {
                exact,
                watches: true,
                looks: Looks::IN_TIME,
                around: Around::default(),
                iocbs: Iocbs::Stack,
                steps,
                submits,
                completions,
                getevents: Vec::new(),
                deals: vec![Deal::Drop],
                before: Vec::new(),
                after: Vec::new(),
                losses: Vec::new(),
                end,
                destroys: true,
            }
        },
    )
}

pub fn plan() -> impl Strategy<Value = Plan> {
    let iocbs = prop_oneof![Just(Iocbs::Own), (4u8..9).prop_map(Iocbs::Pool), Just(Iocbs::Stack),];
    let made = prop_oneof![2 => Just(Made::Error), 1 => Just(Made::Short)];
    let faults =
        (vec((0u8..20, made.clone()), 0..4), vec((0u8..30, made), 0..4), vec(0u8..20, 0..2));
    let looks = prop::bool::weighted(0.9);
    let ends = (end(), any::<bool>(), vec(any::<u8>(), 0..4), looks);
    (any::<bool>(), iocbs, vec(step(), 4..40), faults, vec(deal(), 1..6), ends).prop_map(
        |(
            exact,
            iocbs,
            steps,
            (submits, completions, getevents),
            deals,
            (end, destroys, losses, looks),
        )| {
            Plan {
                exact,
                watches: true,
                looks: Looks { come: looks, ..Looks::IN_TIME },
                around: Around::default(),
                iocbs,
                steps,
                submits,
                completions,
                getevents,
                deals,
                before: Vec::new(),
                after: Vec::new(),
                losses,
                end,
                destroys,
            }
        },
    )
}

fn others() -> impl Strategy<Value = Others> {
    prop_oneof![
        3 => Just(Others::Calls),
        2 => Just(Others::Submits),
        1 => Just(Others::Copies),
        1 => Just(Others::Maps),
    ]
}

fn meanwhile() -> impl Strategy<Value = Meanwhile> {
    let reopen = prop_oneof![Just(Reopen::Close), Just(Reopen::Dup2), Just(Reopen::CloseRange)];
    let refill = prop_oneof![Just(Refill::Reads), Just(Refill::Receives), Just(Refill::Submits)];
    let which = || prop_oneof![3 => Just(0u8), 4 => Just(1), 2 => 2u8..8];
    prop_oneof![
        8 => (which(), 0u8..6, reopen)
            .prop_map(|(which, file, how)| Meanwhile::Reopen { which, file, how }),
        1 => which().prop_map(|which| Meanwhile::Append { which }),
        2 => refill.prop_map(Meanwhile::Refill),
        2 => (others(), any::<bool>()).prop_map(|(does, here)| Meanwhile::Other { does, here }),
        1 => (which(), any::<bool>()).prop_map(|(which, stores)| Meanwhile::Map { which, stores }),
        1 => Just(Meanwhile::Unmap),
    ]
}

/// What a program does about failures that may be done in other ways.
fn other_deal() -> impl Strategy<Value = Deal> {
    let by = prop_oneof![3 => Just(By::Calls), 1 => Just(By::Aio), 1 => Just(By::Both)];
    let which = prop_oneof![2 => Just(0u8), 3 => 1u8..5];
    let pieces = prop_oneof![6 => 1u8..3, 2 => 3u8..12, 1 => 14u8..40];
    prop_oneof![
        8 => (which, by, pieces)
            .prop_map(|(which, by, pieces)| Deal::Through { which, by, pieces }),
        2 => others().prop_map(Deal::ByOther),
        2 => any::<bool>().prop_map(|unmaps| Deal::Silently { unmaps }),
        1 => any::<bool>().prop_map(|before| Deal::InThread { before }),
        6 => deal(),
    ]
}

fn looks() -> impl Strategy<Value = Looks> {
    let few = || prop_oneof![4 => Just(0u8), 2 => 1u8..4, 1 => 4u8..12];
    (few(), few(), few()).prop_map(|(after, lasts, lag)| Looks { come: true, after, lasts, lag })
}

fn around() -> impl Strategy<Value = Around> {
    let untraced = option::weighted(0.2, 0u8..3);
    let mapped = option::weighted(0.2, (0u8..2, prop::bool::weighted(0.7)));
    let ends = prop::bool::weighted(0.2);
    (untraced, mapped, prop::bool::weighted(0.7), ends, prop::bool::weighted(0.2)).prop_map(
        |(untraced, mapped, other, ends, late)| Around { untraced, mapped, other, ends, late },
    )
}

/// A program that does what is left in all the ways that there are, while other things happen, and the model hears of them
/// late. Its calls are few, so that one thing at a time goes wrong.
pub fn busy_plan() -> impl Strategy<Value = Plan> {
    let step = || prop_oneof![6 => step(), 1 => meanwhile().prop_map(Step::Meanwhile)];
    let happens = || vec(option::weighted(0.4, meanwhile()), 1..5);
    let faults = (vec(0u8..5, 1..4), vec(0u8..6, 0..2));
    let deals = vec(other_deal(), 1..4);
    (plan(), vec(step(), 2..10), (happens(), happens()), deals, looks(), around(), faults).prop_map(
        |(plan, steps, (before, after), deals, looks, around, (submits, completions))| {
            let made = |which: Vec<u8>, more: &[(u8, Made)]| {
                let kinds = more.iter().map(|it| it.1).chain(std::iter::repeat(Made::Error));
                which.into_iter().zip(kinds).collect()
            };
            Plan {
                steps,
                before,
                after,
                deals,
                looks,
                around,
                submits: made(submits, &plan.submits),
                completions: made(completions, &plan.completions),
                losses: Vec::new(),
                ..plan
            }
        },
    )
}
