//! Decodes records as the probes write them, or anything else: it must not panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiotrace::fuzz::records(bytes);
});
