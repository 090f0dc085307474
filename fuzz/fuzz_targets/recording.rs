//! Reads a recording, or anything else: it must not panic, and its memory is bounded.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiotrace::fuzz::recording(bytes);
});
