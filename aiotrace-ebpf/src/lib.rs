//! What all BPF objects share: the settings, and the reads of the kernel's structures.
#![no_std]

pub mod arch;
pub mod kernel;
pub mod settings;
pub mod task;
pub mod user;

/// Reads one field of the settings. The read is volatile, because the loader changes the value
/// without the compiler knowing.
#[macro_export]
macro_rules! setting {
    ($($field:ident).+) => {
        // SAFETY: a plain read of an initialized static.
        unsafe { core::ptr::read_volatile(&raw const $crate::settings::SETTINGS.$($field).+) }
    };
}
