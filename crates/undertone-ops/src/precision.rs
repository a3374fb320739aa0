//! Precision of matrix products.

use serde::{Deserialize, Serialize};

/// Precision of matrix products, named as in PyTorch's `set_float32_matmul_precision`.
///
/// Everything between the products (norms, softmax, sums, the loss, the optimiser) is f32 at every precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatmulPrecision {
    /// f32: all 24 bits of each factor count.
    #[default]
    Highest,
    /// About 16 bits of each factor count (sums of two bf16 numbers) on a CPU with AMX; f32 elsewhere.
    High,
    /// Factors are rounded to bf16 and sums are f32, on a CPU with AMX or an AMD CPU with AVX-512-BF16; f32 elsewhere.
    Medium,
}
