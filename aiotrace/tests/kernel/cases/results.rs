//! Results of reads and writes: D7, D10.

use std::process::Stdio;

use super::{CANNOT_RUN, Case, count, found, rows, run_text};
use crate::{
    harness::{Need, cannot_run},
    mounts::Mounted,
    support::{Trace, aiotrace, programs},
};

/// R1.
fn the_last_piece_of_a_write_with_o_direct_failed_and_is_named() {
    let Some(case) = Case::of(&["-q"], &["tail-write"]) else { return };
    assert!(case.said.contains("the file has 4194304"), "{}", case.said);
    let findings = case.trace.findings();
    let failed: Vec<_> = findings.iter().filter(|it| it.severity != "info").collect();
    assert_eq!(failed.len(), 1, "{findings:?}");
    let evidence = &failed[0].evidence;
    match failed[0].name.as_ref() {
        "direct-io-misaligned" => {
            let over = 717_028 % evidence["range_align"];
            assert_eq!(
                (evidence.get("length_over"), evidence.get("offset_over")),
                (Some(&over), None)
            );
        }
        // The program ended before aiotrace could look at its file.
        name => assert_eq!((name, evidence["res"]), ("failed-completion", -22)),
    }
    let request = failed[0].request.as_ref().unwrap();
    assert_eq!((request.offset, request.nbytes), (4_194_304, 717_028));
}

/// R2: each write gives EAGAIN, and that does not show that the file is not asynchronous.
fn nowait_that_always_gives_eagain_is_told_as_that() {
    for arguments in [&["nowait-write"][..], &["nowait-write", "eventfd"]] {
        let Some(case) = Case::of(&["-q"], arguments) else { continue };
        assert!(case.said.contains("200 came back with EAGAIN"), "{}", case.said);
        assert_eq!(
            count(&case.trace, "inline-completion"),
            0,
            "{:?}",
            case.trace.report().findings
        );
        let of_nowait = case.trace.report().findings.iter();
        let of_nowait: Vec<_> = of_nowait.filter(|it| it.message.contains("RWF_NOWAIT")).collect();
        assert_eq!((of_nowait.len(), of_nowait[0].count), (1, 200), "{arguments:?}: {of_nowait:?}");
        assert!(of_nowait[0].message.contains("EAGAIN"), "{of_nowait:?}");
    }
}

/// D7: the file is open with O_DIRECT on a disk, and all the same no request is asynchronous.
fn writes_that_extend_the_file_are_named_as_the_cause() {
    let Some(case) = Case::of(&["-q"], &["extending-write"]) else { return };
    let inline = rows(&case.trace, "inline-completion");
    // A disk may take longer than io_submit.
    for row in &inline {
        assert!(row.message.contains(": the writes extend the file"), "{row:?}");
        assert!(!row.message.contains("without O_DIRECT"), "{row:?}");
    }
    assert!(inline.len() <= 1, "{inline:?}");
}

/// R11: three writes are done, one is short, and 36 fail; 35 were submitted after the first failure.
fn a_full_disk_is_seen_in_completions_and_what_came_after_is_counted_from_the_last() {
    let all = [(&["enospc", "limit"][..], "EFBIG"), (&["enospc"], "ENOSPC")];
    for (arguments, errno) in all {
        let case = Case::of(&["-q"], arguments).unwrap();
        assert_full(&case.trace, errno, (36, 1));
        let text = run_text(&["-q"], arguments).unwrap();
        let row = text.lines().find(|it| it.contains("failed-completion") && it.contains("x 36"));
        let row = row.unwrap_or_else(|| panic!("{text}"));
        assert!(!row.contains("nothing was submitted after it"), "{row}");
        assert!(!text.contains("nothing was submitted after it ("), "{text}");
    }
}

/// R11 on a file system whose server reports the quota.
fn a_quota_that_is_used_up_is_seen_in_completions() {
    if let Some(case) = Case::of(&["-q"], &["enospc", "quota"]) {
        assert_full(&case.trace, "EDQUOT", (37, 0));
    }
}

