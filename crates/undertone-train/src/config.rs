//! Configuration of the training loop: every number, with its unit.

use serde::{Deserialize, Serialize};
use undertone_model::Recompute;

/// The learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Half a cosine down to `final_learning_rate_share` of the peak.
    #[default]
    Cosine,
    /// The peak until the end.
    Constant,
}

/// The `[training]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Passes over the training conversations.
    pub epochs: usize,
    /// Conversation windows in one optimiser step; gradients of their rows are summed.
    pub conversations_per_step: usize,
    /// Tokens of one forward pass; windows are packed into rows of up to this length. Memory grows with it.
    pub row_tokens: usize,
    /// Peak learning rate of AdamW.
    pub learning_rate: f64,
    /// Steps of linear growth to the peak.
    pub warmup_steps: usize,
    /// The curve after warm-up.
    pub schedule: Schedule,
    /// The learning rate at the end of the cosine, as a share of the peak.
    pub final_learning_rate_share: f64,
    /// Decoupled weight decay per step and unit of learning rate; never on norms.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Largest global norm of the gradients; 0 turns clipping off.
    pub clip_norm: f64,
    /// Steps that may be skipped because the loss or the gradient is not finite; one more stops the training.
    pub max_skipped_steps: usize,
    /// What the forward pass keeps for the backward pass.
    pub recompute: Recompute,
    /// Steps between validations; 0 validates after each epoch.
    pub validate_every_steps: usize,
    /// Validations without a lower loss before training stops; 0 never stops early.
    pub patience_validations: usize,
    /// Steps between checkpoints for resuming; 0 saves after each epoch. The first best step is saved, too.
    pub save_every_steps: usize,
    /// Checkpoints for resuming that are kept: the last, and earlier ones to fall back to if it is damaged.
    pub keep_last: usize,
    /// Best checkpoints that are kept: the best, and those that were the best before.
    pub keep_best: usize,
    /// Checkpoints for resuming of every so many steps are kept for good; 0 keeps none.
    pub keep_every_steps: usize,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 3,
            conversations_per_step: 4,
            row_tokens: 2048,
            learning_rate: 2e-4,
            warmup_steps: 5,
            schedule: Schedule::Cosine,
            final_learning_rate_share: 0.1,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            clip_norm: 1.0,
            max_skipped_steps: 0,
            recompute: Recompute::Blocks,
            validate_every_steps: 0,
            patience_validations: 0,
            save_every_steps: 0,
            keep_last: 2,
            keep_best: 1,
            keep_every_steps: 0,
        }
    }
}

impl TrainingConfig {
    /// The same training without the keys that do not affect the weights: which checkpoints there are, and how many steps may be
    /// skipped before it stops.
    #[must_use]
    pub fn of_weights(&self) -> Self {
        let Self { save_every_steps, keep_last, keep_best, keep_every_steps, max_skipped_steps, .. } = Self::default();
        Self { save_every_steps, keep_last, keep_best, keep_every_steps, max_skipped_steps, ..self.clone() }
    }

    /// The learning rate of step number `step`, counted from 0, of `steps`.
    pub fn learning_rate_at(&self, step: usize, steps: usize) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Cosine => {
                let span = steps.saturating_sub(self.warmup_steps + 1).max(1) as f64;
                let progress = ((step - self.warmup_steps) as f64 / span).min(1.0);
                let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
                let floor = self.final_learning_rate_share;
                self.learning_rate * (floor + (1.0 - floor) * cosine)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_linearly_then_falls_to_the_floor() {
        let config = TrainingConfig {
            learning_rate: 1.0,
            warmup_steps: 2,
            final_learning_rate_share: 0.1,
            ..Default::default()
        };
        let rates: Vec<f64> = (0..7).map(|step| (config.learning_rate_at(step, 7) * 1000.0).round() / 1000.0).collect();
        assert_eq!(rates, [0.5, 1.0, 1.0, 0.868, 0.55, 0.232, 0.1]);
        let constant = TrainingConfig { schedule: Schedule::Constant, ..config };
        assert_eq!(constant.learning_rate_at(6, 7), 1.0);
    }
}
