//! What every job of a study needs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::Base;
use crate::error::StudyError;
use crate::observer::{Event, Observer};
use crate::study::Study;

/// The data, the untrained model, who watches, and whether to stop.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The conversations of an experiment, divided and laid out.
    pub study: &'a Study,
    /// The untrained model.
    pub base: &'a Base,
    /// Who watches.
    pub observer: &'a dyn Observer,
    /// Set by whoever wants the study to save and stop.
    pub stop: &'a AtomicBool,
}

impl Context<'_> {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends a job that was stopped; the same job goes on from `saved`.
    ///
    /// # Errors
    /// Somebody wants to stop.
    pub(crate) fn check_stop(&self, saved: impl Into<PathBuf>) -> Result<(), StudyError> {
        if self.is_stopped() { Err(StudyError::Interrupted(saved.into())) } else { Ok(()) }
    }

    pub(crate) fn observe(&self, row: &str, event: Event<'_>) {
        self.observer.observe(row, event);
    }
}
