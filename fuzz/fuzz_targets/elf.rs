//! A file with code, or anything else: never a panic, and memory is bounded.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiotrace::fuzz::elf(bytes);
});
