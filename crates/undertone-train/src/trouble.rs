//! Steps that a reader of the log should look at: skipped ones, and spikes of the loss.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The number of steps with which a loss is compared.
const RECENT: usize = 20;

/// A loss is a spike if it is above the mean of the recent ones by this many of their standard deviations, and by this share
/// of the mean.
const DEVIATIONS: f64 = 6.0;
const SHARE: f64 = 0.5;

/// What happened in a step, and where to look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// What happened, in words.
    pub what: String,
    /// The items that the step supervised.
    pub items: Vec<String>,
}

/// The losses of the last steps, in nats per token.
#[derive(Debug, Default)]
pub(crate) struct RecentLosses(VecDeque<f64>);

impl RecentLosses {
    /// Adds the loss of the next step, and says in words if it is a spike. A loss that is not finite is left out.
    pub(crate) fn spike(&mut self, loss: f64) -> Option<String> {
        if !loss.is_finite() {
            return None;
        }
        let count = self.0.len() as f64;
        let mean = self.0.iter().sum::<f64>() / count;
        let deviation = (self.0.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt();
        let is_spike = self.0.len() == RECENT && loss - mean > (DEVIATIONS * deviation).max(SHARE * mean);
        self.0.push_back(loss);
        if self.0.len() > RECENT {
            self.0.pop_front();
        }
        is_spike.then(|| format!("a spike: the loss is {loss:.3} nats per token, after {mean:.3} on average"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loss_far_above_many_recent_ones_is_a_spike() {
        let mut losses = RecentLosses::default();
        let normal = |step: usize| 2.0 + 0.1 * (step % 3) as f64;
        assert_eq!(losses.spike(50.0), None, "nothing to compare with");
        for step in 0..40 {
            assert_eq!(losses.spike(normal(step)), None, "step {step}");
        }
        assert_eq!(losses.spike(f64::NAN), None);
        assert_eq!(losses.spike(2.6), None, "six standard deviations, but not half of the mean");
        let said = "a spike: the loss is 4.000 nats per token, after 2.120 on average";
        assert_eq!(losses.spike(4.0).as_deref(), Some(said));
        assert_eq!(losses.spike(2.0), None);
    }
}
