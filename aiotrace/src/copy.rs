//! memcpy and memmove for the static program, in the place of musl's, which are `rep movsq` for any size on x86-64
//! ([memcpy.s]): that takes tens of nanoseconds to begin, and took half of the time for each event
//! (docs/reference/performance.md). The crates that have others are for machines without an operating system, and are
//! `rep movsb`.
//!
//! Up to 128 bytes, all is loaded before anything is stored. The code is assembler, because a compiler makes calls of
//! memcpy of loops that copy.
//!
//! [memcpy.s]: https://git.musl-libc.org/cgit/musl/tree/src/string/x86_64/memcpy.s?h=v1.2.5

use std::{arch::naked_asm, ffi::c_void};

/// Copies `count` bytes, and returns `to`. Nobody minds if they overlap: it is memmove(3).
///
/// # Safety
/// As for memcpy(3).
#[unsafe(naked)]
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
pub unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, count: usize) -> *mut c_void {
    naked_asm!("jmp {}", sym memmove)
}

/// Copies `count` bytes, which may overlap, and returns `to`.
///
/// # Safety
/// As for memmove(3).
#[unsafe(naked)]
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
pub unsafe extern "C" fn memmove(
    to: *mut c_void,
    from: *const c_void,
    count: usize,
) -> *mut c_void {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jae 5f",
        "cmp edx, 8",
        "jae 4f",
        "cmp edx, 4",
        "jae 3f",
        "test edx, edx",
        "je 2f",
        // 1 to 3 bytes: the first, the one in the middle, and the last.
        "mov r9d, edx",
        "shr r9d",
        "movzx ecx, byte ptr [rsi]",
        "movzx r10d, byte ptr [rsi + r9]",
        "movzx r8d, byte ptr [rsi + rdx - 1]",
        "mov byte ptr [rdi], cl",
        "mov byte ptr [rdi + r9], r10b",
        "mov byte ptr [rdi + rdx - 1], r8b",
        "2:",
        "ret",
        // 4 to 7
        "3:",
        "mov ecx, dword ptr [rsi]",
        "mov r8d, dword ptr [rsi + rdx - 4]",
        "mov dword ptr [rdi], ecx",
        "mov dword ptr [rdi + rdx - 4], r8d",
        "ret",
        // 8 to 15
        "4:",
        "mov rcx, qword ptr [rsi]",
        "mov r8, qword ptr [rsi + rdx - 8]",
        "mov qword ptr [rdi], rcx",
        "mov qword ptr [rdi + rdx - 8], r8",
        "ret",
        // 16 to 32
        "5:",
        "movdqu xmm0, xmmword ptr [rsi]",
        "movdqu xmm7, xmmword ptr [rsi + rdx - 16]",
        "cmp rdx, 32",
        "ja 6f",
        "movdqu xmmword ptr [rdi], xmm0",
        "movdqu xmmword ptr [rdi + rdx - 16], xmm7",
        "ret",
        // 33 to 64
        "6:",
        "movdqu xmm1, xmmword ptr [rsi + 16]",
        "movdqu xmm6, xmmword ptr [rsi + rdx - 32]",
        "cmp rdx, 64",
        "ja 7f",
        "movdqu xmmword ptr [rdi], xmm0",
        "movdqu xmmword ptr [rdi + 16], xmm1",
        "movdqu xmmword ptr [rdi + rdx - 32], xmm6",
        "movdqu xmmword ptr [rdi + rdx - 16], xmm7",
        "ret",
        // 65 to 128
        "7:",
        "movdqu xmm2, xmmword ptr [rsi + 32]",
        "movdqu xmm3, xmmword ptr [rsi + 48]",
        "movdqu xmm4, xmmword ptr [rsi + rdx - 64]",
        "movdqu xmm5, xmmword ptr [rsi + rdx - 48]",
        "cmp rdx, 128",
        "ja 8f",
        "movdqu xmmword ptr [rdi], xmm0",
        "movdqu xmmword ptr [rdi + 16], xmm1",
        "movdqu xmmword ptr [rdi + 32], xmm2",
        "movdqu xmmword ptr [rdi + 48], xmm3",
        "movdqu xmmword ptr [rdi + rdx - 64], xmm4",
        "movdqu xmmword ptr [rdi + rdx - 48], xmm5",
        "movdqu xmmword ptr [rdi + rdx - 32], xmm6",
        "movdqu xmmword ptr [rdi + rdx - 16], xmm7",
        "ret",
        // More: if `to` lies in what is copied, from the end to the beginning.
        "8:",
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jb 32f",
        "cmp rdx, 4096",
        "jae 24f",
        // From the beginning, 64 bytes at a time; the last 64 are in xmm4 to xmm7.
        "lea r8, [rdi + rdx - 64]",
        "9:",
        "movdqu xmm0, xmmword ptr [rsi]",
        "movdqu xmm1, xmmword ptr [rsi + 16]",
        "movdqu xmm2, xmmword ptr [rsi + 32]",
        "movdqu xmm3, xmmword ptr [rsi + 48]",
        "add rsi, 64",
        "movdqu xmmword ptr [rdi], xmm0",
        "movdqu xmmword ptr [rdi + 16], xmm1",
        "movdqu xmmword ptr [rdi + 32], xmm2",
        "movdqu xmmword ptr [rdi + 48], xmm3",
        "add rdi, 64",
        "cmp rdi, r8",
        "jb 9b",
        "movdqu xmmword ptr [r8], xmm4",
        "movdqu xmmword ptr [r8 + 16], xmm5",
        "movdqu xmmword ptr [r8 + 32], xmm6",
        "movdqu xmmword ptr [r8 + 48], xmm7",
        "ret",
        "24:",
        "mov rcx, rdx",
        "rep movsb",
        "ret",
        // From the end; the first 64 are in xmm0 to xmm3.
        "32:",
        "add rsi, rdx",
        "lea rdi, [rax + rdx]",
        "lea r8, [rax + 64]",
        "33:",
        "movdqu xmm4, xmmword ptr [rsi - 16]",
        "movdqu xmm5, xmmword ptr [rsi - 32]",
        "movdqu xmm6, xmmword ptr [rsi - 48]",
        "movdqu xmm7, xmmword ptr [rsi - 64]",
        "sub rsi, 64",
        "movdqu xmmword ptr [rdi - 16], xmm4",
        "movdqu xmmword ptr [rdi - 32], xmm5",
        "movdqu xmmword ptr [rdi - 48], xmm6",
        "movdqu xmmword ptr [rdi - 64], xmm7",
        "sub rdi, 64",
        "cmp rdi, r8",
        "ja 33b",
        "movdqu xmmword ptr [rax], xmm0",
        "movdqu xmmword ptr [rax + 16], xmm1",
        "movdqu xmmword ptr [rax + 32], xmm2",
        "movdqu xmmword ptr [rax + 48], xmm3",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_copied_whether_or_not_it_overlaps() {
        let large = [500, 511, 512, 1000, 4095, 4096, 4097, 9000];
        for count in (0..300).chain(large) {
            for (from, to) in [
                (0, 10_000),
                (10_001, 3),
                (5, 5),
                (0, 1),
                (1, 0),
                (7, 23),
                (40, 8),
                (64, 0),
                (0, 64),
                (3, 130),
                (130, 3),
            ] {
                let before: Vec<u8> = (0..20_000u32).map(|it| (it * 7 + it / 251) as u8).collect();
                let mut wanted = before.clone();
                wanted[to..to + count].copy_from_slice(&before[from..from + count]);
                for copy in [memmove, memcpy] {
                    let mut bytes = before.clone();
                    let start = bytes.as_mut_ptr();
                    // SAFETY: both ranges are in the buffer.
                    let end = unsafe { copy(start.add(to).cast(), start.add(from).cast(), count) };
                    // SAFETY: so is this place.
                    assert_eq!(end, unsafe { start.add(to) }.cast());
                    assert!(bytes == wanted, "{count} bytes from {from} to {to}");
                }
            }
        }
    }
}
