//! How exported weights are written: their type, and the size of files.

use safetensors::Dtype;

/// The type of the weights in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum WeightType {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, IEEE.
    F16,
    /// 16 bits with the range of F32.
    Bf16,
    /// GGUF: blocks of 32 numbers of 8 bits with a common factor.
    #[cfg_attr(feature = "clap", value(name = "q8_0"))]
    Q8_0,
    /// GGUF: blocks of 32 numbers of 4 bits with a common factor; the embedding and the output are Q8_0.
    #[cfg_attr(feature = "clap", value(name = "q4_0"))]
    Q4_0,
    /// GGUF: blocks of 256 numbers of 4 bits, in groups of 32 with a factor and an offset each; the embedding and the output are
    /// Q6_K. Rows of another width are Q5_0.
    #[cfg_attr(feature = "clap", value(name = "q4_k"))]
    Q4K,
}

/// The most bytes of weights in one safetensors file, unless asked for otherwise.
const SHARD_BYTES: u64 = 5_000_000_000;

/// How weights are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// Their type.
    pub kind: WeightType,
    /// The most bytes of weights in a safetensors file; more are divided among several. A larger tensor has a file of its own.
    pub shard_bytes: u64,
}

impl From<WeightType> for Packing {
    fn from(kind: WeightType) -> Self {
        Self { kind, shard_bytes: SHARD_BYTES }
    }
}

impl WeightType {
    /// The type in a safetensors file, and transformers' name of it; `None` for blocks.
    pub(crate) fn of_safetensors(self) -> Option<(Dtype, &'static str)> {
        match self {
            Self::F32 => Some((Dtype::F32, "float32")),
            Self::F16 => Some((Dtype::F16, "float16")),
            Self::Bf16 => Some((Dtype::BF16, "bfloat16")),
            Self::Q8_0 | Self::Q4_0 | Self::Q4K => None,
        }
    }
}
