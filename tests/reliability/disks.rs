//! Disks that are full, fail, or become read-only, at every place of a study.

use std::process::Command;

use undertone_testing::program::Workplace;

use super::{Outcome, STUDY, check_same, check_whole, has, tries, undisturbed};

/// System calls that write, and the error that they get.
const CALLS: [(&str, &str); 7] = [
    ("write", "ENOSPC"),
    ("fsync,fdatasync", "EIO"),
    ("rename,renameat,renameat2", "ENOSPC"),
    ("link,linkat", "EIO"),
    ("ftruncate", "EIO"),
    ("mkdir,mkdirat", "EROFS"),
    // As on a disk that has become read-only; reads fail, too, so that the program may not even start.
    ("openat", "EROFS"),
];

/// Runs a study in which every call of one kind fails from the `first` on.
fn fails_from(place: &Workplace, calls: &str, error: &str, first: usize) {
    let strace = format!(
        "exec strace -f --seccomp-bpf -qqq -o /dev/null -e trace={calls} -e inject={calls}:error={error}:when={first}+ \"$0\" \"$@\"; :"
    );
    let ran = place.run_under(&strace, STUDY);
    let code = ran.status.code();
    // A worker's message on stderr may be lost, too.
    let does_not_start = calls == "openat" && code == Some(127);
    assert!(matches!(code, Some(0..=2)) || does_not_start, "{calls} {first}: {:?}: {}", ran.status, ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{calls} {first}: {}", ran.stderr);
}

/// How often an undisturbed study makes calls of each kind.
fn calls_of_a_study() -> [usize; CALLS.len()] {
    let place = Workplace::new(12);
    let all: Vec<&str> = CALLS.iter().map(|(calls, _)| *calls).collect();
    let strace = format!("exec strace -f --seccomp-bpf -c -o counts -e trace={} \"$0\" \"$@\"; :", all.join(","));
    place.run_under(&strace, STUDY).succeeded();
    let table = place.text("counts");
    // The columns are: share of time, seconds, microseconds per call, calls, errors if any, and the name.
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|row| row.len() >= 5);
    let counts: Vec<(&str, usize)> = rows.filter_map(|row| Some((*row.last()?, row[3].parse().ok()?))).collect();
    let count = |calls: &str| {
        counts.iter().filter(|(name, _)| calls.split(',').any(|call| call == *name)).map(|(_, count)| count).sum()
    };
    CALLS.map(|(calls, _)| count(calls))
}

pub(crate) fn every_write_fails_from_some_point_on() -> Option<Outcome> {
    if !has("strace", "errors of the disk at every write") {
        return None;
    }
    let expected = undisturbed(STUDY);
    let (per_call, mut all) = (tries(2, 40), 0);
    for ((calls, error), count) in CALLS.into_iter().zip(calls_of_a_study()) {
        assert!(count >= 2, "{calls}: {count} calls");
        for step in 0..per_call {
            let first = 1 + (step * count + count / 2) / per_call;
            let place = Workplace::new(12);
            fails_from(&place, calls, error, first);
            check_whole(&place, &format!("{calls} fails with {error} from call {first} on"));
            place.run(STUDY).succeeded();
            check_same(&place, &expected, &format!("{calls} failed from call {first} on"));
            all += 1;
        }
    }
    let lost = "steps since the last save".to_owned();
    Some(Outcome {
        fault: "every open, write, flush, rename, link, cut or new folder fails from some point on",
        tries: all,
        lost,
    })
}

/// Runs shell commands as root, in a name space of their own if this process is no root; `None` if that is not allowed.
fn as_root(script: &str) -> Option<String> {
    let ran = Command::new("unshare").args(["-rm", "sh", "-ec", script]).output().ok()?;
    let text = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    if ran.status.success() { Some(text) } else { panic!("{text}") }
}

fn may_mount(skipped: &str) -> bool {
    let may = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status();
    let may = may.is_ok_and(|status| status.success());
    if !may {
        println!("skipped: {skipped}, because this machine does not allow to mount a tmpfs");
    }
    may
}

/// A script that runs the study on a tmpfs until it ends; after every failure, the disk grows by `step` KiB.
fn on_small_disk(place: &Workplace, step: usize) -> String {
    format!(
        "cd '{folder}'; mkdir -p disk; mount -t tmpfs -o size=64k tmpfs disk; mkdir disk/out; ln -s disk/out out; failed=0; size=64
        until '{program}' {STUDY} 2>err >/dev/null; do
            code=$?; [ $code -eq 2 ] || {{ echo \"exit code $code\"; cat err; exit 1; }}
            failed=$((failed + 1)); [ $failed -lt 400 ] || exit 1
            size=$((size + {step})); mount -o remount,size=${{size}}k disk
            '{program}' verify out 2>err >/dev/null || grep -q 'holds no file' err || {{ cat err; exit 1; }}
        done
        rm out; cp -r disk/out out; echo $failed",
        folder = place.path("").display(),
        program = std::env::var("CARGO_BIN_EXE_undertone").unwrap(),
    )
}

/// A disk that is full; after every failure it gets a little larger.
pub(crate) fn a_small_disk_grows() -> Option<Outcome> {
    if !may_mount("a small disk") {
        return None;
    }
    let expected = undisturbed(STUDY);
    let step = tries(96, 8);
    let place = Workplace::new(12);
    let told = as_root(&on_small_disk(&place, step))?;
    check_same(&place, &expected, "on a disk that was too small");
    let failures = told.trim().parse().unwrap_or_else(|_| panic!("{told}"));
    assert!(failures > 2, "the disk was too small {failures} times");
    Some(Outcome {
        fault: "a full disk (tmpfs) that grows by a few KiB after each failure",
        tries: failures,
        lost: "steps since the last save".to_owned(),
    })
}
