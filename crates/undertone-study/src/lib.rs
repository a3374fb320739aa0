//! The study engine: from an experiment file to trained arms, comparisons and a report.
//!
//! [`Experiment`] reads the file strictly. [`Study`] loads, splits and lays out its conversations. [`Base`] loads the
//! untrained model. [`run()`] trains and scores every arm, compares them and writes all results. [`plan()`] estimates
//! the cost beforehand, and [`Evaluation`] scores a single checkpoint. Progress goes to an [`Observer`], notes go to
//! `tracing`. A flag stops a study, and the same call resumes it.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::atomic::AtomicBool;
//!
//! use undertone_study::{Base, Choices, Event, Experiment, Observer, Study, run};
//!
//! /// Prints the loss of every step.
//! struct Printer;
//!
//! impl Observer for Printer {
//!     fn rows(&self, _: &[(String, usize)]) {}
//!
//!     fn observe(&self, row: &str, event: Event<'_>) {
//!         if let Event::Step(scalars) = event {
//!             println!("{row}: step {}, {:.3} nats per token", scalars.step, scalars.loss_nats_per_token);
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let path = Path::new("experiments/demo.toml");
//! let experiment = Experiment::read(path, &["training.epochs=1".to_owned()])?;
//! let mut study = Study::prepare(experiment, path, &[])?;
//! let base = Base::load(&study.experiment)?;
//! let finished = run(&mut study, &base, &Printer, &AtomicBool::new(false), Choices::default())?;
//! for verdict in finished.results.verdicts() {
//!     println!("{verdict}");
//! }
//! println!("{}", finished.folder.join("report.html").display());
//! # Ok(())
//! # }
//! ```

#![warn(clippy::unwrap_used)]

mod amendments;
mod arms;
mod artifact;
mod base;
mod begun;
mod card;
mod checkpoint;
mod comparisons;
mod context;
mod conversations;
mod digest;
mod error;
mod evaluate;
mod experiment;
mod fingerprint;
mod hyperparameters;
mod inspect;
mod jobs;
mod judge;
mod leakage;
mod mlflow;
mod names;
mod observer;
mod plan;
mod power;
mod predict;
mod queue;
mod registration;
mod replay;
mod replies;
mod results;
mod run;
mod runs;
mod simulator;
mod stages;
mod study;
mod verify;

pub use amendments::Amendment;
pub use arms::{Evaluated, Model, Training};
pub use base::Base;
pub use card::model_card;
pub use checkpoint::open_checkpoint;
pub use context::Context;
pub use conversations::LeftOut;
pub use error::StudyError;
pub use evaluate::{Evaluation, EvaluationResult};
pub use experiment::{
    Arm, DataSection, DeclaredComparison, EvaluationSection, Experiment, Folds, JudgeSection, Method, ModelSection,
    Paths, PlannedSection, Problems, ReplyTokens, ReplyTokensList, Seeds, SplitSection, StageSection, WritingSection,
};
pub use inspect::{Inspected, inspect};
pub use jobs::predict_thoughts::predict_thoughts;
pub use jobs::train::train_arm;
pub use judge::rating;
pub use mlflow::send_to_mlflow;
pub use observer::{Event, Observer};
pub use plan::{Plan, plan};
pub use predict::{Predicted, Prediction};
pub use registration::register;
pub use replay::{Replay, Replayed};
pub use results::Results;
pub use run::{Choices, Finished, run};
pub use runs::{RunState, StudyRuns, TrainingRun, runs};
pub use simulator::{Prompt, PromptError, Prompter, Simulator};
pub use stages::{prepare_stages, train_stages};
pub use study::{FoldData, PredictedThoughts, Study};
pub use verify::{Verified, verify};
