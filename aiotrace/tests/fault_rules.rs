//! Fault rules: any text is read without a panic, a rule that was written is read with the same meaning, and the
//! decision is that of a reference, which keeps every call and counts from the beginning each time.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use aiotrace::fault::{Case, Judge, Rule, what};
use proptest::{collection::vec, prelude::*};

const CALLS: [(&str, u32); 7] = [
    ("io_setup", 1),
    ("io_destroy", 2),
    ("io_getevents", 3),
    ("io_submit", 4),
    ("io_cancel", 5),
    ("io_pgetevents", 6),
    ("complete", what::COMPLETE),
];
const OPS: [(&str, u16); 3] = [("pread", 0), ("pwrite", 1), ("pwritev", 8)];

/// A rule in the parts that somebody would write.
#[derive(Clone, Debug)]
struct Said {
    /// Indices in [`CALLS`].
    about: Vec<usize>,
    accept: Option<i64>,
    when: Option<(u64, Option<u64>, Option<u64>)>,
    quarter: bool,
    max: Option<u64>,
    after: Option<u64>,
    during: Option<u64>,
    op: Option<usize>,
    fd: Option<u32>,
    ctx: Option<u64>,
    tid: Option<u32>,
    per: Option<&'static str>,
    /// By how many places the parts after the name are rotated.
    turned: usize,
}

impl Said {
    fn text(&self) -> String {
        let names: Vec<_> = self.about.iter().map(|it| CALLS[*it].0).collect();
        let mut parts = vec![match (self.accept, self.about[0]) {
            (Some(count), _) => format!("accept={count}"),
            (None, 6) => "res=EIO".to_owned(),
            _ => "error=ENOSYS".to_owned(),
        }];
        parts.extend(self.when.map(|(first, last, step)| {
            let last = last.map(|it| format!("..{it}")).unwrap_or_default();
            let step = step.map(|it| format!("+{it}")).unwrap_or_default();
            format!("when={first}{last}{step}")
        }));
        parts.extend(self.quarter.then(|| "prob=25%".to_owned()));
        parts.extend(self.max.map(|it| format!("max={it}")));
        parts.extend(self.after.map(|it| format!("after={it}s")));
        parts.extend(self.during.map(|it| format!("for={}ms", it * 1000)));
        parts.extend(self.op.map(|it| format!("op={}", OPS[it].0)));
        parts.extend(self.fd.map(|it| format!("fd={it}")));
        parts.extend(self.ctx.map(|it| format!("ctx={it:#x}")));
        parts.extend(self.tid.map(|it| format!("tid={it}")));
        parts.extend(self.per.map(|it| format!("per={it}")));
        let turned = self.turned % parts.len();
        parts.rotate_left(turned);
        format!("{}:{}", names.join(","), parts.join(":"))
    }

    /// Whether the rule is about this call; `since`: seconds since it was armed.
    fn matches(&self, call: &Call, since: u64) -> bool {
        let after = self.after.unwrap_or(0);
        let is_it = |request: &(usize, u32)| {
            self.op.is_none_or(|op| op == request.0) && self.fd.is_none_or(|fd| fd == request.1)
        };
        self.about.contains(&call.what)
            && since >= after
            && self.during.is_none_or(|during| since < after + during)
            && self.ctx.is_none_or(|it| it == call.ctx)
            && self.tid.is_none_or(|it| it == call.tid)
            && ((self.op.is_none() && self.fd.is_none()) || call.requests.iter().any(is_it))
            && self.accept.is_none_or(|it| call.nr() > it)
    }

    fn counts_together(&self, one: &Call, other: &Call) -> bool {
        one.what == other.what
            && one.pid == other.pid
            && match self.per {
                Some("thread") => one.tid == other.tid,
                Some("context") => one.ctx == other.ctx,
                _ => true,
            }
    }

    fn is_due(&self, count: u64) -> bool {
        let Some((first, last, step)) = self.when else { return true };
        match (last, step) {
            (None, None) => count == first,
            (_, step) => {
                let last = last.unwrap_or(1000);
                (first..=last).step_by(step.unwrap_or(1) as usize).any(|it| it == count)
            }
        }
    }
}

/// A call, or a completion, that is judged.
#[derive(Clone, Debug)]
struct Call {
    /// An index in [`CALLS`].
    what: usize,
    pid: u32,
    tid: u32,
    ctx: u64,
    /// The requests: each has an index in [`OPS`] and a descriptor.
    requests: Vec<(usize, u32)>,
    /// Seconds since the call before.
    later: u64,
}

impl Call {
    fn nr(&self) -> i64 {
        self.requests.len() as i64
    }
}

