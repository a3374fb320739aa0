//! The training loop, optimiser, schedule, checkpoints and event log.
//!
//! [`Run::train`] is the loop; everything else in this crate serves it.

#![warn(clippy::unwrap_used)]

mod checkpoint;
mod config;
mod envelope;
mod events;
mod hyperparameters;
mod kept;
mod log;
mod memory;
mod optimizer;
mod plan;
mod train;
mod trouble;

pub use checkpoint::{Best, Checkpoint, Description, Difference, State};
pub use config::{Schedule, TrainingConfig};
pub use hyperparameters::Hyperparameter;
pub use kept::{BEST, LAST, Resumable, remove_surplus};
pub use log::{Progress, Scalars, read_log, record_scores};
pub use memory::{available_mib, needed_mib, peak_mib};
pub use optimizer::{AdamW, Update, clip_factor, global_norm, scalar};
pub use plan::Plan;
pub use train::{Run, TrainError};
pub use trouble::Trouble;
