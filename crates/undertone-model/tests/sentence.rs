//! The sentence encoder gives the ids, vectors and cosines of the reference implementation, and refuses folders that it
//! cannot run.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use undertone_files::InputError;
use undertone_model::{DeviceName, SentenceEncoder};
use undertone_testing::folders;

/// Numbers of the reference are rounded to six decimals.
const TOLERANCE: f64 = 2e-5;

#[derive(Deserialize)]
struct Reference {
    sentences: Vec<String>,
    ids: Vec<Vec<u32>>,
    first8: Vec<Vec<f64>>,
    cosine: Vec<Vec<f64>>,
}

#[test]
fn every_built_device_equals_the_reference() {
    let (Some(shared), Some(folder)) = (folders::shared(), folders::encoder()) else { return };
    let reference = fs::read(shared.join("reference/all_minilm_l6_v2.json")).unwrap();
    let reference: Reference = serde_json::from_slice(&reference).unwrap();
    for device in DeviceName::built() {
        let encoder = SentenceEncoder::load(&folder, &device.open().unwrap()).unwrap();
        let vectors: Vec<Vec<f32>> = reference.sentences.iter().map(|text| encoder.encode(text)).collect();
        let mut largest: f64 = 0.0;
        for (index, text) in reference.sentences.iter().enumerate() {
            assert_eq!(encoder.tokens(text), reference.ids[index], "{text:?}");
            for (ours, theirs) in vectors[index].iter().zip(&reference.first8[index]) {
                largest = largest.max((f64::from(*ours) - theirs).abs());
            }
            for (other, theirs) in vectors.iter().zip(&reference.cosine[index]) {
                let cosine: f64 = vectors[index].iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                largest = largest.max((cosine - theirs).abs());
            }
        }
        println!("{device}: largest difference {largest:.1e}");
        assert!(largest < TOLERANCE, "{device}: {largest}");
        // A text longer than the model's limit is truncated.
        assert_eq!(encoder.tokens(&"word ".repeat(1000)).len(), 256);
        assert_eq!(encoder.encode(&"word ".repeat(1000)).len(), 384);
    }
}

#[test]
fn a_folder_that_cannot_be_run_is_refused_by_name() {
    let Some(folder) = folders::encoder() else { return };
    let refused = |name: &str, change: &dyn Fn(String) -> String| -> InputError {
        let copy = tempfile::tempdir().unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors", "sentence_bert_config.json"] {
            fs::copy(folder.join(file), copy.path().join(file)).unwrap();
        }
        fs::create_dir(copy.path().join("1_Pooling")).unwrap();
        fs::copy(folder.join("1_Pooling/config.json"), copy.path().join("1_Pooling/config.json")).unwrap();
        let path = copy.path().join(name);
        let changed = change(fs::read_to_string(&path).unwrap());
        fs::write(&path, changed).unwrap();
        SentenceEncoder::load(copy.path(), &DeviceName::Flex.open().unwrap()).unwrap_err()
    };
    let check = |name: &str, from: &str, to: &str, expected: &str| {
        let error = refused(name, &|text| {
            assert!(text.contains(from), "{name}: {from}");
            text.replacen(from, to, 1)
        });
        assert_eq!(format!("{}: {}", error.place, error.cause), expected);
    };
    check("config.json", "\"bert\"", "\"t5\"", ", `model_type`: `t5` is not supported; only `bert` is");
    check("config.json", "\"gelu\"", "\"relu\"", ", `hidden_act`: `relu` is not supported; only `gelu` is");
    check(
        "config.json",
        "\"num_attention_heads\": 12",
        "\"num_attention_heads\": 7",
        ", `num_attention_heads`: `7` heads do not divide a width of 384",
    );
    check(
        "config.json",
        "\"num_hidden_layers\": 6",
        "\"num_hidden_layers\": 0",
        ", `num_hidden_layers`: `0` is not from 1 to 1048576",
    );
    check(
        "1_Pooling/config.json",
        "\"pooling_mode_mean_tokens\": true",
        "\"pooling_mode_mean_tokens\": false",
        ", `pooling_mode_mean_tokens`: does not pool by the mean over tokens",
    );
    let fewer = refused("config.json", &|text| text.replace("\"num_hidden_layers\": 6", "\"num_hidden_layers\": 5"));
    assert!(fewer.cause.starts_with("the model does not use `encoder.layer.5."), "{fewer:?}");
    let other = refused("config.json", &|text| text.replace("\"vocab_size\": 30522", "\"vocab_size\": 1000"));
    assert!(other.cause.contains("but the model's `vocab_size` is `1000`"), "{other:?}");
    let absent = SentenceEncoder::load(Path::new("no/such/folder"), &DeviceName::Flex.open().unwrap()).unwrap_err();
    assert!(absent.to_string().contains("no/such/folder"), "{absent}");
}
