//! The end of a play: of its program, or of the trace.

use aiotrace_model::event::{Args, Body, Change, ExitStatus, Gone, How};

use super::{
    plan::End,
    play::{Player, SPACE, call},
};
use crate::told::process;

impl Player<'_> {
    /// The end of the program, or of the trace.
    pub fn finish(&mut self) {
        if self.hangs {
            self.wait(12);
        } else if self.end.is_none() {
            if self.plan.destroys {
                self.drain();
            }
            if !self.is_over() && self.plan.destroys {
                self.destroy();
            }
            if self.hangs {
                self.wait(12);
            } else if self.end.is_none() {
                match self.plan.end {
                    End::Stays => self.wait(1),
                    end => self.leave(end),
                }
            }
        }
        self.tell_loss();
        self.tick();
        self.hush();
        self.model.finish(self.now);
        self.is_late();
    }

    pub fn destroy(&mut self) {
        let entered = self.tick();
        self.look_at_ring(&[]);
        let (ctx, ring) = (self.handle(), self.ring());
        self.leaves();
        self.kernel.kill(self.ctx);
        let gone = self.gone(How::Destroy);
        self.truth.last = self.tick();
        self.record(vec![gone, call(entered, Args::Destroy { ctx }, 0, (Some(ring), None), None)]);
    }

    /// The context ends: whether something is left in it.
    pub fn leaves(&mut self) {
        let context = &self.kernel.contexts[self.ctx];
        let unreaped = context.order[self.reaped..].iter().copied();
        self.left = context.open().chain(unreaped).map(|it| self.began[it]).min();
    }

    pub fn gone(&self, how: How) -> Body {
        let in_flight = self.kernel.contexts[self.ctx].requests.len() - self.told;
        let in_flight = self.lost_since.is_none().then_some(in_flight as u64);
        Body::ContextGone(Gone { ctx: self.handle(), how, in_flight, at_most: false })
    }

    pub fn leave(&mut self, end: End) {
        self.tick();
        self.tell_loss();
        if self.kernel.contexts[self.ctx].is_alive {
            self.leaves();
            self.kernel.kill(self.ctx);
            let gone = self.gone(if end == End::Exec { How::Exec } else { How::Exit });
            self.tell(gone);
        }
        self.world.is_over = true;
        let exit = |status| process(Some(SPACE), Change::Exit { status });
        self.tell(match end {
            End::Exit(code) => exit(ExitStatus::Code(code.into())),
            End::Signal(number) => exit(ExitStatus::Signal(number.into())),
            End::Exec => process(Some(SPACE + 1), Change::Exec { path: b"other".to_vec() }),
            End::Stays => return,
        });
        self.end = Some(end);
    }
}
