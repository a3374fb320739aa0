//! Both exports of a tiny Llama are complete and compute the same logits; a refused export leaves nothing behind.
//!
//! The last test exports a real model for `make interop`, which loads the folders with transformers, PEFT and llama.cpp. It
//! runs where `UNDERTONE_PEER_OUT` names a new folder.

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
    Access, Encoded, GivenFormat, ReadOptions, Reader, Role, Speaker, StreamBuilder, Timing, View, derived_seed,
};
use undertone_export::Format::{self, Gguf, Hf, Peft};
use undertone_export::{Exported, Original, WeightType};
use undertone_files::InputError;
use undertone_model::{
    Cache, ChatMessage, ChatTemplate, Decoder, LoraConfig, ModelConfig, Projection, SpecialTokens, load_template,
    load_tokenizer,
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
    format.write(model, Original { folder, template: &template }, to, &provenance(), WeightType::F32)
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

/// Merged exports have the tensors of the base model under its names, fused matrices and biases too.
#[test]
fn every_family_is_exported_whole() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/families");
    for entry in fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        let config = json(path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap())["config"].clone();
        let (work, model) = base_of(&config);
        let (from, to) = (work.path().join("base"), work.path().join("merged"));
        let model = with_adapters(model, &lora(false, &Projection::ALL), 0.5);
        let exported = export(Hf, &model, &from, &to).unwrap();
        assert!(exported.largest_logit_difference < 1e-3, "{}: {exported:?}", path.display());
        let shapes = [&from, &to].map(|folder| shapes(&folder.join("model.safetensors")));
        assert_eq!(shapes[0], shapes[1], "{}", path.display());
        let mut expected = config;
        let mut written = json(&to, "config.json");
        for key in ["dtype", "torch_dtype"] {
            for config in [&mut written, &mut expected] {
                config.as_object_mut().unwrap().shift_remove(key);
            }
        }
        assert_eq!(written, expected, "{}", path.display());

        let adapter = export(Peft, &model, &from, &work.path().join("adapter"));
        match adapter {
            Ok(_) => assert!(!model.config.family.fused),
            Err(error) => {
                assert!(model.config.family.fused, "{error}");
                let cause = "is not written: `phi3` has queries, keys and values in one matrix, and these adapters have one each";
                assert_eq!(error.cause, cause);
            }
        }
    }
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