fn said() -> impl Strategy<Value = Said> {
    let about = prop_oneof![
        4 => Just(vec![3]),
        2 => Just(vec![6]),
        1 => Just(vec![3, 4]),
        1 => Just(vec![0, 2]),
        1 => Just(vec![1, 5]),
    ];
    let when = (1..5u64, proptest::option::of(0..6u64), proptest::option::of(1..4u64));
    let when = when.prop_map(|(first, more, step)| (first, more.map(|it| first + it), step));
    let per =
        prop_oneof![Just(None), Just(Some("process")), Just(Some("thread")), Just(Some("context"))];
    (
        (about, proptest::option::of(1..3i64), proptest::option::of(when), any::<bool>()),
        (
            proptest::option::of(1..4u64),
            proptest::option::weighted(0.3, 1..20u64),
            proptest::option::weighted(0.3, 1..30u64),
        ),
        (
            proptest::option::weighted(0.3, 0..OPS.len()),
            proptest::option::weighted(0.3, 3..5u32),
            proptest::option::weighted(0.2, 1..3u64),
            proptest::option::weighted(0.2, 10..13u32),
        ),
        (per, 0..9usize),
    )
        .prop_map(
            |(
                (about, accept, when, quarter),
                (max, after, during),
                (op, fd, ctx, tid),
                (per, turned),
            )| {
                let has_requests = about.iter().all(|it| matches!(it, 3 | 4 | 6));
                let has_context = about[0] != 0;
                Said {
                    accept: accept.filter(|_| about == [3]),
                    when,
                    quarter,
                    max,
                    after,
                    during,
                    op: op.filter(|_| has_requests),
                    fd: fd.filter(|_| has_requests),
                    ctx: ctx.filter(|_| has_context),
                    tid,
                    per: per.filter(|it| has_context || *it != "context"),
                    turned,
                    about,
                }
            },
        )
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let what = prop_oneof![5 => Just(3), 3 => Just(6), 1 => 0..CALLS.len()];
    let call = (what, 1..3u32, 0..2u32, 1..3u64, vec((0..OPS.len(), 3..5u32), 0..4), 0..3u64)
        .prop_map(|(what, pid, thread, ctx, requests, later)| Call {
            what,
            pid,
            tid: 10 + pid + thread,
            ctx: if what == 0 { 0 } else { ctx },
            requests: if matches!(what, 3 | 4 | 6) { requests } else { Vec::new() },
            later,
        });
    vec(call, 1..120)
}

fn read(said: &[Said]) -> Vec<Rule> {
    said.iter().map(|it| it.text().parse().unwrap_or_else(|mistake| panic!("{mistake}"))).collect()
}

/// The number of the rule that acts, for each call.
fn judged(rules: &[Rule], seed: u64, calls: &[Call]) -> Vec<u32> {
    const ARMED: u64 = 1_000_000_000_000;
    let mut judge = Judge::new(rules.to_vec(), seed, ARMED);
    let mut now = ARMED;
    let mut decide = |call: &Call| {
        now += call.later * 1_000_000_000;
        let case = Case {
            what: CALLS[call.what].1,
            pid: call.pid,
            tid: call.tid,
            ctx: call.ctx,
            nr: call.nr(),
            now,
        };
        let has = |rule: &Rule| {
            call.requests.iter().any(|(op, fd)| rule.describes(OPS[*op].1, *fd, None))
        };
        judge.decide(&case, has).map_or(0, |verdict| verdict.number)
    };
    calls.iter().map(&mut decide).collect()
}

