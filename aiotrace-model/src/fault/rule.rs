//! One rule: `SYSCALL[,SYSCALL]:ACTION[:CONDITION]...`, the grammar of strace's `--inject` and more.

use std::{path::Path, str::FromStr};

use aiotrace_common::fault::{self, action, looked_up, per, what};

use super::{
    about::About,
    glob::{Callers, Glob},
    mistake::Mistake,
    piece::Piece,
    value,
    words::{ACTIONS, CONDITIONS, FLAGS, STRACE_ONLY, did_you_mean},
};
use crate::{
    errno,
    event::{SiteId, Syscall},
};

/// A rule's text is at most so long, in bytes: as long as a path.
const LONGEST: usize = 4096;

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// As it was written.
    pub text: String,
    /// What decides.
    pub rule: fault::Rule,
    /// Which files it is about; `None`: any.
    pub path: Option<Glob>,
    /// The call site; `None`: any.
    pub site: Option<SiteId>,
    /// A function that must be among those that led to the call; `None`: any.
    pub caller: Option<Callers>,
    /// An errno that the call can never return is wanted all the same.
    pub force: bool,
}

impl Rule {
    /// Reads a rule.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        if text.len() > LONGEST {
            let start: String = text.chars().take(40).collect();
            let why = format!("a rule has at most {LONGEST} bytes, this one has {}", text.len());
            return Err(Piece::new(&start).mistake(why));
        }
        let parts = Piece::new(text).parts();
        let (names, parts) =
            parts.split_first().map_or((Piece::new(text), &[][..]), |it| (*it.0, it.1));
        let about = About::parse(names)?;
        let parts = read(parts)?;
        let action = only_action(names, &parts)?;
        let force = parts.iter().any(|part| part.name == "force");
        let (action, value) = action.action(&about, force)?;
        let rule = fault::Rule { about: about.bits(), action, value, ..fault::Rule::NONE };
        let mut rule =
            Self { text: text.to_owned(), rule, path: None, site: None, caller: None, force };
        for part in &parts {
            part.suits(&about)?;
            part.condition(&mut rule)?;
        }
        // What was read as `for=` is how long, from `after=` on.
        rule.rule.until = rule.rule.until.saturating_add(rule.rule.after);
        Ok(rule)
    }

    /// The calls it is about; none if it is about completions.
    pub fn calls(&self) -> impl Iterator<Item = Syscall> {
        let about = self.rule.about;
        Syscall::ALL.into_iter().filter(move |call| about & 1 << what::call(*call) != 0)
    }

    /// What it does.
    pub fn acts(&self) -> Acts {
        match self.rule.action {
            action::ERROR => Acts::Error,
            action::ACCEPT => Acts::Accept,
            action::DELAY_ENTER | action::DELAY_EXIT => Acts::Delay,
            _ => Acts::Result,
        }
    }

    /// Whether it is about completions, and no call.
    pub fn is_about_completions(&self) -> bool {
        self.rule.about & 1 << what::COMPLETE != 0
    }

    /// Whether something must be looked up to tell if it matches: it has op=, fd=, path=, site=, caller= or less.
    pub fn needs_requests(&self) -> bool {
        self.rule.asks_for_requests()
    }

    /// Whether the place of the call must be known to tell if it matches: it has site= or caller=.
    pub fn needs_place(&self) -> bool {
        self.rule.looked_up & looked_up::PLACE != 0
    }

    /// Whether a completion whose own result is this one may get the rule's: with `less` only if that is less.
    pub fn may_replace(&self, result: i64) -> bool {
        self.rule.looked_up & looked_up::RESULT == 0 || result > self.rule.value
    }

    /// Whether it has a condition on requests: op=, fd= or path=.
    pub fn describes_requests(&self) -> bool {
        fault::Rule { looked_up: self.rule.looked_up & looked_up::FILES, ..self.rule }
            .asks_for_requests()
    }

    /// Whether a call at this site, to which these functions led, meets site= and caller=.
    pub fn is_at<'a>(&self, site: SiteId, mut callers: impl Iterator<Item = &'a str>) -> bool {
        self.site.is_none_or(|it| it == site)
            && self.caller.as_ref().is_none_or(|it| callers.any(|name| it.is_match(name)))
    }

    /// Whether a request is one of those it is about. `path`: where its descriptor leads, if that is known.
    pub fn describes(&self, opcode: u16, fd: u32, path: Option<&Path>) -> bool {
        let glob = self.path.as_ref();
        let is_of_files = glob.zip(path).is_some_and(|(glob, path)| glob.is_match(path));
        self.rule.describes(opcode, fd, is_of_files)
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acts {
    /// The call fails.
    Error,
    /// io_submit takes fewer requests.
    Accept,
    /// The call takes longer; its answer is the kernel's own.
    Delay,
    /// A completion has another result.
    Result,
}

impl FromStr for Rule {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        Self::parse(text)
    }
}

