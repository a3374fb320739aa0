//! GGUF files, and weights of 16 bits.

use super::*;

/// A GGUF file holds the model, its tokenizer, its chat template and the end of a turn; imported, it is the same model.
#[test]
fn a_gguf_file_is_the_same_model() {
    use WeightType::{Bf16, F16, F32, Q4_0, Q4K, Q8_0};
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
        for (kind, name, largest) in [
            (F32, "f32", 2e-4),
            (F16, "f16", 0.2),
            (Bf16, "bf16", 1.0),
            (Q8_0, "q8_0", 2.0),
            (Q4K, "q4_k", 20.0),
            (Q4_0, "q4_0", 20.0),
        ] {
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
        assert!(
            sizes[0] > sizes[1] && sizes[1] == sizes[2] && sizes[2..].is_sorted_by(|one, other| one > other),
            "{sizes:?}"
        );
    }
}

/// Every family, with the blocks that llama.cpp expects of it.
pub(super) fn families_of_llama_cpp() -> BTreeMap<String, Value> {
    let mut all = families();
    for (name, config) in &mut all {
        let local = |blocks: usize| -> Vec<&str> {
            (1..=blocks).map(|block| if block % 6 == 0 { "full_attention" } else { "sliding_attention" }).collect()
        };
        if config.get("sliding_window").is_some_and(Value::is_number) {
            config["sliding_window"] = json!(40);
        }
        if name.starts_with("gemma3") {
            (config["num_hidden_layers"], config["layer_types"]) = (json!(6), json!(local(6)));
            config["query_pre_attn_scalar"] = config["head_dim"].clone();
        }
        if name == "smollm3" {
            config["num_hidden_layers"] = json!(4);
            config["no_rope_layer_interval"] = json!(4);
            config["no_rope_layers"] = json!([1, 1, 1, 0]);
            config["layer_types"] = json!(vec!["full_attention"; 4]);
        }
    }
    all
}

#[test]
fn every_family_is_a_gguf_file() {
    for (name, config) in families_of_llama_cpp() {
        let (work, model) = base_of(&config);
        let (from, to) = (work.path().join("base"), work.path().join("gguf"));
        let model = with_adapters(model, &lora(false, &Projection::ALL), 0.2);
        let exported = export(Gguf, &model, &from, &to).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(exported.largest_logit_difference < 1e-3, "{name}: {exported:?}");
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
    let of = |family: &str| families()[family].clone();
    let config_json = |family: &str, what: &str| {
        let family = family.split('-').next().unwrap();
        let model_type = if family == "gemma3" { "gemma3_text" } else { family };
        format!("config.json: has {what}, which GGUF cannot say of `{model_type}` models")
    };
    refused(&of("smollm3"), None, &config_json("smollm3", "other blocks without rotary positions"));
    refused(&of("mistral"), None, &config_json("mistral", "windows of very few tokens"));
    let mut gemma = of("gemma3");
    gemma["sliding_window"] = json!(40);
    refused(&gemma, None, &config_json("gemma3", "other blocks with windows of attention"));
    let normalizer = Some(("normalizer", json!({"type": "NFC"})));
    refused(&config(true), normalizer, "tokenizer.json, `normalizer`: has no counterpart in GGUF");
    let mut model = tokenizer()["model"].clone();
    model["vocab"]["Ġto"] = json!(12);
    model["ignore_merges"] = json!(true);
    refused(
        &config(true),
        Some(("model", model)),
        "tokenizer.json, `model.ignore_merges`: `true` cannot be said of `gpt-2`",
    );
    let split = json!({"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false});
    let steps = json!({"type": "Sequence", "pretokenizers": [split, tokenizer()["pre_tokenizer"]]});
    refused(
        &config(true),
        Some(("pre_tokenizer", steps)),
        "tokenizer.json, `pre_tokenizer`: splits text in a way that is not written as GGUF; those of SmolLM2, GPT-2, Llama 3 and Qwen 2 are",
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