/// The same by the reference: from the parts of the rules and from all earlier calls.
fn expected(said: &[Said], rules: &[Rule], seed: u64, calls: &[Call]) -> Vec<u32> {
    let mut pids = Vec::new();
    let mut matched: Vec<Vec<&Call>> = vec![Vec::new(); said.len()];
    let mut chosen = Vec::new();
    let mut since = 0;
    for call in calls {
        since += call.later;
        if !pids.contains(&call.pid) {
            pids.push(call.pid);
        }
        let mut acts = 0;
        for (index, said) in said.iter().enumerate() {
            if !said.matches(call, since) {
                continue;
            }
            matched[index].push(call);
            let together = matched[index].iter().filter(|it| said.counts_together(it, call));
            let count = together.count() as u64;
            let number = index as u32 + 1;
            let acted = chosen.iter().filter(|it| **it == number).count() as u64;
            let process = pids.iter().position(|it| *it == call.pid).unwrap() as u64;
            // Chance is a hash: the reference knows only what goes into it.
            let facts = aiotrace_common::fault::Facts {
                what: CALLS[call.what].1,
                process,
                tid: 0,
                ctx: 0,
                nr: 0,
                since: 0,
                requests: 0,
            };
            let lucky =
                !said.quarter || rules[index].rule.is_lucky(index as u32, seed, &facts, count);
            if acts == 0 && said.is_due(count) && lucky && said.max.is_none_or(|it| acted < it) {
                acts = number;
            }
        }
        chosen.push(acts);
    }
    chosen
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_decision_is_that_of_the_reference(
        said in vec(said(), 1..5), seed: u64, calls in calls(),
    ) {
        let rules = read(&said);
        let judged = judged(&rules, seed, &calls);
        let texts: Vec<_> = rules.iter().map(|it| &it.text).collect();
        prop_assert_eq!(&judged, &expected(&said, &rules, seed, &calls), "{:?}", texts);
    }

    /// In another run, processes, threads and contexts have other numbers.
    #[test]
    fn the_same_seed_and_calls_give_the_same_faults_whatever_their_numbers(
        said in vec(said(), 1..5), seed: u64, calls in calls(), pid in 0..1000u32, ctx: u32,
    ) {
        let mut said = said;
        for said in &mut said {
            said.tid = None;
            said.ctx = None;
        }
        let rules = read(&said);
        let mut renamed = calls.clone();
        for call in &mut renamed {
            call.pid = 5000 - call.pid * 7 + pid;
            call.tid = 9000 - call.tid * 3 + pid;
            call.ctx = if call.ctx == 0 { 0 } else { call.ctx << 12 ^ u64::from(ctx) << 20 };
        }
        prop_assert_eq!(judged(&rules, seed, &calls), judged(&rules, seed, &renamed));
    }

    /// This is so unless a rule counts by thread.
    #[test]
    fn the_nth_call_gets_the_fault_whichever_thread_makes_it(
        said in vec(said(), 1..5), seed: u64, calls in calls(), threads in vec(1..9u32, 120),
    ) {
        let mut said = said;
        for said in &mut said {
            said.tid = None;
            said.per = said.per.filter(|it| *it != "thread");
        }
        let rules = read(&said);
        let mut mixed = calls.clone();
        for (call, thread) in mixed.iter_mut().zip(threads) {
            call.tid = thread;
        }
        prop_assert_eq!(judged(&rules, seed, &calls), judged(&rules, seed, &mixed));
    }

    #[test]
    fn a_rule_keeps_its_text_and_is_the_same_when_read_again(said in said()) {
        let text = said.text();
        let rule: Rule = text.parse().unwrap();
        prop_assert_eq!(&rule.text, &text);
        prop_assert_eq!(rule.text.parse::<Rule>().unwrap().rule, rule.rule);
        // The order of the parts does not matter.
        let straight = Said { turned: 0, ..said }.text();
        prop_assert_eq!(straight.parse::<Rule>().unwrap().rule, rule.rule);
    }

    #[test]
    fn any_text_is_read_or_refused_in_its_place(text in "\\PC*") {
        read_or_refused(&text)?;
    }

    #[test]
    fn a_rule_with_something_else_in_it_is_read_or_refused_in_its_place(
        said in said(), changes in vec((any::<prop::sample::Index>(), 0..3u8, any::<char>()), 1..6),
    ) {
        let mut chars: Vec<char> = said.text().chars().collect();
        for (at, change, char) in changes {
            let at = at.index(chars.len() + 1);
            match (change, chars.get_mut(at)) {
                (0, Some(old)) => *old = char,
                (1, Some(_)) => drop(chars.remove(at)),
                _ => chars.insert(at, *[':', '=', '+', '.', ',', '\\', '|', char].get(at % 8).unwrap()),
            }
        }
        read_or_refused(&chars.into_iter().collect::<String>())?;
    }
}

fn read_or_refused(text: &str) -> Result<(), TestCaseError> {
    match Rule::parse(text) {
        Ok(rule) => prop_assert_eq!(rule.text, text),
        Err(mistake) => {
            prop_assert!(
                text.get(mistake.place()).is_some(),
                "{:?} in {:?}",
                mistake.place(),
                text
            );
            prop_assert_eq!(mistake.to_string().lines().count(), 2);
            prop_assert!(!mistake.why().is_empty());
        }
    }
    Ok(())
}

#[test]
fn a_probability_is_kept() {
    let rule: Rule = "io_submit:error=EAGAIN:prob=0.25".parse().unwrap();
    for seed in 0..4 {
        let mut judge = Judge::new(vec![rule.clone()], seed, 0);
        let case = Case { what: 4, pid: 7, tid: 7, ctx: 1, nr: 1, now: 0 };
        let hits = (0..100_000).filter(|_| judge.decide(&case, |_| false).is_some()).count();
        assert!((24_000..=26_000).contains(&hits), "{hits} of 100,000 with seed {seed}");
    }
}

#[test]
fn another_seed_gives_other_faults() {
    let rules: Vec<Rule> = vec!["io_submit:error=EAGAIN:prob=0.5".parse().unwrap()];
    let call = Call { what: 3, pid: 1, tid: 1, ctx: 1, requests: vec![], later: 0 };
    let calls = vec![call; 64];
    assert_ne!(judged(&rules, 1, &calls), judged(&rules, 2, &calls));
}

#[test]
fn there_are_not_too_many_rules() {
    let rules = |count| vec!["complete:res=EIO".parse::<Rule>().unwrap(); count];
    assert_eq!(aiotrace::fault::check(&rules(16)), Ok(()));
    assert!(
        aiotrace::fault::check(&rules(17)).unwrap_err().starts_with("17 rules are too many: 16")
    );
    // A judge with too many rules does not fail all the same.
    let case = Case { what: what::COMPLETE, pid: 1, tid: 1, ctx: 1, nr: 0, now: 0 };
    assert_eq!(Judge::new(rules(40), 0, 0).decide(&case, |_| false).unwrap().number, 1);
}
