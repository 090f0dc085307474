//! Headers of rings as a target may write them: never a panic, and memory is bounded.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiotrace::fuzz::rings(bytes);
});
