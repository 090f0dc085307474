//! The errands for sweeps.

use crate::{errand::errands, proc};

errands! {
    /// The errands about what a run leaves behind.
    ERRANDS = [
        /// [`proc::environment`]
        Environment() -> Option<Vec<u8>> = proc::environment;
    ]
}
