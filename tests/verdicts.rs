//! What a verdict rests on: items that other arms do not change, several divisions, registration, and the checks of one
//! difference against the length of replies, the timing margin and placebos.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::Value;
use undertone_testing::program::{EXPERIMENT, Workplace, lines, strings};

fn results(place: &Workplace) -> Value {
    serde_json::from_slice(&place.read("out/tiny/results.json")).unwrap()
}

fn primary_items(place: &Workplace, arm: &str) -> BTreeSet<String> {
    let records = lines(place, &format!("out/tiny/records/{arm}.jsonl"));
    strings(&records.into_iter().filter(|record| record["primary"] == true).collect::<Vec<_>>(), "item")
        .into_iter()
        .collect()
}

/// The difference of a contrast in nats per token.
fn value(contrast: &Value) -> f64 {
    contrast["losses"]["difference"]["ratio"]["value"].as_f64().unwrap()
}

#[test]
fn other_arms_change_neither_the_primary_items_nor_their_difference() {
    let place = Workplace::new(20);
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    let (before, items) = (results(&place), primary_items(&place, "past"));
    let fixed = place.read("out/tiny/fixed.json");
    // Arms that see only some of the thoughts see none before some primary items.
    let narrow = |name: &str| format!("\n[[arm]]\nname = \"{name}\"\nview = \"{name}\"\ntrained_as = \"past\"\n");
    place.write("x.toml", format!("{EXPERIMENT}{}{}", narrow("reasons"), narrow("reactions")));
    let ran = place.run("ablate x.toml --set training.epochs=1").succeeded();
    assert!(!ran.stderr.contains("step "), "{}", ran.stderr);
    let after = results(&place);
    assert_eq!(primary_items(&place, "past"), items);
    assert_eq!(place.read("out/tiny/fixed.json"), fixed);
    let first = |results: &Value| results["comparisons"][0]["contrasts"][0]["losses"]["difference"].clone();
    assert_eq!(first(&before), first(&after));
    assert!(
        strings(after["amendments"].as_array().unwrap(), "key").iter().all(|key| key.starts_with("arm")),
        "{after}"
    );
    assert!(place.text("out/tiny/report.md").contains("past − none ★"));
    // The same in a study that begins with these arms.
    place.run("ablate x.toml --set training.epochs=1 --set output=fresh").succeeded();
    let fresh: Value = serde_json::from_slice(&place.read("fresh/tiny/results.json")).unwrap();
    assert_eq!(first(&before), first(&fresh));
}

#[test]
fn every_user_is_tested_once_in_every_division_and_divisions_can_be_added() {
    let place = Workplace::new(12);
    let folds = EXPERIMENT.replace("train = 0.5\nvalidation = 0.2\ntest = 0.3", "folds = 2\nrepeats = 2");
    place.write("x.toml", &folds);
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    let folds_of = |item: &str| -> Vec<u64> {
        let records = lines(&place, "out/tiny/records/past.jsonl");
        records.iter().filter(|one| one["item"] == item).map(|one| one["fold"].as_u64().unwrap()).collect()
    };
    let items = primary_items(&place, "past");
    for item in &items {
        assert!(matches!(folds_of(item)[..], [0 | 1, 2 | 3]), "{item}: {:?}", folds_of(item));
    }
    assert!(items.iter().any(|item| folds_of(item)[0] + 2 != folds_of(item)[1]), "another division");
    let found = results(&place);
    let comparison = &found["comparisons"][0];
    assert_eq!((&comparison["folds"], &comparison["seeds"]), (&4.into(), &1.into()));
    let losses = &comparison["contrasts"][0]["losses"];
    assert_eq!(losses["evidence"]["one_training"], false);
    assert!(losses["difference"]["standard_error"]["with_trainings"]["components"]["rest"].is_number(), "{losses}");
    // Each training draws its own adapters.
    let weights = |fold: usize| place.read(&format!("out/tiny/past/fold{fold}/best.safetensors"));
    assert_ne!(weights(0), weights(2));
    let first = weights(0);
    // A third division adds two trainings of each arm.
    let ran = place.run("ablate x.toml --set training.epochs=1 --set split.repeats=3").succeeded();
    assert!(ran.stderr.contains("division 2") && !ran.stderr.contains("division 1 fold 0  step"), "{}", ran.stderr);
    assert_eq!(weights(0), first);
    assert_eq!(results(&place)["comparisons"][0]["folds"], 6);
    assert_eq!(strings(results(&place)["amendments"].as_array().unwrap(), "key"), ["split.repeats"]);
}

