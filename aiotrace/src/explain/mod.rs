//! What a name means, for somebody who does not know it: an errno of an AIO call, or a finding.

pub mod calls;
pub mod findings;
