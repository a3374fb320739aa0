//! Whole studies: controls, baselines, measures other than losses, failing arms, arms in parallel, and plans; on a tiny
//! model and the project's synthetic conversations.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use undertone_testing::endpoint::Endpoint;
use undertone_testing::program::{EXPERIMENT, Workplace, left_by, lines, sample, strings};

/// Arms that differ in what takes the place of thoughts, and three comparisons.
const CONTROLS: &str = r#"
[[arm]]
name = "last"
view = "last_reaction"

[[arm]]
name = "trajectory"
view = "past"
source = "shuffled_trajectory"

[[arm]]
name = "filler"
view = "past"
source = "filler"

[[arm]]
name = "presence"
view = "past"
source = "presence"

[[arm]]
name = "same"
view = "past"
source = "same_conversation"

[[arm]]
name = "elsewhere"
view = "past"
source = "other_conversation"

[[arm]]
name = "sometimes"
view = "past"
thought_dropout = 0.5

[[comparison]]
a = "none"
b = "past"
primary = true

[[comparison]]
a = "trajectory"
b = "past"

[[comparison]]
a = "filler"
b = "past"
"#;

#[test]
fn controls_differ_in_the_words_of_thoughts_and_in_nothing_else() {
    let place = Workplace::new(20);
    place.write("x.toml", format!("seeds = 2\n{}{CONTROLS}", EXPERIMENT.replace("draws", "margin = 10.0\ndraws")));
    let sees = |arm: &str, how: &str| {
        let words = format!("inspect x.toml {how}--json --conversation user9001_task1_conversation1 --arm {arm}");
        place.run(&words).json()["streams"][0].clone()
    };
    let own = "Way too much to read while standing on the bus.";
    let speakers = |stream: &Value| strings(stream["pieces"].as_array().unwrap(), "speaker");
    let [past, trajectory, filler, presence, same, elsewhere] =
        ["past", "trajectory", "filler", "presence", "same", "elsewhere"].map(|arm| sees(arm, "--scoring "));
    for other in [&trajectory, &filler, &presence, &same, &elsewhere] {
        assert_eq!(speakers(other), speakers(&past));
        assert_eq!(other["hidden"], past["hidden"]);
        assert!(past["pieces"].to_string().contains(own) && !other["pieces"].to_string().contains(own));
    }
    // Filler and words of the conversation have the very same number of tokens; presence has no words.
    let tokens = |stream: &Value| stream["pieces"].as_array().unwrap().last().unwrap()["to_token"].as_u64().unwrap();
    assert_eq!([tokens(&filler), tokens(&same)], [tokens(&past); 2]);
    assert!(tokens(&presence) < tokens(&past));
    // The last reaction is in the branch of the message after it, and in no other.
    let last = sees("last", "--scoring ");
    assert_eq!(last["pieces"].to_string().matches(own).count(), 1);
    assert!(speakers(&last).iter().all(|speaker| speaker != "reason"));
    // Half of the thoughts are left out in training, and none in evaluation.
    let dropped = |how: &str| sees("sometimes", how)["hidden"]["thoughts_dropped"].as_u64().unwrap();
    assert!(dropped("") > 0);
    assert_eq!(dropped("--scoring "), 0);

    let results = place.run("ablate x.toml --json --set training.epochs=1").json();
    let comparisons = results["comparisons"].as_array().unwrap();
    assert_eq!(strings(comparisons, "arm_b"), ["past", "past", "past"]);
    let evidence = |index: usize| &comparisons[index]["contrasts"][0]["losses"]["evidence"];
    // With a margin of ten nats, everything is tied unless it is decided.
    assert!(["tied", "better", "worse"].contains(&evidence(0)["decision"].as_str().unwrap()), "{}", evidence(0));
    let p = |index: usize| comparisons[index]["contrasts"][0]["losses"]["difference"]["p"].as_f64().unwrap();
    assert_eq!(evidence(0)["p_different"].as_f64(), Some(p(0)), "the primary comparison is not corrected");
    let corrected = |index: usize| evidence(index)["p_different"].as_f64().unwrap();
    assert!(corrected(1) >= p(1) && corrected(2) >= p(2));
    assert!(corrected(1) > p(1) || corrected(2) > p(2), "{} of {}", corrected(1), p(1));
    // Both seeds were trained and are part of the error; the untrained model was scored once.
    assert_eq!(comparisons[0]["seeds"], 2);
    let records_of = |arm: &str| lines(&place, &format!("out/tiny/records/{arm}.jsonl"));
    assert_eq!(records_of("past").len(), 2 * records_of("base-past").len());
    for seed in ["fold0", "fold0-seed1"] {
        assert!(place.path(&format!("out/tiny/past/{seed}/best.safetensors")).exists(), "{seed}");
    }
    assert_ne!(
        place.read("out/tiny/past/fold0/best.safetensors"),
        place.read("out/tiny/past/fold0-seed1/best.safetensors")
    );

    // The page needs no other file and shows every arm; plots are also files of their own.
    let page = place.text("out/tiny/report.html");
    let tested = strings(&records_of("past"), "conversation").remove(0);
    for expected in ["past − none ★", "trajectory", "Learning curves", "By turn", &tested] {
        assert!(page.contains(expected), "{expected}");
    }
    let elsewhere = page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "");
    assert!(!elsewhere.contains("http"), "the page refers to nothing outside itself");
    for plot in ["comparisons", "learning-curves", "by-turn"] {
        assert!(place.text(&format!("out/tiny/plots/{plot}.svg")).starts_with("<svg "), "{plot}");
    }
}

