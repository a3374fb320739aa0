//! Stages: the model is trained on other people's chats before every arm; on a tiny model and synthetic conversations.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use undertone_testing::program::{EXPERIMENT, Workplace, left_by, lines, sample, strings};

/// Two stages before the arms; the second file also holds the study's own conversations.
const STAGES: &str = r#"
[[stage]]
name = "chats"
path = "chats.jsonl"
validation = 0.3
epochs = 1

[[stage]]
name = "more"
path = "all.jsonl"
epochs = 1
learning_rate = 0.002
"#;

/// Chats of users whom no other file has.
fn chats(count: usize) -> String {
    let line = |number: usize| {
        let says = |text: String| json!({ "type": "user", "content": text });
        let line = json!({ "id": format!("chat{number}"), "messages": [
            says(format!("What is {number} plus {number}?")),
            { "type": "assistant", "content": format!("It is {}.", 2 * number) },
            says(format!("And {number} times {number}, please?")),
        ]});
        format!("{line}\n")
    };
    (1..=count).map(line).collect()
}

/// A study of 16 conversations, with stages.
fn place() -> Workplace {
    let place = Workplace::new(16);
    place.write("chats.jsonl", chats(12));
    place.write("all.jsonl", sample(40));
    place.write("x.toml", format!("{EXPERIMENT}{STAGES}"));
    place
}

/// The document in the header of a checkpoint.
fn description(place: &Workplace, path: &str) -> Value {
    let file = place.read(path);
    let (header, _) = undertone_testing::tiny_folder::safetensors_parts(&file);
    let document: Value = serde_json::from_str(header["__metadata__"]["undertone"].as_str().unwrap()).unwrap();
    document["description"].clone()
}

