//! Named weights, and gradients by name.
//!
//! Burn's parameter ids are random; here the path in a Hugging Face checkpoint identifies a parameter, so that states,
//! checkpoints and reductions have one fixed order.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use undertone_ops::{PackedCopies, Weight};

/// A weight matrix `[rows, columns]`, or a vector as `[1, width]`.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its path, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Whether training changes it.
    pub trainable: bool,
    value: Tensor<2>,
    copies: PackedCopies,
}

impl Parameter {
    /// A frozen parameter of `shape` from row-major `values`.
    pub fn new(name: impl Into<String>, values: Vec<f32>, shape: [usize; 2], device: &Device) -> Self {
        let value = Tensor::from_data(TensorData::new(values, shape), device);
        Self { name: name.into(), trainable: false, value, copies: PackedCopies::default() }
    }

    /// Whether it is a matrix of a low-rank adapter.
    pub fn is_adapter(&self) -> bool {
        self.name.ends_with(".lora_A.weight") || self.name.ends_with(".lora_B.weight")
    }

    /// Its value, outside autodiff.
    pub fn value(&self) -> &Tensor<2> {
        &self.value
    }

    /// Sets another value of the same shape.
    pub fn set(&mut self, value: Tensor<2>) {
        self.value = value;
        self.copies = PackedCopies::default();
    }

    /// Takes the value out to change it in place; [`Self::set`] puts it back.
    pub fn take(&mut self) -> Tensor<2> {
        let empty = Tensor::zeros([0, 0], &self.value.device());
        std::mem::replace(&mut self.value, empty)
    }

    /// The matrix to multiply with; packed copies are kept only while the parameter is frozen.
    pub(crate) fn weight(&self) -> Weight<'_> {
        Weight { value: &self.value, copies: (!self.trainable).then_some(&self.copies) }
    }
}

/// The elements of a tensor, row-major; waits for the device.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("converted to f32")
}

/// Gradients by parameter name, in name order.
#[derive(Debug, Clone, Default)]
pub struct Gradients(pub BTreeMap<String, Tensor<2>>);

impl Gradients {
    /// Adds `gradient` to the gradient of `name`.
    pub fn add(&mut self, name: &str, gradient: Tensor<2>) {
        let sum = match self.0.remove(name) {
            Some(earlier) => earlier + gradient,
            None => gradient,
        };
        self.0.insert(name.to_owned(), sum);
    }

    /// Adds the gradient of `parameter`, if there is one.
    pub(crate) fn add_if(&mut self, parameter: &Parameter, gradient: Option<Tensor<2>>) {
        if let Some(gradient) = gradient {
            self.add(&parameter.name, gradient);
        }
    }
}
