//! Rotary position embedding (Su et al., arXiv 2104.09864) with Hugging Face's pairing: element i of a
//! head turns with element i + width/2.

use burn::tensor::{Device, Tensor, TensorData};

/// Cosines and sines of every token of a row, `[tokens, 1, width/2]`.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl Rotation {
    /// For these positions and heads of `width` elements. Angles are computed in f32, as the reference
    /// implementation does: at position 8,000 an f64 angle would differ from it by more than rounding.
    pub(crate) fn new(positions: &[u32], width: usize, theta: f64, device: &Device) -> Self {
        let half = width / 2;
        let frequency = |i: usize| 1.0 / (theta as f32).powf((2 * i) as f32 / width as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let table = |turn: fn(f32) -> f32| {
            let values: Vec<f32> = positions
                .iter()
                .flat_map(|&position| frequencies.iter().map(move |f| turn(position as f32 * f)))
                .collect();
            Tensor::from_data(TensorData::new(values, [positions.len(), 1, half]), device)
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Turns each head of `[tokens, heads, width]` to its position.
    pub(crate) fn apply(&self, rows: Tensor<3>) -> Tensor<3> {
        let [_, _, width] = rows.dims();
        let (first, second) = (rows.clone().narrow(2, 0, width / 2), rows.narrow(2, width / 2, width / 2));
        let turned_first = first.clone() * self.cos.clone() - second.clone() * self.sin.clone();
        let turned_second = second * self.cos.clone() + first * self.sin.clone();
        Tensor::cat(vec![turned_first, turned_second], 2)
    }
}
