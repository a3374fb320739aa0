//! Signals that ask the program to stop: Ctrl-C, SIGTERM, SIGHUP and SIGUSR1.
//!
//! The first one stops a training after its step, with a checkpoint; it ends other commands at once. The second one ends
//! every command at once. Files that are not complete are removed, and nothing that was saved is lost.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use undertone_files::remove_own_temporaries;

use crate::shell::say;

const INTERRUPTED: u8 = 130;

/// The exit code of the first signal.
static EXIT_CODE: AtomicU8 = AtomicU8::new(INTERRUPTED);

/// The exit code of a program that a signal has stopped: as of a shell, and that of Ctrl-C for SIGUSR1, with which batch
/// systems announce the end.
pub(crate) fn exit_code() -> u8 {
    EXIT_CODE.load(Ordering::Relaxed)
}

/// Handles signals in a thread of its own. `trains` says whether the command can stop after a step; then the first
/// signal sets `stop`.
///
/// # Errors
/// The operating system refuses the handlers.
pub(crate) fn handle(trains: bool, stop: &'static AtomicBool) -> io::Result<()> {
    // `nohup` has it ignored, so that a run outlives its terminal.
    let hang_up = (!ignores(SIGHUP)).then_some(SIGHUP);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1].into_iter().chain(hang_up))?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let code = match signal {
                SIGTERM => 143,
                SIGHUP => 129,
                _ => INTERRUPTED,
            };
            if !trains || stop.swap(true, Ordering::Relaxed) {
                remove_own_temporaries();
                std::process::exit(code.into());
            }
            EXIT_CODE.store(code, Ordering::Relaxed);
            say("\nstopping after this step; press Ctrl-C again to stop at once");
        }
    });
    Ok(())
}

/// Whether this process was started with the signal ignored, as far as the system tells.
fn ignores(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
