//! One trace, from what is asked for ([`Settings`], [`Plan`]) to the last line. All code that wants
//! a trace uses this module, the command line included.
//!
//! ```text
//!  Settings, Plan -> Session -> Source (begin) -> events -> Conclusions (the model) -> Shown (an output), Recorder
//!                                    recording -> events -^  (replay)
//! ```

mod answers;
mod begin;
mod cgroup;
mod conclusions;
mod cost;
mod faults;
mod files;
mod items;
mod launch;
mod newcomers;
mod patience;
pub(crate) mod recorder;
pub mod replay;
mod session;
mod settings;
mod shown;
pub mod tables;
mod unit;
mod view;

pub use aiotrace_model::trace::*;

pub use self::{
    cgroup::Cgroup,
    cost::processor_time,
    items::{Items, Next},
    launch::{Child, ExecError, find_program},
    recorder::Known as Paths,
    session::{Outcome, Plan, Scope, Session},
    settings::{Injected, Judged, Junit, Settings, SourceKind},
    unit::{find as find_unit, units, whole as whole_unit},
    view::{Color, Opened, View},
};
