//! What llama.cpp calls a family of models, and its tensors.
//!
//! The names of tensors follow from the parts that a [`ModelConfig`] has, in all architectures alike. An architecture says
//! only how numbers are stored otherwise than in a Hugging Face folder.

use crate::config::{Family, HasBias, ModelConfig, Norms, QueryNorms};
use crate::linear::Projection;

use super::permute::{permute, unpermute};

/// An architecture of llama.cpp.
#[derive(Debug)]
pub struct Architecture {
    /// `general.architecture`.
    pub name: &'static str,
    /// The `model_type` of a Hugging Face folder.
    pub model_type: &'static str,
    /// Whether it rotates neighbours, so that the rows of queries and keys are permuted.
    permuted: bool,
    /// Keys of its metadata beside those that all architectures have.
    pub(super) own_keys: &'static [&'static str],
}

/// Every supported architecture. Mistral models are of `llama`, too.
static ARCHITECTURES: [Architecture; 8] = [
    Architecture { name: "llama", model_type: "llama", permuted: true, own_keys: &[] },
    Architecture { name: "qwen2", model_type: "qwen2", permuted: false, own_keys: &[] },
    Architecture { name: "qwen3", model_type: "qwen3", permuted: false, own_keys: &[] },
    Architecture {
        name: "gemma3",
        model_type: "gemma3_text",
        permuted: false,
        own_keys: &["attention.sliding_window", "rope.freq_base_swa"],
    },
    Architecture { name: "smollm3", model_type: "smollm3", permuted: true, own_keys: &[] },
    Architecture { name: "olmo2", model_type: "olmo2", permuted: false, own_keys: &[] },
    Architecture { name: "phi3", model_type: "phi3", permuted: false, own_keys: &["attention.sliding_window"] },
    Architecture {
        name: "granite",
        model_type: "granite",
        permuted: true,
        own_keys: &["attention.scale", "embedding_scale", "residual_scale", "logit_scale"],
    },
];

impl Architecture {
    /// The architecture of this name.
    pub(super) fn called(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|architecture| architecture.name == name)
    }

    /// The names of all, for errors.
    pub(super) fn names() -> String {
        ARCHITECTURES.each_ref().map(|architecture| format!("`{}`", architecture.name)).join(", ")
    }

    /// The architecture of a family.
    ///
    /// # Panics
    /// If a family is added without its architecture.
    pub fn of(family: &Family) -> &'static Self {
        let model_type = if family.model_type == "mistral" { "llama" } else { family.model_type };
        let found = ARCHITECTURES.iter().find(|architecture| architecture.model_type == model_type);
        found.unwrap_or_else(|| panic!("the family `{}` has no architecture", family.model_type))
    }
}

/// How a tensor is stored in a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stored {
    /// As in a Hugging Face folder.
    Plain,
    /// With permuted rows, head by head.
    Permuted {
        /// Heads.
        heads: usize,
    },
    /// With this number added to each value.
    Added(f32),
}

impl Stored {
    /// The values of a GGUF file as in a Hugging Face folder; `shape` is the tensor's.
    #[must_use]
    pub fn read(self, mut values: Vec<f32>, shape: &[usize]) -> Vec<f32> {
        match self {
            Self::Plain => {}
            Self::Permuted { heads } => return unpermute(&values, heads, shape.get(1).copied().unwrap_or(1)),
            Self::Added(number) => values.iter_mut().for_each(|value| *value -= number),
        }
        values
    }

    /// The values of a Hugging Face folder as in a GGUF file.
    #[must_use]
    pub fn written(self, mut values: Vec<f32>, shape: &[usize]) -> Vec<f32> {
        match self {
            Self::Plain => {}
            Self::Permuted { heads } => return permute(&values, heads, shape.get(1).copied().unwrap_or(1)),
            Self::Added(number) => values.iter_mut().for_each(|value| *value += number),
        }
        values
    }
}

/// One tensor of the model under both names.
#[derive(Debug, PartialEq)]
pub struct TensorPlan {
    /// llama.cpp's name.
    pub gguf_name: String,
    /// The name in a Hugging Face folder.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub stored: Stored,
}

/// Every tensor of a model, in the order of the blocks.
pub fn gguf_tensors(config: &ModelConfig) -> Vec<TensorPlan> {
    let blocks = (0..config.layers.len()).flat_map(|layer| of_block(config, layer));
    [embedding(config)].into_iter().chain(blocks).chain(after_blocks(config)).collect()
}

pub(super) fn embedding(config: &ModelConfig) -> TensorPlan {
    TensorPlan {
        gguf_name: "token_embd.weight".into(),
        name: "model.embed_tokens.weight".into(),
        shape: vec![config.vocab_size, config.hidden_size],
        stored: Stored::Plain,
    }
}

