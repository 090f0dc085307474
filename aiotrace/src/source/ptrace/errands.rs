//! Errands: what helpers do for the tracer.

use super::{executed_path, go_to_processor_of, memory, seize_returns};
use crate::{errand::errands, proc};

errands! {
    /// The errands that ask about tracees.
    ERRANDS = [
        /// [`memory::fetch`]
        Fetch(tid: u32, wanted: Vec<memory::Wanted>) -> Result<memory::Fetched, i32> = memory::fetch, urgent;
        /// [`memory::write`]
        Write(tid: u32, at: u64, bytes: Vec<u8>) -> Result<(), i32> = memory::write, urgent;
        /// As `Write`, but it puts back what was there: so it must be done in any case.
        Restore(tid: u32, at: u64, bytes: Vec<u8>) -> Result<(), i32> = memory::write, owed;
        /// [`executed_path`]
        ExecutedPath() -> Vec<u8> = executed_path;
        /// [`go_to_processor_of`]
        GoToProcessor() -> Option<usize> = go_to_processor_of, urgent;
        /// [`proc::share_space`]
        SharesSpace(other: u32) -> Option<bool> = proc::share_space;
        /// [`seize_returns`]
        SeizeReturns() -> () = seize_returns;
    ]
}
