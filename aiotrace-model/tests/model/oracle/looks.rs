//! How the model hears what happens, and how its questions are answered: late, perhaps. In a real trace events wait in buffers
//! while a look is made, so that it may find what the model has not heard of.

use std::collections::VecDeque;

use aiotrace_model::{
    event::{Body, Event, Looked},
    model::Question,
};

use super::play::{PID, Player};

/// What is on its way.
#[derive(Debug, Default)]
pub struct Ears {
    /// What has happened, and the model has not heard of.
    waiting: VecDeque<Event>,
    /// How much has happened.
    count: u64,
    /// Questions, with the count at which the look is made.
    questions: VecDeque<(u64, Question)>,
    /// When the last thing happened that the model has heard of.
    heard: u64,
    /// A look that was made: the count at which the model gets the answer, who it is about, and what was found.
    looking: Option<(u64, u64, Looked)>,
}

impl Player<'_> {
    /// The program does something that a source reports.
    pub fn tell(&mut self, body: Body) {
        self.tell_of(PID, PID, body);
    }

    pub fn tell_of(&mut self, pid: u32, tid: u32, body: Body) {
        self.ears.waiting.push_back(Event { time: self.now, pid, tid, body });
        self.ears.count += 1;
        self.hear(self.plan.looks.lag.into());
    }

    /// The model hears everything but the last events, so many of them.
    fn hear(&mut self, but: usize) {
        loop {
            self.look();
            if self.ears.looking.is_some() || self.ears.waiting.len() <= but {
                return;
            }
            if let Some(event) = self.ears.waiting.pop_front() {
                self.ears.heard = event.time;
                self.model.handle_event(&event);
                self.listen();
            }
        }
    }

    /// The model hears everything, and has an answer to all its questions.
    pub fn hush(&mut self) {
        loop {
            self.ears.count += 1000;
            self.hear(0);
            if self.ears.waiting.is_empty() && self.ears.questions.is_empty() {
                return;
            }
        }
    }

    /// It is so late, and the model has heard everything.
    pub fn is_late(&mut self) {
        self.ears.heard = self.now;
        self.listen();
    }

    /// Takes what the model says.
    fn listen(&mut self) {
        let new = std::iter::from_fn(|| self.model.next_verdict());
        self.verdicts.extend(new.map(|it| (self.ears.heard, it)));
        self.findings.extend(std::iter::from_fn(|| self.model.next_finding()));
        while let Some(question) = self.model.next_question() {
            let due = self.ears.count + u64::from(self.plan.looks.after);
            self.ears.questions.push_back((due, question));
        }
    }

    /// Makes the looks that are due, and tells what was found.
    fn look(&mut self) {
        loop {
            if let Some((due, began, looked)) = self.ears.looking.take() {
                if due > self.ears.count {
                    self.ears.looking = Some((due, began, looked));
                    return;
                }
                // What is found of a file is told with the time when the look was over.
                let (time, body) = match looked {
                    Looked::File { fd, file, .. } => {
                        (began, Looked::File { fd, file, until: self.now })
                    }
                    other => (self.now, other),
                };
                let body = Body::Looked(body);
                self.model.handle_event(&Event { time, pid: PID, tid: PID, body });
                self.listen();
            }
            let is_due = |it: &(u64, Question)| it.0 <= self.ears.count;
            if !self.ears.questions.front().is_some_and(is_due) {
                return;
            }
            let Some((_, question)) = self.ears.questions.pop_front() else { return };
            let looked = match question {
                Question::Ways { pid: PID, fd } if self.plan.looks.come => {
                    Looked::Ways { fd, ways: self.world.look_at_ways(fd) }
                }
                Question::File { pid: PID, fd } if self.plan.looks.come => {
                    Looked::File { fd, file: self.world.look_at_file(fd, &self.truth), until: 0 }
                }
                Question::Path { pid: PID, fd } if self.plan.looks.come => {
                    let path = self.world.look_at_file(fd, &self.truth).and_then(|it| it.id);
                    Looked::Path { fd, path: path.map(|it| format!("/{}", it.1).into_bytes()) }
                }
                // Only what decides whether a request is lost gets an answer.
                _ => continue,
            };
            let due = self.ears.count + u64::from(self.plan.looks.lasts);
            self.ears.looking = Some((due, self.now, looked));
        }
    }
}
