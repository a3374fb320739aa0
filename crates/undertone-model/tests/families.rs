//! Compares a tiny model of every family with transformers: nats, logits behind a cache, and the gradients of all
//! parameters and of adapters. `tests/golden/families.py` makes the numbers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use serde::Deserialize;
use serde_json::Value;
use undertone_data::{Branch, Document, Row};
use undertone_model::{Cache, Decoder, DeviceName, Gradients, LoraConfig, ModelConfig, Recompute, values};
use undertone_testing::tiny::target;

/// Numbers may differ by this share of the largest one.
const TOLERANCE: f64 = 2e-4;

#[derive(Deserialize)]
struct Golden {
    config: Value,
    ids: Vec<u32>,
    nats: Vec<f64>,
    last_logits: Vec<f64>,
    /// The Euclidean norm of each gradient, and its product with [`numbers`] of its name.
    gradients: BTreeMap<String, [f64; 2]>,
    #[serde(default)]
    lora_nats: Vec<f64>,
    #[serde(default)]
    lora_gradients: BTreeMap<String, [f64; 2]>,
}

/// `count` numbers from −0.2 to 0.2: SplitMix64 from the FNV-1a hash of a name.
fn numbers(name: &str, count: usize) -> Vec<f64> {
    let hash = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    let mut state = name.bytes().fold(0xCBF2_9CE4_8422_2325, hash);
    let mut draw = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed >> 40) as f64 / f64::from(1 << 24) - 0.5) * 0.4
    };
    (0..count).map(|_| draw()).collect()
}

fn weights(name: &str, count: usize, offset: f64) -> Vec<f32> {
    numbers(name, count).into_iter().map(|number| (number + offset) as f32).collect()
}

#[track_caller]
fn close(what: &str, ours: &[f64], reference: &[f64]) -> f64 {
    assert_eq!(ours.len(), reference.len(), "{what}");
    let largest = reference.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let difference = ours.iter().zip(reference).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs()));
    let relative = difference / largest;
    assert!(relative <= TOLERANCE, "{what} differ by {relative:.1e} of the largest: {ours:?} and {reference:?}");
    relative
}

fn wide(tensor: Tensor<2>) -> Vec<f64> {
    values(tensor).into_iter().map(f64::from).collect()
}

/// The ids as one row; the tokens from `trunk` on are a branch.
fn row(ids: &[u32], trunk: usize) -> Row {
    let branches = if trunk == ids.len() { Vec::new() } else { vec![Branch { anchor: trunk, span: trunk..ids.len() }] };
    let document = Document { id: "golden".into(), start: 0, trunk, branches, tokens: ids.len() };
    let targets =
        if trunk == ids.len() { vec![target(1..trunk)] } else { vec![target(1..trunk), target(trunk + 1..ids.len())] };
    Row { tokens: ids.to_vec(), positions: (0..ids.len() as u32).collect(), documents: vec![document], targets }
}

/// Compares the gradients by their norms and projections; each norm must agree within the tolerance of itself.
fn compare_gradients(model: &Decoder, golden: &Golden, lora: bool, what: &str) -> f64 {
    let mut gradients = Gradients::default();
    let row = row(&golden.ids, golden.ids.len());
    let nats = model.nats_and_gradients(&row, 1.0, Recompute::Blocks, None, &mut gradients).expect("targets");
    let (reference_nats, expected) =
        if lora { (&golden.lora_nats, &golden.lora_gradients) } else { (&golden.nats, &golden.gradients) };
    let nats: Vec<f64> = values(nats).into_iter().map(f64::from).collect();
    let mut worst = close(&format!("{what}: nats"), &nats, reference_nats);
    let ours = fused(model, gradients.0);
    let names = |keys: Vec<&String>| keys.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(names(ours.keys().collect()), names(expected.keys().collect()), "{what}");
    for (name, gradient) in ours {
        let projection = numbers(&format!("gradient of {name}"), gradient.len());
        let norm = gradient.iter().map(|value| value * value).sum::<f64>().sqrt();
        let along: f64 = gradient.iter().zip(&projection).map(|(a, b)| a * b).sum();
        worst = worst.max(close(&format!("{what}: {name}"), &[norm, along], &expected[&name]));
    }
    worst
}

