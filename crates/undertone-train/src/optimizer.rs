//! AdamW with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101) over named parameters.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use undertone_model::{Decoder, Gradients};

use crate::config::TrainingConfig;

/// First and second moment of one parameter, of its shape.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Tensor<2>,
    /// Running mean of its square.
    pub second: Tensor<2>,
}

/// The optimiser's state, by parameter name.
#[derive(Debug, Clone, Default)]
pub struct AdamW {
    /// Moments of every parameter that has had a gradient.
    pub moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// One step with the learning rate of this step; `step` counts from 0.
    ///
    /// w ← w − η (m̂ / (√v̂ + ε) + λ w), λ = 0 on norms; a Llama has no biases.
    pub fn step(
        &mut self,
        model: &mut Decoder,
        mut gradients: Gradients,
        learning_rate: f64,
        step: usize,
        config: &TrainingConfig,
    ) {
        let correct = |beta: f64| 1.0 - beta.powi(i32::try_from(step + 1).unwrap_or(i32::MAX));
        let (correct_first, correct_second) = (correct(config.beta1), correct(config.beta2));
        for parameter in model.parameters_mut().into_iter().filter(|parameter| parameter.trainable) {
            let Some(gradient) = gradients.0.remove(&parameter.name) else { continue };
            let moments = self
                .moments
                .entry(parameter.name.clone())
                .or_insert_with(|| Moments { first: gradient.zeros_like(), second: gradient.zeros_like() });
            moments.first = moments.first.clone() * config.beta1 + gradient.clone() * (1.0 - config.beta1);
            moments.second = moments.second.clone() * config.beta2 + gradient.square() * (1.0 - config.beta2);
            let root = (moments.second.clone() / correct_second).sqrt() + config.epsilon;
            let update = moments.first.clone() / root * (learning_rate / correct_first);
            let decay = if parameter.name.ends_with("norm.weight") { 0.0 } else { learning_rate * config.weight_decay };
            parameter.value = parameter.value.clone() * (1.0 - decay) - update;
        }
    }
}

/// The Euclidean norm of all gradients together, summed in one fixed order.
pub fn global_norm(gradients: &Gradients) -> f64 {
    let squares = gradients.0.values().map(|gradient| {
        let rows = gradient.clone().square().sum_dim(1).into_data().convert::<f64>();
        rows.try_to_vec::<f64>().expect("converted to f64").iter().sum::<f64>()
    });
    squares.sum::<f64>().sqrt()
}

/// Scales gradients so that their global norm is at most `limit`; 0 leaves them alone.
pub fn clip(gradients: &mut Gradients, norm: f64, limit: f64) {
    if limit > 0.0 && norm > limit {
        for gradient in gradients.0.values_mut() {
            *gradient = gradient.clone() * (limit / norm);
        }
    }
}