#[test]
fn an_arm_that_fails_does_not_take_the_others_along() {
    let place = Workplace::new(16);
    place.write(
        "x.toml",
        format!("{EXPERIMENT}\n[[arm]]\nname = \"hindsight\"\nview = \"past\"\ntiming = \"anchored\"\n"),
    );
    place.write("out/tiny/past/fold0/last.safetensors", "not a checkpoint");
    let ran = place.run("ablate x.toml --set training.epochs=1");
    assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("past: failed; the other arms go on: "), "{}", ran.stderr);
    let report = place.text("out/tiny/report.md");
    assert!(report.contains("FAILED: the arm `past` is left out of every comparison"), "{report}");
    assert!(report.contains("`hindsight` − `none`") && !report.contains("`past` − `none`"), "{report}");
    // After the repair the study goes on, and finished work is not repeated.
    let before = place.read("out/tiny/none/fold0/log.jsonl");
    std::fs::remove_file(place.path("out/tiny/past/fold0/last.safetensors")).unwrap();
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    assert!(place.text("out/tiny/report.md").contains("`past` − `none`"));
    assert!(before == place.read("out/tiny/none/fold0/log.jsonl"));
}

/// Comparisons and measures may change in a study that has begun. Nothing is trained again, and the report lists what
/// changed after there were results.
#[test]
fn a_study_may_be_amended_and_says_so() {
    let place = Workplace::new(20);
    place.run("ablate x.toml").succeeded();
    let results = || -> Value { serde_json::from_slice(&place.read("out/tiny/results.json")).unwrap() };
    assert_eq!(results()["amendments"], serde_json::json!([]));
    let before = left_by(&place, "out");
    let weights = |files: &std::collections::BTreeMap<String, Vec<u8>>| -> Vec<(String, Vec<u8>)> {
        let is_first_seed = |name: &String| name.ends_with("fold0/last.safetensors");
        files
            .iter()
            .filter(|(name, _)| is_first_seed(name))
            .map(|(name, bytes)| (name.clone(), bytes.clone()))
            .collect()
    };

    // Other scores for the same models: one more candidate for each message.
    let wider = EXPERIMENT.replace("draws = 1000", "draws = 1000\ndistractors = 1\nmargin = 0.5");
    let reliance = "[[arm]]\nname = \"reliance\"\nview = \"none\"\ntrained_as = \"past\"\n";
    place.write("x.toml", format!("seeds = 2\n{wider}\n{reliance}"));
    let second = place.run("ablate x.toml").succeeded();
    assert!(second.stderr.contains("past: scored ") && second.stderr.contains("as `reliance`"), "{}", second.stderr);
    let after = left_by(&place, "out");
    assert!(weights(&before).len() == 2 && weights(&before) == weights(&after), "the first seed is not trained again");
    assert!(after.contains_key("tiny/past/fold0-seed1/last.safetensors"));
    assert!(lines(&place, "out/tiny/records/past.jsonl").iter().any(|record| record["distractors"].is_array()));
    let changed = strings(results()["amendments"].as_array().unwrap(), "key");
    assert_eq!(changed, ["arm", "arm.reliance", "evaluation.distractors", "evaluation.margin", "seeds"]);
    // A margin that comes after the scores ties nothing.
    assert_eq!(results()["comparisons"][0]["rules"]["margin"], Value::Null);
    let report = place.text("out/tiny/report.md");
    let told =
        "CHANGED after there were results: `arm` from none, past to none, past, reliance; `arm.reliance` added (";
    assert!(report.contains(told) && report.contains("`seeds` from 1 to 2"), "{report}");
    assert!(place.text("out/tiny/report.html").contains("CHANGED after there were results: "));

    // A repeated run changes nothing, a new rule alone scores nothing again, and going back is another change.
    place.run("ablate x.toml").succeeded();
    assert_eq!(results()["amendments"].as_array().unwrap().len(), 5);
    assert_eq!(place.text("out/tiny/report.md"), String::from_utf8_lossy(&after["tiny/report.md"]));
    let third = place.run("ablate x.toml --set evaluation.margin=0.25").succeeded();
    assert!(!third.stderr.contains("scored ") && !third.stderr.contains("step "), "{}", third.stderr);
    assert_eq!(results()["amendments"].as_array().unwrap().len(), 6);
    place.write("x.toml", EXPERIMENT);
    place.run("ablate x.toml").succeeded();
    assert_eq!(results()["amendments"].as_array().unwrap().len(), 11);
    let records = |files: &std::collections::BTreeMap<String, Vec<u8>>| files["tiny/records/past.jsonl"].clone();
    let last = left_by(&place, "out");
    assert!(records(&before) == records(&last), "the scores are those of the first time");
    assert!(!last.contains_key("tiny/records/reliance.jsonl"), "what is not of the study any more is not beside it");
}

