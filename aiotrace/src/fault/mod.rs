//! Faults made on purpose: the rules as users write them, and by what they are delivered.

pub mod mechanism;

pub use mechanism::Mechanism;