/// Gradients under the names of the file: those of fused matrices follow each other.
fn fused(model: &Decoder, gradients: BTreeMap<String, Tensor<2>>) -> BTreeMap<String, Vec<f64>> {
    let mut all = BTreeMap::<String, Vec<f64>>::new();
    for parameter in model.parameters() {
        let Some(gradient) = gradients.get(&parameter.name) else { continue };
        let (path, part) = parameter.name.rsplit_once(".self_attn.").unwrap_or(("", ""));
        let (mlp_path, mlp_part) = parameter.name.rsplit_once(".mlp.").unwrap_or(("", ""));
        let name = match (part, mlp_part) {
            ("q_proj.weight" | "k_proj.weight" | "v_proj.weight", _) if model.config.family.fused => {
                format!("{path}.self_attn.qkv_proj.weight")
            }
            (_, "gate_proj.weight" | "up_proj.weight") if model.config.family.fused => {
                format!("{mlp_path}.mlp.gate_up_proj.weight")
            }
            _ => parameter.name.clone(),
        };
        all.entry(name).or_default().extend(wide(gradient.clone()));
    }
    all
}

#[test]
fn every_family_equals_transformers() {
    // `make interop` makes the numbers anew.
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/families");
    let folder = std::env::var_os("UNDERTONE_FAMILIES").map_or(kept, PathBuf::from);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert_eq!(paths.len(), 16);
    for path in paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let golden: Golden = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let config = ModelConfig::from_json(&path, golden.config.clone()).unwrap_or_else(|error| panic!("{error}"));
        let offset = if config.family.norm_offset == 0.0 { 1.0 } else { 0.0 };
        for device in DeviceName::built() {
            let device = device.open().unwrap();
            let take = |name: &str, shape: &[usize]| -> Result<Vec<f32>, ()> {
                let offset = if name.ends_with("norm.weight") { offset } else { 0.0 };
                Ok(weights(name, shape.iter().product(), offset))
            };
            let mut model = Decoder::assemble(config.clone(), &device, take).unwrap();

            // One pass over a prefix, then token by token, as text is generated.
            let mut cache = Cache::default();
            model.logits(&golden.ids[..20], &mut cache, true);
            let logits = golden.ids[20..].iter().map(|&id| model.logits(&[id], &mut cache, true)).last().unwrap();
            let worst_logits = close(&format!("{name}: logits"), &wide(logits), &golden.last_logits);

            // A branch behind a trunk has the nats and the gradients of a plain row.
            let plain: Vec<f64> = model.nats(&row(&golden.ids, 48)).into_iter().map(f64::from).collect();
            let branched: Vec<f64> = model.nats(&row(&golden.ids, 30)).into_iter().map(f64::from).collect();
            close(&format!("{name}: branches"), &branched, &[&plain[..29], &plain[30..]].concat());

            model.train_all();
            let worst_gradient = compare_gradients(&model, &golden, false, &name);
            let mut worst_lora = 0.0;
            if !golden.lora_nats.is_empty() {
                let mut model = Decoder::assemble(config.clone(), &device, take).unwrap();
                let lora = LoraConfig { rank: 2, alpha: 3.0, ..LoraConfig::default() };
                model.add_adapters(&lora, 0);
                for parameter in model.parameters_mut().into_iter().filter(|one| one.name.contains(".lora_")) {
                    let shape @ [rows, columns] = parameter.value().dims();
                    let data = TensorData::new(weights(&parameter.name, rows * columns, 0.0), shape);
                    parameter.set(Tensor::from_data(data, &device));
                }
                worst_lora = compare_gradients(&model, &golden, true, &format!("{name} with adapters"));
            }
            println!("{name}: logits {worst_logits:.1e}, gradients {worst_gradient:.1e}, of adapters {worst_lora:.1e}");
        }
    }
}
