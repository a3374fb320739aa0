//! Both exports of a tiny Llama are complete and compute the same logits; a refused export leaves nothing behind.
//!
//! The last test exports a real model for `make interop`, which loads the folders with transformers, PEFT and llama.cpp. It
//! runs where `UNDERTONE_PEER_OUT` names a new folder.

mod refusals;
mod template;
mod types;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;
use undertone_data::{
    Access, Encoded, GivenFormat, PromptOptions, ReadOptions, Reader, Role, Speaker, StreamBuilder, Timing, View,
    derived_seed,
};
use undertone_export::Format::{self, Gguf, Hf, Peft};
use undertone_export::{Exported, Original, Packing, WeightType};
use undertone_files::InputError;
use undertone_model::{
    Cache, ChatMessage, ChatTemplate, Decoder, LoraConfig, ModelConfig, PeftAdapter, Projection, SpecialTokens,
    load_template, load_tokenizer,
};
use undertone_testing::{folders, program, tiny_folder};

/// Random values in ±`bound`; the name is the seed.
fn random(name: &str, count: usize, bound: f32) -> Vec<f32> {
    let draw = |index: usize| derived_seed(name, &[&index.to_string()]);
    let drawn = (0..count.div_ceil(32)).flat_map(draw).take(count);
    drawn.map(|byte| (f32::from(byte) / 127.5 - 1.0) * bound).collect()
}

fn config(tied: bool) -> Value {
    json!({
        "_name_or_path": "tiny", "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 40, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 64,
        "tie_word_embeddings": tied, "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "bfloat16",
        "a_key_of_tomorrow": [1, 2]
    })
}

fn tokenizer() -> Value {
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    };
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokens = ["<|im_start|>", "<|im_end|>", "Ġ", "a", "e", "h", "n", "o", "t", "w", "th", "the"];
    let vocabulary: BTreeMap<&str, usize> = tokens.iter().enumerate().map(|(id, &token)| (token, id)).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [special(0, "<|im_start|>"), special(1, "<|im_end|>")],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
            "merges": [["t", "h"], ["th", "e"]]}
    })
}

/// A temporary folder with a Llama in `base/`, and this model.
fn base(tied: bool) -> (TempDir, Decoder) {
    base_of(&config(tied))
}

