//! The uncertainty of a difference: intervals, a test, and what a study of this size can detect.
//!
//! Input: sums by user ([`UserSums`]). Output: an [`Inference`]. Items of one user are correlated, so the user is
//! the unit of every method here: the bootstrap resamples users, the test flips the signs of whole users, and
//! standard errors are clustered by user. With more than one training seed, every interval includes the
//! variance between trainings; the test holds the trained models fixed.

mod bootstrap;
mod decision;
mod estimate;
mod interval;
mod sign_flip;
mod student;
#[cfg(test)]
mod tests;
mod users;

pub use self::bootstrap::{BootstrapOptions, MIN_DRAWS};
pub use self::decision::{ALPHA, Decision, Evidence, holm};
pub use self::estimate::{ENOUGH_USERS, Estimate, Inference, Intervals};
pub use self::interval::Interval;
pub use self::sign_flip::SignFlip;
pub use self::student::StandardError;
pub use self::users::{UserSums, mean_of_user_means, ratio, sum_by_user};
