//! What every job of a study needs.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::Base;
use crate::error::StudyError;
use crate::observer::{Event, Observer};
use crate::study::Study;

/// The data, the untrained model, the observer and the stop flag.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The conversations of an experiment, split and laid out.
    pub study: &'a Study,
    /// The untrained model.
    pub base: &'a Base,
    /// Receives progress events.
    pub observer: &'a dyn Observer,
    /// Set by the caller to make the study save and stop.
    pub stop: &'a AtomicBool,
}

impl Context<'_> {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Ends the job if the stop flag is set; the same job resumes from `saved`.
    ///
    /// # Errors
    /// The stop flag is set.
    pub(crate) fn check_stop(&self, saved: impl Into<PathBuf>) -> Result<(), StudyError> {
        if self.is_stopped() { Err(StudyError::Interrupted(saved.into())) } else { Ok(()) }
    }

    pub(crate) fn observe(&self, row: &str, event: Event<'_>) {
        self.observer.observe(row, event);
    }
}
