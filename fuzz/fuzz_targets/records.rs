//! Records as the probes write them, or anything else: never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiotrace::fuzz::records(bytes);
});