fn users(description: &Value, key: &str) -> BTreeSet<String> {
    description[key].as_array().into_iter().flatten().map(|user| user.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_arm_begins_with_the_model_of_the_last_stage_which_knows_no_user_of_the_study() {
    let place = place();
    // The arms hardly learn anything, so they must give the losses of the model after the stages.
    let results = place.run("ablate x.toml --json --set training.epochs=1 --set training.learning_rate=1e-9").json();
    let nats = |arm: &str| -> Vec<f64> {
        let records = lines(&place, &format!("out/tiny/records/{arm}.jsonl"));
        records.iter().map(|record| record["nats"].as_f64().unwrap()).collect()
    };
    for (arm, staged, base) in [("none", "staged-none", "base-none"), ("past", "staged-past", "base-past")] {
        let farthest =
            |other: &str| nats(arm).iter().zip(nats(other)).map(|(one, other)| (one - other).abs()).fold(0.0, f64::max);
        assert!(farthest(staged) < 1e-2, "{arm}: {}", farthest(staged));
        assert!(farthest(base) > 1.0, "{arm}: {}", farthest(base));
    }
    // The report says what the stages add, and what the arms add to them.
    let gains = results["training_gains"].as_array().unwrap();
    let pairs: Vec<String> =
        gains.iter().map(|gain| format!("{} − {}", gain["arm_b"], gain["arm_a"]).replace('"', "")).collect();
    assert_eq!(
        pairs,
        [
            "none − base-none",
            "staged-none − base-none",
            "none − staged-none",
            "past − base-past",
            "staged-past − base-past",
            "past − staged-past"
        ]
    );
    // Nobody of the study is in a stage, though the second file holds them all.
    let data: BTreeSet<String> =
        strings(&lines(&place, "data.jsonl"), "id").iter().map(|id| id.split('_').next().unwrap().to_owned()).collect();
    let more = description(&place, "out/tiny/stages/more/fold0/best.safetensors");
    let (seen, earlier) = (users(&more, "trained_users"), users(&more, "earlier_users"));
    assert!(!seen.is_empty() && seen.is_disjoint(&data), "{seen:?}");
    assert_eq!(earlier.len(), 12, "the users of the first stage, trained and validated");
    let arm = description(&place, "out/tiny/past/fold0/best.safetensors");
    assert_eq!(users(&arm, "earlier_users"), &seen | &earlier);
    let report = place.text("out/tiny/report.md");
    let sentence = "Stage `more`, before every arm: ";
    let line = report.lines().find(|line| line.contains(sentence)).unwrap_or_else(|| panic!("{report}"));
    assert!(line.contains("left out were 16 conversations of the same users"), "{line}");
    assert!(report.find("Stage `chats`").unwrap() < report.find(sentence).unwrap());

    // A checkpoint is never tested on users of its stages.
    place.write("others.jsonl", sample(40).lines().skip(16).map(|line| format!("{line}\n")).collect::<String>());
    let seen = "evaluate out/tiny/past/fold0/best.safetensors --set data.path=others.jsonl";
    let refused = place.run(seen);
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("was trained, in a stage before, on the user `user"), "{}", refused.stderr);
    // The model of a stage can be used like that of an arm.
    let predicted = place.run(
        "predict out/tiny/stages/chats/fold0/best.safetensors data.jsonl --id user9001_task1_conversation1 --json",
    );
    assert!(predicted.status.success(), "{}", predicted.stderr);
    for checkpoint in ["stages/more/fold0/last.safetensors", "past/fold0/last.safetensors"] {
        let replayed = place.run(&format!("replay out/tiny/{checkpoint} --json")).json();
        assert_eq!(replayed["differences"], json!([]), "{checkpoint}");
    }
    assert!(place.run("verify out/tiny").status.success());
    // Its stages are trainings of the study.
    let runs = place.run("runs out --json").json();
    let studies = runs.as_array().or(runs["studies"].as_array()).unwrap_or_else(|| panic!("{runs}")).clone();
    assert_eq!(studies.len(), 1, "{runs}");
    let places = strings(studies[0]["trainings"].as_array().unwrap(), "place");
    assert_eq!(places, ["none/fold0", "past/fold0", "stages/chats/fold0", "stages/more/fold0"]);
}

#[test]
fn a_study_with_stages_that_is_stopped_goes_on_to_the_same_bytes() {
    let whole = place();
    assert!(whole.run("ablate x.toml").status.success());
    let stopped = place();
    // Ctrl-C in the middle of the first stage.
    let running = stopped.start("ablate x.toml");
    let begun = Instant::now();
    while !stopped.path("out/tiny/stages/chats/fold0/log.jsonl").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no stage begins");
        std::thread::sleep(Duration::from_millis(1));
    }
    Command::new("kill").args(["-INT", &running.child.id().to_string()]).status().unwrap();
    let ran = running.wait();
    assert_eq!(ran.status.code(), Some(130), "{}", ran.stderr);
    assert!(!stopped.path("out/tiny/none").exists());
    // One arm by itself trains the stages too.
    assert!(stopped.run("train x.toml --arm past").status.success());
    assert!(stopped.run("ablate x.toml").status.success());
    let (whole, here) = (left_by(&whole, "out/tiny"), left_by(&stopped, "out/tiny"));
    for (name, bytes) in &whole {
        assert!(here.get(name) == Some(bytes), "`{name}` differs");
    }
    // With other replies, the stages are not trained again.
    let replies = "ablate x.toml --set data.assistant_tokens=[1024,\"uncut\"]";
    let ran = stopped.run(replies);
    assert!(ran.status.success(), "{}", ran.stderr);
    assert!(!stopped.path("out/tiny/replies-uncut/stages").exists());
    // A study that has begun keeps its stages.
    let text = stopped.text("x.toml").replace("learning_rate = 0.002", "learning_rate = 0.003");
    stopped.write("y.toml", text);
    let ran = stopped.run("ablate y.toml");
    assert_eq!(ran.status.code(), Some(2));
    assert!(ran.stderr.contains("already holds another study; changed: `stage.more` from "), "{}", ran.stderr);
}

