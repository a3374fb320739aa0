//! Plants a known effect of thoughts in synthetic conversations and trains a real model on them: the study finds the
//! effect, and reports none where none was planted.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use undertone_testing::folders;
use undertone_testing::program::Workplace;

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
[[arm]]
name = "others"
view = "past"
source = "shuffled"
trained_as = "past"
[[comparison]]
a = "none"
b = "past"
[[comparison]]
a = "others"
b = "past"
"#;

/// The result of a comparison: the difference in nats per message, its interval, and the decision.
struct Found {
    nats: f64,
    interval: [f64; 2],
    word: String,
}

/// Makes conversations whose reactions have this reliability and runs the study. Returns the planted effect in nats per
/// message, and the results of showing the user's own thoughts: against no thoughts, and against other users' thoughts
/// shown to the same model.
fn study(reliability: f64) -> Option<(f64, [Found; 2])> {
    let model = folders::model()?.canonicalize().unwrap();
    let place = Workplace::new(0);
    let made =
        "data synthesize made.jsonl --users 32 --conversations 32 --turns 160 --thoughts 320 --reply-words 10 --json";
    let planted = place.run(&format!("{made} --reliability {reliability}")).json();
    place.write("rehearsal.toml", EXPERIMENT.replace("MODEL", &model.display().to_string()));
    let results = place.run("ablate rehearsal.toml --json").json();
    let planted = planted["nats_per_primary_message"].as_f64().unwrap();
    let found = [0, 1].map(|comparison| {
        let contrast = &results["comparisons"][comparison]["contrasts"][0];
        assert_eq!((&contrast["kind"], &contrast["subset"]), (&Value::from("next_prompt"), &Value::from("primary")));
        let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {contrast}"));
        let per_message = number(&contrast["tokens"]) / number(&contrast["items"]);
        let ratio = &contrast["losses"]["difference"]["ratio"];
        let interval = ["low", "high"].map(|end| per_message * number(&ratio["intervals"]["bca"][end]));
        let word = contrast["losses"]["evidence"]["decision"].as_str().unwrap().to_owned();
        Found { nats: per_message * number(&ratio["value"]), interval, word }
    });
    for Found { nats, interval, word } in &found {
        println!(
            "reliability {reliability}: planted {planted:.3}, found {nats:+.3} ({interval:+.3?}) nats a message: {word}"
        );
    }
    Some((planted, found))
}

#[test]
fn a_planted_effect_is_found_again() {
    let Some((planted, [against_none, against_others])) = study(1.0) else { return };
    assert!((planted - 16.0_f64.ln()).abs() < 0.05, "{planted}");
    assert_eq!((against_none.word.as_str(), against_others.word.as_str()), ("better", "better"));
    // Sixteen users and three epochs teach most of the effect. The arm without thoughts also learns to expect wrong
    // subjects, which can raise the saving above what was planted.
    let saved = -against_none.nats;
    assert!(saved > 0.6 * planted && saved < 1.6 * planted, "{saved} of {planted}");
    // The model follows other users' hints, which mislead it.
    assert!(-against_others.nats > saved);
}

#[test]
fn nothing_is_found_where_nothing_was_planted() {
    let Some((planted, [_, against_others])) = study(0.0) else { return };
    assert!(planted.abs() < 1e-9, "{planted}");
    // Two trainings differ in more than their input. Here one model sees two inputs, which differ only in whose words
    // they contain.
    let Found { nats, interval: [low, high], word } = against_others;
    assert_eq!(word, "undecided");
    assert!(low < 0.0 && high > 0.0, "{nats}, from {low} to {high}");
}