#[test]
fn what_is_trained_may_not_be_amended_and_what_becomes_primary_is_corrected() {
    let place = Workplace::new(20);
    let third = "\n[[arm]]\nname = \"third\"\nview = \"reactions\"\n";
    place.write("x.toml", format!("{EXPERIMENT}{third}"));
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    let report = place.text("out/tiny/report.md");
    assert!(report.contains("past − none ★"), "{report}");
    let before = left_by(&place, "out");
    // Another view, or a context that cuts windows elsewhere, changes the training.
    let other_view = third.replace("\"reactions\"", "\"reasons\"");
    let wider = format!("{third}\n[[arm]]\nname = \"wider\"\nview = \"oracle\"\n");
    for (experiment, cause) in [
        (format!("{EXPERIMENT}{other_view}"), ": the arm `third` was trained with other data or settings"),
        (
            format!("{}{wider}", EXPERIMENT.replace("= 2048", "= 700")),
            "; changed: `data.context_tokens` from 2048 to 700",
        ),
    ] {
        place.write("x.toml", experiment);
        for plan in ["", " --plan"] {
            let ran = place.run(&format!("ablate x.toml --set training.epochs=1{plan}"));
            assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
            let told = format!("error: `out/tiny`: already holds another study{cause}\n");
            assert!(ran.stderr.starts_with(&told), "{}", ran.stderr);
        }
        assert!(before == left_by(&place, "out"), "a refusal changes nothing");
    }
    // If another arm is moved to the front after there were results, no comparison is primary any more.
    let [head, none] =
        EXPERIMENT.split_once("[[arm]]").map(|(head, arms)| [head.to_owned(), format!("[[arm]]{arms}")]).unwrap();
    place.write("x.toml", format!("{head}{third}{none}"));
    let moved = place.run("ablate x.toml --set training.epochs=1").succeeded();
    assert!(!moved.stderr.contains("step "), "{}", moved.stderr);
    let report = place.text("out/tiny/report.md");
    assert!(report.contains("`primary comparison` from past − none to none − third"), "{report}");
    assert!(!report.contains('★'), "{report}");
    // A folder with scores but without its `experiment.toml` is refused.
    std::fs::remove_file(place.path("out/tiny/experiment.toml")).unwrap();
    let ran = place.run("ablate x.toml --set training.epochs=1");
    assert_eq!(ran.status.code(), Some(2));
    assert!(ran.stderr.contains("holds scores without the `experiment.toml`"), "{}", ran.stderr);
}

