//! Notes of the engine on stderr, one plain line each, above the progress bars.

use std::fmt;
use std::io::{self, Write};

use indicatif::MultiProgress;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::Cli;
use crate::shell::Shell;

/// Sends notes to stderr. `RUST_LOG` selects them, or else `-v` and `-q`.
pub(crate) fn start(cli: &Cli, shell: &Shell) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => "off",
        (_, true) => "debug",
        _ => "info",
    };
    let chosen = std::env::var("RUST_LOG").ok().filter(|chosen| !chosen.is_empty());
    let filter = match chosen {
        Some(chosen) => EnvFilter::new(chosen),
        None => EnvFilter::new(format!("off,undertone={level},undertone_study={level}")),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(AboveBars(shell.bars.clone()))
        .event_format(MessageOnly)
        .init();
}

/// Formats a note as its message alone.
struct MessageOnly;

impl<S, N> FormatEvent<S, N> for MessageOnly
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Writes to stderr while the bars are hidden. A note that nobody can read does not end the program.
#[derive(Clone)]
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.suspend(|| io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for AboveBars {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
