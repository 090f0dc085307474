//! Reads what /proc says of a process, or anything else: it must not panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiotrace::fuzz::proc(bytes);
});
