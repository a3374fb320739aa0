//! LoRA adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! An adapter that this decoder would compute otherwise than PEFT (DoRA, ranks of single layers, trained biases or
//! embeddings) is refused.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use serde_json::{Map, Value};
use undertone_files::{InputError, Place, read_regular};

use crate::config::Family;
use crate::decoder::Decoder;
use crate::linear::{LoraConfig, Projection};
use crate::weights::WeightFiles;

/// The file with the options of an adapter.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// The file with its matrices.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// PEFT's prefix of the names of parameters.
pub const PEFT_PREFIX: &str = "base_model.model.";

const MERGE: &str = "merge the adapter into its base model with PEFT, and use the merged model";

/// Options that change what an adapter computes, and that only have an effect if they are set.
const UNSUPPORTED: [&str; 14] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "fan_in_fan_out",
    "modules_to_save",
    "layers_to_transform",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "exclude_modules",
    "lora_bias",
    "alora_invocation_tokens",
    "arrow_config",
    "ensure_weight_tying",
];

/// A matrix of a block that PEFT adapts as one: its path, and the projections whose rows it has, in order.
pub type PeftLayer = (&'static str, &'static [Projection]);

const SEPARATE: [PeftLayer; 7] = [
    ("self_attn.q_proj", &[Projection::Q]),
    ("self_attn.k_proj", &[Projection::K]),
    ("self_attn.v_proj", &[Projection::V]),
    ("self_attn.o_proj", &[Projection::O]),
    ("mlp.gate_proj", &[Projection::Gate]),
    ("mlp.up_proj", &[Projection::Up]),
    ("mlp.down_proj", &[Projection::Down]),
];

const FUSED: [PeftLayer; 4] = [
    ("self_attn.qkv_proj", &[Projection::Q, Projection::K, Projection::V]),
    ("self_attn.o_proj", &[Projection::O]),
    ("mlp.gate_up_proj", &[Projection::Gate, Projection::Up]),
    ("mlp.down_proj", &[Projection::Down]),
];

/// The matrices of a block in a family of models.
pub fn peft_layers(family: &Family) -> &'static [PeftLayer] {
    if family.fused { &FUSED } else { &SEPARATE }
}

/// The last part of a path, by which PEFT finds the layers to adapt.
pub fn peft_module(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, module)| module)
}

/// The alpha that gives adapters of `parts` times the rank, one after the other in one matrix, the same scale.
pub fn stacked_alpha(lora: &LoraConfig, parts: usize) -> f64 {
    let parts = parts as f64;
    lora.alpha * if lora.rslora { parts.sqrt() } else { parts }
}

/// An adapter in a folder: its options.
///
/// A matrix that several projections share (in Phi 3, queries, keys and values) may have one adapter of the common rank,
/// which each projection then has a copy of; or the adapters of its projections, stacked: the As one below the other, the
/// Bs on the diagonal of one matrix. `undertone export` writes the latter.
#[derive(Debug)]
pub struct PeftAdapter {
    folder: PathBuf,
    /// Whether shared matrices have stacked adapters.
    stacked: bool,
    /// Its rank, scale, dropout and layers.
    pub lora: LoraConfig,
}

