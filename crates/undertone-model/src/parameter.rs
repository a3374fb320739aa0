//! Named weights, the tape that records their use, and gradients by name.
//!
//! Burn's parameter ids are random; here a parameter is known by its path in a Hugging Face
//! checkpoint, so that states, checkpoints and reductions have one fixed order.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

/// A weight matrix `[rows, columns]`, or a vector as `[1, width]`.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its path, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Its value, outside autodiff.
    pub value: Tensor<2>,
    /// Whether training changes it.
    pub trainable: bool,
}

impl Parameter {
    /// A frozen parameter of `shape` from row-major `values`.
    pub fn new(name: impl Into<String>, values: Vec<f32>, shape: [usize; 2], device: &Device) -> Self {
        let value = Tensor::from_data(TensorData::new(values, shape), device);
        Self { name: name.into(), value, trainable: false }
    }
}

/// Gradients by parameter name, in name order.
#[derive(Debug, Clone, Default)]
pub struct Gradients(pub BTreeMap<String, Tensor<2>>);

impl Gradients {
    /// Adds `gradient` to what `name` has.
    pub fn add(&mut self, name: &str, gradient: Tensor<2>) {
        let sum = match self.0.remove(name) {
            Some(earlier) => earlier + gradient,
            None => gradient,
        };
        self.0.insert(name.to_owned(), sum);
    }
}

/// Hands out weights to one stretch of a forward pass; when recording, as leaves of an autodiff graph.
pub(crate) struct Tape {
    recording: bool,
    leaves: Vec<(String, Tensor<2>)>,
}

impl Tape {
    /// A tape that records nothing: the same forward, outside autodiff.
    pub(crate) fn off() -> Self {
        Self { recording: false, leaves: Vec::new() }
    }

    /// A tape that records the use of every trainable parameter.
    pub(crate) fn on() -> Self {
        Self { recording: true, leaves: Vec::new() }
    }

    /// The parameter's value, tracked if it is trainable and the tape records.
    pub(crate) fn read(&mut self, parameter: &Parameter) -> Tensor<2> {
        if !(self.recording && parameter.trainable) {
            return parameter.value.clone();
        }
        let leaf = parameter.value.clone().autodiff().require_grad();
        self.leaves.push((parameter.name.clone(), leaf.clone()));
        leaf
    }

    /// An activation as a leaf of the graph, if the tape records.
    pub(crate) fn enter<const D: usize>(&self, activation: Tensor<D>) -> Tensor<D> {
        if self.recording { activation.autodiff().require_grad() } else { activation }
    }

    /// Runs backward from `scalar` and adds the gradients of every leaf; returns Burn's container for
    /// the gradients of entered activations.
    pub(crate) fn backward(self, scalar: Tensor<1>, gradients: &mut Gradients) -> burn::tensor::Gradients {
        let mut computed = scalar.backward();
        for (name, leaf) in self.leaves {
            if let Some(gradient) = leaf.grad_remove(&mut computed) {
                gradients.add(&name, gradient);
            }
        }
        computed
    }
}
