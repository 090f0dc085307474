//! The faults of a sweep: what happens to programs that have no defect, on machines that have no defect either.

use super::{observed::Site, plan::Mode};
use crate::{failure::Result, fault::Rule};

/// Which faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Those that happen on a healthy machine.
    #[default]
    Default,
    /// Also those of a sandbox, of a machine without memory, and late answers.
    All,
    /// Those with these names.
    Named(Vec<String>),
}

/// A fault that a sweep makes.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The name, as in the table and in `--faults`.
    pub name: &'static str,
    /// What it is, in words.
    pub about: &'static str,
    /// What a program must do for it to happen there.
    pub needs: &'static str,
    /// Only with `--faults all`, or by its name.
    is_rare: bool,
    /// By default only once.
    pub is_momentary: bool,
    /// The rule at this site, without `site=`; `None`: the fault cannot happen there.
    rule: fn(&Site) -> Option<String>,
}

/// The faults that there are.
pub const ALL: [Fault; 10] = [
    Fault {
        name: "EAGAIN",
        about: "io_setup: no room under fs.aio-max-nr; io_submit: the queue is full",
        needs: "an io_setup or io_submit",
        is_rare: false,
        is_momentary: false,
        rule: |site| match site.call.as_str() {
            "io_setup" | "io_submit" => Some(format!("{}:error=EAGAIN", site.call)),
            _ => None,
        },
    },
    Fault {
        name: "accept=1",
        about: "io_submit takes the first request only",
        needs: "an io_submit of several requests",
        is_rare: false,
        is_momentary: false,
        rule: |site| (site.most_requests > 1).then(|| "io_submit:accept=1".to_owned()),
    },
    Fault {
        name: "EINTR",
        about: "io_getevents is interrupted by a signal",
        needs: "an io_getevents (a program that reaps from the ring by itself calls none)",
        is_rare: false,
        is_momentary: true,
        rule: |site| reaps(site).then(|| "io_getevents,io_pgetevents:error=EINTR".to_owned()),
    },
    Fault {
        name: "res=EIO",
        about: "the device fails",
        needs: "a read, write or sync",
        is_rare: false,
        is_momentary: false,
        rule: |site| {
            let ops = "complete:res=EIO:op=read|write|fsync|fdsync";
            (site.reads || site.writes || site.syncs).then(|| ops.to_owned())
        },
    },
    Fault {
        name: "res=ENOSPC",
        about: "the file system is full",
        needs: "a write",
        is_rare: false,
        is_momentary: false,
        rule: |site| site.writes.then(|| "complete:res=ENOSPC:op=write".to_owned()),
    },
    Fault {
        name: "short",
        about: "a completion has fewer bytes than were asked for",
        needs: "a read or write of several bytes",
        is_rare: false,
        is_momentary: false,
        rule: |site| {
            let half = site.fewest_bytes? / 2;
            // What a disk does: whole sectors.
            let bytes = if half >= 512 { half / 512 * 512 } else { half };
            (bytes > 0).then(|| format!("complete:res={bytes}:less:op=read|write"))
        },
    },
    Fault {
        name: "ENOMEM",
        about: "the kernel has no memory",
        needs: "an io_setup or io_submit",
        is_rare: true,
        is_momentary: false,
        rule: |site| match site.call.as_str() {
            "io_setup" | "io_submit" => Some(format!("{}:error=ENOMEM:force", site.call)),
            _ => None,
        },
    },
    Fault {
        name: "EPERM",
        about: "a sandbox refuses the call",
        needs: "an AIO call",
        is_rare: true,
        is_momentary: false,
        rule: |site| Some(format!("{}:error=EPERM:force", calls(site))),
    },
    Fault {
        name: "ENOSYS",
        about: "a sandbox, or a kernel without AIO, does not know the call",
        needs: "an AIO call",
        is_rare: true,
        is_momentary: false,
        rule: |site| Some(format!("{}:error=ENOSYS:force", calls(site))),
    },
    Fault {
        name: "late",
        about: "io_getevents returns 100 ms later",
        needs: "an io_getevents (a program that reaps from the ring by itself calls none)",
        is_rare: true,
        is_momentary: false,
        rule: |site| reaps(site).then(|| "io_getevents,io_pgetevents:delay_exit=100ms".to_owned()),
    },
];

