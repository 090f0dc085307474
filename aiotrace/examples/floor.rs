//! The loader of the probes that cost least (aiotrace-ebpf/src/floor.rs): `floor OBJECT empty|ring PID`. For
//! `cargo xtask bench`; no part of aiotrace.
//!
//! It says `ready` on stderr when they are attached, reads records until the process ends, and says how many.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, RingBuf},
    programs::BtfTracePoint,
};

/// As aiotrace's reader, which looks every 5 ms.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("floor OBJECT empty|ring PID");
    let (object, kind, pid) = (next()?, next()?, next()?.parse::<u32>()?);
    let mut ebpf =
        EbpfLoader::new().override_global("TARGET", &pid, true).load(&fs::read(object)?)?;
    for tracepoint in ["sys_enter", "sys_exit"] {
        attach(&mut ebpf, &kind, tracepoint)?;
    }
    let mut records = RingBuf::try_from(ebpf.take_map("RECORDS").context("RECORDS")?)?;
    eprintln!("ready");
    let process = format!("/proc/{pid}");
    let (mut count, mut sum) = (0u64, 0u64);
    let mut is_alive = true;
    while is_alive {
        is_alive = Path::new(&process).exists();
        while let Some(record) = records.next() {
            count += 1;
            // All of it is looked at, and nothing is done with it.
            sum = record.iter().fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        }
        thread::sleep(LOOK_AGAIN);
    }
    let lost: Array<_, u64> = Array::try_from(ebpf.map("LOST").context("LOST")?)?;
    eprintln!("{count} records, {} lost ({sum})", lost.get(&0, 0)?);
    Ok(())
}

fn attach(ebpf: &mut Ebpf, kind: &str, tracepoint: &str) -> Result<()> {
    let name = format!("{kind}_{}", tracepoint.trim_start_matches("sys_"));
    let program: &mut BtfTracePoint =
        ebpf.program_mut(&name).with_context(|| name.clone())?.try_into()?;
    program.load(tracepoint, &Btf::from_sys_fs()?)?;
    program.attach()?;
    Ok(())
}
