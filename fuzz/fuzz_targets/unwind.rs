//! Unwinds a stack with tables for unwinding, or with anything else: it must not panic, and must
//! end.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    aiotrace::fuzz::unwind(bytes);
});
