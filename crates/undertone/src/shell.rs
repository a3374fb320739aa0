//! Where a command writes, and how it is stopped.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::AtomicBool;

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

use crate::cli::Cli;

/// What all commands share.
pub(crate) struct Shell {
    /// Whether results are JSON.
    pub(crate) json: bool,
    /// Whether notes and progress are hidden.
    pub(crate) quiet: bool,
    /// All bars on the terminal; hidden where there is no terminal.
    pub(crate) bars: MultiProgress,
    /// Set when the user stops the program.
    pub(crate) stop: &'static AtomicBool,
}

impl Shell {
    pub(crate) fn new(cli: &Cli, stop: &'static AtomicBool) -> Self {
        let is_shown = std::io::stderr().is_terminal() && !cli.quiet;
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { json: cli.json, quiet: cli.quiet, bars: MultiProgress::with_draw_target(target), stop }
    }

    /// Prints one JSON document to stdout.
    pub(crate) fn print_json(&self, value: &impl Serialize) {
        let text = serde_json::to_string_pretty(value).expect("results are plain data");
        self.print(&format!("{text}\n"));
    }

    /// Prints text to stdout. Ends the program quietly if the reader has stopped reading (`| head`), and with an error if
    /// the text cannot be written.
    pub(crate) fn print(&self, text: &str) {
        let mut stdout = std::io::stdout();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => {
                say(format!("error: cannot write the results to standard output: {error}"));
                std::process::exit(1);
            }
        }
    }
}

/// Prints a message for people to stderr. A message that nobody can read does not end the program.
pub(crate) fn say(message: impl AsRef<str>) {
    let _ = std::io::stderr().write_all(format!("{}\n", message.as_ref()).as_bytes());
}