#[test]
fn a_plan_says_what_is_left_and_runs_nothing() {
    let place = Workplace::new(20);
    let plan = || place.run("ablate x.toml --plan --json").json();
    let before = plan();
    assert!(!place.path("out").exists(), "nothing is written");
    let tokens = |plan: &Value, what: &str| -> Vec<u64> {
        plan[what].as_array().unwrap().iter().map(|one| one["tokens"].as_u64().unwrap()).collect()
    };
    assert_eq!(strings(before["trainings"].as_array().unwrap(), "arm"), ["none", "past"]);
    assert!(tokens(&before, "trainings").iter().chain(&tokens(&before, "scorings")).all(|tokens| *tokens > 0));
    // `past` sees more than `none`, so its training reads more tokens.
    assert!(tokens(&before, "trainings")[1] > tokens(&before, "trainings")[0]);
    assert!(before["hours"].as_f64().unwrap() > 0.0 && before["power"]["designs"].as_array().unwrap().len() > 1);
    place.run("train x.toml --arm none").succeeded();
    let after = plan();
    assert_eq!((after["trainings"][0]["finished"].as_u64(), tokens(&after, "trainings")[0]), (Some(1), 0));
    assert_eq!(tokens(&after, "trainings")[1], tokens(&before, "trainings")[1]);
    assert!(place.run("ablate x.toml --plan").succeeded().stdout.contains("What `tiny` would run"));
}

#[test]
fn arms_side_by_side_give_what_arms_in_a_row_give() {
    let place = Workplace::new(16);
    place.write("x.toml", EXPERIMENT.replace("[split]", "[split]\nfolds = 3").replace("validation = 0.2\n", ""));
    place.run("ablate x.toml --set training.epochs=1 --set output=row").succeeded();
    place.run("ablate x.toml --set training.epochs=1 --set output=side --jobs 3").succeeded();
    let [row, side] = ["row", "side"].map(|output| {
        let mut files = left_by(&place, &format!("{output}/tiny"));
        // These files contain the path of their folder.
        files.retain(|name, _| !name.ends_with("experiment.toml") && !name.ends_with(".safetensors"));
        files.into_iter().map(|(name, bytes)| (name, String::from_utf8_lossy(&bytes).into_owned())).collect::<Vec<_>>()
    });
    let names = |files: &[(String, String)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&row), names(&side));
    let records = |files: &[(String, String)]| {
        files.iter().filter(|(name, _)| name.starts_with("records/")).cloned().collect::<Vec<_>>()
    };
    assert!(records(&row).len() >= 5);
    assert_eq!(records(&row), records(&side));
}

