//! The errands for stacks.

use super::{Layout, Region, debug, hand_over, load, regions};
use crate::errand::{FROM_DISK, USUAL, errands};

errands! {
    /// The errands about code and its tables.
    ERRANDS = [
        /// [`regions`]
        Regions() -> Option<Vec<Region>> = regions;
        /// [`load`]
        Load(region: Region) -> Option<Layout> = load, patience(FROM_DISK, USUAL);
        /// [`debug::lacking`]
        Lacking(path: Vec<u8>) -> Option<Vec<u8>> = debug::lacking, patience(FROM_DISK, USUAL);
        /// [`hand_over`]
        HandOver(module: u64, path: Vec<u8>) -> bool = hand_over, patience(FROM_DISK, USUAL);
    ]
}
