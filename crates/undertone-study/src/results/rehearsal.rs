//! A study of the published dataset's size, from the conversations to the page. It finds a planted effect, finds
//! nothing where nothing is planted, and stays within 2 GB.
//!
//! Everything but the models is as in a real study: scores are drawn, with the effect that is planted in the
//! conversations.

use std::path::Path;
use std::time::Instant;

use rand::RngExt;
use undertone_data::{Planted, Role, Source, Split, Synthetic, generator};
use undertone_stats::{Comparison, Decision, ItemRecord, Subset};
use undertone_testing::folders;

use super::{Course, Results, Scores};
use crate::arms::Evaluated;
use crate::experiment::Experiment;
use crate::study::Study;

/// The most memory that the whole test may take, in MiB.
const LIMIT_MIB: f64 = 2048.0;

const EXPERIMENT: &str = r#"
name = "rehearsal"
[model]
path = "MODEL"
[data]
path = "DATA"
synthetic = true
context_tokens = 8192
assistant_tokens = 160
[split]
folds = 5
[evaluation]
margin = 0.01
[[arm]]
name = "none"
[[arm]]
name = "past"
view = "past"
[[arm]]
name = "shuffled"
view = "past"
source = "shuffled"
[[comparison]]
a = "shuffled"
b = "past"
primary = true
[[comparison]]
a = "none"
b = "past"
[[comparison]]
a = "none"
b = "shuffled"
"#;

/// The peak memory of this process in MiB; 0 if the system does not report it.
fn peak_mib() -> f64 {
    undertone_train::peak_mib().unwrap_or_default()
}

/// A number from roughly a standard normal distribution: the sum of twelve uniform numbers, less 6.
fn normal(parts: &[&str]) -> f64 {
    let mut random = generator("rehearsal", parts);
    (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
}

/// Draws the scores of an arm on every test item: noise by item and by user, less the nats that a visible hint saves.
fn drawn(study: &Study, arm: &Evaluated, planted: &Planted) -> Vec<ItemRecord> {
    let mut records = Vec::new();
    for fold in 0..study.folds.len() {
        let conversations = study.encoded.iter().map(|encoded| (encoded.conversation.id.as_str(), encoded));
        let conversations: std::collections::HashMap<_, _> = conversations.collect();
        for stream in study.test_streams(arm.shown, study.first_training(fold), Split::Test) {
            for target in &stream.targets {
                let item = target.item.to_string();
                let messages = &conversations[target.item.conversation.as_str()].conversation.messages;
                let before = target.item.message.checked_sub(1).map(|index| &messages[index]);
                let is_hinted = before.is_some_and(|one| one.role == Role::Assistant && !one.thoughts.is_empty());
                let sees_it = arm.shown.0.sees_thoughts() && arm.shown.1 == Source::Own && is_hinted;
                let saved = if sees_it { planted.nats_of_a_hint } else { 0.0 };
                let noise = 2.0 * normal(&[&arm.name, &item]) + 0.3 * normal(&[&arm.name, &stream.user]);
                let nats = (30.0 + noise - saved).max(0.1);
                let tokens = target.span.len();
                records.push(ItemRecord {
                    item,
                    conversation: target.item.conversation.clone(),
                    user: stream.user.clone(),
                    kind: target.item.kind,
                    arm: arm.name.clone(),
                    nats,
                    token_nats: vec![(nats / tokens as f64) as f32; tokens],
                    tokens,
                    bytes: target.bytes,
                    label: None,
                    distractors: Vec::new(),
                    primary: false,
                    quotes_target: target.quoted,
                    visible_thoughts: target.seen.len(),
                    lacks_words: false,
                    reply_tokens_lost: target.reply_tokens_lost,
                    fold: Some(fold),
                    seed: arm.trained().map(|_| 0),
                });
            }
        }
    }
    records
}

/// Makes conversations, lays them out, draws scores, compares and renders the page; returns what is planted and found.
fn rehearse(model: &Path, reliability: f64) -> (Planted, Vec<Comparison>) {
    let begun = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let (data, path) = (folder.path().join("synthetic.jsonl"), folder.path().join("rehearsal.toml"));
    let mut lines = Vec::new();
    let planted = Synthetic { reliability, ..Synthetic::PUBLISHED }.write(&mut lines).unwrap();
    std::fs::write(&data, &lines).unwrap();
    let text = EXPERIMENT.replace("MODEL", &model.display().to_string()).replace("DATA", &data.display().to_string());
    std::fs::write(&path, text).unwrap();
    let experiment = Experiment::read(&path, &[]).unwrap();
    let study = Study::prepare(experiment, &path, &[]).unwrap();
    let prepared = begun.elapsed();
    let arms = study.evaluated();
    let primary = study.primary_items(Split::Test);
    assert_eq!(primary.len(), planted.primary_messages);
    let mut records: Vec<Vec<ItemRecord>> = arms.iter().map(|arm| drawn(&study, arm, &planted)).collect();
    records.push(study.unigram());
    for record in records.iter_mut().flatten() {
        record.primary = primary.contains(&record.item);
    }
    let scored = begun.elapsed();
    let scores = Scores {
        arms: &arms,
        records: &records,
        written: &[],
        attributed: &[],
        first_messages: &[],
        other_replies: &[],
    };
    let results = Results::new(&study, "none", scores, Course::default()).unwrap();
    let files = results.html(&study, scores, Vec::new(), false);
    let page = files[0].1.len();
    println!(
        "reliability {reliability}: {} conversations, prepared after {:.1} s, scores drawn after {:.1} s, {:.1} s in all; \
         page {:.1} MB, peak {:.0} MiB",
        study.encoded.len(),
        prepared.as_secs_f64(),
        scored.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        page as f64 / 1e6,
        peak_mib()
    );
    assert!(page < 30_000_000, "a page of {page} bytes");
    (planted, results.comparisons)
}

#[test]
fn a_study_of_full_size_finds_what_was_planted_and_nothing_else() {
    let Some(model) = folders::model() else { return };
    let primary = |comparisons: &[Comparison]| {
        let contrast = comparisons[0].headline().unwrap();
        assert_eq!(contrast.subset, Subset::Primary);
        let losses = contrast.losses.clone().unwrap();
        let per_message = contrast.tokens as f64 / contrast.items as f64;
        let interval = losses.difference.ratio.interval.unwrap();
        (losses.evidence.unwrap().decision, [interval.low * per_message, interval.high * per_message])
    };
    let (planted, found) = rehearse(&model, 0.5);
    let (decision, [low, high]) = primary(&found);
    assert_eq!(decision, Decision::Better);
    let truth = -planted.nats_per_primary_message;
    assert!(low < truth && truth < high, "{truth} nats a message are not from {low} to {high}");

    let (planted, found) = rehearse(&model, 0.0);
    assert!(planted.nats_per_primary_message.abs() < 1e-9);
    let (decision, [low, high]) = primary(&found);
    assert!(!matches!(decision, Decision::Better | Decision::Worse), "{decision}: {low} to {high}");
    assert!(low < 0.0 && 0.0 < high);

    let peak = peak_mib();
    assert!(peak < LIMIT_MIB, "{peak} MiB");
}
