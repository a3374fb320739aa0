//! The command line: parse, call the library, show.
//!
//! Results go to stdout, messages for people to stderr. Exit codes: 0 success, 1 a defect of ours or a diverged run,
//! 2 a wrong input, 130, 143 or 129 stopped by a signal.

#![warn(clippy::unwrap_used)]

mod cli;
mod commands;
mod notes;
mod progress;
mod shell;
mod signals;

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use undertone_files::InputError;
use undertone_study::{Problems, StudyError};

use crate::cli::{Cli, Command, Data};
use crate::shell::{Shell, say};

/// Set when a signal asks the program to stop: training saves and stops.
static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    undertone_model::keep_freed_memory();
    let cli = Cli::parse();
    let trains = match &cli.command {
        Command::Train(_) => true,
        Command::Ablate(args) => !args.plan,
        _ => false,
    };
    if let Err(error) = signals::handle(trains, &STOP) {
        say(format!("warning: Ctrl-C will not save a checkpoint: {error}"));
    }
    let shell = Shell::new(&cli, &STOP);
    notes::start(&cli, &shell);
    match run(&cli, &shell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => explain(&error),
    }
}

fn run(cli: &Cli, shell: &Shell) -> anyhow::Result<()> {
    match &cli.command {
        Command::Models => {
            commands::models::run(shell);
            Ok(())
        }
        Command::Import(args) => commands::import::run(args, shell),
        Command::Data(Data::Check(args)) => commands::data::check(args, shell),
        Command::Data(Data::Stats(args)) => commands::data::stats(args, shell),
        Command::Data(Data::Fetch(args)) => commands::dataset::fetch(args, shell),
        Command::Data(Data::Verify(args)) => commands::dataset::verify(args, shell),
        Command::Data(Data::Schema) => {
            shell.print(undertone_data::SCHEMA);
            Ok(())
        }
        Command::Data(Data::Convert(args)) => commands::data::convert(args, shell),
        Command::Data(Data::Redact(args)) => commands::data::redact(args, shell),
        Command::Data(Data::Synthesize(args)) => commands::data::synthesize(args, shell),
        Command::Inspect(args) => commands::inspect::run(args, shell),
        Command::Train(args) => commands::train::run(args, shell),
        Command::Evaluate(args) => commands::evaluate::run(args, shell),
        Command::Ablate(args) => commands::ablate::run(args, shell),
        Command::Predict(args) => commands::predict::run(args, shell),
        Command::Serve(args) => commands::serve::run(args, shell),
        Command::Export(args) => commands::export::run(args, shell),
        Command::Runs(args) => commands::runs::run(args, shell),
        Command::Verify(args) => commands::verify::run(args, shell),
        Command::Replay(args) => commands::replay::run(args, shell),
    }
}

/// Prints an error as `error: …`, a blank line, `hint: …`, and chooses the exit code.
fn explain(error: &anyhow::Error) -> ExitCode {
    if let Some(error) = error.downcast_ref::<InputError>() {
        return show(error);
    }
    if let Some(Problems(problems)) = error.downcast_ref::<Problems>() {
        return show_all(problems);
    }
    match error.downcast_ref::<StudyError>() {
        Some(StudyError::Input(input)) => show(input),
        Some(StudyError::Problems(Problems(problems))) => show_all(problems),
        Some(different @ StudyError::NotComparable(_)) => {
            say(format!("error: {different}"));
            ExitCode::from(2)
        }
        Some(interrupted @ StudyError::Interrupted(_)) => {
            say(format!("{interrupted}\n\nhint: run the same command again to resume (`train` needs `--resume`)"));
            ExitCode::from(signals::exit_code())
        }
        Some(diverged @ StudyError::Diverged(_)) => {
            say(format!(
                "error: {diverged}\n\nhint: lower `training.learning_rate`, or look at these items with `undertone inspect`"
            ));
            ExitCode::FAILURE
        }
        Some(StudyError::Scores(_)) | None => {
            say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn show(error: &InputError) -> ExitCode {
    say(format!("error: {error}"));
    if let Some(hint) = &error.hint {
        say(format!("\nhint: {hint}"));
    }
    ExitCode::from(2)
}

fn show_all(problems: &[InputError]) -> ExitCode {
    for (index, problem) in problems.iter().enumerate() {
        if index > 0 {
            say("");
        }
        show(problem);
    }
    ExitCode::from(2)
}