/// An action or a condition: `NAME=VALUE`, or one of [`FLAGS`].
struct Part<'a> {
    /// One of [`ACTIONS`] or [`CONDITIONS`].
    name: &'static str,
    /// All of it.
    all: Piece<'a>,
    value: Piece<'a>,
}

/// The parts behind the names of calls: each is known, has a value and is there once.
fn read<'a>(pieces: &[Piece<'a>]) -> Result<Vec<Part<'a>>, Mistake> {
    let mut parts: Vec<Part<'a>> = Vec::new();
    for piece in pieces {
        let part = Part::read(*piece, parts.last())?;
        if parts.iter().any(|it| it.name == part.name) {
            return Err(piece.mistake(format!("{} is there twice: leave one out", part.shown())));
        }
        parts.push(part);
    }
    Ok(parts)
}

/// The action, if there is one and no more.
fn only_action<'p, 'a>(names: Piece<'a>, parts: &'p [Part<'a>]) -> Result<&'p Part<'a>, Mistake> {
    let mut actions = parts.iter().filter(|part| part.is_action());
    let Some(action) = actions.next() else {
        let last = parts.last().map_or(names, |part| part.all);
        return Err(last.behind().mistake(
            "an action is missing: add for instance :error=EAGAIN, :accept=1 or :delay_enter=20ms to a call, \
             :res=EIO to complete",
        ));
    };
    match actions.next() {
        Some(other) => Err(other.all.mistake(format!(
            "a rule has one action, and {} is there already: write two rules, of which the first that is due \
             acts",
            action.shown()
        ))),
        None => Ok(action),
    }
}

impl<'a> Part<'a> {
    fn read(piece: Piece<'a>, before: Option<&Self>) -> Result<Self, Mistake> {
        let (name, value) = match piece.split_once("=") {
            Some((name, value)) => (name, Some(value)),
            None => (piece, None),
        };
        let written = name.text();
        let mut known = ACTIONS.into_iter().chain(CONDITIONS);
        match (known.find(|it| *it == written), value) {
            (Some(name), Some(_)) if FLAGS.contains(&name) => {
                Err(piece.mistake(format!("{name} has no value: write :{name}")))
            }
            (Some(name), None) if FLAGS.contains(&name) => {
                Ok(Self { name, all: piece, value: piece.behind() })
            }
            (Some(name), Some(value)) => Ok(Self { name, all: piece, value }),
            (Some(name), None) => {
                Err(piece.mistake(format!("a value is missing: write {name}=...")))
            }
            (None, _) => Err(name.mistake(unknown(written, before))),
        }
    }

    fn is_action(&self) -> bool {
        ACTIONS.contains(&self.name)
    }

    /// The name, as it is written.
    fn shown(&self) -> String {
        let is_flag = FLAGS.contains(&self.name);
        if is_flag { self.name.to_owned() } else { format!("{}=", self.name) }
    }

    /// The action and its value, as [`fault::Rule`] has them.
    fn action(&self, about: &About, force: bool) -> Result<(u32, i64), Mistake> {
        let value = self.value;
        if matches!(about, About::Completions) != (self.name == "res") {
            return Err(self.all.mistake(match self.name {
                "error" => "a completion has a result: write res= instead of error=",
                "res" => "only complete has res=: a call fails with error=",
                "accept" => "only io_submit has accept=; complete has res=",
                _ => "a completion cannot be delayed: it has res=",
            }));
        }
        Ok(match self.name {
            "error" => {
                let number = value::error(value)?;
                if !force {
                    can_return(about, number).map_err(|why| value.mistake(why))?;
                }
                (action::ERROR, -i64::from(number))
            }
            "accept" => {
                if let Some(call) = about.call_that(|it| it != Syscall::Submit) {
                    let why = format!("only io_submit has accept=, {} has not", call.name());
                    return Err(self.all.mistake(why));
                }
                (action::ACCEPT, value::accept(value)?)
            }
            "delay_enter" => (action::DELAY_ENTER, value::delay(value)?),
            "delay_exit" => (action::DELAY_EXIT, value::delay(value)?),
            _ => (action::RESULT, value::result(value)?),
        })
    }

    /// Whether what it asks about is there to be asked about.
    fn suits(&self, about: &About) -> Result<(), Mistake> {
        let of_requests = matches!(self.name, "op" | "fd" | "path");
        let has_requests = |call| matches!(call, Syscall::Submit | Syscall::Cancel);
        let of_context =
            self.name == "ctx" || (self.name == "per" && self.value.text() == "context");
        if of_requests && let Some(call) = about.call_that(|call| !has_requests(call)) {
            return Err(self.all.mistake(format!(
                "{} has no requests: {} goes with io_submit, io_cancel and complete",
                call.name(),
                self.shown()
            )));
        }
        if of_context && about.call_that(|call| call == Syscall::Setup).is_some() {
            return Err(self
                .all
                .mistake("io_setup has no context yet: write a rule of its own for it"));
        }
        Ok(())
    }

    /// Puts a condition into the rule; `until` without `after`.
    fn condition(&self, it: &mut Rule) -> Result<(), Mistake> {
        let value = self.value;
        let rule = &mut it.rule;
        match self.name {
            "when" => (rule.first, rule.last, rule.step) = value::when(value)?,
            "prob" => rule.odds = value::odds(value)?,
            "max" => rule.max = value::max(value)?,
            "after" => rule.after = value::time(value)?,
            "for" => rule.until = value::time(value)?,
            "op" => rule.ops = value::operations(value)?,
            "fd" => rule.fd = value::descriptor(value)?,
            "ctx" => rule.ctx = value::context(value)?,
            "tid" => rule.tid = value::thread(value)?,
            "per" => {
                rule.per = match value.text() {
                    "process" => per::PROCESS,
                    "thread" => per::THREAD,
                    "context" => per::CONTEXT,
                    other => {
                        let near = did_you_mean(other, ["process", "thread", "context"]);
                        let why = format!("not one of process, thread and context{near}");
                        return Err(value.mistake(why));
                    }
                };
            }
            "site" => {
                rule.looked_up |= looked_up::PLACE;
                it.site = Some(value::site(value)?);
            }
            "caller" => {
                rule.looked_up |= looked_up::PLACE;
                it.caller = Some(Callers::parse(value.text()).map_err(|why| value.mistake(why))?);
            }
            "path" => {
                rule.looked_up |= looked_up::FILES;
                it.path = Some(Glob::parse(value.text()).map_err(|why| value.mistake(why))?);
            }
            "less" => {
                if rule.action != action::RESULT || rule.value < 0 {
                    return Err(self.all.mistake(
                        "less goes with a number of bytes: write for instance complete:res=512:less",
                    ));
                }
                rule.looked_up |= looked_up::RESULT;
            }
            // Actions and force are done with.
            _ => (),
        }
        Ok(())
    }
}

fn unknown(written: &str, before: Option<&Part<'_>>) -> String {
    let colon = match before {
        Some(part) if part.name == "path" => "; if it belongs to the path, write \\: for its colon",
        Some(part) if part.name == "caller" => {
            "; if it belongs to the function, write \\: for its colon"
        }
        _ => "",
    };
    if written.is_empty() && colon.is_empty() {
        return "something is missing here: an action or a condition, or leave out the colon"
            .to_owned();
    }
    if STRACE_ONLY.contains(&written) {
        return format!(
            "only strace has {written}=; the actions here are {}=",
            ACTIONS.join("=, ")
        );
    }
    let near = did_you_mean(written, ACTIONS.into_iter().chain(CONDITIONS));
    format!("neither an action nor a condition{near}{colon}")
}

/// Whether each of the calls can return this errno; if not, what it can.
fn can_return(about: &About, number: i32) -> Result<(), String> {
    let never = |call| !errno::can_return(call, number);
    let Some(call) = about.call_that(never) else { return Ok(()) };
    let names: Vec<_> = errno::of_call(call).iter().filter_map(|it| errno::name(*it)).collect();
    let number = errno::name(number).map_or_else(|| number.to_string(), str::to_owned);
    Err(format!(
        "{} never returns {number}, only {}; add :force if it shall all the same",
        call.name(),
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests;
