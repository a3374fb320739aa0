//! How a study reports what it does, while it does it.
//!
//! An observer has a row for each trained arm. What is worth reading later goes to `tracing` instead.

use undertone_train::{Progress, Scalars};

/// What happens in a row.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A training begins: which fold and seed, in words; empty where the arm has only one.
    Training(&'a str),
    /// The loop of a training begins, or goes on after `done` of its steps.
    Begin {
        /// Steps taken before.
        done: usize,
        /// Steps in all.
        steps: usize,
    },
    /// A step of a training is done.
    Step(&'a Scalars),
    /// Something other than training goes on, such as `scores as `past``.
    Doing(&'a str),
    /// One training of the row is finished, with its scores and texts.
    Finished,
    /// The row failed.
    Failed,
}

/// Somebody who watches a study.
pub trait Observer: Sync {
    /// Rows that will report, each with how many trainings it has.
    fn rows(&self, rows: &[(String, usize)]);

    /// Something happens in a row that was announced.
    fn observe(&self, row: &str, event: Event<'_>);
}

/// An observer that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn rows(&self, _: &[(String, usize)]) {}

    fn observe(&self, _: &str, _: Event<'_>) {}
}

/// Passes what a training loop reports on to an observer.
pub(crate) struct RowProgress<'a> {
    pub(crate) observer: &'a dyn Observer,
    pub(crate) row: &'a str,
}

impl Progress for RowProgress<'_> {
    fn begin(&self, done: usize, steps: usize) {
        self.observer.observe(self.row, Event::Begin { done, steps });
    }

    fn step(&self, scalars: &Scalars) {
        self.observer.observe(self.row, Event::Step(scalars));
    }
}