impl PeftAdapter {
    /// Reads the options of the adapter in a folder.
    ///
    /// # Errors
    /// The folder has no adapter, it is no LoRA, or it has an option that this decoder does not compute.
    pub fn read(folder: &Path) -> Result<Self, InputError> {
        let path = folder.join(ADAPTER_CONFIG);
        if !path.is_file() {
            let cause = if folder.is_dir() { "holds no `adapter_config.json`" } else { "is not a folder" };
            return Err(InputError::new(folder, format!("{cause}; a PEFT adapter is expected"))
                .hint("`save_pretrained` of a PEFT model and `undertone export --format peft` write one"));
        }
        let config: Map<String, Value> = serde_json::from_slice(&read_regular(&path)?).map_err(|error| {
            InputError::new(&path, format!("is not a JSON object: {error}")).at(Place::Line(error.line()))
        })?;
        let refused = |key: &str, cause: String, hint: &str| {
            InputError::new(&path, cause).at(Place::Named(key.into())).hint(hint)
        };
        if let Some((key, cause)) = unsupported(&config) {
            return Err(refused(key, cause, MERGE));
        }
        let number = |key: &str| {
            let value = config.get(key).and_then(Value::as_f64).filter(|value| *value > 0.0);
            value.ok_or_else(|| refused(key, format!("`{key}` is not a number above 0"), "restore the file"))
        };
        let rank = number("r")?;
        if rank.fract() != 0.0 || rank > 65_536.0 {
            return Err(refused("r", format!("`r` ({rank}) is not a rank"), "restore the file"));
        }
        let lora = LoraConfig {
            rank: rank as usize,
            alpha: number("lora_alpha")?,
            dropout: config.get("lora_dropout").and_then(Value::as_f64).unwrap_or_default(),
            rslora: config.get("use_rslora").and_then(Value::as_bool).unwrap_or_default(),
            targets: targets(&config, &path)?,
        };
        let stacked = ["rank_pattern", "alpha_pattern"].iter().any(|key| config.get(*key).is_some_and(is_set));
        if stacked && !is_stacked(&config, &lora) {
            let cause = "`rank_pattern` and `alpha_pattern` give layers other ranks, which is not supported".to_owned();
            return Err(refused("rank_pattern", cause, MERGE));
        }
        Ok(Self { folder: folder.to_owned(), stacked, lora })
    }

    /// Adds the adapters to a model without any, with the values of the folder.
    ///
    /// # Errors
    /// The file of matrices lacks one that the options name, has others too, or has other shapes than the model's.
    pub fn put_on(&self, model: &mut Decoder) -> Result<(), InputError> {
        model.add_adapters(&self.lora, 0);
        let (device, family, rank) = (model.device(), model.config.family, self.lora.rank);
        let path = self.folder.join(ADAPTER_WEIGHTS);
        let mut files = WeightFiles::open_file(&path)?;
        for (number, block) in model.blocks.iter_mut().enumerate() {
            for &(layer, parts) in peft_layers(family) {
                let adapted = parts.iter().filter(|part| self.lora.targets.contains(part)).count();
                if adapted == 0 {
                    continue;
                }
                if adapted < parts.len() {
                    let cause = format!(
                        "`target_modules` must name `{}`, which is one matrix in this family",
                        peft_module(layer)
                    );
                    return Err(InputError::new(self.folder.join(ADAPTER_CONFIG), cause)
                        .at(Place::Named("target_modules".into()))
                        .hint(MERGE));
                }
                let stack = if self.stacked { parts.len() } else { 1 };
                let shapes: Vec<[usize; 2]> =
                    parts.iter().map(|&part| block.linear(part).weight.value().dims()).collect();
                let (rows, width) = (shapes.iter().map(|[rows, _]| rows).sum::<usize>(), shapes[0][1]);
                let name = |matrix: &str| format!("{PEFT_PREFIX}model.layers.{number}.{layer}.{matrix}.weight");
                let a = files.take(&name("lora_A"), &[stack * rank, width])?;
                let b = files.take(&name("lora_B"), &[rows, stack * rank])?;
                let mut rows_of_b = b.as_slice();
                for (place, (&part, [rows, _])) in parts.iter().zip(shapes).enumerate() {
                    let (own, rest) = rows_of_b.split_at(rows * stack * rank);
                    rows_of_b = rest;
                    let place = if stack == 1 { 0 } else { place };
                    let own = block_of_columns(own, [place, stack, rank]).ok_or_else(|| {
                        InputError::new(&path, "is not made of one block for each projection, as `rank_pattern` says")
                            .at(Place::Named(name("lora_B")))
                            .hint(MERGE)
                    })?;
                    let a = a[place * rank * width..][..rank * width].to_vec();
                    let adapter = block.linear_mut(part).adapter.as_mut().expect("it was added");
                    adapter.a.set(Tensor::from_data(TensorData::new(a, [rank, width]), &device));
                    adapter.b.set(Tensor::from_data(TensorData::new(own, [rows, rank]), &device));
                }
            }
        }
        files.finish()
    }
}