#[test]
fn one_training_of_each_arm_decides_nothing() {
    let place = Workplace::new(20);
    place.run("ablate x.toml").succeeded();
    let evidence = results(&place)["comparisons"][0]["contrasts"][0]["losses"]["evidence"].clone();
    assert_eq!((&evidence["decision"], &evidence["one_training"]), (&"undecided".into(), &true.into()));
    assert!(place.text("out/tiny/report.md").contains("Verdict: undecided: one training of each arm."));
}

#[test]
fn a_registration_comes_before_scores_and_the_report_says_what_differs() {
    let place = Workplace::new(20);
    let registered = place.run("ablate x.toml --register").succeeded();
    assert!(registered.stdout.contains("registered: out/tiny/registration.json"), "{}", registered.stdout);
    let file = place.read("out/tiny/registration.json");
    place.run("ablate x.toml --register").succeeded();
    assert_eq!(place.read("out/tiny/registration.json"), file, "the same study is not registered again");
    let other = place.run("ablate x.toml --register --set evaluation.margin=0.1");
    assert_eq!(other.status.code(), Some(2));
    assert!(other.stderr.contains("registers another study"), "{}", other.stderr);
    place.run("ablate x.toml").succeeded();
    assert!(
        place.text("out/tiny/report.md").contains("before anything was trained in its folder, and unchanged since.")
    );
    place.run("ablate x.toml --set evaluation.draws=500").succeeded();
    let report = place.text("out/tiny/report.md");
    assert!(report.contains("Since then: `experiment.evaluation.draws` was 1000 and is 500"), "{report}");
    // After scores it is too late.
    place.run("ablate x.toml --set name=late").succeeded();
    let late = place.run("ablate x.toml --register --set name=late");
    assert_eq!(late.status.code(), Some(2));
    assert!(late.stderr.contains("holds trainings or scores, and a registration comes before them"), "{}", late.stderr);
    assert!(place.text("out/late/report.md").contains("Not registered before it was trained"));
}

#[test]
fn the_primary_difference_is_shown_against_what_was_cut_and_against_the_timing_margin() {
    let place = Workplace::new(20);
    let experiment = EXPERIMENT
        .replace("context_tokens = 2048", "context_tokens = 2048\nassistant_tokens = [32, \"uncut\"]")
        .replace("draws = 1000", "draws = 1000\ntiming_margins_seconds = [40]");
    place.write("x.toml", experiment);
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    let found = results(&place);
    let sensitivity = |setting: &str| -> Vec<Value> {
        let all = found["sensitivities"].as_array().unwrap();
        let one = all.iter().find(|one| one["setting"] == setting).unwrap_or_else(|| panic!("{setting} in {all:?}"));
        one["rows"].as_array().unwrap().clone()
    };
    let replies = sensitivity("most tokens of a reply");
    assert_eq!(strings(&replies, "name"), ["32", "uncut"]);
    let lost = |row: &Value| row["reply_tokens_lost"].as_f64().unwrap();
    assert!(lost(&replies[0]) > 0.0 && lost(&replies[1]) == 0.0, "{replies:?}");
    assert_eq!(replies[0]["contrast"]["items"], replies[1]["contrast"]["items"]);
    assert_eq!(value(&replies[0]["contrast"]), value(&found["comparisons"][0]["contrasts"][0]));
    assert!(place.path("out/tiny/replies-uncut/past/fold0/best.safetensors").exists());
    let margins = sensitivity("timing margin");
    assert_eq!(strings(&margins, "name"), ["0 s", "40 s"]);
    // With a margin, some thoughts are hidden from some items, and no model is trained.
    let seen = |arm: &str| -> u64 {
        let records = lines(&place, &format!("out/tiny/records/{arm}.jsonl"));
        records.iter().map(|record| record["visible_thoughts"].as_u64().unwrap()).sum()
    };
    assert!(seen("past-40s") < seen("past"), "{} of {}", seen("past-40s"), seen("past"));
    assert!(!place.path("out/tiny/past-40s/fold0/best.safetensors").exists());
    let page = place.text("out/tiny/report.html");
    assert!(page.contains("By most tokens of a reply") && page.contains("By timing margin"));
}