/// A temporary folder with a model in `base/`, and this model.
fn base_of(config: &Value) -> (TempDir, Decoder) {
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("base");
    fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    // The spacing shows whether a file is copied or written anew.
    write("config.json", &config.to_string());
    write("tokenizer.json", &format!(" {}", tokenizer()));
    let chatml = "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}{% endfor %}";
    write("tokenizer_config.json", &json!({ "chat_template": chatml }).to_string());
    write("special_tokens_map.json", r#"{"eos_token" : "<|im_end|>"}"#);
    write("generation_config.json", r#"{"eos_token_id":  1}"#);

    let mut weights = Vec::new();
    let config = ModelConfig::read(&folder).unwrap();
    let decoder = Decoder::assemble(config, &Device::flex(), |name, shape| {
        let values = random(name, shape.iter().product(), 0.5);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        weights.push((name.to_owned(), shape.to_vec(), bytes));
        Ok::<_, Infallible>(values)
    });
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let views =
        weights.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(folder.join("model.safetensors"), safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
    (work, decoder.unwrap())
}

/// Adapters with random A and B.
fn with_adapters(mut model: Decoder, lora: &LoraConfig, bound: f32) -> Decoder {
    model.add_adapters(lora, 7);
    for parameter in model.parameters_mut() {
        if parameter.name.contains(".lora_") {
            let [rows, columns] = parameter.value().dims();
            let values = random(&parameter.name, rows * columns, bound);
            parameter.set(Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::flex()));
        }
    }
    model
}

/// Scales every weight, in place of training all of them.
fn fully_tuned(mut model: Decoder) -> Decoder {
    model.train_all();
    for parameter in model.parameters_mut() {
        parameter.set(parameter.value().clone() * 1.25);
    }
    model
}

fn lora(rslora: bool, targets: &[Projection]) -> LoraConfig {
    LoraConfig { rank: 3, alpha: 4.0, dropout: 0.1, rslora, targets: targets.to_vec() }
}

fn provenance() -> Value {
    json!({"experiment": {"seed": 1}, "hash": "0f", "base_sha256": "a0"})
}

fn logits(model: &Decoder, tokens: &[u32]) -> Vec<f32> {
    model.logits(tokens, &mut Cache::default(), false).into_data().try_into_vec().unwrap()
}

fn largest_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn json(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
}

/// The sorted names in a folder, hidden ones included.
fn listing(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Exports a model whose conversations were written as its folder says.
fn export(format: Format, model: &Decoder, folder: &Path, to: &Path) -> Result<Exported, InputError> {
    let template = load_template(folder, &model.config, &GivenFormat::default())?;
    format.write(
        model,
        Original { folder, name: "./base", about: "", template: &template },
        to,
        &provenance(),
        WeightType::F32.into(),
    )
}

/// Names and shapes in a safetensors file.
fn shapes(path: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, tensor)| (name.to_owned(), tensor.shape().to_vec())).collect()
}

fn check_copied(base: &Path, folder: &Path, names: &[&str]) {
    for name in names {
        assert_eq!(fs::read(base.join(name)).unwrap(), fs::read(folder.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_merged_model_is_complete_and_equal() {
    let (work, model) = base(true);
    let (from, to) = (work.path().join("base"), work.path().join("new/merged"));
    let tokens = [2, 9, 31, 4, 4, 0, 17];
    let untrained = logits(&model, &tokens);
    let model = with_adapters(model, &lora(false, &Projection::ALL), 0.5);
    let expected = logits(&model, &tokens);
    assert!(largest_difference(&untrained, &expected) > 0.1, "the adapters change something");

    let exported = export(Hf, &model, &from, &to).unwrap();
    let files = [
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "undertone.json",
        "README.md",
    ];
    assert_eq!((&exported.folder, exported.files.as_slice()), (&to, files.map(String::from).as_slice()));
    assert!(exported.largest_logit_difference < 1e-4, "{}", exported.largest_logit_difference);
    let mut sorted = files;
    sorted.sort();
    assert_eq!(listing(&to), sorted);
    assert_eq!(listing(&work.path().join("new")), ["merged"]);

    let read_back = Decoder::load(&to, &Device::flex()).unwrap();
    assert!(largest_difference(&logits(&read_back, &tokens), &expected) < 1e-4);
    let ids = load_tokenizer(&to, &read_back.config).unwrap().encode("the town", false).unwrap();
    assert_eq!(ids.get_ids(), [11, 2, 8, 7, 9, 6]);

    check_copied(&from, &to, &["tokenizer.json", "special_tokens_map.json", "generation_config.json"]);
    assert_eq!(json(&to, "tokenizer_config.json"), json!({"eos_token": "<|im_end|>"}));
    let mut expected = config(true);
    expected["torch_dtype"] = json!("float32");
    assert_eq!(json(&to, "config.json"), expected);
    assert_eq!(json(&to, "undertone.json"), provenance());
    let shapes = shapes(&to.join("model.safetensors"));
    assert_eq!(shapes.len(), 2 + 2 * 9, "{:?}", shapes.keys());
    assert!(!shapes.contains_key("lm_head.weight"));
    assert_eq!(shapes["model.norm.weight"], [16]);
    assert_eq!(shapes["model.layers.1.mlp.down_proj.weight"], [16, 24]);
}

/// A configuration of every family, by name.
fn families() -> BTreeMap<String, Value> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/families");
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name.trim_end_matches(".json").to_owned(), json(&golden, &name)["config"].clone())
    };
    fs::read_dir(&golden).unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// Exports have the tensors of the base model under its names, fused matrices and biases too.
#[test]
fn every_family_is_exported_whole() {
    for (name, config) in families() {
        let (work, model) = base_of(&config);
        let (from, to) = (work.path().join("base"), work.path().join("merged"));
        let model = with_adapters(model, &lora(false, &Projection::ALL), 0.5);
        let exported = export(Hf, &model, &from, &to).unwrap();
        assert!(exported.largest_logit_difference < 1e-3, "{name}: {exported:?}");
        let shapes = [&from, &to].map(|folder| shapes(&folder.join("model.safetensors")));
        assert_eq!(shapes[0], shapes[1], "{name}");
        let mut expected = config.clone();
        let mut written = json(&to, "config.json");
        for key in ["dtype", "torch_dtype"] {
            for config in [&mut written, &mut expected] {
                config.as_object_mut().unwrap().shift_remove(key);
            }
        }
        assert_eq!(written, expected, "{name}");

        for rslora in [false, true] {
            let (_, model) = base_of(&config);
            let model = with_adapters(model, &lora(rslora, &Projection::ALL), 0.5);
            let to = work.path().join(format!("adapter-{rslora}"));
            let exported = export(Peft, &model, &from, &to).unwrap();
            assert!(exported.largest_logit_difference == 0.0, "{name}: {exported:?}");
        }
    }
}

/// Phi 3 has queries, keys and values in one matrix, and PEFT adapts it as one.
#[test]
fn adapters_that_share_a_matrix_are_stacked() {
    let (work, model) = base_of(&families()["phi3"]);
    let (from, to) = (work.path().join("base"), work.path().join("adapter"));
    let model = with_adapters(model, &lora(true, &Projection::ALL), 0.5);
    export(Peft, &model, &from, &to).unwrap();
    let written = json(&to, "adapter_config.json");
    assert_eq!(written["target_modules"], json!(["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]));
    assert_eq!(written["rank_pattern"], json!({"qkv_proj": 9, "gate_up_proj": 6}));
    let alpha = |module: &str| written["alpha_pattern"][module].as_f64().unwrap();
    assert!(
        (alpha("qkv_proj") - 4.0 * 3.0_f64.sqrt()).abs() < 1e-12
            && (alpha("gate_up_proj") - 32.0_f64.sqrt()).abs() < 1e-12
    );
    let shapes = shapes(&to.join("adapter_model.safetensors"));
    let of = |name: &str| shapes[&format!("base_model.model.model.layers.0.{name}.weight")].clone();
    assert_eq!([of("self_attn.qkv_proj.lora_A"), of("self_attn.qkv_proj.lora_B")], [vec![9, 16], vec![32, 9]]);

    let some = with_adapters(base_of(&families()["phi3"]).1, &lora(false, &[Projection::Q, Projection::O]), 0.5);
    let error = export(Peft, &some, &from, &work.path().join("some")).unwrap_err();
    assert_eq!(
        shown(&error),
        "some: is not written: `phi3` has `qkv_proj` in one matrix, and only some of its parts have adapters"
    );
}

/// As SmolLM2 without Instruct: its texts end with token 0, and the turns of training with another.
#[test]
fn generation_ends_where_a_turn_of_training_ends() {
    let (work, model) = base(true);
    let (from, to) = (work.path().join("base"), work.path().join("merged"));
    let write = |name: &str, text: &str| fs::write(from.join(name), text).unwrap();
    let mut of_base = config(true);
    of_base["eos_token_id"] = json!(0);
    write("config.json", &of_base.to_string());
    write("generation_config.json", r#"{"eos_token_id": 0, "temperature": 0.5}"#);
    write("tokenizer_config.json", r#"{"eos_token": {"content": "<|im_start|>"}, "model_max_length": 64}"#);
    write("special_tokens_map.json", r#"{"eos_token": "<|im_start|>"}"#);
    export(Hf, &model, &from, &to).unwrap();
    assert_eq!(json(&to, "config.json")["eos_token_id"], json!([1, 0]));
    assert_eq!(json(&to, "generation_config.json"), json!({"eos_token_id": [1, 0], "temperature": 0.5}));
    assert_eq!(json(&to, "tokenizer_config.json"), json!({"eos_token": "<|im_end|>", "model_max_length": 64}));
    assert_eq!(json(&to, "special_tokens_map.json"), json!({"eos_token": "<|im_end|>"}));
    // What an export exports stays.
    let again = work.path().join("again");
    let read_back = Decoder::load(&to, &Device::flex()).unwrap();
    export(Hf, &read_back, &to, &again).unwrap();
    for name in ["config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja"] {
        assert_eq!(fs::read(to.join(name)).unwrap(), fs::read(again.join(name)).unwrap(), "{name}");
    }
}

/// As [`export`], with another type of weights.
fn export_as(
    format: Format,
    kind: WeightType,
    model: &Decoder,
    folder: &Path,
    to: &Path,
) -> Result<Exported, InputError> {
    let template = load_template(folder, &model.config, &GivenFormat::default())?;
    format.write(
        model,
        Original { folder, name: "./base", about: "", template: &template },
        to,
        &provenance(),
        kind.into(),
    )
}

/// Large models are divided among files, which an index lists.
#[test]
fn weights_are_divided_by_size() {
    let (work, model) = base(true);
    let (from, to) = (work.path().join("base"), work.path().join("merged"));
    let template = load_template(&from, &model.config, &GivenFormat::default()).unwrap();
    let original = Original { folder: &from, name: "./base", about: "", template: &template };
    // The embedding alone has 2,560 bytes.
    let packing = Packing { shard_bytes: 6000, ..WeightType::F32.into() };
    let exported = Hf.write(&model, original, &to, &provenance(), packing).unwrap();
    assert_eq!(exported.largest_logit_difference, 0.0);
    let index = json(&to, "model.safetensors.index.json");
    let whole = shapes(&from.join("model.safetensors"));
    let total: usize = whole.values().map(|shape| 4 * shape.iter().product::<usize>()).sum();
    assert_eq!(index["metadata"]["total_size"], total);
    let files: Vec<String> = exported.files.iter().filter(|name| name.starts_with("model-")).cloned().collect();
    assert!(files.len() > 2 && !to.join("model.safetensors").exists(), "{files:?}");
    let mut found = BTreeMap::new();
    for name in &files {
        let shard = shapes(&to.join(name));
        let bytes: usize = shard.values().map(|shape| 4 * shape.iter().product::<usize>()).sum();
        assert!(bytes <= 6000, "{name}: {bytes}");
        assert!(shard.keys().all(|tensor| index["weight_map"][tensor] == **name));
        found.extend(shard);
    }
    assert_eq!(found, whole);
}

#[test]
fn an_adapter_is_complete_and_equal() {
    for rslora in [false, true] {
        let (work, model) = base(true);
        let (from, to) = (work.path().join("base"), work.path().join("adapter"));
        let model = with_adapters(model, &lora(rslora, &[Projection::V, Projection::Down, Projection::Q]), 0.5);
        let exported = export(Peft, &model, &from, &to).unwrap();
        let files = [
            "adapter_config.json",
            "adapter_model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "chat_template.jinja",
            "undertone.json",
            "README.md",
        ];
        assert_eq!(
            exported,
            Exported {
                folder: to.clone(),
                files: files.map(String::from).to_vec(),
                // The same values in the same operations.
                largest_logit_difference: 0.0,
            }
        );
        assert_eq!(listing(work.path()), ["adapter", "base"]);
        check_copied(&from, &to, &["tokenizer.json", "special_tokens_map.json"]);
        assert_eq!(json(&to, "undertone.json"), provenance());
        assert_eq!(
            json(&to, "adapter_config.json"),
            json!({
                "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "./base", "revision": null,
                "inference_mode": true, "r": 3, "lora_alpha": 4, "lora_dropout": 0.1, "use_rslora": rslora,
                "target_modules": ["q_proj", "v_proj", "down_proj"], "bias": "none", "fan_in_fan_out": false,
                "init_lora_weights": true, "use_dora": false, "modules_to_save": null, "layers_to_transform": null,
                "layers_pattern": null, "rank_pattern": {}, "alpha_pattern": {},
            })
        );
        let mut expected = BTreeMap::new();
        for layer in 0..2 {
            let paths = [("self_attn.q_proj", 16, 16), ("self_attn.v_proj", 16, 8), ("mlp.down_proj", 24, 16)];
            for (path, width, out) in paths {
                let path = format!("base_model.model.model.layers.{layer}.{path}");
                expected.insert(format!("{path}.lora_A.weight"), vec![3, width]);
                expected.insert(format!("{path}.lora_B.weight"), vec![out, 3]);
            }
        }
        assert_eq!(shapes(&to.join("adapter_model.safetensors")), expected);
    }
}

#[test]
fn a_fully_tuned_untied_model_has_its_head_and_no_adapter() {
    let (work, model) = base(false);
    let (from, to) = (work.path().join("base"), work.path().join("whole"));
    let model = fully_tuned(model);
    let exported = export(Hf, &model, &from, &to).unwrap();
    assert_eq!(exported.largest_logit_difference, 0.0);
    assert_eq!(shapes(&to.join("model.safetensors"))["lm_head.weight"], [40, 16]);
    let read_back = Decoder::load(&to, &Device::flex()).unwrap();
    assert_eq!(logits(&read_back, &[3, 1, 4]), logits(&model, &[3, 1, 4]));

    let error = export(Peft, &model, &from, &work.path().join("adapter")).unwrap_err();
    assert_eq!(shown(&error), "adapter: is not written: the model has no adapters");
    assert_eq!(error.hint.unwrap(), "export a fully fine-tuned model as a Hugging Face folder");
    assert_eq!(listing(work.path()), ["base", "whole"]);
}

/// The place and cause of an error, without the folder, which is random.
fn shown(error: &InputError) -> String {
    let name = error.path.file_name().unwrap_or("..".as_ref());
    format!("{}{}: {}", name.display(), error.place, error.cause)
}

/// Tokens of the tiny models.
const TOKENS: [u32; 12] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8];

/// Reads what `tests/interop/peer.py` made: an adapter of each family, by PEFT, and what the model then gives.
#[test]
fn adapters_of_peft_are_read() {
    let Some(out) = std::env::var_os("UNDERTONE_PEFT").map(PathBuf::from) else {
        eprintln!("skipped: `UNDERTONE_PEFT` is not set; it names a folder that `make interop` makes");
        return;
    };
    for name in families().keys() {
        let folder = out.join("families").join(name);
        let expected = json(&folder, "theirs.json");
        let theirs: Vec<f32> = serde_json::from_value(expected["logits"].clone()).unwrap();
        let mut model = Decoder::load(&folder.join("base"), &Device::flex()).unwrap();
        let without = largest_difference(&logits(&model, &TOKENS), &theirs);
        PeftAdapter::read(&folder.join("theirs")).unwrap().put_on(&mut model).unwrap();
        let difference = largest_difference(&logits(&model, &TOKENS), &theirs);
        eprintln!("{name}: adapter of PEFT {difference:.1e}, without it {without:.1e}");
        assert!(difference < 2e-3 && without > 1e-2, "{name}: {difference}, {without}");
    }
}

/// Writes `merged/`, `adapter/`, `gguf-TYPE/` and `expected.json` for `tests/interop`.
#[test]
fn a_peer_finds_what_it_needs() {
    let Some(out) = std::env::var_os("UNDERTONE_PEER_OUT").map(PathBuf::from) else {
        eprintln!("skipped: `UNDERTONE_PEER_OUT` is not set; it names a new folder for `make interop`");
        return;
    };
    let Some(from) = folders::model() else { return };
    let from = fs::canonicalize(from).unwrap();
    let lora = LoraConfig { rank: 8, alpha: 16.0, dropout: 0.05, rslora: true, targets: Projection::ALL.to_vec() };
    let model = with_adapters(Decoder::load(&from, &Device::flex()).unwrap(), &lora, 0.02);
    let merged = export(Hf, &model, &from, &out.join("merged")).unwrap();
    let adapter = export(Peft, &model, &from, &out.join("adapter")).unwrap();
    eprintln!("merged {}, adapter {}", merged.largest_logit_difference, adapter.largest_logit_difference);
    use WeightType::{Bf16, F16, F32, Q4_0, Q4K, Q8_0};
    for (kind, name) in [(F32, "f32"), (F16, "f16"), (Bf16, "bf16"), (Q8_0, "q8_0"), (Q4_0, "q4_0"), (Q4K, "q4_k")] {
        let exported = export_as(Gguf, kind, &model, &from, &out.join(format!("gguf-{name}"))).unwrap();
        eprintln!("GGUF in {name}: {}", exported.largest_logit_difference);
    }
    for (name, config) in families() {
        let (work, model) = base_of(&config);
        let (from, to) = (work.path().join("base"), out.join("families").join(name));
        fs::create_dir_all(to.join("base")).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::copy(from.join(file), to.join("base").join(file)).unwrap();
        }
        let model = with_adapters(model, &lora, 0.2);
        export(Peft, &model, &from, &to.join("adapter")).unwrap();
        let expected = json!({"tokens": TOKENS, "logits": logits(&model, &TOKENS)});
        fs::write(to.join("expected.json"), expected.to_string()).unwrap();
    }
    for (name, config) in types::families_of_llama_cpp() {
        let (work, model) = base_of(&config);
        // llama.cpp looks for tokens of Phi 3 if the name of a model, which is the folder's, has `phi3` in it.
        let to = out.join("gguf-families").join(name.replace("phi3", "phi-three"));
        let model = with_adapters(model, &lora, 0.2);
        export(Gguf, &model, &work.path().join("base"), &to).unwrap();
        let expected = json!({"tokens": TOKENS, "logits": logits(&model, &TOKENS)});
        fs::write(to.join("expected.json"), expected.to_string()).unwrap();
    }
    let text = "<|im_start|>user\nWhat did I mean? I asked for 3 recipes in 2026, and got twelve of them; the 2nd one was (almost) \
                right: lentils, Gemüse, 豆.<|im_end|>\n<|im_start|>reason\nI'm tired and  want something quick.<|im_end|>\n";
    let tokens = load_tokenizer(&from, &model.config).unwrap().encode(text, false).unwrap().get_ids().to_vec();
    let expected = json!({"base": from, "text": text, "tokens": tokens, "logits": logits(&model, &tokens)});
    fs::write(out.join("expected.json"), expected.to_string()).unwrap();
}
