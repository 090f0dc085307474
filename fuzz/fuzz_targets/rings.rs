//! Reads headers of rings as a target may write them: it must not panic, and its memory is bounded.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiotrace::fuzz::rings(bytes);
});