#[test]
fn the_parts_of_a_difference_add_up_and_items_without_a_donor_are_left_out() {
    let place = Workplace::new(24);
    let arm = |name: &str| format!("\n[[arm]]\nname = \"{name}\"\nview = \"past\"\nsource = \"{name}\"\n");
    let arms = ["presence", "same_conversation", "other_conversation"].map(arm).concat();
    place.write("x.toml", format!("{EXPERIMENT}{arms}"));
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    let found = results(&place);
    let parts = found["sensitivities"][0]["rows"].as_array().unwrap();
    assert_eq!(strings(parts, "name"), ["presence", "topic", "person", "content", "all together"]);
    let values: Vec<f64> = parts.iter().map(|part| value(&part["contrast"])).collect();
    let sum: f64 = values[..4].iter().sum();
    assert!((sum - values[4]).abs() < 1e-12, "{values:?}");
    let items: BTreeSet<u64> = parts.iter().map(|part| part["contrast"]["items"].as_u64().unwrap()).collect();
    assert_eq!(items.len(), 1, "every part is on the same items");
    // A user with one conversation has no thoughts from another.
    let records = lines(&place, "out/tiny/records/other_conversation.jsonl");
    let lacking = records.iter().filter(|record| record["lacks_words"] == true).count() as u64;
    let comparisons = found["comparisons"].as_array().unwrap();
    let other = comparisons.iter().find(|one| one["arm_b"] == "other_conversation").unwrap();
    assert_eq!(other["without_words"].as_u64(), Some(lacking));
    // The users differ or do not, and the page says which.
    assert!(place.text("out/tiny/report.md").contains("items that are dealt to them at random"));
}

#[test]
fn leaving_a_thought_out_costs_what_scoring_without_it_says() {
    let place = Workplace::new(20);
    place.write("x.toml", EXPERIMENT.replace("draws = 1000", "draws = 1000\nattribution = 1000"));
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    let pairs = lines(&place, "out/tiny/attribution.jsonl");
    let records = lines(&place, "out/tiny/records/past.jsonl");
    // With room for all thoughts, every thought that a target sees is left out once.
    let seen: u64 = records.iter().map(|record| record["visible_thoughts"].as_u64().unwrap()).sum();
    assert_eq!(pairs.len() as u64, seen);
    // A target that sees one thought costs without it what it costs an arm that sees none, with the same model.
    place.write("x.toml", {
        let reliance = "\n[[arm]]\nname = \"without\"\ntrained_as = \"past\"\n";
        format!("{}{reliance}", EXPERIMENT.replace("draws = 1000", "draws = 1000\nattribution = 1000"))
    });
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    let nats = |arm: &str, item: &str| -> f64 {
        let records = lines(&place, &format!("out/tiny/records/{arm}.jsonl"));
        records.iter().find(|record| record["item"] == item).unwrap()["nats"].as_f64().unwrap()
    };
    let alone: Vec<&Value> = pairs.iter().filter(|pair| pair["thoughts_seen"] == 1).collect();
    assert!(!alone.is_empty());
    for pair in alone {
        let item = pair["item"].as_str().unwrap();
        let saved = pair["nats_saved"].as_f64().unwrap();
        assert!((saved - (nats("without", item) - nats("past", item))).abs() < 1e-3, "{pair}");
    }
    let page = place.text("out/tiny/report.html");
    assert!(page.contains("Which thought helped") && page.contains("\"saved\":[["));
    // Without attribution, the file goes.
    place.run("ablate x.toml --set training.epochs=1 --set evaluation.attribution=0").succeeded();
    assert!(!place.path("out/tiny/attribution.jsonl").exists());
}
