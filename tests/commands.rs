//! The program end to end, from a GGUF file to an export that loads again, in the order in which a user would try
//! it: on a tiny model and the project's synthetic conversations.
//!
//! The first test runs the whole path; each other test checks one promise: a study gives the same bytes wherever
//! it runs, reuses finished work, tests every user once in folds, and flags what must not be overlooked.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use serde_json::Value;
use undertone_testing::program::{EXPERIMENT, Workplace, left_by, lines, strings};
use undertone_testing::tiny_folder;

const CHECKPOINT: &str = "out/tiny/past/fold0/best.safetensors";

/// Every kind of target.
const KINDS: [&str; 5] = ["next_prompt", "reaction", "reaction_label", "reason", "reason_label"];

/// The loss of one arm under `metrics`.
#[track_caller]
fn loss(result: &Value, arm: &str) -> f64 {
    let metrics = result["metrics"].as_array().unwrap();
    let found =
        metrics.iter().find(|metrics| metrics["arm"] == arm).unwrap_or_else(|| panic!("no arm {arm} in {result}"));
    found["nats_per_token"].as_f64().unwrap()
}

#[test]
fn the_whole_story() {
    let place = Workplace::new(16);

    // A GGUF file becomes a Hugging Face folder with the same numbers.
    place.write("tiny.gguf", tiny_folder::gguf());
    let imported = place.run("import tiny.gguf imported --json").json();
    assert_eq!(imported["destination"], "imported");
    assert_eq!(imported["tensors_by_type"]["F32"], 20);
    let parameters: usize = tiny_folder::weights().iter().map(|weight| weight.values.len()).sum();
    assert_eq!(imported["parameters"], parameters);
    let (ours, theirs) = (place.read("model/model.safetensors"), place.read("imported/model.safetensors"));
    for weight in tiny_folder::weights() {
        let name = &weight.name;
        assert!(tiny_folder::tensor_bytes(&ours, name) == tiny_folder::tensor_bytes(&theirs, name), "{name}");
    }
    place.write("x.toml", EXPERIMENT.replace("path = \"model\"", "path = \"imported\""));

    // `data check` says whether the conversations can be read, `data stats` what they contain.
    let checked = place.run("data check data.jsonl --json").json();
    assert_eq!(
        (checked["read"]["conversations"].as_u64(), checked["read"]["skipped_lines"].as_u64()),
        (Some(16), Some(0))
    );
    let stats = place.run("data stats data.jsonl --json").json();
    assert_eq!((stats["users"].as_u64(), stats["conversations"].as_u64()), (Some(8), Some(16)));
    let labels = stats["reasons"]["labels"].as_array().unwrap();
    assert_eq!(strings(labels, "name")[0], "Task Motivation & Goal", "people read the paper's names");

    // `inspect` shows a conversation as an arm sees it: a reaction before the next user message, targets marked.
    let shown = place.run("inspect x.toml --arm past --conversation user9001_task1_conversation1").succeeded().stdout;
    for expected in [
        "«shorter pls<|im_end|>» ← next_prompt, 12 tokens",
        "  reaction 1: ",
        "Way too much to read while standing on the bus.",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
    let hidden = place.run("inspect x.toml --arm none --conversation user9001_task1_conversation1").succeeded().stdout;
    assert!(hidden.contains("«shorter pls<|im_end|>»") && !hidden.contains("Way too much"), "{hidden}");
    let shown = place.run("inspect x.toml --arm past --conversation user9001_task1_conversation1 --json").json();
    assert_eq!(strings(shown["streams"][0]["targets"].as_array().unwrap(), "text")[1], "shorter pls<|im_end|>");

    // An arm is trained.
    let trained = place.run("train x.toml --arm past --json").json();
    assert_eq!((&trained["arm"], &trained["checkpoint"]), (&"past".into(), &CHECKPOINT.into()));
    let log = lines(&place, "out/tiny/past/fold0/log.jsonl");
    let losses: Vec<f64> = log.iter().map(|step| step["loss_nats_per_token"].as_f64().unwrap()).collect();
    assert!(losses.last() < losses.first(), "{losses:?}");
    let resolved = place.text("out/tiny/past/fold0/experiment.toml");
    assert!(
        resolved.contains("save_every_steps = 0") && resolved.contains("beta2 = 0.999"),
        "defaults included: {resolved}"
    );
    assert!(place.files("out/tiny/past/fold0/tensorboard").keys().any(|name| name.starts_with("events.out.tfevents.")));

    // The trained arm and the untrained model are scored on users that training did not see.
    let words = format!("evaluate {CHECKPOINT} --against base --json --records records.jsonl");
    let scored = place.run(&words).json();
    assert!(loss(&scored, CHECKPOINT) < loss(&scored, "base") - 0.1, "{scored}");
    let items = strings(&lines(&place, "records.jsonl"), "item");
    let counted: BTreeSet<&String> = items.iter().collect();
    assert_eq!(
        (items.len(), items.len() / 2),
        (2 * counted.len(), scored["metrics"][0]["items"].as_u64().unwrap() as usize)
    );
    let difference = &scored["comparison"]["contrasts"][0]["losses"]["difference"]["ratio"];
    let interval = &difference["of_models"]["student_t"];
    assert!(interval["low"].as_f64() <= difference["value"].as_f64());
    assert!(interval["high"].as_f64() >= difference["value"].as_f64());

    // The trained arm writes a user's next message: the same for the same seed, another for another seed.
    let predict = |seed: u64| {
        let words = format!("predict {CHECKPOINT} data.jsonl --temperature 1 --max-new-tokens 30 --json --seed {seed}");
        let predicted = place.run(&words).json();
        assert_eq!(predicted["speaker"], "user");
        predicted["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(predict(7), predict(7));
    assert_ne!(predict(7), predict(8));
    let greedy = || {
        place.run(&format!("predict {CHECKPOINT} data.jsonl --speaker reaction --max-new-tokens 9")).succeeded().stdout
    };
    assert_eq!(greedy(), greedy());

    // The trained arm is exported, as a full model and as an adapter.
    let exported = place.run(&format!("export {CHECKPOINT} exported --json")).json();
    let files = |name: &str| place.files(name).into_keys().collect::<BTreeSet<String>>();
    let told: BTreeSet<String> =
        exported["files"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    assert_eq!(files("exported"), told);
    for name in ["config.json", "model.safetensors", "tokenizer.json", "undertone.json"] {
        assert!(told.contains(name), "{name} in {told:?}");
    }
    assert!(exported["largest_logit_difference"].as_f64().unwrap() < 1e-3);
    place.run(&format!("export {CHECKPOINT} adapter --format peft")).succeeded();
    assert!(
        files("adapter")
            .is_superset(&["adapter_config.json".to_owned(), "adapter_model.safetensors".to_owned()].into())
    );
    let provenance: Value = serde_json::from_slice(&place.read("adapter/undertone.json")).unwrap();
    assert_eq!(provenance["arm"], "past");

    // The exported model is a base model like any other: without training, it scores as the checkpoint did.
    let further = "train x.toml --arm past --set model.path=exported --set name=further --set training.epochs=1";
    place.run(further).succeeded();
    let again = place.run("evaluate out/further/past/fold0/best.safetensors --against base --json").json();
    let (before, after) = (loss(&scored, CHECKPOINT), loss(&again, "base"));
    assert!((before - after).abs() < 1e-4, "{before} became {after}");
}

/// A model whose turns are those of Llama 3 learns, writes and is exported in its own format.
#[test]
fn a_model_keeps_its_own_chat_format() {
    let place = Workplace::new(16);
    let tokenizer = tiny_folder::tokenizer().to_string();
    place
        .write("model/tokenizer.json", tokenizer.replace("<|im_start|>", "<|begin|>").replace("<|im_end|>", "<|eot|>"));
    let template = "{{ bos_token }}{% for message in messages %}{{ '[' + message['role'] + ']\\n\\n' + message['content'] | trim + '<|eot|>' }}{% endfor %}";
    let settings = serde_json::json!({"bos_token": "<|begin|>", "eos_token": "<|eot|>", "chat_template": template});
    place.write("model/tokenizer_config.json", settings.to_string());
    let words = "inspect x.toml --arm past --conversation user9001_task1_conversation1 --json";
    let stream = &place.run(words).json()["streams"][0];
    let text: String = strings(stream["pieces"].as_array().unwrap(), "text").concat();
    assert!(text.starts_with("<|begin|>[user]\n\n"), "{text}");
    assert!(
        text.contains("<|eot|>[reaction]\n\nWay too much to read while standing on the bus.<|eot|>[reason]\n\n"),
        "{text}"
    );
    place.run("train x.toml --arm past").succeeded();
    let scored = place.run(&format!("evaluate {CHECKPOINT} --against base --json")).json();
    assert!(loss(&scored, CHECKPOINT) < loss(&scored, "base") - 0.1, "{scored}");
    place.run(&format!("predict {CHECKPOINT} data.jsonl --max-new-tokens 9")).succeeded();
    place.run(&format!("export {CHECKPOINT} exported")).succeeded();
    let exported = place.text("exported/chat_template.jinja");
    assert!(exported.contains(r"'reason': ['[reason]\n\n', '<|eot|>']"), "{exported}");
    // As a base model, the export writes turns in the same way.
    let stream = &place.run(&format!("{words} --set model.path=exported")).json()["streams"][0];
    assert_eq!(strings(stream["pieces"].as_array().unwrap(), "text").concat(), text);

    // A checkpoint is not used with another format than that of its training.
    place.write("model/tokenizer_config.json", settings.to_string().replace("'['", "'<'"));
    let refused = place.run(&format!("evaluate {CHECKPOINT}"));
    assert!(refused.stderr.contains("chat format") && refused.status.code() == Some(2), "{}", refused.stderr);
}

/// Chats without thoughts train a model of users.
#[test]
fn chats_of_another_dataset_are_converted_and_trained_on() {
    let place = Workplace::new(1);
    let chat = |number: usize| {
        let texts =
            [format!("tell me about {number}"), format!("{number} is a number"), format!("and {}?", number + 1)];
        let message = |index: usize| serde_json::json!({"from": (["human", "gpt"][index % 2]), "value": texts[index]});
        serde_json::json!({"id": format!("x{number}_0"), "conversations": [message(0), message(1), message(2)]})
    };
    let chats: Vec<Value> = (0..12).map(chat).collect();
    let whole = Value::from(chats).to_string();
    place.write("chats.json", &whole[..whole.len() - 20]);
    let refused = place.run("data convert chats.json converted.jsonl");
    assert!(refused.stderr.starts_with("error: `chats.json`: is not a whole JSON array: EOF"), "{}", refused.stderr);
    assert_eq!((refused.status.code(), place.path("converted.jsonl").exists()), (Some(2), false));
    let converted = place.run("data convert chats.json converted.jsonl --skip-invalid").succeeded().stdout;
    assert!(converted.starts_with("      11  conversations in ShareGPT's `conversations`\n"), "{converted}");
    assert!(converted.contains("the file is cut off"), "{converted}");
    let again = place.run("data convert chats.json converted.jsonl --skip-invalid");
    assert!(again.stderr.contains("already exists"), "{}", again.stderr);
    let stats = place.run("data stats converted.jsonl --json").json();
    assert_eq!((stats["users"].as_u64(), stats["user_messages"].as_u64()), (Some(11), Some(22)));
    place.run("train x.toml --arm none --set data.path=converted.jsonl --set training.epochs=1").succeeded();
}

#[test]
fn a_study_is_the_same_wherever_it_runs() {
    let (one, other) = (Workplace::new(12), Workplace::new(12));
    let run = |place: &Workplace| place.run("ablate x.toml --json").json();
    assert_eq!(run(&one), run(&other));
    let (ours, theirs) = (left_by(&one, "out"), left_by(&other, "out"));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, bytes) in &ours {
        assert!(*bytes == theirs[name], "`{name}` differs");
    }
    for name in
        ["report.md", "results.json", "records/none.jsonl", "records/base-past.jsonl", "past/fold0/best.safetensors"]
    {
        assert!(ours.contains_key(&format!("tiny/{name}")), "{name} in {:?}", ours.keys());
    }
    // Another seed gives other results.
    let different = other.run("ablate x.toml --json --set seed=1 --set name=second").json();
    let own: Value = serde_json::from_slice(&one.read("out/tiny/results.json")).unwrap();
    assert_ne!(different["metrics"], own["metrics"]);
}

#[test]
fn a_second_run_reuses_what_is_there() {
    let place = Workplace::new(12);
    place.run("ablate x.toml").succeeded();
    let written = || -> BTreeMap<String, SystemTime> {
        let kept = |name: &String| name.ends_with(".safetensors") || name.contains("/fold0/records.jsonl");
        let time = |name: &str| place.path("out").join(name).metadata().unwrap().modified().unwrap();
        place.files("out").into_keys().filter(kept).map(|name| (name.clone(), time(&name))).collect()
    };
    let before = written();
    assert_eq!(before.len(), 10, "two arms of three checkpoints, four scorings: {before:?}");
    let report = place.text("out/tiny/report.md");
    std::fs::remove_file(place.path("out/tiny/report.md")).unwrap();

    let second = place.run("ablate x.toml").succeeded();
    assert!(second.stderr.starts_with("resuming the study in `out/tiny`\n"), "{}", second.stderr);
    assert!(!second.stderr.contains("step ") && !second.stderr.contains("scored "), "{}", second.stderr);
    assert_eq!(written(), before);
    assert_eq!(place.text("out/tiny/report.md"), report);

    // Lost scores are computed again, without training.
    std::fs::remove_file(place.path("out/tiny/past/fold0/records.jsonl")).unwrap();
    let third = place.run("ablate x.toml").succeeded();
    assert!(!third.stderr.contains("step ") && third.stderr.contains("past: scored "), "{}", third.stderr);
    assert_eq!(place.text("out/tiny/report.md"), report);
}

/// `train` and `ablate` share a folder: neither repeats a training of the other.
#[test]
fn a_study_takes_over_an_arm_that_was_trained_before() {
    let place = Workplace::new(12);
    place.run("train x.toml --arm past").succeeded();
    let checkpoint = place.read(CHECKPOINT);
    let study = place.run("ablate x.toml").succeeded();
    assert!(!study.stderr.contains("past: step ") && study.stderr.contains("none: step "), "{}", study.stderr);
    assert!(place.read(CHECKPOINT) == checkpoint);

    let apart = Workplace::new(12);
    apart.run("ablate x.toml").succeeded();
    assert_eq!(place.text("out/tiny/report.md"), apart.text("out/tiny/report.md"));
}

/// An empty folder with the study's name does not count as another study.
#[test]
fn a_study_moves_into_an_empty_folder() {
    let place = Workplace::new(12);
    std::fs::create_dir_all(place.path("out/tiny")).unwrap();
    place.run("ablate x.toml --set training.epochs=1").succeeded();
}

#[test]
fn folds_test_every_user_exactly_once() {
    let place = Workplace::new(12);
    for (folds, count) in [("3", 3), ("users", 6)] {
        let words =
            format!("ablate x.toml --json --set split.folds={folds} --set name=folds-{folds} --set training.epochs=1");
        let results = place.run(&words).json();
        assert_eq!(results["overlap"].as_array().unwrap().len(), count, "one division of users a fold");
        for overlap in results["overlap"].as_array().unwrap() {
            for pair in ["train_validation", "train_test", "validation_test"] {
                assert_eq!(overlap["users"][pair], 0);
            }
        }
        for arm in ["none", "past", "base-none", "base-past"] {
            let records = lines(&place, &format!("out/folds-{folds}/records/{arm}.jsonl"));
            let mut fold_of: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
            for record in &records {
                fold_of
                    .entry(record["user"].as_str().unwrap().to_owned())
                    .or_default()
                    .insert(record["fold"].as_u64().unwrap());
            }
            let users: Vec<&str> = fold_of.keys().map(String::as_str).collect();
            assert_eq!(users, ["user9001", "user9002", "user9003", "user9004", "user9005", "user9006"]);
            assert!(fold_of.values().all(|folds| folds.len() == 1), "{fold_of:?}");
            assert_eq!(fold_of.values().flatten().collect::<BTreeSet<_>>().len(), count);
            let items: BTreeSet<String> = strings(&records, "item").into_iter().collect();
            assert_eq!((items.len(), records.len()), (43, 43), "every user message, once");
        }
        let report = place.text(&format!("out/folds-{folds}/report.md"));
        assert!(report.contains("every user is tested once in each division"), "{report}");
    }
    // A checkpoint of a fold is scored only on the users of that fold.
    let tested = |fold: usize| {
        let words = format!("evaluate out/folds-3/past/fold{fold}/best.safetensors --json --records fold{fold}.jsonl");
        place.run(&words).json();
        let users = strings(&lines(&place, &format!("fold{fold}.jsonl")), "user");
        users.into_iter().collect::<BTreeSet<String>>()
    };
    let by_fold: Vec<BTreeSet<String>> = (0..3).map(tested).collect();
    assert!(by_fold.iter().all(|users| users.len() == 2), "{by_fold:?}");
    assert_eq!(by_fold.iter().flatten().collect::<BTreeSet<_>>().len(), 6);
}

#[test]
fn oracle_anchored_and_synthetic_are_flagged_where_results_stand() {
    let place = Workplace::new(20);
    let arms = "\n[[arm]]\nname = \"ceiling\"\nview = \"oracle\"\n\n[[arm]]\nname = \"hindsight\"\nview = \"past\"\ntiming = \"anchored\"\n\
        \n[[arm]]\nname = \"strangers\"\nview = \"past\"\nsource = \"shuffled\"\ntrained_as = \"past\"\n";
    place.write("x.toml", format!("{EXPERIMENT}{arms}"));
    let ran = place.run("ablate x.toml --set training.epochs=1").succeeded();
    let report = place.text("out/tiny/report.md");
    let flags = [
        "SYNTHETIC data: results show that the program works, and say nothing about people.",
        "ORACLE arms (ceiling) see the target's own reason, which is unknown before the message is written. They give an upper bound; they are not valid predictions.",
        "ANCHORED arms (hindsight) also see thoughts written after the target. Only strict arms support a claim about prediction.",
    ];
    for flag in flags {
        assert!(report.contains(&format!("> **{flag}**\n")), "{flag} in {report}");
        assert!(ran.stdout.contains(&format!("! {flag}\n")), "{flag} in {}", ran.stdout);
    }
    // Flags come before the first number.
    assert!(report.find("ORACLE").unwrap() < report.find("nats per token on").unwrap());

    // The oracle sees the target's own reason, in a separate branch; hindsight sees what strict timing
    // hides; strangers' thoughts are not the user's.
    let sees = |arm: &str| {
        let words = format!("inspect x.toml --scoring --json --conversation user9001_task1_conversation1 --arm {arm}");
        place.run(&words).json()["streams"][0].clone()
    };
    let oracle = sees("ceiling");
    let targets = oracle["targets"].as_array().unwrap();
    let target = targets.iter().find(|target| target["item"] == "user9001_task1_conversation1/2/next_prompt").unwrap();
    let inside = |span: &Value, outer: &Value| {
        span["from_token"].as_u64() >= outer["from_token"].as_u64()
            && span["to_token"].as_u64() <= outer["to_token"].as_u64()
    };
    let branch = oracle["branches"].as_array().unwrap().iter().find(|branch| inside(target, branch)).unwrap();
    let pieces: Vec<&Value> =
        oracle["pieces"].as_array().unwrap().iter().filter(|piece| inside(piece, branch)).collect();
    assert_eq!(strings(pieces.iter().copied(), "speaker"), ["reason", "user"]);
    assert!(pieces[0]["text"].as_str().unwrap().contains("One glance is all I get between stops."));
    assert_eq!(
        (&sees("past")["hidden"]["thoughts_too_late"], &sees("hindsight")["hidden"]["thoughts_too_late"]),
        (&1.into(), &0.into())
    );
    let own = "Way too much to read while standing on the bus.";
    assert!(sees("past")["pieces"].to_string().contains(own) && !sees("strangers")["pieces"].to_string().contains(own));

    // A single evaluation is flagged like a study.
    let evaluated = |option: &str| {
        let ran = place.run(&format!("evaluate {CHECKPOINT} {option}")).succeeded();
        ran.stdout + &ran.stderr
    };
    assert!(evaluated("--view oracle").contains("ORACLE"), "{}", evaluated("--view oracle"));
    assert!(evaluated("--timing anchored").contains("ANCHORED"), "{}", evaluated("--timing anchored"));
    assert!(evaluated("--view past").contains("SYNTHETIC"), "{}", evaluated("--view past"));

    // An arm that is trained as another is scored but not trained.
    assert!(!place.path("out/tiny/strangers/fold0/best.safetensors").exists());
    assert!(place.path("out/tiny/strangers/fold0/records.jsonl").exists());
    // The report of a plain study has none of these flags.
    let plain = Workplace::new(12);
    plain.run("ablate x.toml --set data.synthetic=false --set training.epochs=1").succeeded();
    for word in ["SYNTHETIC", "ORACLE", "ANCHORED"] {
        assert!(!plain.text("out/tiny/report.md").contains(word), "{word}");
    }
}

#[test]
fn five_kinds_of_targets_are_trained_together_and_reported_apart() {
    let place = Workplace::new(12);
    let kinds = KINDS.map(|kind| format!("\"{kind}\"")).join(",");
    let results = place.run(&format!("ablate x.toml --json --set data.targets=[{kinds}]")).json();
    assert_eq!(strings(results["coverage"].as_array().unwrap(), "kind"), KINDS);
    let metrics = results["metrics"].as_array().unwrap();
    let texts = KINDS.iter().filter(|kind| !kind.ends_with("_label")).count();
    assert_eq!(metrics.len(), 4 * KINDS.len() + texts, "four arms, and the yardstick for text");
    for arm_metrics in metrics {
        let kind = arm_metrics["kind"].as_str().unwrap();
        let labels = &arm_metrics["labels"];
        assert_eq!(labels.is_object(), kind.ends_with("_label"), "{arm_metrics}");
        if labels.is_object() {
            for measure in ["accuracy", "macro_f1"] {
                let value = labels[measure].as_f64().unwrap_or_else(|| panic!("{measure} in {labels}"));
                assert!((0.0..=1.0).contains(&value), "{measure} {value}");
            }
        }
    }
    for record in lines(&place, "out/tiny/records/past.jsonl") {
        let kind = record["kind"].as_str().unwrap();
        // CONVERSATION/MESSAGE/KIND, and a number if the message has several thoughts.
        assert_eq!(record["item"].as_str().unwrap().split('/').nth(2), Some(kind));
        if kind.ends_with("_label") {
            let probabilities: Vec<f64> =
                record["label"]["probabilities"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
            assert_eq!(probabilities.len(), if kind == "reason_label" { 7 } else { 5 });
            assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{probabilities:?}");
            assert!(record["label"]["truth"].as_u64().unwrap() < probabilities.len() as u64);
        } else {
            assert!(record.get("label").is_none_or(Value::is_null), "{record}");
        }
    }
    let report = place.text("out/tiny/report.md");
    for kind in KINDS {
        assert!(report.contains(&format!("{kind} (primary), nats per token")), "{kind} in {report}");
    }
    // Training on a kind lowers its loss.
    for kind in KINDS {
        let kind_loss = |arm: &str| {
            let found = metrics.iter().find(|metrics| metrics["arm"] == arm && metrics["kind"] == kind).unwrap();
            found["nats_per_token"].as_f64().unwrap()
        };
        assert!(
            kind_loss("past") < kind_loss("base-past"),
            "{kind}: {} from {}",
            kind_loss("past"),
            kind_loss("base-past")
        );
    }
}

/// An arm may train on more kinds than the study scores; the scored items stay the same.
#[test]
fn an_arm_may_train_on_other_targets_than_are_scored() {
    let place = Workplace::new(12);
    let more = "\n[[arm]]\nname = \"more\"\nview = \"past\"\ntargets = [\"next_prompt\", \"reaction\"]\n";
    place.write("x.toml", format!("{EXPERIMENT}{more}"));
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    let items = |arm: &str| strings(&lines(&place, &format!("out/tiny/records/{arm}.jsonl")), "item");
    assert_eq!(items("more"), items("past"));
    let supervised = |arm: &str| -> u64 {
        let log = lines(&place, &format!("out/tiny/{arm}/fold0/log.jsonl"));
        log.iter().map(|step| step["supervised_tokens"].as_u64().unwrap()).sum()
    };
    assert!(supervised("more") > supervised("past"));
    assert_eq!(supervised("none"), supervised("past"), "arms that see more are not trained on more");
}

/// With `--json`, stdout holds one JSON document; everything for people goes to stderr.
#[test]
fn stdout_is_json_and_nothing_else() {
    let place = Workplace::new(12);
    place.write("tiny.gguf", tiny_folder::gguf());
    for words in [
        "import tiny.gguf imported",
        "data check data.jsonl",
        "data stats data.jsonl",
        "inspect x.toml",
        "train x.toml --arm past",
        "train x.toml --arm past --resume",
        "ablate x.toml --set name=study",
        "predict CHECKPOINT data.jsonl --max-new-tokens 3",
        "evaluate CHECKPOINT",
        "evaluate CHECKPOINT --split validation --view none",
        "export CHECKPOINT hf",
        "export CHECKPOINT peft --format peft",
    ] {
        let words = words.replace("CHECKPOINT", CHECKPOINT);
        assert!(place.run(&format!("{words} --json")).json().is_object(), "{words}");
    }
    // Without `--json`, commands whose result is a file name it on stderr and print nothing to stdout.
    let quiet = place.run("train x.toml --arm past --set name=quiet").succeeded();
    assert_eq!(quiet.stdout, "");
    assert!(
        quiet.stderr.ends_with("trained `past`; best checkpoint: `out/quiet/past/fold0/best.safetensors`\n"),
        "{}",
        quiet.stderr
    );
}

#[test]
fn models_lists_every_family() {
    let place = Workplace::new(1);
    let shown = place.run("models").succeeded().stdout;
    let listed = place.run("models --json").succeeded();
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["model_type"].as_str().unwrap()).collect();
    let expected = ["llama", "qwen2", "qwen3", "mistral", "gemma3_text", "smollm3", "olmo2", "phi3", "granite"];
    assert_eq!(names, expected);
    for name in names {
        assert!(shown.lines().any(|line| line.starts_with(name)), "{name} is not in {shown}");
    }
    assert!(shown.contains("chat template"), "{shown}");
}
