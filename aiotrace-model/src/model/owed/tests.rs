use aiotrace_common::synchronous::Call;

use super::*;
use crate::opcode::Opcode;

fn owed(opcode: Opcode, offset: i64, nbytes: u64) -> Owed {
    let iocb = crate::event::Iocb {
        address: Some(crate::event::Address(1)),
        value: Some(aiotrace_common::abi::Iocb {
            opcode: opcode.0,
            fildes: 3,
            offset,
            nbytes,
            ..Default::default()
        }),
        read_late: false,
        vectors: None,
    };
    Owed::new(Request::new(&iocb, (0, 0), (0, 0)).unwrap())
}

fn call(call: Call, fd: u32, offset: Option<i64>, count: u64, ret: i64) -> Synchronous {
    Synchronous { call, entered: None, fd, offset, memory: None, count, ret }
}

#[test]
fn the_same_range_is_done_at_once_or_in_pieces_and_not_by_another_kind() {
    let mut write = owed(PWRITE, 4096, 1024);
    assert_eq!(write.done_by(&call(Call::Pread, 3, Some(4096), 1024, 1024)), Done::Not);
    assert_eq!(write.done_by(&call(Call::Pwrite, 3, Some(0), 4096, 4096)), Done::Not);
    assert_eq!(write.done_by(&call(Call::Pwrite, 3, Some(4096), 1024, -5)), Done::Not);
    assert_eq!(write.done_by(&call(Call::Pwrite, 3, Some(4608), 512, 512)), Done::Touched);
    assert_eq!(write.done_by(&call(Call::Pwritev, 3, Some(4000), 2, 608)), Done::All);
    let mut short = owed(PWRITE, 0, 1024);
    assert_eq!(short.done_by(&call(Call::Pwrite, 3, Some(0), 1024, 1000)), Done::Touched);
}

#[test]
fn a_read_at_the_end_of_the_file_is_done() {
    assert_eq!(owed(PREAD, 0, 1024).done_by(&call(Call::Pread, 3, Some(0), 1024, 10)), Done::All);
}

#[test]
fn what_cannot_be_told_is_in_doubt() {
    let doubt = |mut owed: Owed, call: Synchronous| {
        assert_eq!(owed.done_by(&call), Done::Touched);
        owed.why()
    };
    let write = || owed(PWRITE, 4096, 1024);
    let place = call(Call::Write, 3, None, 1024, 1024);
    assert_eq!(doubt(write(), place), Some(Doubt::UnknownPlace));
    let other = call(Call::Pwrite, 4, Some(4096), 1024, 1024);
    assert_eq!(doubt(write(), other), Some(Doubt::OtherDescriptor));
    let length = call(Call::Pwrite, 3, Some(4096), 1024, 1024);
    assert_eq!(doubt(owed(PWRITEV, 4096, 2), length), Some(Doubt::UnknownLength));
}

#[test]
fn a_sync_is_done_by_one_that_does_as_much() {
    let sync = |opcode, by| owed(opcode, 0, 0).done_by(&call(by, 3, None, 0, 0));
    assert_eq!(sync(FSYNC, Call::Fsync), Done::All);
    assert_eq!(sync(FSYNC, Call::Fdatasync), Done::Touched, "it leaves something out");
    assert_eq!(sync(FDSYNC, Call::Fsync), Done::All);
    assert_eq!(sync(FDSYNC, Call::Fdatasync), Done::All);
}
