//! What each supported family of models is: one row of a table for each.
//!
//! All are decoders of the same parts: norms, attention with rotary positions, and a gated feed-forward network. A family
//! says where the norms stand, which parts it has besides, and what its `config.json` means where a key is absent.

use undertone_ops::Activation;

/// Where a block has its norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// Before attention and before the feed-forward network.
    Before,
    /// After each of them, before the sum with the residual.
    After,
    /// Before and after each of them.
    Around,
}

impl Norms {
    /// The names of the norms before and after attention, and before and after the feed-forward network.
    pub(crate) fn parts(self) -> [[Option<&'static str>; 2]; 2] {
        const ATTENTION: &str = "post_attention_layernorm";
        const FEED_FORWARD: Option<&str> = Some("post_feedforward_layernorm");
        match self {
            // In Llama, the norm after attention is named by its place, but it belongs to what comes next.
            Self::Before => [[Some("input_layernorm"), None], [Some(ATTENTION), None]],
            Self::After => [[None, Some(ATTENTION)], [None, FEED_FORWARD]],
            Self::Around => {
                [[Some("input_layernorm"), Some(ATTENTION)], [Some("pre_feedforward_layernorm"), FEED_FORWARD]]
            }
        }
    }
}

/// Norms of queries and keys, before their rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryNorms {
    /// None.
    Absent,
    /// One norm for each head, with the same weight for all heads.
    EachHead,
    /// One norm for all heads together.
    AllHeads,
}

/// Which linear layers have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Biases {
    /// None.
    Never,
    /// All if `attention_bias` is true.
    ByKeys {
        /// Whether those of the feed-forward network have one if `mlp_bias` is true.
        feed_forward: bool,
    },
    /// Queries, keys and values, whatever the file says.
    QueryKeyValue,
}

/// Which blocks see only a window of the last keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// None; a `sliding_window` that is not null is refused.
    Never,
    /// All, unless `sliding_window` is null; if it is absent, the window has so many tokens.
    All(Option<usize>),
    /// If `use_sliding_window` is true: those that `layer_types` names; if it is absent, those from `max_window_layers`
    /// on, or those without rotary positions. The window if `sliding_window` is absent.
    Upper(Option<usize>),
    /// Those that `layer_types` names; if it is absent, all but each `sliding_window_pattern`-th. Blocks with a window
    /// have rotary positions of their own. The window if `sliding_window` is absent.
    Local(usize),
}

impl Windows {
    /// Whether blocks with a window have rotary positions of their own.
    pub(super) fn are_local(self) -> bool {
        matches!(self, Self::Local(_))
    }
}

/// A family of models.
#[derive(Debug)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// Published models of it.
    pub examples: &'static str,
    /// What the family can have and is refused by name.
    pub left_out: &'static str,
    /// The supported one of its architectures: a language model.
    pub architecture: &'static str,
    /// Where a block has its norms.
    pub norms: Norms,
    /// Added to the weights of all norms.
    pub norm_offset: f64,
    /// Norms of queries and keys.
    pub query_norms: QueryNorms,
    /// Which linear layers have a bias.
    pub biases: Biases,
    /// Whether queries, keys and values are stored as one matrix, and gate and up as another.
    pub fused: bool,
    /// The key of the activation, its supported value, and what it is.
    pub activation: (&'static str, &'static str, Activation),
    /// Which blocks have a window.
    pub windows: Windows,
    /// Whether some blocks have no rotary positions: `no_rope_layers`, or each `no_rope_layer_interval`-th.
    pub skips_rotation: bool,
    /// Whether only a first part of each head may be rotated: `partial_rotary_factor`.
    pub rotates_partly: bool,
    /// Whether the embedding is multiplied by √width.
    pub scales_embedding: bool,
    /// Whether the file has `embedding_multiplier`, `attention_multiplier`, `residual_multiplier` and `logits_scaling`.
    pub has_multipliers: bool,
    /// If the factor of the scores is 1 / √`query_pre_attn_scalar`: its value if the key is absent.
    pub query_scalar: Option<f64>,
    /// The width of a head if `head_dim` is absent; `None` for width / heads.
    pub head_dim: Option<usize>,
    /// Key heads if `num_key_value_heads` is absent; `None` for as many as query heads.
    pub key_heads: Option<usize>,
    /// The base of rotary frequencies if no key gives it.
    pub rope_theta: f64,
    /// Whether the output projection is the embedding if `tie_word_embeddings` is absent.
    pub ties: bool,
}