/// How norms are stored: llama.cpp computes w where some families have 1 + w.
fn of_norms(config: &ModelConfig) -> Stored {
    let offset = config.family.norm_offset;
    if offset == 0.0 { Stored::Plain } else { Stored::Added(offset as f32) }
}

/// The tensors of one block.
pub(super) fn of_block(config: &ModelConfig, layer: usize) -> Vec<TensorPlan> {
    let mut plans = Vec::new();
    let mut add = |gguf_part: &str, part: &str, shape: &[usize], stored| {
        plans.push(TensorPlan {
            gguf_name: format!("blk.{layer}.{gguf_part}"),
            name: format!("model.layers.{layer}.{part}"),
            shape: shape.to_vec(),
            stored,
        });
    };
    let norms = of_norms(config);
    for (gguf_part, part) in norms_of(config.family.norms) {
        add(&format!("{gguf_part}.weight"), &format!("{part}.weight"), &[config.hidden_size], norms);
    }
    let widths = match config.family.query_norms {
        QueryNorms::Absent => None,
        QueryNorms::EachHead => Some([config.head_dim; 2]),
        QueryNorms::AllHeads => Some([config.query_width(), config.key_value_width()]),
    };
    for (part, width) in ["q", "k"].into_iter().zip(widths.into_iter().flatten()) {
        add(&format!("attn_{part}_norm.weight"), &format!("self_attn.{part}_norm.weight"), &[width], norms);
    }
    for (gguf_part, part, projections) in linears(config.family) {
        let shapes = projections.iter().map(|projection| shape(config, *projection));
        let [rows, columns] = shapes.reduce(|[rows, columns], [more, _]| [rows + more, columns]).unwrap_or_default();
        let heads = match projections {
            [Projection::Q] => Some(config.num_attention_heads),
            [Projection::K] => Some(config.num_key_value_heads),
            _ => None,
        };
        let is_permuted = Architecture::of(config.family).permuted;
        let stored = heads.filter(|_| is_permuted).map_or(Stored::Plain, |heads| Stored::Permuted { heads });
        add(&format!("{gguf_part}.weight"), &format!("{part}.weight"), &[rows, columns], stored);
        if HasBias::of(config.has_bias, projections[0]) {
            add(&format!("{gguf_part}.bias"), &format!("{part}.bias"), &[rows], stored);
        }
    }
    plans
}

/// The tensors behind the blocks.
pub(super) fn after_blocks(config: &ModelConfig) -> Vec<TensorPlan> {
    let mut plans = vec![TensorPlan {
        gguf_name: "output_norm.weight".into(),
        name: "model.norm.weight".into(),
        shape: vec![config.hidden_size],
        stored: of_norms(config),
    }];
    if !config.tie_word_embeddings {
        plans.push(TensorPlan {
            gguf_name: "output.weight".into(),
            name: "lm_head.weight".into(),
            ..embedding(config)
        });
    }
    plans
}

/// The norms of a block under both names.
fn norms_of(norms: Norms) -> Vec<(&'static str, &'static str)> {
    let [[before_attention, after_attention], [before_feed_forward, after_feed_forward]] = norms.parts();
    let named = [
        ("attn_norm", before_attention),
        ("post_attention_norm", after_attention),
        ("ffn_norm", before_feed_forward),
        ("post_ffw_norm", after_feed_forward),
    ];
    named.into_iter().filter_map(|(gguf_part, part)| Some((gguf_part, part?))).collect()
}

/// The matrices of a block under both names, and the projections whose rows each has.
fn linears(family: &Family) -> Vec<(&'static str, &'static str, &'static [Projection])> {
    use Projection::{Down, Gate, K, O, Q, Up, V};
    let mut linears: Vec<(&str, &str, &[Projection])> = match family.fused {
        false => vec![
            ("attn_q", Q.path(), &[Q]),
            ("attn_k", K.path(), &[K]),
            ("attn_v", V.path(), &[V]),
            ("ffn_gate", Gate.path(), &[Gate]),
            ("ffn_up", Up.path(), &[Up]),
        ],
        true => {
            vec![("attn_qkv", "self_attn.qkv_proj", &[Q, K, V]), ("ffn_up", "mlp.gate_up_proj", &[Gate, Up])]
        }
    };
    linears.extend([("attn_output", O.path(), &[O][..]), ("ffn_down", Down.path(), &[Down])]);
    linears
}

/// The rows and columns of a projection.
fn shape(config: &ModelConfig, projection: Projection) -> [usize; 2] {
    let (width, inner) = (config.hidden_size, config.intermediate_size);
    match projection {
        Projection::Q => [config.query_width(), width],
        Projection::K | Projection::V => [config.key_value_width(), width],
        Projection::O => [width, config.query_width()],
        Projection::Gate | Projection::Up => [inner, width],
        Projection::Down => [width, inner],
    }
}
