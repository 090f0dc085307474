//! What all BPF objects have in common: the settings, and reads of the kernel's structures.
#![no_std]

pub mod kernel;
pub mod settings;
pub mod task;

/// Reads one field of the settings. Volatile, because the loader changes the value behind the
/// compiler's back.
#[macro_export]
macro_rules! setting {
    ($($field:ident).+) => {
        // SAFETY: a plain read of an initialized static.
        unsafe { core::ptr::read_volatile(&raw const $crate::settings::SETTINGS.$($field).+) }
    };
}
