//! The mechanisms, by which faults are delivered.

use aiotrace_common::{
    abi::Syscall,
    fault::{Rule, action, looked_up, what},
};

/// The mechanisms, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    /// BPF in the place of the system call (Linux 7.1, or CONFIG_FUNCTION_ERROR_INJECTION)
    FmodRet,
    /// A kprobe that overrides the system call (CONFIG_BPF_KPROBE_OVERRIDE)
    Override,
    /// BPF in the place of security_file_permission: requests that read or write
    FilePermission,
    /// BPF that writes into the events that io_getevents returns (no lockdown)
    WriteUser,
    /// ptrace: all faults, on any kernel, also without privilege; slower
    Ptrace,
}

impl Mechanism {
    /// All mechanisms.
    pub const ALL: [Self; 5] =
        [Self::FmodRet, Self::Override, Self::FilePermission, Self::WriteUser, Self::Ptrace];
    /// The mechanisms that work in the kernel.
    pub const IN_KERNEL: [Self; 4] =
        [Self::FmodRet, Self::Override, Self::FilePermission, Self::WriteUser];

    /// The name of the mechanism.
    pub fn text(self) -> &'static str {
        match self {
            Self::FmodRet => "fmod_ret",
            Self::Override => "override",
            Self::FilePermission => "file_permission",
            Self::WriteUser => "write_user",
            Self::Ptrace => "ptrace",
        }
    }

    /// What the mechanism needs of the machine.
    pub fn needs(self) -> &'static str {
        match self {
            Self::FmodRet => "Linux 7.1 or newer, or a kernel with CONFIG_FUNCTION_ERROR_INJECTION",
            Self::Override => "a kernel with CONFIG_BPF_KPROBE_OVERRIDE",
            Self::FilePermission => "trampolines (fmod_ret)",
            Self::WriteUser => "a kernel that is not locked down (lockdown=none)",
            Self::Ptrace => "nothing for `run`; for `attach` that no other tracer is attached",
        }
    }

    /// Whether the mechanism can deliver what the rule asks for, on a kernel that allows it.
    ///
    /// # Errors
    /// If it cannot; the error says why.
    pub fn delivers(self, rule: &Rule) -> Result<(), &'static str> {
        if self == Self::Ptrace {
            return Ok(());
        }
        if rule.looked_up & looked_up::PLACE != 0 {
            return Err(
                "site= and caller= need the functions that made the call, which only ptrace finds in time",
            );
        }
        if rule.looked_up & looked_up::FILES != 0 {
            return Err("path= is looked up when the call is made, which only ptrace can");
        }
        if rule.looked_up & looked_up::RESULT != 0 {
            return Err(
                "less compares with the request's own result, which only ptrace does before it is changed",
            );
        }
        let is_submit = rule.about == 1 << what::call(Syscall::Submit);
        match (self, rule.action) {
            (_, action::DELAY_ENTER | action::DELAY_EXIT) => Err("BPF cannot wait"),
            (Self::WriteUser, action::RESULT) => Ok(()),
            (_, action::RESULT) => Err("it does not reach completions"),
            (Self::WriteUser, _) => Err("it reaches completions only"),
            (Self::FmodRet | Self::Override, action::ERROR) => Ok(()),
            (Self::FmodRet | Self::Override, _) => {
                Err("it answers in the place of the whole call, so no request would be accepted")
            }
            (Self::FilePermission, _) if is_submit => Ok(()),
            (Self::FilePermission, _) => Err("it reaches io_submit only"),
            (Self::Ptrace, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_mechanisms() {
        let rule = |about: u32, action| Rule { about: 1 << about, action, ..Rule::NONE };
        let by = |rule: Rule| -> Vec<&str> {
            Mechanism::ALL
                .iter()
                .filter(|it| it.delivers(&rule).is_ok())
                .map(|it| it.text())
                .collect()
        };
        let submit = what::call(Syscall::Submit);
        let setup = what::call(Syscall::Setup);
        assert_eq!(by(rule(setup, action::ERROR)), ["fmod_ret", "override", "ptrace"]);
        assert_eq!(
            by(rule(submit, action::ERROR)),
            ["fmod_ret", "override", "file_permission", "ptrace"]
        );
        assert_eq!(by(rule(submit, action::ACCEPT)), ["file_permission", "ptrace"]);
        assert_eq!(by(rule(submit, action::DELAY_EXIT)), ["ptrace"]);
        assert_eq!(by(rule(what::COMPLETE, action::RESULT)), ["write_user", "ptrace"]);
        for looked_up in [looked_up::FILES, looked_up::PLACE, looked_up::RESULT] {
            let rule = Rule { looked_up, ..rule(what::COMPLETE, action::RESULT) };
            assert_eq!(by(rule), ["ptrace"]);
        }
    }
}
