//! What is read, and what is refused.

use std::fs;

use super::*;
use serde_json::json;

fn smollm2() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576,
        "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152, "rms_norm_eps": 1e-5,
        "rope_theta": 100000, "max_position_embeddings": 8192, "tie_word_embeddings": true,
        "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "rope_scaling": null,
    })
}

/// The SmolLM2 configuration with some keys replaced; a null removes the key.
fn with(changes: Value) -> Result<ModelConfig, InputError> {
    let mut value = smollm2();
    let object = value.as_object_mut().unwrap();
    for (key, change) in changes.as_object().unwrap() {
        match change {
            Value::Null => drop(object.shift_remove(key)),
            change => drop(object.insert(key.clone(), change.clone())),
        }
    }
    ModelConfig::from_json(Path::new("config.json"), value)
}

fn check_refused(changes: Value, expect: &str) {
    assert_eq!(with(changes).unwrap_err().to_string(), format!("`config.json`{expect}"));
}

#[test]
fn defaults_follow_the_architecture() {
    let config = with(json!({})).unwrap();
    assert_eq!((config.head_dim, config.query_width(), config.key_value_width()), (64, 576, 192));
    assert_eq!((config.bos_token_id, config.eos_token_ids.as_slice()), (Some(1), &[2][..]));
    assert_eq!(config.original, smollm2());

    let sparse = json!({"num_key_value_heads": null, "rope_theta": null, "tie_word_embeddings": null,
        "bos_token_id": null, "eos_token_id": null, "head_dim": 32});
    let config = with(sparse).unwrap();
    assert_eq!((config.num_key_value_heads, config.head_dim, config.query_width()), (9, 32, 288));
    assert_eq!((config.rotary[0].theta, config.tie_word_embeddings), (10_000.0, false));
    assert_eq!((config.bos_token_id, config.eos_token_ids.len()), (None, 0));
}

#[test]
fn both_spellings_of_theta_are_read() {
    let nested = json!({"rope_theta": null, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}});
    assert_eq!(with(nested).unwrap().rotary[0].theta, 500_000.0);
    check_refused(
        json!({"rope_parameters": {"rope_theta": 5e5}}),
        ", `rope_theta`: is `100000`, but `rope_parameters.rope_theta` is `500000`",
    );
    check_refused(
        json!({"rope_parameters": {"rope_theta": "x"}}),
        ", `rope_parameters.rope_theta`: is `x`, not a number",
    );
    check_refused(json!({"rope_theta": 0}), ", `rope_theta`: is `0`, not between 1 and 1e12");
}

#[test]
fn several_ends_are_read() {
    assert_eq!(with(json!({"eos_token_id": [2, 0]})).unwrap().eos_token_ids, [2, 0]);
    check_refused(
        json!({"eos_token_id": [2, 49152]}),
        ", `eos_token_id`: is `49152`, not a token id below `vocab_size` `49152`",
    );
    check_refused(json!({"bos_token_id": -1}), ", `bos_token_id`: is `-1`, not a token id below `vocab_size` `49152`");
}

