//! What the rules were asked about: so that one that never acted can say why.

use std::collections::BTreeMap;

use aiotrace_common::fault::{action, what};

use crate::{
    event::{Args, Syscall, opcode_name},
    fault::Rule,
    model::{
        requests::Request,
        verdict::{FaultRow, RuleRow},
    },
    opcode::Opcode,
};

/// Kinds of requests remembered.
const MOST_KINDS: usize = 256;

/// All rules, and what there was.
#[derive(Default)]
pub struct Asked {
    rules: Vec<Of>,
    calls: BTreeMap<Syscall, u64>,
    /// Requests by operation.
    ops: BTreeMap<Opcode, u64>,
    /// Most requests in a call.
    most: i64,
}

/// One rule.
struct Of {
    text: String,
    /// `None`: it was written for another version.
    rule: Option<Rule>,
    /// Calls, or completions, that it is about.
    asked: u64,
    /// Of these, those whose requests are as it wants them.
    described: u64,
    /// Of a rule about completions: requests that are as it wants them, which io_submit was given.
    submitted: u64,
}

impl Asked {
    /// By the texts of the rules.
    pub fn new(texts: &[String]) -> Self {
        let of = |text: &String| {
            let (text, rule) = (text.clone(), Rule::parse(text).ok());
            Of { text, rule, asked: 0, described: 0, submitted: 0 }
        };
        Self { rules: texts.iter().map(of).collect(), ..Self::default() }
    }

    /// A call was made.
    pub fn call(&mut self, args: &Args) {
        if self.rules.is_empty() {
            return;
        }
        let syscall = args.syscall();
        *self.calls.entry(syscall).or_default() += 1;
        let requests: Vec<(Opcode, u32)> = match args {
            Args::Submit { iocbs, nr, .. } => {
                self.most = self.most.max(*nr);
                let all = iocbs.iter().flatten().filter_map(|it| it.value);
                all.map(|it| (Opcode::of(&it), it.fildes)).collect()
            }
            Args::Cancel { value, .. } => {
                value.iter().map(|it| (Opcode::of(it), it.fildes)).collect()
            }
            _ => Vec::new(),
        };
        for (opcode, _) in &requests {
            if self.ops.len() < MOST_KINDS || self.ops.contains_key(opcode) {
                *self.ops.entry(*opcode).or_default() += 1;
            }
        }
        if syscall == Syscall::Submit {
            self.submitted(&requests);
        }
        self.ask(what::call(syscall), &requests);
    }

    /// Requests whose completions rules may be about.
    fn submitted(&mut self, requests: &[(Opcode, u32)]) {
        for it in &mut self.rules {
            let Some(rule) = it.rule.as_ref().filter(|it| it.is_about_completions()) else {
                continue;
            };
            let is_so = |(opcode, fd): &&(Opcode, u32)| rule.rule.describes(opcode.0, *fd, true);
            it.submitted += requests.iter().filter(is_so).count() as u64;
        }
    }

    /// A request completed.
    pub fn completed(&mut self, request: &Request) {
        if !self.rules.is_empty() {
            let known = request.opcode.map(|it| (it, request.fd));
            self.ask(what::COMPLETE, known.as_slice());
        }
    }

    fn ask(&mut self, what: u32, requests: &[(Opcode, u32)]) {
        for it in &mut self.rules {
            let Some(rule) = it.rule.as_ref().filter(|it| it.rule.about & 1 << what != 0) else {
                continue;
            };
            it.asked += 1;
            // Where a file is concerned, only the source knows.
            let is_so = |(opcode, fd): &(Opcode, u32)| rule.rule.describes(opcode.0, *fd, true);
            it.described += u64::from(!rule.needs_requests() || requests.iter().any(is_so));
        }
    }

