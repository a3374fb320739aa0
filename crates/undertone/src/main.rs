//! The command line: parse, resolve, run, explain errors.
//!
//! Results go to stdout, everything for people to stderr. Exit codes: 0 done, 2 something from outside
//! is wrong, 130 interrupted, 1 a defect of ours or a run that diverged.

#![warn(clippy::unwrap_used)]

mod amendments;
mod base;
mod cli;
mod commands;
mod digest;
mod experiment;
mod judge;
mod keys;
mod predicted;
mod progress;
mod report;
mod run_arms;
mod study;
mod writing;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use undertone_data::InputError;
use undertone_eval::NotComparable;
use undertone_train::TrainError;

use crate::cli::{Cli, Command, Data};
use crate::experiment::Problems;

/// Set by the first Ctrl-C; whoever works saves and stops. The second ends the program at once.
static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    undertone_model::keep_freed_memory();
    let cli = Cli::parse();
    let trains = matches!(cli.command, Command::Train(_) | Command::Ablate(_));
    let handler = ctrlc::set_handler(move || {
        if !trains || STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step; press Ctrl-C again to stop at once");
    });
    if let Err(error) = handler {
        eprintln!("warning: Ctrl-C will not save a checkpoint: {error}");
    }
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => explain(&error),
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Import(args) => commands::import::run(args, cli.json),
        Command::Data(Data::Check(args)) => commands::data::check(args, cli.json),
        Command::Data(Data::Stats(args)) => commands::data::stats(args, cli.json),
        Command::Data(Data::Synthesize(args)) => commands::data::synthesize(args, cli.json),
        Command::Inspect(args) => commands::inspect::run(args, cli.json),
        Command::Train(args) => commands::train::run(args, cli.json),
        Command::Evaluate(args) => commands::evaluate::run(args, cli.json),
        Command::Ablate(args) => commands::ablate::run(args, cli.json),
        Command::Predict(args) => commands::predict::run(args, cli.json),
        Command::Export(args) => commands::export::run(args, cli.json),
    }
}

/// Prints an error as `error: …`, a blank line, `hint: …`, and chooses the exit code.
fn explain(error: &anyhow::Error) -> ExitCode {
    let show = |error: &InputError| {
        eprintln!("error: {error}");
        if let Some(hint) = &error.hint {
            eprintln!("\nhint: {hint}");
        }
    };
    if let Some(input) = error.downcast_ref::<InputError>() {
        show(input);
        return ExitCode::from(2);
    }
    if let Some(Problems(problems)) = error.downcast_ref::<Problems>() {
        for (index, problem) in problems.iter().enumerate() {
            if index > 0 {
                eprintln!();
            }
            show(problem);
        }
        return ExitCode::from(2);
    }
    if let Some(different) = error.downcast_ref::<NotComparable>() {
        eprintln!("error: these results cannot be compared: {different}");
        return ExitCode::from(2);
    }
    match error.downcast_ref::<TrainError>() {
        Some(TrainError::Input(input)) => {
            show(input);
            ExitCode::from(2)
        }
        Some(interrupted @ TrainError::Interrupted(_)) => {
            eprintln!("{interrupted}\n\nhint: the same command goes on from there (`train` needs `--resume`)");
            ExitCode::from(130)
        }
        Some(diverged @ TrainError::NotFinite { .. }) => {
            eprintln!(
                "error: training diverged: {diverged}\n\nhint: lower `training.learning_rate`, or look at these items with `undertone inspect`"
            );
            ExitCode::FAILURE
        }
        None => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
