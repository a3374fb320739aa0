//! Plants a known effect of thoughts in synthetic conversations and trains a real model on them: the study finds the
//! effect where it is, and none where it is not.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use undertone_testing::folders;
use undertone_testing::program::{EXPERIMENT, Workplace, lines};

/// Hints that are written late: `strict` must gain nothing, and `anchored` must.
const LATE: &str = r#"
name = "rehearsal"
seeds = 2
[model]
path = "MODEL"
matmul_precision = "highest"
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
[evaluation]
margin = 0.05
[[arm]]
name = "none"
[[arm]]
name = "strict"
view = "past"
[[arm]]
name = "anchored"
view = "past"
timing = "anchored"
[[comparison]]
a = "none"
b = "anchored"
primary = true
[[comparison]]
a = "none"
b = "strict"
"#;

/// The decision about a comparison's headline, and the difference in nats per token.
fn found(results: &Value, comparison: usize) -> (String, f64) {
    let contrast = &results["comparisons"][comparison]["contrasts"][0];
    assert_eq!((&contrast["kind"], &contrast["subset"]), (&Value::from("next_prompt"), &Value::from("primary")));
    let losses = &contrast["losses"];
    println!("{}: {}", results["verdicts"][comparison], losses["evidence"]);
    let value = losses["difference"]["ratio"]["value"].as_f64().unwrap();
    (losses["evidence"]["decision"].as_str().unwrap().to_owned(), value)
}

/// The mean nats of the subject that a message asks for: the token before the full stop and the end token.
fn nats_of_subject(place: &Workplace, arm: &str) -> f64 {
    let records = lines(place, &format!("checkpoints/rehearsal/records/{arm}.jsonl"));
    let primary = records.iter().filter(|record| record["primary"] == true);
    let nats: Vec<f64> = primary
        .map(|record| {
            let tokens = record["token_nats"].as_array().unwrap();
            tokens[tokens.len() - 3].as_f64().unwrap()
        })
        .collect();
    nats.iter().sum::<f64>() / nats.len() as f64
}

#[test]
fn hints_that_are_written_late_help_only_where_hindsight_is_allowed() {
    let Some(model) = folders::model() else { return };
    let place = Workplace::new(0);
    let made = "data synthesize made.jsonl --users 24 --conversations 24 --turns 96 --thoughts 192 --reply-words 8 --late --json";
    let planted = place.run(made).json()["nats_per_primary_message"].as_f64().unwrap();
    assert!((planted - 16.0_f64.ln()).abs() < 0.05, "{planted}");
    place.write("rehearsal.toml", LATE.replace("MODEL", &model.canonicalize().unwrap().display().to_string()));
    let results = place.run("ablate rehearsal.toml --json").json();
    let (anchored, difference) = found(&results, 0);
    assert_eq!(anchored, "better", "{difference}");
    let (strict, difference) = found(&results, 1);
    assert!(["undecided", "tied"].contains(&strict.as_str()), "{strict}: {difference}");
    // Without hints no model can know the subject better than by chance, ln 16 nats; with them, hardly any nats are left.
    let [none, strict, anchored] = ["none", "strict", "anchored"].map(|arm| nats_of_subject(&place, arm));
    println!("nats of the subject: none {none:.3}, strict {strict:.3}, anchored {anchored:.3}; planted {planted:.3}");
    assert!(none > planted - 0.3 && strict > planted - 0.3, "{none}, {strict}");
    assert!(anchored < 0.4 * planted, "{anchored}");
}

#[test]
fn where_nothing_is_planted_studies_decide_nothing() {
    let place = Workplace::new(0);
    let made = "data synthesize made.jsonl --users 40 --conversations 40 --turns 160 --thoughts 240 --reply-words 12 --reliability 0 --json";
    assert!(place.run(made).json()["nats_per_primary_message"].as_f64().unwrap().abs() < 1e-9);
    let experiment = EXPERIMENT
        .replace("train = 0.5\nvalidation = 0.2\ntest = 0.3", "folds = 2\nrepeats = 2\nvalidation = 0.0")
        .replace("epochs = 2", "epochs = 1")
        .replace("data.jsonl", "made.jsonl");
    // Other users' thoughts, with which the same kind of model is trained, say as much about the target: nothing.
    let shuffled = "\n[[arm]]\nname = \"others\"\nview = \"past\"\nsource = \"shuffled\"\n\n\
        [[comparison]]\na = \"others\"\nb = \"past\"\nprimary = true\n";
    place.write("x.toml", experiment + shuffled);
    let decided = |seed: usize| {
        let results = place
            .run(&format!("ablate x.toml --json --set name=s{seed} --set seed={seed} --set split.seed={seed}"))
            .json();
        ["better", "worse"].contains(&found(&results, 0).0.as_str())
    };
    let count = (0..20).filter(|seed| decided(*seed)).count();
    assert!(count <= 1, "{count} of 20 studies found a difference where there is none");
}
