//! How a running study reports its progress.
//!
//! A row is a trained arm, the untrained model under one view, or a writer of thoughts. Messages that are worth reading
//! later go to `tracing` instead.

use undertone_train::{Progress, Scalars, Trouble};

/// An event in a row.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A training begins. The text names its fold and seed; it is empty if the arm has only one training.
    Training(&'a str),
    /// The loop of a training begins, or resumes after `done` steps.
    Begin {
        /// Steps taken before.
        done: usize,
        /// Steps in all.
        steps: usize,
    },
    /// A step of a training is done.
    Step(&'a Scalars),
    /// Work other than training begins, such as ``scores as `past` ``.
    Doing(&'a str),
    /// One training of the row is finished, with its scores and texts.
    Finished,
    /// The row failed.
    Failed,
}

/// Receives the events of a study.
pub trait Observer: Sync {
    /// Announces rows, each with its number of trainings.
    fn rows(&self, rows: &[(String, usize)]);

    /// Receives an event in an announced row.
    fn observe(&self, row: &str, event: Event<'_>);
}

/// Passes the progress of a training loop to an observer.
pub(crate) struct RowProgress<'a> {
    pub(crate) observer: &'a dyn Observer,
    pub(crate) row: &'a str,
}

impl Progress for RowProgress<'_> {
    fn begin(&self, done: usize, steps: usize) {
        self.observer.observe(self.row, Event::Begin { done, steps });
    }

    fn step(&self, scalars: &Scalars) {
        if let Some(Trouble { what, items }) = &scalars.trouble {
            tracing::warn!("{}: step {}: {what}; items of this step: {}", self.row, scalars.step, items.join(", "));
        }
        self.observer.observe(self.row, Event::Step(scalars));
    }
}