fn reaps(site: &Site) -> bool {
    site.call == "io_getevents"
}

fn calls(site: &Site) -> &str {
    if reaps(site) { "io_getevents,io_pgetevents" } else { &site.call }
}

impl Choice {
    /// Reads `default`, `all`, or names of faults.
    ///
    /// # Errors
    /// A sentence that names the faults that there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "default" => return Ok(Self::Default),
            "all" => return Ok(Self::All),
            _ => (),
        }
        let names: Vec<String> = text.split(',').map(str::to_owned).collect();
        let is_known = |name: &String| ALL.iter().any(|it| it.name == name);
        match names.iter().find(|it| !is_known(it)) {
            None => Ok(Self::Named(names)),
            Some(unknown) => {
                let all: Vec<_> = ALL.iter().map(|it| it.name).collect();
                Err(format!(
                    "no fault is named {unknown:?}: write default, all, or some of {}",
                    all.join(",")
                ))
            }
        }
    }

    /// As [`Self::parse`] reads it.
    pub fn text(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::All => "all".to_owned(),
            Self::Named(names) => names.join(","),
        }
    }

    /// Whether a fault is made this often. By default nothing fails for ever that lasts for a moment on a healthy
    /// machine: a program that waits again and again after a signal would hang, and is right.
    pub fn has(&self, fault: &Fault, mode: Mode) -> bool {
        mode == Mode::Once || *self != Self::Default || !fault.is_momentary
    }

    /// The faults, in the order of the table.
    pub fn faults(&self) -> impl Iterator<Item = &'static Fault> + '_ {
        ALL.iter().filter(|it| match self {
            Self::Default => !it.is_rare,
            Self::All => true,
            Self::Named(names) => names.iter().any(|name| name == it.name),
        })
    }
}

impl Fault {
    /// The rule that makes the fault at this site, once or always.
    pub fn at(&self, site: &Site, once: bool) -> Option<String> {
        let rule = format!("{}:site={}", (self.rule)(site)?, site.id);
        let rule = if once { format!("{rule}:max=1") } else { rule };
        debug_assert!(Rule::parse(&rule).is_ok(), "{rule}");
        Some(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(call: &str) -> Site {
        let (id, call, name) = ("0000000a".to_owned(), call.to_owned(), String::new());
        Site { id, call, name, ..Site::default() }
    }

    #[test]
    fn each_fault_is_a_rule_where_it_can_happen() {
        let submit = Site {
            most_requests: 2,
            fewest_bytes: Some(4096),
            reads: true,
            writes: true,
            ..site("io_submit")
        };
        let others = ["io_setup", "io_getevents", "io_cancel", "io_destroy"].map(site);
        let mut made = 0;
        for fault in &ALL {
            for site in others.iter().chain([&submit]) {
                for once in [false, true] {
                    let Some(rule) = fault.at(site, once) else { continue };
                    assert!(Rule::parse(&rule).is_ok(), "{rule}");
                    made += 1;
                }
            }
        }
        assert!(made >= 40, "{made}");
        let rule =
            |name: &str, site: &Site| ALL.iter().find(|it| it.name == name).unwrap().at(site, true);
        assert_eq!(
            rule("short", &submit).unwrap(),
            "complete:res=2048:less:op=read|write:site=0000000a:max=1"
        );
        assert_eq!(rule("short", &Site { fewest_bytes: Some(1), ..submit.clone() }), None);
        assert_eq!(rule("accept=1", &Site { most_requests: 1, ..submit }), None);
    }

    #[test]
    fn faults_are_chosen_by_name() {
        assert_eq!(Choice::parse("EINTR,short").unwrap().faults().count(), 2);
        assert_eq!(Choice::Default.faults().count(), 6);
        for text in ["default", "all", "EINTR,short"] {
            assert_eq!(Choice::parse(text).unwrap().text(), text);
        }
        assert!(Choice::parse("EINTR,EWHAT").unwrap_err().contains("EAGAIN,accept=1"));
    }
}
