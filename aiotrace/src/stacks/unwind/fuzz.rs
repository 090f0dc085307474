//! The work of the fuzz target for unwinding.

use std::{fs::File, sync::Arc};

use aiotrace_common::arch::Place;
use framehop::Unwinder as _;

use super::{Copied, Loaded, Modules, PAGE, Process, Region};
use crate::stacks::maps::{Mapped, Part};

/// Unwinds a stack with tables for unwinding. The bytes are: three registers, the sizes of the two
/// tables (two bytes each), the tables, and the stack. Returns how many functions are in progress.
pub fn unwind(bytes: &[u8]) -> u64 {
    let Some((head, rest)) = bytes.split_at_checked(28) else { return 0 };
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
    let size = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let (eh_frame, rest) = rest.split_at(size(24).min(rest.len()));
    let (eh_frame_hdr, stack) = rest.split_at(size(26).min(rest.len()));
    let Ok(file) = File::open("/dev/null") else { return 0 };
    // 1 MiB of code at 4 MiB.
    let (start, end) = (0x40_0000, 0x50_0000);
    let (identity, path) = ((b"fe:01".to_vec(), 1), b"/x".to_vec());
    let mapped = Arc::new(Mapped { identity, path, mounts: None });
    let region = Region { start, end, file: Some(Part { file: mapped, offset: 0 }) };
    let loaded = Arc::new(Loaded::with_tables(file, eh_frame, eh_frame_hdr));
    let mut process = Process { looked: 1, ..Process::default() };
    if let Some(module) = loaded.placed(&region) {
        process.unwinder.add_module(module);
    }
    process.regions = vec![region];
    process.loaded = vec![Some(Some(loaded))];
    let sp = 0x7000_0000_0000 + number(8) % PAGE as u64;
    let mut pages = stack.to_vec();
    pages.resize(stack.len().next_multiple_of(PAGE).clamp(PAGE, 16 * PAGE), 0);
    let copied = Copied {
        time: 1,
        space: 1,
        place: Place {
            ip: start + number(0) % (end - start),
            sp,
            bp: number(16),
            ..Place::default()
        },
        pages: &pages,
        read: u64::MAX as _,
        known: 0,
    };
    let found = process.unwind(1, &copied, &mut Modules::default(), &mut Vec::new());
    found.frames.len() as u64
}
