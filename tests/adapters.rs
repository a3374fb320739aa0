//! `model.adapter`: training goes on with a PEFT adapter that somebody has trained; on a tiny model.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use undertone_testing::program::{EXPERIMENT, Workplace, lines};

/// A study in `out/tiny`, with its arm `past` exported as the adapter `adapter`; `y.toml` goes on with it.
fn place() -> Workplace {
    let place = Workplace::new(16);
    place.run("ablate x.toml").succeeded();
    place.run("export out/tiny/past/fold0/best.safetensors adapter --format peft").succeeded();
    let text = EXPERIMENT.replace("path = \"model\"", "path = \"model\"\nadapter = \"adapter\"");
    place.write("y.toml", text.replace("name = \"tiny\"", "name = \"again\""));
    place
}

/// The nats of every item of an arm.
fn nats(place: &Workplace, study: &str, arm: &str) -> Vec<f64> {
    let records = lines(place, &format!("out/{study}/records/{arm}.jsonl"));
    records.iter().map(|record| record["nats"].as_f64().unwrap()).collect()
}

#[test]
fn training_goes_on_with_an_adapter() {
    let place = place();
    place.run("ablate y.toml").succeeded();
    // The model that was brought is the untrained one of this study, to the last bit.
    assert_eq!(nats(&place, "again", "base-past"), nats(&place, "tiny", "past"));
    assert_ne!(nats(&place, "again", "past"), nats(&place, "tiny", "past"));
    // Without a step that changes anything, it stays what it is.
    place.run("ablate y.toml --set name=same --set training.epochs=1 --set training.learning_rate=1e-30").succeeded();
    assert_eq!(nats(&place, "same", "past"), nats(&place, "tiny", "past"));
    // What comes out is an adapter of the first base model again.
    place.run("export out/again/past/fold0/best.safetensors adapter2 --format peft").succeeded();
    place.run("export out/again/past/fold0/best.safetensors merged").succeeded();
    let compared = "evaluate out/again/past/fold0/best.safetensors --against base --json";
    let compared = place.run(compared).json();
    assert!(compared["comparison"].is_object(), "{compared}");
    assert!(place.run("replay out/again/past/fold0/last.safetensors").status.success());
    // Its base model is the model with the adapter: without it, it is refused.
    let ran = place.run("evaluate out/again/past/fold0/best.safetensors --set model.adapter=");
    assert_eq!(ran.status.code(), Some(2));
    assert!(ran.stderr.contains("was trained from other weights than those in `model`"), "{}", ran.stderr);
}

#[test]
fn an_adapter_that_would_be_computed_otherwise_is_refused() {
    let place = place();
    let config: Value = serde_json::from_slice(&place.read("adapter/adapter_config.json")).unwrap();
    let with = |changes: Value| {
        let mut config = config.clone();
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        place.write("adapter/adapter_config.json", config.to_string());
    };
    let refused = |words: &str, expected: &[&str]| {
        let ran = place.run(format!("ablate y.toml {words}").trim_end());
        assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
        for expected in expected {
            assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
        }
        assert!(!place.path("out/again").exists());
    };
    refused(
        "--set lora.rank=4 --set lora.targets=[\"q\"]",
        &[
            "`adapter/adapter_config.json`: is of another adapter than `[lora]` describes",
            "hint: in `[lora]`, set `rank = 2`, `targets = [\"q\",\"k\",\"v\",\"o\",\"gate\",\"up\",\"down\"]`",
        ],
    );
    refused("--set model.method=full", &["`adapter` is given, and `method = \"full\"`"]);
    refused("--set model.adapter=model", &["`model`: holds no `adapter_config.json`", "hint: "]);
    refused("--set model.adapter=absent", &["`absent`: is not a folder"]);
    for (changes, expected) in [
        (json!({"use_dora": true}), "`use_dora`: `use_dora` is true, which is not supported"),
        (json!({"peft_type": "IA3"}), "the kind of adapter is \"IA3\", and only \"LORA\" is supported"),
        (json!({"bias": "all"}), "`bias` is \"all\", and only \"none\" is supported"),
        (json!({"init_lora_weights": "pissa_niter_4"}), "which changes the base model too"),
        (json!({"rank_pattern": {"q_proj": 4}}), "`rank_pattern` and `alpha_pattern` give layers other ranks"),
        (
            json!({"target_modules": ["q_proj", "lm_head"]}),
            "`target_modules` names \"lm_head\", which is no layer of a block",
        ),
        (json!({"target_modules": ".*_proj"}), "`target_modules` is \".*_proj\", not a list of names"),
        (json!({"r": 2.5}), "`r` (2.5) is not a rank"),
        (json!({"r": "2"}), "`r` is not a number above 0"),
        (json!({"r": 3, "lora_alpha": 4}), "in `[lora]`, set `rank = 3`"),
    ] {
        with(changes);
        refused("", &["`adapter/adapter_config.json`", expected]);
    }
    with(json!({"r": 3}));
    refused("--set lora.rank=3", &["`adapter/adapter_model.safetensors`", "lora_A", "[2, 16]"]);
    place.write("adapter/adapter_config.json", "[]");
    refused("", &["is not a JSON object"]);
}
