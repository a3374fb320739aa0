//! AdamW with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101) over named parameters.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor};
use undertone_model::{AdamWStep, Decoder, Gradients, Moments};

use crate::config::TrainingConfig;

/// The optimiser's state, by parameter name.
#[derive(Debug, Clone, Default)]
pub struct AdamW {
    /// Moments of every parameter that has had a gradient.
    pub moments: BTreeMap<String, Moments>,
}

/// The arguments of one step.
#[derive(Debug)]
pub struct Update {
    /// The gradients.
    pub gradients: Gradients,
    /// A factor for all gradients, `[1]`: see [`clip_factor`].
    pub clip: Tensor<1>,
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// Steps taken before this one.
    pub step: usize,
}

impl AdamW {
    /// Takes one step. Norms and biases do not decay.
    pub fn step(&mut self, model: &mut Decoder, update: Update, config: &TrainingConfig) {
        let Update { mut gradients, clip, learning_rate, step } = update;
        let operators = model.shared_operators();
        let correct = |beta: f64| (1.0 - beta.powi(i32::try_from(step + 1).unwrap_or(i32::MAX))) as f32;
        for parameter in model.parameters_mut().into_iter().filter(|parameter| parameter.trainable) {
            let Some(gradient) = gradients.0.remove(&parameter.name) else { continue };
            let decays = !parameter.name.ends_with("norm.weight") && !parameter.name.ends_with(".bias");
            let step = AdamWStep {
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
            let (value, moments) = operators.adamw(parameter.take(), moments, &gradient, &clip, &step);
            parameter.set(value);
            self.moments.insert(parameter.name.clone(), moments);
        }
    }
}

/// The Euclidean norm of all gradients together, `[1]`, summed in a fixed order; in f64 where the device has it. The result stays on
/// the device.
///
/// # Panics
/// If there are no gradients.
pub fn global_norm(model: &Decoder, gradients: &Gradients) -> Tensor<1> {
    let sums = gradients.0.values().map(|gradient| model.operators().sum_of_squares(gradient));
    sums.reduce(|total, sum| total + sum).expect("there are gradients").sqrt()
}

/// The factor, `[1]`, that scales gradients of this norm down to `limit`; 1 where they are smaller, or `limit` is 0.
pub fn clip_factor(norm: &Tensor<1>, limit: f64) -> Tensor<1> {
    let ones = norm.ones_like();
    let factor = if limit > 0.0 { (ones * limit / norm.clone()).clamp_max(1.0) } else { ones };
    factor.cast(DType::F32)
}

/// Reads a number from its device; waits until the device has computed it.
pub fn scalar(tensor: Tensor<1>) -> f64 {
    tensor.into_data().convert::<f64>().try_into_vec::<f64>().expect("converted to f64")[0]
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn norm(value: f64) -> Tensor<1> {
        Tensor::from_data(TensorData::new(vec![value], [1]), (&Device::flex(), DType::F64))
    }

    #[test]
    fn the_clip_factor_is_that_of_f64_numbers() {
        for (value, limit) in [(0.5, 1.0), (3.0, 1.0), (1.0 + 1e-15, 1.0), (12.345_678_901_234, 0.7), (0.0, 1.0)] {
            let expected = if value > limit { (limit / value) as f32 } else { 1.0 };
            assert_eq!(scalar(clip_factor(&norm(value), limit)) as f32, expected, "{value} clipped to {limit}");
        }
        assert_eq!(scalar(clip_factor(&norm(1e9), 0.0)), 1.0);
    }
}