#[test]
fn what_would_change_the_numbers_is_refused() {
    check_refused(
        json!({"model_type": "qwen2_moe"}),
        ", `model_type`: `qwen2_moe` is not supported; these are: `llama`, `qwen2`, `qwen3`, `mistral`, `gemma3_text`, \
        `smollm3`, `olmo2`, `phi3`, `granite`",
    );
    let nearest = |name: &str| with(json!({"model_type": name})).unwrap_err().hint.unwrap();
    assert_eq!(nearest("gemma3"), "the nearest supported family is `gemma3_text`");
    assert_eq!(nearest("gpt_neox"), "choose a base model of one of these families, such as SmolLM2");
    check_refused(json!({"model_type": null}), ", `model_type`: is missing");
    check_refused(
        json!({"architectures": ["LlamaForSequenceClassification"]}),
        ", `architectures`: `[\"LlamaForSequenceClassification\"]` is not supported; only `LlamaForCausalLM` is",
    );
    check_refused(
        json!({"rope_scaling": {"rope_type": "longrope", "factor": 8}}),
        ", `rope_scaling.rope_type`: `longrope` is not supported; `default`, `linear`, `dynamic`, `llama3` and `yarn` are",
    );
    check_refused(
        json!({"rope_scaling": {"rope_type": "default", "factor": 8}}),
        ", `rope_scaling.factor`: does not belong to the method `default`",
    );
    check_refused(json!({"rope_scaling": {"type": "linear"}}), ", `rope_scaling.factor`: is missing");
    check_refused(
        json!({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "default"}}),
        ", `rope_parameters`: differs from `rope_scaling`, which is the same setting",
    );
    check_refused(
        json!({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}}),
        ", `rope_scaling.high_freq_factor`: `4` is not above `low_freq_factor` `4`",
    );
    check_refused(json!({"sliding_window": 8}), ", `sliding_window`: is `8`, but this family has no windows");
    check_refused(
        json!({"final_logit_softcapping": 30.0}),
        ", `final_logit_softcapping`: `30.0` is not supported; only `null` is",
    );
    let qwen2 = |key: &str, value: Value| json!({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "num_hidden_layers": 2, key: value});
    check_refused(qwen2("mlp_bias", json!(true)), ", `mlp_bias`: `true` is not a setting of this family");
    check_refused(
        qwen2("layer_types", json!(["full_attention"])),
        ", `layer_types`: is not a list of 2 names, one a block",
    );
    check_refused(
        qwen2("layer_types", json!(["full_attention", "sliding_attention"])),
        ", `layer_types`: has `sliding_attention`, but there is no window",
    );
    check_refused(
        qwen2("layer_types", json!(["full_attention", "mamba"])),
        ", `layer_types`: `mamba` is not supported; `full_attention` and `sliding_attention` are",
    );
    check_refused(json!({"hidden_act": "gelu"}), ", `hidden_act`: `gelu` is not supported; only `silu` is");
    check_refused(
        json!({"quantization_config": {"bits": 4}}),
        ", `quantization_config`: quantised weights are not supported",
    );
    check_refused(
        json!({"partial_rotary_factor": 0.5}),
        ", `partial_rotary_factor`: `0.5` is not supported; only `1` is",
    );
}

#[test]
fn sizes_must_be_believable_and_fit() {
    check_refused(json!({"hidden_size": 0}), ", `hidden_size`: is `0`, not a whole number from 1 to 1000000");
    check_refused(
        json!({"intermediate_size": 1_000_001}),
        ", `intermediate_size`: is `1000001`, not a whole number from 1 to 1000000",
    );
    check_refused(json!({"vocab_size": 1.5}), ", `vocab_size`: is `1.5`, not a whole number from 1 to 10000000");
    check_refused(json!({"hidden_size": null}), ", `hidden_size`: is missing");
    check_refused(
        json!({"num_attention_heads": 10, "num_key_value_heads": 5}),
        ", `num_attention_heads`: `10` heads do not divide `hidden_size` `576`, and no `head_dim` is given",
    );
    check_refused(
        json!({"num_key_value_heads": 2}),
        ", `num_key_value_heads`: `2` key/value heads do not divide `9` attention heads",
    );
    check_refused(json!({"head_dim": 63}), ", `head_dim`: is `63`, but rotary positions need an even head width");
    check_refused(
        json!({"head_dim": 200_000}),
        ", `head_dim`: `9` heads of `200000` are wider than the largest supported width, `1000000`",
    );
    check_refused(json!({"rms_norm_eps": 0}), ", `rms_norm_eps`: is `0`, not between 0 and 1");
    check_refused(json!({"tie_word_embeddings": "yes"}), ", `tie_word_embeddings`: is `yes`, not `true` or `false`");
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let cause = || ModelConfig::read(folder.path()).unwrap_err().cause;
    assert!(cause().starts_with("cannot read: "), "{}", cause());
    fs::create_dir(&path).unwrap();
    assert_eq!(cause(), "is not a regular file");
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "{\"a\":").unwrap();
    assert!(cause().starts_with("is not valid JSON: EOF"), "{}", cause());
    fs::write(&path, "[]").unwrap();
    assert_eq!(cause(), "is not a JSON object");
    fs::write(&path, " ".repeat(MAX_CONFIG_BYTES as usize + 1)).unwrap();
    assert_eq!(cause(), "is longer than 1048576 bytes, the most that is read");
    fs::write(&path, smollm2().to_string()).unwrap();
    assert_eq!(ModelConfig::read(folder.path()).unwrap().vocab_size, 49152);
}
