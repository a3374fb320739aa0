//! Compares every built device with the reference implementation (transformers, f32): token ids, nats of every token,
//! top logits, greedy tokens, a long row, and branches on a trunk.
//!
//! `tests/golden/README.md` says how the numbers were made.

use std::path::Path;

use serde::Deserialize;
use undertone_data::{Branch, Document, Row, Target};
use undertone_model::{Cache, Decoder, DeviceName, MatmulPrecision, Opening, Sampling, load_tokenizer};
use undertone_testing::folders;
use undertone_testing::tiny::target;

/// Logits and nats may differ from the reference by this much.
const TOLERANCE: f64 = 2e-3;

/// Mean nats of the long row with products of bf16 numbers may differ from the reference by this much.
const TOLERANCE_OF_THE_MEAN: f64 = 5e-3;

#[derive(Deserialize)]
struct Plain {
    rows: Vec<PlainRow>,
    greedy_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct PlainRow {
    text: String,
    ids: Vec<u32>,
    nll_nats: Vec<f64>,
    last_top5_ids: Vec<usize>,
    last_top5_logits: Vec<f64>,
}

#[derive(Deserialize)]
struct Paths {
    long_ids: Vec<u32>,
    long_nll_nats: Vec<f64>,
    trunk_ids: Vec<u32>,
    branch_ids: Vec<Vec<u32>>,
    branch_nll_nats: Vec<Vec<f64>>,
    after_ids: Vec<u32>,
    after_nll_nats: Vec<f64>,
}

fn read<T: for<'a> Deserialize<'a>>(shared: &Path, name: &str) -> T {
    let path = shared.join("reference").join(name);
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn row(trunk: &[u32], branches: &[(usize, Vec<u32>)], targets: Vec<Target>) -> Row {
    let mut row =
        Row { tokens: trunk.to_vec(), positions: (0..trunk.len() as u32).collect(), documents: vec![], targets };
    let mut laid = Vec::new();
    for (anchor, ids) in branches {
        let start = row.tokens.len();
        row.tokens.extend(ids);
        row.positions.extend((0..ids.len()).map(|offset| (anchor + offset) as u32));
        laid.push(Branch { anchor: *anchor, span: start..row.tokens.len() });
    }
    let tokens = row.tokens.len();
    row.documents.push(Document { id: "golden".into(), start: 0, trunk: trunk.len(), branches: laid, tokens });
    row
}

fn largest_difference(ours: &[f32], reference: &[f64]) -> f64 {
    assert_eq!(ours.len(), reference.len());
    ours.iter().zip(reference).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn every_built_device_equals_the_reference() {
    let (Some(shared), Some(model)) = (folders::shared(), folders::model()) else { return };
    for device in DeviceName::built() {
        check(&shared, &model, device, MatmulPrecision::Highest);
    }
    check(&shared, &model, DeviceName::Flex, MatmulPrecision::High);
}

/// Rounding both factors to bf16 changes the nats of single tokens, but hardly the mean over many.
#[test]
fn products_of_bf16_numbers_are_near_the_reference() {
    let (Some(shared), Some(model)) = (folders::shared(), folders::model()) else { return };
    let paths: Paths = read(&shared, "smollm2_paths.json");
    let mut decoder = Decoder::load(&model, &DeviceName::Flex.open().unwrap()).unwrap();
    decoder.set_precision(MatmulPrecision::Medium);
    let nats = decoder.nats(&row(&paths.long_ids, &[], vec![target(1..paths.long_ids.len())]));
    let mean = |sum: f64| sum / nats.len() as f64;
    let ours = mean(nats.iter().map(|&nats| f64::from(nats)).sum());
    let reference = mean(paths.long_nll_nats.iter().sum());
    let largest = largest_difference(&nats, &paths.long_nll_nats);
    println!("medium: mean nats {ours:.5}, reference {reference:.5}; largest difference of a token {largest:.1e}");
    assert!((ours - reference).abs() < TOLERANCE_OF_THE_MEAN, "{ours} {reference}");
}

fn check(shared: &Path, model: &Path, device: DeviceName, precision: MatmulPrecision) {
    let plain: Plain = read(shared, "smollm2_135m_instruct_q4_1.json");
    let paths: Paths = read(shared, "smollm2_paths.json");
    let mut decoder = Decoder::load(model, &device.open().unwrap()).unwrap();
    decoder.set_precision(precision);
    let (is_flex, device) = (device == DeviceName::Flex, format!("{device}, {precision:?}"));
    let tokenizer = load_tokenizer(model, &decoder.config).unwrap();
    let mut worst = [0.0_f64; 4];
    for reference in &plain.rows {
        let ids = tokenizer.encode(reference.text.as_str(), false).unwrap();
        assert_eq!(ids.get_ids(), reference.ids, "{:?}", reference.text);
        let nats = decoder.nats(&row(&reference.ids, &[], vec![target(1..reference.ids.len())]));
        worst[0] = worst[0].max(largest_difference(&nats, &reference.nll_nats));
        let logits = decoder.logits(&reference.ids, &mut Cache::default(), true).into_data();
        let logits: Vec<f32> = logits.convert::<f32>().try_to_vec().unwrap();
        let top: Vec<f32> = reference.last_top5_ids.iter().map(|&id| logits[id]).collect();
        worst[1] = worst[1].max(largest_difference(&top, &reference.last_top5_logits));
        let lowest = top.iter().copied().fold(f32::INFINITY, f32::min);
        let above = logits.iter().filter(|logit| **logit > lowest).count();
        assert_eq!(above, 4, "the reference's five highest logits are ours");
    }
    let nats = decoder.nats(&row(&paths.long_ids, &[], vec![target(1..paths.long_ids.len())]));
    worst[2] = largest_difference(&nats, &paths.long_nll_nats);

    // The turn after the branch point is in the trunk; both reactions branch off before it.
    let anchor = paths.trunk_ids.len();
    let trunk = [paths.trunk_ids.as_slice(), &paths.after_ids].concat();
    let branches: Vec<_> = paths.branch_ids.iter().map(|ids| (anchor, ids.clone())).collect();
    // The trunk predicts the first token of a branch, so the targets leave it out.
    let first = trunk.len();
    let second = first + paths.branch_ids[0].len();
    let end = second + paths.branch_ids[1].len();
    let spans = [anchor..trunk.len(), first + 1..second, second + 1..end];
    let nats = decoder.nats(&row(&trunk, &branches, spans.into_iter().map(target).collect()));
    let expected = [&paths.after_nll_nats[..], &paths.branch_nll_nats[0][1..], &paths.branch_nll_nats[1][1..]].concat();
    worst[3] = largest_difference(&nats, &expected);

    let [nats, logits, long, branches] = worst;
    println!(
        "{device}: largest difference from the reference: nats {nats:.1e}, top logits {logits:.1e}, 2,304-token row {long:.1e}, branches {branches:.1e}"
    );
    assert!(worst.iter().all(|&difference| difference < TOLERANCE), "{device}: {worst:?}");

    let new = 24;
    let prompt = &plain.greedy_ids[..plain.greedy_ids.len() - new];
    let sampling = Sampling { max_new_tokens: new, ..Sampling::default() };
    let (written, _) = decoder.generate(prompt, u32::MAX, sampling);
    assert_eq!(written, plain.greedy_ids[prompt.len()..], "{device}: greedy tokens");
    // If the text must not end at once, another token is chosen.
    let first = written[0];
    let at_least = |min_new_tokens| decoder.generate(prompt, first, Sampling { min_new_tokens, ..sampling }).0;
    assert!(at_least(0).is_empty() && at_least(1).first().is_some_and(|id| *id != first), "{device}");
    // On flex, texts of a batch equal texts generated alone, even if some end early; other devices round products of
    // several rows differently, so only lengths are compared there.
    let openings = || {
        (0..11).map(|number| {
            let sampling = Sampling { temperature: 1.0, seed: number, max_new_tokens: 3 + number as usize, ..sampling };
            Opening { cache: Cache::default(), prompt: prompt[..prompt.len() - number as usize % 3].to_vec(), sampling }
        })
    };
    let side_by_side = decoder.generate_all(openings(), u32::MAX);
    assert!(openings().zip(&side_by_side).all(|(opening, (ids, _))| ids.len() == opening.sampling.max_new_tokens));
    for (opening, text) in openings().zip(&side_by_side).filter(|_| is_flex) {
        assert_eq!(
            decoder.generate(&opening.prompt, u32::MAX, opening.sampling),
            *text,
            "{device}: {:?}",
            opening.sampling
        );
    }
}
