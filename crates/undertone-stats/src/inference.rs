//! The uncertainty of a difference: intervals, tests, and what a study of this size can detect.
//!
//! Input: sums by user ([`UserSums`]). Output: an [`Inference`]. Items of one user are correlated, so the user is
//! the unit of every method here, and all users of a training share its models, so trainings are units too. Two
//! questions have two intervals: *these trained models, other users*, and *this way of training, other users and other
//! trainings*.

mod bootstrap;
mod decision;
mod estimate;
mod interval;
mod sign_flip;
mod simulation;
mod student;
#[cfg(test)]
mod tests;
mod trainings;
mod users;
mod weighted;

pub use self::bootstrap::{BootstrapOptions, MIN_DRAWS};
pub(crate) use self::decision::RawP;
pub use self::decision::{Decision, Evidence, Question, holm};
pub use self::estimate::{ENOUGH_USERS, Estimate, Inference, OfModels};
pub use self::interval::{ALPHA, Interval};
pub use self::sign_flip::SignFlip;
pub use self::simulation::{Design, Simulation};
pub use self::student::{StandardError, WithTrainings};
pub use self::trainings::Components;
pub use self::users::{Cell, UserSums, mean_of_user_means, ratio, sum_by_user};
