//! What the fault rules of a trace do, as far as the model and the outputs need it: whether an answer is the kernel's
//! own.

use crate::{
    event::{Args, Call, Fault},
    fault::{Acts, Rule},
    trace::Faults,
};

/// The rules of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What each rule does; `None`: it was written for another version.
    acts: Vec<Option<Acts>>,
    /// The rules as they were written.
    pub texts: Vec<String>,
}

impl Rules {
    /// The rules of a trace; `None`: it has none.
    pub fn of(faults: Option<&Faults>) -> Self {
        let rules = faults.map_or(&[][..], |it| &it.rules);
        Self {
            acts: rules.iter().map(|it| acts(&it.text)).collect(),
            texts: rules.iter().map(|it| it.text.clone()).collect(),
        }
    }

    /// What a rule does, if it is known. The first rule is 1.
    pub fn acts(&self, rule: u32) -> Option<Acts> {
        let index = (rule as usize).checked_sub(1)?;
        self.acts.get(index).copied().flatten()
    }

    /// Whether a rule changes completions.
    pub fn change_completions(&self) -> bool {
        self.acts.contains(&Some(Acts::Result))
    }

    /// Whether the answer of a call is a fault, not the kernel's answer.
    pub fn injected(&self, call: &Call) -> bool {
        let Some(rule) = delivered(call.fault) else { return false };
        let is_short =
            matches!(&call.args, Args::Submit { nr, .. } if (0..*nr).contains(&call.ret));
        match self.acts(rule) {
            Some(Acts::Delay) => false,
            Some(Acts::Accept) => is_short,
            Some(Acts::Error | Acts::Result) | None => call.ret < 0 || is_short,
        }
    }

    /// Whether only the duration of a call is a fault.
    pub fn delayed(&self, call: &Call) -> bool {
        delivered(call.fault).is_some_and(|rule| self.acts(rule) == Some(Acts::Delay))
    }
}

/// What a rule does, by its text.
fn acts(rule: &str) -> Option<Acts> {
    Rule::parse(rule).ok().map(|it| it.acts())
}

/// The number of the rule, if the program got the fault.
pub fn delivered(fault: Option<Fault>) -> Option<u32> {
    fault.filter(|it| it.effect.is_made()).map(|it| it.rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Address, Effect, Entry, Handle},
        trace::FaultRule,
    };

    #[test]
    fn the_text_of_a_rule_says_what_it_does() {
        assert_eq!(acts("io_submit:error=EAGAIN:when=3"), Some(Acts::Error));
        assert_eq!(acts("io_submit:when=2+:accept=1"), Some(Acts::Accept));
        assert_eq!(acts("io_getevents,io_pgetevents:delay_exit=1ms"), Some(Acts::Delay));
        assert_eq!(acts("complete:res=EIO:op=pread"), Some(Acts::Result));
        assert_eq!(acts("complete"), None);
        // The colon belongs to the path.
        assert_eq!(acts(r"io_submit:path=/a\:accept=1:error=EIO:force"), Some(Acts::Error));
    }

    #[test]
    fn what_is_ours_depends_on_the_rule_and_on_what_came_of_it() {
        let rule = |text: &str| FaultRule { text: text.to_owned(), mechanism: "".into() };
        let rules = ["io_submit:error=EAGAIN", "io_submit:accept=1", "io_submit:delay_enter=1s"];
        let rules = rules.map(rule).into();
        let rules = Rules::of(Some(&Faults { seed: 1, dry_run: false, rules }));
        let injected = |rule: u32, effect, ret| {
            let (ctx, iocbpp, iocbs) = (Handle(1), Address(0), Vec::new());
            rules.injected(&Call {
                entered: None,
                entry: Entry::Seen,
                ret,
                args: Args::Submit { ctx, nr: 3, iocbpp, iocbs, truncated: 0 },
                ring: None,
                ring_before: None,
                compat: false,
                stack: None,
                fault: Some(Fault { rule, effect }),
            })
        };
        assert!(injected(1, Effect::Done, -11) && injected(1, Effect::Done, 2));
        assert!(!injected(1, Effect::Done, 3), "nothing came of it");
        assert!(injected(2, Effect::Done, 1) && !injected(2, Effect::Done, -11));
        assert!(!injected(3, Effect::Done, -11), "the kernel's, only later");
        assert!(injected(9, Effect::Done, -11), "an unknown rule");
        assert!(!injected(1, Effect::WouldBe, -11) && !injected(1, Effect::Missed, -11));
    }
}
