//! A known effect of thoughts, planted in the text of made-up conversations, is found again by training a real model; and
//! none is reported where none was planted.
#![allow(clippy::unwrap_used)]

#[path = "support/program.rs"]
mod program;
#[path = "support/mod.rs"]
mod support;
#[path = "support/tiny_folder.rs"]
mod tiny_folder;

use program::Workplace;
use serde_json::Value;

const EXPERIMENT: &str = r#"
name = "rehearsal"
[model]
path = "MODEL"
matmul_precision = "medium"
[data]
path = "made.jsonl"
synthetic = true
[split]
train = 0.5
validation = 0.0
test = 0.5
[lora]
rank = 8
alpha = 16.0
[training]
epochs = 3
conversations_per_step = 2
learning_rate = 2e-3
warmup_steps = 2
recompute = "off"
[[arm]]
name = "none"
[[arm]]
name = "past"
view = "past"
"#;

/// Makes conversations whose reactions are so reliable, runs the study, and returns what was planted and what was found:
/// nats per message, the interval, and the word.
fn study(reliability: f64) -> Option<(f64, f64, [f64; 2], String)> {
    let model = support::model()?;
    let place = Workplace::new(0);
    let made =
        "data synthesize made.jsonl --users 32 --conversations 32 --turns 160 --thoughts 320 --reply-words 10 --json";
    let planted = place.run(&format!("{made} --reliability {reliability}")).json();
    let model = model.canonicalize().unwrap();
    place.write("rehearsal.toml", EXPERIMENT.replace("MODEL", &model.display().to_string()));
    let results = place.run("ablate rehearsal.toml --json").json();
    let contrast = &results["comparisons"][0]["contrasts"][0];
    assert_eq!((&contrast["kind"], &contrast["subset"]), (&Value::from("next_prompt"), &Value::from("primary")));
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {contrast}"));
    let per_message = number(&contrast["tokens"]) / number(&contrast["items"]);
    let ratio = &contrast["losses"]["difference"]["ratio"];
    let interval = ["low", "high"].map(|end| per_message * number(&ratio["intervals"]["bca"][end]));
    let word = contrast["losses"]["evidence"]["decision"].as_str().unwrap().to_owned();
    let (planted, found) = (number(&planted["nats_per_primary_message"]), per_message * number(&ratio["value"]));
    println!(
        "reliability {reliability}: planted {planted:.3}, found {found:+.3} ({interval:.3?}) nats a message: {word}"
    );
    Some((planted, found, interval, word))
}

#[test]
fn a_planted_effect_is_found_again() {
    let Some((planted, found, [_, high], word)) = study(1.0) else { return };
    assert!((planted - 16.0_f64.ln()).abs() < 0.05, "{planted}");
    assert_eq!(word, "better");
    // Trained on sixteen users for three epochs, it learns most of it.
    assert!(-found > 0.6 * planted && -found < 1.4 * planted && high < 0.0, "{found} of {planted}");
}

#[test]
fn nothing_is_found_where_nothing_was_planted() {
    let Some((planted, found, [low, high], word)) = study(0.0) else { return };
    assert!(planted.abs() < 1e-9, "{planted}");
    assert!(low < 0.0 && high > 0.0, "{found}, from {low} to {high}");
    assert_eq!(word, "undecided");
}
