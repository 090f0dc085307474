//! Tables for unwinding and a stack, or anything else: never a panic, and an end.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiotrace::fuzz::unwind(bytes);
});
