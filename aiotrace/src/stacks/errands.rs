//! The errands for stacks.

use super::{
    Layout,
    children::{HandedOver, hand_over},
    debug, load, maps,
};
use crate::errand::{FROM_DISK, USUAL, errands};

errands! {
    /// The errands about code and its tables.
    ERRANDS = [
        /// [`maps::of`]
        Regions() -> Option<maps::Regions> = maps::of;
        /// [`load`]
        Load(place: (u64, u64), file: maps::Mapped) -> Option<Layout> = load, patience(FROM_DISK, USUAL);
        /// [`debug::lacking`]
        Lacking(path: Vec<u8>) -> Option<Vec<u8>> = debug::lacking, patience(FROM_DISK, USUAL);
        /// [`hand_over`]
        HandOver(module: u64, path: Vec<u8>) -> HandedOver = hand_over, patience(FROM_DISK, USUAL);
    ]
}