fn assert_full(trace: &Trace, errno: &str, (of_failed, short): (u64, u64)) {
    let failed = rows(trace, "failed-completion");
    assert_eq!((failed.len(), failed[0].count), (1, of_failed), "{failed:?}");
    assert!(failed[0].message.contains(errno), "{failed:?}");
    assert_eq!(count(trace, "short-io"), short);
}

/// R14: the calls show what was asked for. (That the offset is ignored has a finding of its own.)
fn writes_of_a_file_with_o_append_are_told_as_they_were_asked_for() {
    let case = Case::of(&[], &["append"]).unwrap();
    let requests: Vec<_> = case.trace.submits().iter().flat_map(|it| &it.iocbs).collect();
    let offsets: Vec<_> = requests.iter().map(|it| it.as_ref().unwrap().offset).collect();
    assert_eq!(offsets, [Some(0); 4]);
    assert!(found(&case.trace).iter().all(|it| it.starts_with("info")), "{:?}", found(&case.trace));
}

/// E16: the file that has the number of the descriptor at the end is not the file whose requests failed.
fn a_descriptor_that_is_another_file_by_now_names_no_wrong_file() {
    let Some(case) = Case::of(&["-q"], &["reuse-fd"]) else { return };
    let failed = rows(&case.trace, "failed-completion");
    assert_eq!(failed.iter().map(|it| it.count).sum::<u64>(), 10, "{failed:?}");
    let text = run_text(&["-q"], &["reuse-fd"]).unwrap();
    // The path is looked up while another file has the number.
    for line in text.lines().filter(|it| it.contains("failed-completion")) {
        assert!(!line.contains("aio-reuse-fd") || line.contains("now /"), "{line}");
    }
    // Ten requests failed, and after each of them another one was submitted that did not fail.
    assert!(text.contains("19 io_submit after it, 1 after the last of these"), "{text}");
}

/// The trace has the results of the file, and its path there.
fn assert_told(mounted: &Mounted) {
    let output = aiotrace()
        .args(["run", "-q", "--format", "json", "--"])
        .arg(programs())
        .arg("tail-write")
        .env("TMPDIR", mounted.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if output.status.code() == Some(CANNOT_RUN) {
        return cannot_run(&String::from_utf8_lossy(&output.stderr));
    }
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let names = ["failed-completion", "direct-io-misaligned"];
    let is_it = |it: &&str| names.iter().any(|name| it.contains(name));
    let finding = text.lines().find(is_it).unwrap();
    let path = format!("{}/aio-tail-write-", mounted.path().display());
    for what in ["4194304", "717028", &path] {
        assert!(finding.contains(what), "{what}: {finding}");
    }
}

/// E43: results come from the file below, paths from the file system on top.
fn files_of_an_overlay_are_told_as_all_others() {
    let directory = tempfile::tempdir().unwrap();
    if let Some(mounted) = Mounted::overlay(directory.path()) {
        assert_told(&mounted);
    }
}

/// E43 on xfs.
fn files_of_xfs_are_told_as_all_others() {
    let directory = tempfile::tempdir().unwrap();
    if let Some(mounted) = Mounted::image("xfs", directory.path()) {
        assert_told(&mounted);
    }
}

tests![
    files_of_an_overlay_are_told_as_all_others if Need::Native("it runs mount(8), and needs a disk"),
    files_of_xfs_are_told_as_all_others if Need::Native("it runs mkfs.xfs and mount(8)"),
    the_last_piece_of_a_write_with_o_direct_failed_and_is_named if Need::SAME,
    nowait_that_always_gives_eagain_is_told_as_that if Need::LONG,
    writes_that_extend_the_file_are_named_as_the_cause if Need::SAME,
    a_full_disk_is_seen_in_completions_and_what_came_after_is_counted_from_the_last
        if Need::Native("it fills a disk"),
    a_quota_that_is_used_up_is_seen_in_completions,
    writes_of_a_file_with_o_append_are_told_as_they_were_asked_for if Need::SAME,
    a_descriptor_that_is_another_file_by_now_names_no_wrong_file if Need::SAME,
];