/// Rendered by Jinja and encoded as a whole, conversations have the ids of training, in every format.
#[test]
fn the_exported_template_gives_the_ids_of_training() {
    let given = |format: Value| serde_json::from_value::<GivenFormat>(format).unwrap();
    let formats = [
        given(json!({})),
        given(json!({"opening": "<|im_start|>", "separator": " \n\t", "headers": {"reason": "why\\'{{:\r\n"}})),
        given(json!({"end": "<|im_start|>", "headers": {"user": "U ", "assistant": "A ", "system": "<|im_end|>"}})),
    ];
    let work = tempfile::tempdir().unwrap();
    let from = work.path().join("base");
    tiny_folder::write(&from);
    let model = Decoder::load(&from, &Device::flex()).unwrap();
    let data = work.path().join("data.jsonl");
    fs::write(&data, program::SAMPLE).unwrap();
    let (records, _) = Reader::open(&[&data], ReadOptions::default()).unwrap().read_all().unwrap();
    for (index, format) in formats.iter().enumerate() {
        let to = work.path().join(format!("merged{index}"));
        let template = load_template(&from, &model.config, format).unwrap();
        Hf.write(&model, Original { folder: &from, template: &template }, &to, &provenance(), WeightType::F32).unwrap();
        let jinja = fs::read_to_string(to.join("chat_template.jinja")).unwrap();
        let jinja = ChatTemplate::parse(&jinja, SpecialTokens::default()).unwrap();
        let tokenizer = load_tokenizer(&to, &model.config).unwrap();
        let builder = StreamBuilder::new(template.clone(), "Be brief.");
        for record in &records {
            let mut turns = vec![("system", "Be brief.")];
            for message in &record.conversation.messages {
                turns.push((Speaker::Message(message.role).name(), message.content.as_str()));
                let kind = Speaker::Thought(message.thought_kind()).name();
                turns.extend(message.thoughts.iter().map(|thought| (kind, thought.content.as_str())));
            }
            let messages: Vec<_> = turns.iter().map(|&(role, content)| ChatMessage { role, content }).collect();
            let rendered = jinja.render_as(&messages, true, Some("user")).unwrap();
            let ids = tokenizer.encode_fast(rendered, false).unwrap();
            let encoded = Encoded::new(record.conversation.clone(), &template, usize::MAX);
            let view = View { access: Access::Past, timing: Timing::Anchored, ..View::default() };
            let (trained, _) = builder.prompt(&encoded, view, Speaker::Message(Role::User), usize::MAX);
            assert_eq!(ids.get_ids(), trained, "{format:?}: {}", record.conversation.id);
        }
        let unknown = [ChatMessage { role: "tool", content: "x" }];
        assert_eq!(jinja.render(&unknown, false).unwrap_err(), "line 14: the role tool was not in training");
        // A model that is fine-tuned again has the same format.
        if index < 2 {
            assert_eq!(load_template(&to, &model.config, &given(json!({}))).unwrap().format(), template.format());
        }
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
    format.write(model, Original { folder, template: &template }, to, &provenance(), kind)
}

/// A GGUF file holds the model, its tokenizer, its chat template and the end of a turn; imported, it is the same model.
#[test]
fn a_gguf_file_is_the_same_model() {
    use WeightType::{Bf16, F16, F32, Q4_0, Q8_0};
    // Rows of 64 numbers: two blocks.
    for tied in [true, false] {
        let mut wide = config(tied);
        for (key, value) in [("hidden_size", 64), ("intermediate_size", 96), ("head_dim", 16)] {
            wide[key] = json!(value);
        }
        let (work, model) = base_of(&wide);
        let from = work.path().join("base");
        let model = with_adapters(model, &lora(false, &Projection::ALL), 0.5);
        let mut sizes = Vec::new();
        for (kind, name, largest) in
            [(F32, "f32", 2e-4), (F16, "f16", 0.2), (Bf16, "bf16", 1.0), (Q8_0, "q8_0", 2.0), (Q4_0, "q4_0", 20.0)]
        {
            let to = work.path().join(name);
            let exported = export_as(Gguf, kind, &model, &from, &to).unwrap();
            assert_eq!(exported.files, ["model.gguf", "Modelfile", "undertone.json", "README.md"]);
            let difference = exported.largest_logit_difference;
            assert!(difference <= largest && (difference > 0.0 || kind == F32), "{name}: {difference}");
            assert_eq!(listing(&to), ["Modelfile", "README.md", "model.gguf", "undertone.json"]);
            sizes.push(fs::metadata(to.join("model.gguf")).unwrap().len());

            let folder = work.path().join(format!("{name}-imported"));
            let report = undertone_model::import::gguf(&to.join("model.gguf"), &folder).unwrap();
            assert_eq!(report.config.eos_token_ids, [1]);
            let [ours, theirs] = [&from, &folder].map(|folder| load_tokenizer(folder, &model.config).unwrap());
            for text in ["the town", "to the the", "<|im_start|>the<|im_end|>"] {
                let [ours, theirs] = [&ours, &theirs].map(|one| one.encode_fast(text, false).unwrap());
                assert_eq!(ours.get_ids(), theirs.get_ids(), "{text}");
            }
            let none = GivenFormat::default();
            let [ours, theirs] = [&from, &folder].map(|folder| load_template(folder, &model.config, &none).unwrap());
            assert_eq!(ours.format(), theirs.format());
            if kind == F32 {
                let read_back = Decoder::load(&folder, &Device::flex()).unwrap();
                assert!(largest_difference(&logits(&read_back, &[3, 1, 4]), &logits(&model, &[3, 1, 4])) < 2e-4);
            }
        }
        assert!(sizes[0] > sizes[1] && sizes[1] == sizes[2] && sizes[2] > sizes[3] && sizes[3] > sizes[4], "{sizes:?}");
    }
}

#[test]
fn what_a_gguf_file_cannot_hold_is_refused() {
    let refused = |config: &Value, part_of_tokenizer: Option<(&str, Value)>, expected: &str| {
        let (work, model) = base_of(config);
        let folder = work.path().join("base");
        if let Some((part, value)) = part_of_tokenizer {
            let mut file = tokenizer();
            file[part] = value;
            fs::write(folder.join("tokenizer.json"), file.to_string()).unwrap();
        }
        let error = export(Gguf, &model, &folder, &work.path().join("out")).unwrap_err();
        let within = format!("{}/", work.path().display());
        assert_eq!(shown(&error).replace(&within, ""), expected);
        assert_eq!(
            error.hint.unwrap(),
            "export a Hugging Face folder, and convert it with llama.cpp's `convert_hf_to_gguf.py`"
        );
        assert_eq!(listing(work.path()), ["base"]);
    };
    let mut scaled = config(true);
    scaled["rope_scaling"] = json!({"rope_type": "linear", "factor": 2.0});
    refused(&scaled, None, "out: is not written: models with scaled rotary positions are not written as GGUF");
    let mut qwen = config(true);
    qwen["model_type"] = json!("qwen3");
    qwen["architectures"] = json!(["Qwen3ForCausalLM"]);
    qwen["head_dim"] = json!(4);
    refused(&qwen, None, "out: is not written: `qwen3` models are not written as GGUF; `llama` and `mistral` are");
    let mut biased = config(true);
    biased["attention_bias"] = json!(true);
    refused(&biased, None, "out: is not written: models with biases are not written as GGUF");
    let normalizer = Some(("normalizer", json!({"type": "NFC"})));
    refused(&config(true), normalizer, "tokenizer.json, `normalizer`: has no counterpart in GGUF");
    let split = json!({"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false});
    let steps = json!({"type": "Sequence", "pretokenizers": [split, tokenizer()["pre_tokenizer"]]});
    refused(
        &config(true),
        Some(("pre_tokenizer", steps)),
        "tokenizer.json, `pre_tokenizer`: splits text in a way that is not written as GGUF; those of SmolLM2 and GPT-2 are",
    );
}

/// Half of the bytes, the type in `config.json`, and nearly the same logits.
#[test]
fn weights_of_16_bits_are_written() {
    let (work, model) = base(true);
    let from = work.path().join("base");
    for (kind, name, largest) in [(WeightType::F16, "float16", 0.1), (WeightType::Bf16, "bfloat16", 0.5)] {
        let to = work.path().join(name);
        let exported = export_as(Hf, kind, &model, &from, &to).unwrap();
        assert!((1e-6..largest).contains(&exported.largest_logit_difference), "{exported:?}");
        assert_eq!(json(&to, "config.json")["torch_dtype"], name);
        let sizes = [&from, &to].map(|folder| fs::metadata(folder.join("model.safetensors")).unwrap().len());
        assert!(sizes[1] < sizes[0] * 6 / 10, "{sizes:?}");
        assert_eq!(shapes(&from.join("model.safetensors")), shapes(&to.join("model.safetensors")));
    }
    let to = work.path().join("out");
    let cause = |format, kind, model: &Decoder| export_as(format, kind, model, &from, &to).unwrap_err().cause;
    let blocks = "is not written: a Hugging Face folder has no blocks of 4 or 8 bits here";
    assert_eq!(cause(Hf, WeightType::Q8_0, &model), blocks);
    assert_eq!(cause(Peft, WeightType::F16, &model), "is not written: adapters are only written in F32");
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
                "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": from, "revision": null,
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

/// Exports after `change`, to the path that it returns. Expects this error, and no file created or removed.
fn check_refused(
    format: Format,
    change: impl FnOnce(&Path, &mut Decoder) -> PathBuf,
    expect: &str,
    hint: Option<&str>,
) {
    let (work, model) = base(true);
    let mut model = with_adapters(model, &lora(false, &Projection::ALL), 0.5);
    let folder = &work.path().join("base");
    let template = load_template(folder, &model.config, &GivenFormat::default()).unwrap();
    let to = change(work.path(), &mut model);
    let before = listing(work.path());
    let original = Original { folder, template: &template };
    let error = format.write(&model, original, &to, &provenance(), WeightType::F32).unwrap_err();
    let within = format!("{}/", work.path().display());
    assert_eq!(shown(&error).replace(&within, ""), expect);
    assert_eq!(error.hint.as_deref(), hint, "{error}");
    assert_eq!(listing(work.path()), before);
}

#[test]
fn an_export_does_not_overwrite() {
    for format in [Hf, Peft] {
        check_refused(
            format,
            |work, _| {
                fs::create_dir(work.join("out")).unwrap();
                work.join("out")
            },
            "out: already exists",
            Some("choose another name, or remove it first"),
        );
    }
}

#[test]
fn a_refused_export_leaves_nothing_behind() {
    let base_hint = "give the folder of the model that was fine-tuned";
    let diverged = "the training has diverged; export an earlier checkpoint, or train with a lower learning rate";
    for format in [Hf, Peft] {
        check_refused(
            format,
            |work, _| {
                fs::remove_file(work.join("base/tokenizer.json")).unwrap();
                work.join("out")
            },
            "tokenizer.json: is missing; an export needs the tokenizer",
            Some("give the folder of the model that was fine-tuned, complete with its tokenizer"),
        );
        check_refused(
            format,
            |work, _| {
                let mut other = config(true);
                other["rope_theta"] = json!(20000.0);
                fs::write(work.join("base/config.json"), other.to_string()).unwrap();
                work.join("out")
            },
            "config.json, `rope_theta`: is `20000`, but the fine-tuned model has `10000`",
            Some(base_hint),
        );
        check_refused(
            format,
            |work, model| {
                let b = &mut model.blocks[1].up.adapter.as_mut().unwrap().b;
                b.set(b.value().clone() * f32::NAN);
                work.join("out")
            },
            "out, `model.layers.1.mlp.up_proj.lora_B.weight`: is not written: value 0 of this weight is `NaN`, not a finite number",
            Some(diverged),
        );
        check_refused(
            format,
            |work, model| {
                // Every weight is finite, but their products are not. The base has the same weights.
                for (parameter, factor) in [(&mut model.norm.weight, 3e38), (&mut model.embedding, 1e3)] {
                    parameter.set(parameter.value().clone() * factor);
                    let values: Vec<f32> = parameter.value().clone().into_data().try_into_vec().unwrap();
                    replace_in_base(work, &parameter.name, &values);
                }
                work.join("out")
            },
            "out: is not written: the model computes the logit `-inf`, not a finite number",
            Some(diverged),
        );
        // The first files are written before this one fails.
        check_refused(
            format,
            |work, _| {
                fs::create_dir(work.join("base/added_tokens.json")).unwrap();
                work.join("out")
            },
            "added_tokens.json: is not a regular file",
            None,
        );
        check_refused(
            format,
            |work, _| work.join("base/config.json/out"),
            "out: cannot write: `base/config.json` is not a folder",
            None,
        );
        check_refused(
            format,
            |work, _| work.join("nowhere/.."),
            "..: is not the name of a new folder",
            Some("name a folder that does not exist yet"),
        );
    }
    check_refused(
        Peft,
        |work, _| {
            replace_in_base(work, "model.norm.weight", &[1.0; 16]);
            work.join("out")
        },
        "base, `model.norm.weight`: this weight differs from the one that the adapters were trained on",
        Some(
            "give the folder of the model that was fine-tuned; if its own weights were trained too, export a Hugging Face folder",
        ),
    );
}

/// Overwrites the values of one tensor of the base model.
fn replace_in_base(work: &Path, name: &str, values: &[f32]) {
    let path = work.join("base/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let (header_bytes, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let (start, end) = header.info(name).unwrap().data_offsets;
    let new: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    bytes[8 + header_bytes + start..8 + header_bytes + end].copy_from_slice(&new);
    fs::write(path, bytes).unwrap();
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
    use WeightType::{Bf16, F16, F32, Q4_0, Q8_0};
    for (kind, name) in [(F32, "f32"), (F16, "f16"), (Bf16, "bf16"), (Q8_0, "q8_0"), (Q4_0, "q4_0")] {
        let exported = export_as(Gguf, kind, &model, &from, &out.join(format!("gguf-{name}"))).unwrap();
        eprintln!("GGUF in {name}: {}", exported.largest_logit_difference);
    }
    let text = "<|im_start|>user\nWhat did I mean? I asked for 3 recipes in 2026, and got twelve of them; the 2nd one was (almost) \
                right: lentils, Gemüse, 豆.<|im_end|>\n<|im_start|>reason\nI'm tired and  want something quick.<|im_end|>\n";
    let tokens = load_tokenizer(&from, &model.config).unwrap().encode(text, false).unwrap().get_ids().to_vec();
    let expected = json!({"base": from, "text": text, "tokens": tokens, "logits": logits(&model, &tokens)});
    fs::write(out.join("expected.json"), expected.to_string()).unwrap();
}