#[test]
fn what_arms_write_and_tell_apart_is_measured_on_the_same_messages() {
    let place = Workplace::new(20);
    let evaluation =
        "[evaluation]\ndistractors = 3\n[evaluation.writing]\nmessages = 5\nfirst_messages = 4\nmax_new_tokens = 6\n";
    let experiment = EXPERIMENT
        .replace("[evaluation]\ndraws = 1000\n", evaluation)
        .replace("[data]", "[data]\ntargets = [\"next_prompt\", \"conversation_end\"]");
    place.write("x.toml", &experiment);
    let shown = place.run("inspect x.toml --arm past --scoring --json").json();
    let candidates = shown.to_string().matches("\"distractor\":").count();
    let results = place.run("ablate x.toml --json --set training.epochs=1").json();

    // Every message of a test user has three distractors, except first messages, which have none.
    let past = lines(&place, "out/tiny/records/past.jsonl");
    let prompts: Vec<&Value> = past.iter().filter(|record| record["kind"] == "next_prompt").collect();
    let beside = |record: &Value| record["distractors"].as_array().map_or(0, Vec::len);
    assert!(prompts.iter().any(|record| beside(record) == 0) && prompts.iter().any(|record| beside(record) == 3));
    assert!(prompts.iter().all(|record| [0, 3].contains(&beside(record))));
    assert!(candidates.is_multiple_of(3), "{candidates}");
    // The unigram baseline ranks the same messages.
    let unigram = lines(&place, "out/tiny/records/unigram.jsonl");
    let told = |records: &[Value]| {
        let told = records.iter().filter(|record| beside(record) > 0);
        told.map(|record| record["item"].as_str().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(told(&unigram), told(&past));

    // Every arm wrote messages for the same items, and so did the baseline.
    let written = lines(&place, "out/tiny/written.jsonl");
    let items = |arm: &str| {
        let arm_lines = written.iter().filter(|one| one["arm"] == arm);
        arm_lines.map(|one| one["item"].as_str().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(items("past").len(), 5);
    for arm in ["base-none", "base-past", "none", "repeat"] {
        assert_eq!(items(arm), items("past"), "{arm}");
    }
    let measures = results["measures"].as_array().unwrap();
    let mean = |arm: &str, measure: &str| {
        let found = measures.iter().find(|one| one["arm"] == arm && one["measure"] == measure);
        found.unwrap_or_else(|| panic!("no {measure} of {arm} in {results}"))["mean"].as_f64().unwrap()
    };
    for measure in ["top_one", "reciprocal_rank", "chrf", "rouge_l"] {
        assert!((0.0..=100.0).contains(&mean("past", measure)), "{measure}");
    }
    // With four candidates, the mean reciprocal rank is at least that of always ranking last.
    assert!(mean("past", "reciprocal_rank") >= 25.0 && mean("past", "reciprocal_rank") >= mean("past", "top_one"));
    assert_eq!(strings(results["first_messages"].as_array().unwrap(), "arm").last().unwrap(), "real users");

    // The end is asked after every reply to a test user; a conversation ends at most once.
    let ends: Vec<&Value> = past.iter().filter(|record| record["kind"] == "conversation_end").collect();
    let truths: u64 = ends.iter().map(|record| record["label"]["truth"].as_u64().unwrap()).sum();
    let conversations: std::collections::BTreeSet<&str> =
        past.iter().map(|record| record["conversation"].as_str().unwrap()).collect();
    assert!(truths as usize <= conversations.len() && (truths as usize) < ends.len(), "{truths} of {}", ends.len());
    let report = place.text("out/tiny/report.md");
    for expected in ["Predicting the end of the conversation", "Generated first messages", "## Other metrics"] {
        assert!(report.contains(expected), "{expected} in {report}");
    }

    // A second run writes no message again and leaves the same files.
    let before = left_by(&place, "out/tiny");
    place.run("ablate x.toml --json --set training.epochs=1").json();
    assert!(before == left_by(&place, "out/tiny"));
}

#[test]
fn an_encoder_that_is_not_there_is_said_before_anything_is_trained() {
    let place = Workplace::new(16);
    place.write(
        "x.toml",
        EXPERIMENT.replace("[evaluation]", "[evaluation.writing]\nmessages = 2\nencoder = \"nowhere\"\n[evaluation]"),
    );
    let ran = place.run("ablate x.toml");
    assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("`nowhere`, `evaluation.writing.encoder`: does not exist")
            && ran.stderr.contains("make encoder"),
        "{}",
        ran.stderr
    );
    assert!(!place.path("out/tiny/none").exists());
}

#[test]
fn predicted_thoughts_are_written_by_models_that_do_not_know_the_user() {
    let place = Workplace::new(20);
    let arm = "\n[[arm]]\nname = \"predicted\"\nview = \"past\"\nsource = \"predicted\"\n";
    place.write("x.toml", format!("{EXPERIMENT}{arm}"));
    let shown = "inspect x.toml --scoring --json --conversation user9001_task1_conversation1 --arm";
    // Predicted thoughts cannot be shown before they are written.
    let early = place.run(&format!("{shown} predicted"));
    assert_eq!(early.status.code(), Some(2));
    assert!(early.stderr.contains("not written yet") && early.stderr.contains("ablate"), "{}", early.stderr);
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    let sees = |arm: &str| place.run(&format!("{shown} {arm}")).json()["streams"][0].clone();
    let (own, predicted) = (sees("past"), sees("predicted"));
    // Predicted thoughts have the places of the user's own, and other texts.
    let speakers = |stream: &Value| strings(stream["pieces"].as_array().unwrap(), "speaker");
    assert_eq!(speakers(&own), speakers(&predicted));
    assert_ne!(own["pieces"], predicted["pieces"]);
    assert!(!predicted["pieces"].to_string().contains("Way too much to read while standing on the bus."));
    // A second run writes and trains nothing again; deleted thoughts are written again, with the same texts.
    let before = left_by(&place, "out/tiny");
    let saved = place.read("out/tiny/writers/fold0.json");
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    assert!(before == left_by(&place, "out/tiny"));
    std::fs::remove_file(place.path("out/tiny/writers/fold0.json")).unwrap();
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    assert!(saved == place.read("out/tiny/writers/fold0.json"));
    // Thoughts of other conversations are refused, and so are thoughts that were changed.
    place.write("more.jsonl", sample(40));
    let refused = |words: &str, cause: &str| {
        let ran = place.run(words);
        assert_eq!(ran.status.code(), Some(2), "{words}");
        assert!(ran.stderr.contains(cause), "{words}: {}", ran.stderr);
    };
    refused("inspect x.toml --arm predicted --set data.path=more.jsonl", "does not have the thoughts of");
    place.write("out/tiny/writers/fold0.json", "{\"other\": []}");
    refused("ablate x.toml --set training.epochs=1", "was changed after it was written");
    refused("inspect x.toml --arm predicted", "was changed after it was written");
    // A model that has read the target's message must not write the reason for it.
    place.write("x.toml", format!("{EXPERIMENT}{}", arm.replace("view = \"past\"", "view = \"oracle\"")));
    let ran = place.run("ablate x.toml");
    assert_eq!(ran.status.code(), Some(2));
    assert!(ran.stderr.contains("`oracle` cannot use predicted thoughts"), "{}", ran.stderr);
}

#[test]
fn a_training_that_ends_within_its_warm_up_says_so() {
    let place = Workplace::new(12);
    let ran = place.run("ablate x.toml --set training.epochs=1 --set training.warmup_steps=100").succeeded();
    let warned = "past: the training ends within its warm-up, after 3 of 100 steps: the learning rate reaches 3.0e-4, not 1.0e-2";
    assert!(ran.stderr.contains(warned), "{}", ran.stderr);
    let report = place.text("out/tiny/report.md");
    let said =
        "- `past`, fold0: scored after step 3 of 3. It ended within its warm-up: the learning rate reached 3.0e-4.\n";
    assert!(report.contains(said), "{report}");
}

/// No arm may have the name of what else a study writes.
#[test]
fn every_output_of_a_study_is_a_reserved_name() {
    let place = Workplace::new(20);
    place.run("ablate x.toml --register").succeeded();
    place
        .run("ablate x.toml --set evaluation.attribution=4 --set evaluation.writing.messages=2 --set evaluation.writing.max_new_tokens=2")
        .succeeded();
    let arms = ["none", "past", "base-none", "base-past"];
    for entry in std::fs::read_dir(place.path("out/tiny")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !arms.contains(&name.as_str()) {
            let arm = EXPERIMENT.replace("name = \"past\"", &format!("name = \"{name}\""));
            place.write("y.toml", arm);
            assert_eq!(place.run("ablate y.toml --plan").status.code(), Some(2), "{name}");
        }
    }
}

#[test]
fn a_judge_is_asked_once_and_its_answers_are_kept() {
    let place = Workplace::new(20);
    // The judge fails once, rates thoughts 4 or 2, and gives no number for some messages.
    let endpoint = Endpoint::new(|number, question| match (number, question.contains("thoughts tell")) {
        (0, _) => (500, "busy".into()),
        (_, true) if number % 3 == 0 => (200, "2".into()),
        (_, true) => (200, "4".into()),
        (_, false) if number % 7 == 0 => (200, "On a scale from 0 to 100, I say 85.".into()),
        (_, false) => (200, format!("{}", 10 + number % 50)),
    });
    let judged = format!(
        "[evaluation]\n[evaluation.writing]\nmessages = 6\nmax_new_tokens = 4\n[evaluation.judge]\nurl = \"{}\"\nmodel = \"fake\"\nleast_telling = 4\n",
        endpoint.url()
    );
    place.write("x.toml", EXPERIMENT.replace("[evaluation]\ndraws = 1000\n", &judged));
    let results = place.run("ablate x.toml --json --set training.epochs=1").json();
    let asked = endpoint.asked();
    assert!(asked > 6, "{asked}");
    let written = lines(&place, "out/tiny/written.jsonl");
    let scores: Vec<f64> = written.iter().filter_map(|one| one["likeness"]["judged"].as_f64()).collect();
    assert!(
        !scores.is_empty() && scores.len() < written.len() && scores.iter().all(|score| (10.0..60.0).contains(score))
    );
    assert!(results["measures"].as_array().unwrap().iter().any(|mean| mean["measure"] == "judged"));
    let report = place.text("out/tiny/report.md");
    for said in ["Judge: `fake`", "thoughts the judge rated 4 or more of 5", "were not one whole number"] {
        assert!(report.contains(said), "{said} in {report}");
    }
    // Nothing is asked twice, except for a line that was cut off.
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    assert_eq!(endpoint.asked(), asked);
    let kept = place.text("out/tiny/judge.jsonl");
    place.write("out/tiny/judge.jsonl", &kept[..kept.len() - 9]);
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    assert_eq!(endpoint.asked(), asked + 1);
}

#[test]
fn a_judge_that_refuses_or_is_not_there_is_an_error_with_its_address() {
    let place = Workplace::new(16);
    let endpoint = Endpoint::new(|_, _| (401, "no key".into()));
    let with = |url: &str, variable: &str| {
        let judge = format!(
            "[evaluation.writing]\nmessages = 1\nmax_new_tokens = 2\n[evaluation.judge]\nurl = \"{url}\"\nmodel = \"fake\"\napi_key_variable = \"{variable}\"\n[evaluation]"
        );
        place.write("x.toml", EXPERIMENT.replace("[evaluation]", &judge));
        let ran = place.run(&format!("ablate x.toml --set training.epochs=1 --set name=n{}", url.len()));
        assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
        ran.stderr
    };
    let refused = with(&endpoint.url(), "");
    assert!(
        refused.contains("chat/completions`, `evaluation.judge`: answered with HTTP status 401: ")
            && refused.contains("no key"),
        "{refused}"
    );
    // Everything else is reported all the same.
    let report = place.text(&format!("out/n{}/report.md", endpoint.url().len()));
    assert!(
        report.contains("FAILED: the judge's ratings are left out: ") && report.contains("past − none"),
        "{report}"
    );
    let unset = with(&endpoint.url(), "UNDERTONE_NO_SUCH_KEY");
    assert!(unset.contains("the environment variable `UNDERTONE_NO_SUCH_KEY` is not set"), "{unset}");
    let nowhere = with("ftp://example.org", "");
    assert!(nowhere.contains("must begin with `http://` or `https://`"), "{nowhere}");
}