/// The columns of block number `place` of a matrix `[rows, blocks · width]`; `None` if another block is not zero.
fn block_of_columns(matrix: &[f32], [place, blocks, width]: [usize; 3]) -> Option<Vec<f32>> {
    let (own, others): (Vec<_>, Vec<_>) =
        matrix.chunks(width).enumerate().partition(|(index, _)| index % blocks == place);
    let is_zero = others.iter().all(|(_, chunk)| chunk.iter().all(|value| *value == 0.0));
    is_zero.then(|| own.into_iter().flat_map(|(_, chunk)| chunk).copied().collect())
}

/// Whether the options give each matrix that projections share the ranks of all of them together, and nothing else.
fn is_stacked(config: &Map<String, Value>, lora: &LoraConfig) -> bool {
    let shared: Vec<PeftLayer> =
        FUSED.into_iter().filter(|(_, parts)| parts.len() > 1 && lora.targets.contains(&parts[0])).collect();
    let is_given = |key: &str, expected: &dyn Fn(usize) -> f64| {
        let given = config.get(key).and_then(Value::as_object);
        given.is_some_and(|given| given.len() == shared.len())
            && shared.iter().all(|(path, parts)| {
                let value = given.and_then(|given| given.get(peft_module(path))?.as_f64());
                value.is_some_and(|value| (value / expected(parts.len()) - 1.0).abs() < 1e-9)
            })
    };
    is_given("rank_pattern", &|parts| (parts * lora.rank) as f64)
        && is_given("alpha_pattern", &|parts| stacked_alpha(lora, parts))
}

/// The first option that this decoder does not compute, and what it is.
fn unsupported(config: &Map<String, Value>) -> Option<(&'static str, String)> {
    let kind = config.get("peft_type").unwrap_or(&Value::Null);
    if kind != "LORA" {
        return Some(("peft_type", format!("the kind of adapter is {kind}, and only \"LORA\" is supported")));
    }
    for key in UNSUPPORTED {
        if let Some(value) = config.get(key).filter(|value| is_set(value)) {
            return Some((key, format!("`{key}` is {value}, which is not supported")));
        }
    }
    if let Some(bias) = config.get("bias").filter(|bias| !bias.is_null() && *bias != "none") {
        return Some(("bias", format!("`bias` is {bias}, and only \"none\" is supported")));
    }
    // These take a part of the base model's weights out of it and into the adapter.
    let start = config.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default();
    let changes = ["pissa", "olora", "corda", "loftq"].iter().any(|name| start.to_lowercase().starts_with(name));
    changes
        .then(|| ("init_lora_weights", format!("`init_lora_weights` is {start:?}, which changes the base model too")))
}

/// Whether an option is neither absent nor off.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
        _ => true,
    }
}

/// The projections that `target_modules` names.
fn targets(config: &Map<String, Value>, path: &Path) -> Result<Vec<Projection>, InputError> {
    let known = || SEPARATE.iter().chain(&FUSED);
    let refused = |cause: String| {
        let mut names: Vec<&str> = known().map(|(path, _)| peft_module(path)).collect();
        names.sort_unstable();
        names.dedup();
        let hint = format!("adapters of these layers are supported: {}; {MERGE}", names.join(", "));
        InputError::new(path, cause).at(Place::Named("target_modules".into())).hint(hint)
    };
    let named = match config.get("target_modules") {
        Some(Value::String(all)) if all == "all-linear" => return Ok(Projection::ALL.to_vec()),
        Some(Value::Array(names)) if !names.is_empty() => names,
        other => {
            return Err(refused(format!("`target_modules` is {}, not a list of names", other.unwrap_or(&Value::Null))));
        }
    };
    let mut targets = Vec::new();
    for name in named {
        // PEFT writes whole paths if there are few; the matrices show whether every block has them.
        let module = name.as_str().map(peft_module);
        let layer = known().find(|(path, _)| module == Some(peft_module(path)));
        let (_, parts) =
            layer.ok_or_else(|| refused(format!("`target_modules` names {name}, which is no layer of a block")))?;
        targets.extend_from_slice(parts);
    }
    targets.sort_unstable();
    targets.dedup();
    Ok(targets)
}
