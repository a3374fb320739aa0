//! AdamW with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101) over named parameters.

use std::collections::BTreeMap;

use undertone_model::{AdamW as Step, Decoder, Gradients, Moments};

use crate::config::TrainingConfig;

/// The optimiser's state, by parameter name.
#[derive(Debug, Clone, Default)]
pub struct AdamW {
    /// Moments of every parameter that has had a gradient.
    pub moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// One step with the learning rate of this step; `step` counts from 0. Norms do not decay; a Llama
    /// has no biases.
    pub fn step(
        &mut self,
        model: &mut Decoder,
        mut gradients: Gradients,
        learning_rate: f64,
        step: usize,
        config: &TrainingConfig,
    ) {
        let operators = model.operators();
        let correct = |beta: f64| (1.0 - beta.powi(i32::try_from(step + 1).unwrap_or(i32::MAX))) as f32;
        for parameter in model.parameters_mut().into_iter().filter(|parameter| parameter.trainable) {
            let Some(gradient) = gradients.0.remove(&parameter.name) else { continue };
            let decays = !parameter.name.ends_with("norm.weight");
            let step = Step {
                learning_rate: learning_rate as f32,
                decay: if decays { (learning_rate * config.weight_decay) as f32 } else { 0.0 },
                beta1: config.beta1 as f32,
                beta2: config.beta2 as f32,
                epsilon: config.epsilon as f32,
                correct_first: correct(config.beta1),
                correct_second: correct(config.beta2),
            };
            let new = || Moments { first: gradient.zeros_like(), second: gradient.zeros_like() };
            let moments = self.moments.remove(&parameter.name).unwrap_or_else(new);
            let (value, moments) = operators.adamw(parameter.take(), moments, &gradient, &step);
            parameter.set(value);
            self.moments.insert(parameter.name.clone(), moments);
        }
    }
}

/// The Euclidean norm of all gradients together, summed in one fixed order.
pub fn global_norm(model: &Decoder, gradients: &Gradients) -> f64 {
    let operators = model.operators();
    gradients.0.values().map(|gradient| operators.sum_of_squares(gradient)).sum::<f64>().sqrt()
}

/// Scales gradients so that their global norm is at most `limit`; 0 leaves them alone.
pub fn clip(gradients: &mut Gradients, norm: f64, limit: f64) {
    if limit > 0.0 && norm > limit {
        for gradient in gradients.0.values_mut() {
            *gradient = gradient.clone() * (limit / norm);
        }
    }
}
