//! What a name means, for somebody who does not know it: an errno of an AIO call or of a completion, a finding, a
//! verdict.

pub mod calls;
pub mod findings;
pub mod results;
pub mod verdicts;