/// A study may be called like the folder of stages, and leave out conversations itself.
#[test]
fn a_study_called_stages_keeps_its_users_out_of_its_stages_too() {
    let place = place();
    place.write("other.jsonl", sample(40).lines().skip(38).map(|line| format!("{line}\n")).collect::<String>());
    let set = "--set name=stages --set data.except=other.jsonl --set training.epochs=1";
    assert!(place.run(&format!("ablate x.toml {set}")).status.success());
    let more = place.files("out").into_keys().find(|name| name.ends_with("more/fold0/best.safetensors")).unwrap();
    let seen = users(&description(&place, &format!("out/{more}")), "trained_users");
    let user = |line: &Value| line["id"].as_str().unwrap().split('_').next().unwrap().to_owned();
    for file in ["data.jsonl", "other.jsonl"] {
        assert!(lines(&place, file).iter().all(|line| !seen.contains(&user(line))), "{file}: {seen:?}");
    }
}

#[test]
fn a_large_file_gives_as_many_conversations_as_asked_for_and_the_plan_counts_them() {
    let place = Workplace::new(16);
    place.write("chats.jsonl", chats(200));
    let stage = "[[stage]]\nname = \"chats\"\npath = \"chats.jsonl\"\nconversations = 30\nepochs = 1\n";
    place.write("x.toml", format!("{EXPERIMENT}\n{stage}"));
    let plan = place.run("ablate x.toml --plan --json").json();
    assert_eq!(strings(plan["trainings"].as_array().unwrap(), "arm"), ["stage chats", "none", "past"]);
    let few = plan["trainings"][0]["tokens"].as_u64().unwrap();
    let all = place.text("x.toml").replace("conversations = 30", "conversations = 0");
    place.write("all.toml", all);
    let plan = place.run("ablate all.toml --plan --json").json();
    let tokens = plan["trainings"][0]["tokens"].as_u64().unwrap();
    assert!((6..=7).contains(&(tokens / few)), "{tokens} tokens of 200, {few} of 30");
    assert!(place.run("ablate x.toml --register").status.success());
    assert!(place.run("ablate x.toml").status.success());
    let line = place.text("out/tiny/report.md");
    assert!(line.contains("Stage `chats`, before every arm: 30 conversations of 30 users"), "{line}");
    assert!(line.contains("170 not drawn"), "{line}");
}

#[test]
fn what_is_wrong_with_a_stage_is_said_before_anything_is_trained() {
    let place = place();
    let refused = |file: &str, expected: &[&str]| {
        let ran = place.run(&format!("ablate {file}"));
        assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
        for expected in expected {
            assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
        }
        assert!(!place.path("out").exists(), "nothing is written");
    };
    let stage = |keys: &str| place.write("y.toml", format!("{EXPERIMENT}\n[[stage]]\n{keys}\n"));
    stage("name = \"chats\"\npath = \"data.jsonl\"");
    refused(
        "y.toml",
        &["`data.jsonl`", "has no conversation that may be used", "hint: use conversations of other users"],
    );
    stage("name = \"chats\"\npath = \"absent.jsonl\"");
    refused("y.toml", &["`absent.jsonl`", "cannot open: No such file"]);
    stage("name = \"past\"\npath = \"chats.jsonl\"\nepochs = 0\nepoch = 1\npatience_validations = 2\nvalidation = 1.0");
    refused(
        "y.toml",
        &[
            "unknown key `epoch`",
            "did you mean `epochs`",
            "`epochs` is 0",
            "`validation` (1) is not a share of users below 1",
        ],
    );
    stage("name = \"chats\"\npath = \"chats.jsonl\"\npatience_validations = 2");
    refused("y.toml", &["line ", "`patience_validations` needs validation users, and `validation` is 0"]);
    stage("name = \"../x\"\ntargets = []");
    refused(
        "y.toml",
        &[
            "the stage's `name` (\"../x\") must be usable as a folder name",
            "the stage's `path` is missing",
            "the stage's `targets` is empty",
        ],
    );
    stage("name = \"chats\"\npath = \"chats.jsonl\"\ntargets = [\"reaction\"]");
    refused("y.toml", &["`chats.jsonl`", "no training user has a target"]);
}