    /// For the report. `rows`: what they did.
    pub fn rows<'a>(&self, rows: impl Iterator<Item = &'a FaultRow> + Clone) -> Vec<RuleRow> {
        let row = |(number, it): (u32, &Of)| {
            let own = rows.clone().filter(|row| row.rule == number);
            let acted = own.clone().map(|row| row.made + row.delayed + row.dry_run).sum();
            let missed: u64 = own.map(|row| row.missed).sum();
            let why = (acted == 0).then(|| self.why(it, missed)).flatten();
            let (text, asked, described) = (it.text.clone(), it.asked, it.described);
            RuleRow { rule: number, text, asked, described, acted, why }
        };
        (1..).zip(&self.rules).map(row).collect()
    }

    /// Why it did not act, if that is known.
    fn why(&self, of: &Of, missed: u64) -> Option<String> {
        let rule = of.rule.as_ref()?;
        let is_about = |call: Syscall| rule.rule.about & 1 << what::call(call) != 0;
        let made = |call: Syscall| self.calls.get(&call).copied().unwrap_or(0);
        if missed > 0 && rule.is_about_completions() {
            return Some(format!(
                "it was due for {}, which had left the ring before it could be changed: the program reaps from the \
                 ring by itself, or ended the context",
                if missed == 1 {
                    "1 completion".to_owned()
                } else {
                    format!("{missed} completions")
                }
            ));
        }
        if missed > 0 {
            return Some("its mechanism does not reach these calls".to_owned());
        }
        if of.described == 0 && rule.is_about_completions() && of.submitted > 0 {
            return Some(format!(
                "{} such requests were submitted, and none was seen to complete: what a program reaps from the ring by \
                 itself is seen at its next call, if it makes one",
                of.submitted
            ));
        }
        if of.asked == 0 && rule.is_about_completions() {
            return Some("no request was seen to complete".to_owned());
        }
        if of.asked == 0 {
            let others: Vec<String> =
                self.calls.iter().map(|(call, count)| format!("{} {count}", call.name())).collect();
            let others = match others[..] {
                [] => "no AIO call at all".to_owned(),
                _ => others.join(", "),
            };
            let names: Vec<&str> = rule.calls().map(Syscall::name).collect();
            let twins = [
                (Syscall::Getevents, Syscall::Pgetevents),
                (Syscall::Pgetevents, Syscall::Getevents),
            ];
            let twin = twins
                .into_iter()
                .find(|(one, other)| is_about(*one) && !is_about(*other) && made(*other) > 0);
            let hint = twin.map_or("", |_| {
                "; write io_getevents,io_pgetevents: libaio calls one or the other, 0.3.113 with 64-bit times \
                 io_pgetevents"
            });
            return Some(format!(
                "no {} was called; there were: {others}{hint}",
                names.join(" or ")
            ));
        }
        if of.described == 0 {
            let ops = self.ops.iter().map(|(op, count)| {
                let name =
                    opcode_name(*op).map_or_else(|| format!("operation {op}"), str::to_owned);
                format!("{name} {count}")
            });
            let ops: Vec<String> = ops.collect();
            return Some(format!(
                "none of them was about such a request; there were: {} (op=read and op=write stand for both \
                 kinds)",
                ops.join(", ")
            ));
        }
        if rule.rule.action == action::ACCEPT && self.most <= rule.rule.value {
            return Some(format!("no io_submit had more than {} requests", rule.rule.value));
        }
        if rule.rule.first > of.described {
            let (first, count) = (rule.rule.first, of.described);
            return Some(format!("it begins with number {first}, and there were {count}"));
        }
        if rule.path.is_some() {
            return Some("no file matched path=, or not when it was due".to_owned());
        }
        (rule.rule.odds != u64::MAX).then(|| "chance had it so (prob=)".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Address, Handle};

    fn asked(rules: &[&str]) -> Asked {
        Asked::new(&rules.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
    }

    fn submit(opcode: u16) -> Args {
        let value = aiotrace_common::abi::Iocb { opcode, fildes: 3, ..Default::default() };
        let iocb = crate::event::Iocb {
            address: Some(Address(1)),
            value: Some(value),
            read_late: false,
            vectors: None,
        };
        let (ctx, iocbpp, iocbs) = (Handle(1), Address(0), vec![Some(iocb)]);
        Args::Submit { ctx, nr: 1, iocbpp, iocbs, truncated: 0 }
    }

    #[test]
    fn a_rule_that_never_acted_says_why() {
        let mut asked = asked(&[
            "io_cancel:error=EINVAL:when=1",
            "io_getevents:error=EINTR",
            "io_submit:error=EAGAIN:op=pread",
            "io_submit:error=EAGAIN:when=3",
            "io_submit:accept=1",
            "complete:res=EIO",
            "io_submit:error=EAGAIN:prob=0.001",
        ]);
        asked.call(&submit(7));
        asked.call(&submit(1));
        let getevents = Args::Getevents {
            syscall: Syscall::Pgetevents,
            ctx: Handle(1),
            min_nr: 0,
            nr: 1,
            events: Address(0),
            timeout: Address(0),
            timeout_value: None,
            sigset: Address(0),
            sigset_value: None,
            list: Vec::new(),
            truncated: 0,
            changed: Vec::new(),
        };
        asked.call(&getevents);
        let rows = asked.rows([].iter());
        let why: Vec<&str> = rows.iter().map(|it| it.why.as_deref().unwrap_or("")).collect();
        assert_eq!(why[0], "no io_cancel was called; there were: io_submit 2, io_pgetevents 1");
        assert!(why[1].contains("write io_getevents,io_pgetevents"), "{}", why[1]);
        assert!(why[2].contains("there were: pwrite 1, preadv 1"), "{}", why[2]);
        assert_eq!(why[3], "it begins with number 3, and there were 2");
        assert_eq!(why[4], "no io_submit had more than 1 requests");
        assert!(
            why[5].starts_with("2 such requests were submitted, and none was seen to complete: ")
        );
        assert_eq!(why[6], "chance had it so (prob=)");
        let counts: Vec<_> = rows.iter().map(|it| (it.asked, it.described, it.acted)).collect();
        assert_eq!(counts[..3], [(0, 0, 0), (0, 0, 0), (2, 0, 0)]);
    }
}
