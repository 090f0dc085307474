//! What /proc says of a process, or anything else: never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiotrace::fuzz::proc(bytes);
});