const SILU: (&str, &str, Activation) = ("hidden_act", "silu", Activation::Silu);
const GELU: (&str, &str, Activation) = ("hidden_activation", "gelu_pytorch_tanh", Activation::GeluTanh);

/// Llama: from it, the other rows name what differs.
const LLAMA: Family = Family {
    model_type: "llama",
    examples: "Llama 1 to 3.2, SmolLM2, TinyLlama",
    left_out: "longrope",
    architecture: "LlamaForCausalLM",
    norms: Norms::Before,
    norm_offset: 0.0,
    query_norms: QueryNorms::Absent,
    biases: Biases::ByKeys { feed_forward: true },
    fused: false,
    activation: SILU,
    windows: Windows::Never,
    skips_rotation: false,
    rotates_partly: false,
    scales_embedding: false,
    has_multipliers: false,
    query_scalar: None,
    head_dim: None,
    key_heads: None,
    rope_theta: 1e4,
    ties: false,
};

/// Every supported family, by `model_type`.
pub static FAMILIES: [Family; 9] = [
    LLAMA,
    Family {
        model_type: "qwen2",
        examples: "Qwen2, Qwen2.5",
        left_out: "mixtures of experts",
        architecture: "Qwen2ForCausalLM",
        biases: Biases::QueryKeyValue,
        windows: Windows::Upper(Some(4096)),
        key_heads: Some(32),
        ..LLAMA
    },
    Family {
        model_type: "qwen3",
        examples: "Qwen3",
        left_out: "mixtures of experts",
        architecture: "Qwen3ForCausalLM",
        biases: Biases::ByKeys { feed_forward: false },
        query_norms: QueryNorms::EachHead,
        windows: Windows::Upper(Some(4096)),
        head_dim: Some(128),
        key_heads: Some(32),
        ..LLAMA
    },
    Family {
        model_type: "mistral",
        examples: "Mistral 7B",
        left_out: "Mixtral, Ministral's alternating windows",
        architecture: "MistralForCausalLM",
        biases: Biases::Never,
        windows: Windows::All(Some(4096)),
        key_heads: Some(8),
        ..LLAMA
    },
    Family {
        model_type: "gemma3_text",
        examples: "Gemma 3 270M and 1B",
        left_out: "pictures (`gemma3`), soft caps (Gemma 2)",
        architecture: "Gemma3ForCausalLM",
        biases: Biases::ByKeys { feed_forward: false },
        norms: Norms::Around,
        norm_offset: 1.0,
        query_norms: QueryNorms::EachHead,
        activation: GELU,
        windows: Windows::Local(4096),
        scales_embedding: true,
        query_scalar: Some(256.0),
        head_dim: Some(256),
        key_heads: Some(4),
        rope_theta: 1e6,
        ties: true,
        ..LLAMA
    },
    Family {
        model_type: "smollm3",
        examples: "SmolLM3",
        left_out: "longrope",
        architecture: "SmolLM3ForCausalLM",
        windows: Windows::Upper(None),
        skips_rotation: true,
        key_heads: Some(4),
        rope_theta: 2e6,
        ties: true,
        ..LLAMA
    },
    Family {
        model_type: "olmo2",
        examples: "OLMo 2",
        left_out: "OLMo 3",
        architecture: "Olmo2ForCausalLM",
        biases: Biases::ByKeys { feed_forward: false },
        norms: Norms::After,
        query_norms: QueryNorms::AllHeads,
        ..LLAMA
    },
    Family {
        model_type: "phi3",
        examples: "Phi-3 mini 4k",
        left_out: "longrope (128k, Phi-4 mini)",
        architecture: "Phi3ForCausalLM",
        biases: Biases::Never,
        fused: true,
        windows: Windows::All(None),
        rotates_partly: true,
        ..LLAMA
    },
    Family {
        model_type: "granite",
        examples: "Granite 3",
        left_out: "mixtures of experts",
        architecture: "GraniteForCausalLM",
        has_multipliers: true,
        ..LLAMA
    },
];

impl Family {
    /// The family of a `model_type`.
    pub fn of(model_type: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.model_type == model_type)
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}
