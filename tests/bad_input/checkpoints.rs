//! Broken checkpoints, and wrong arguments of the commands that read them.

use undertone_testing::checkpoint::Parts;

use super::*;

#[test]
fn files_that_are_no_checkpoint() {
    let place = trained();
    let hint = "hint: a checkpoint is a file such as `checkpoints/NAME/ARM/best.safetensors`, written by `undertone train` or `ablate`";
    let whole = place.read(CHECKPOINT);
    let length = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let (header, rest) = (length(&whole), whole.len() / 2 - 8);
    place.write("cut.safetensors", &whole[..whole.len() / 2]);
    place.write("lying.safetensors", [&(1_u64 << 62).to_le_bytes()[..], &whole[8..]].concat());
    place.write("empty.safetensors", "");
    for command in ["evaluate FILE", "predict FILE data.jsonl", "export FILE exported"] {
        let check = |file: &str, expected: &str| check(&place, &command.replace("FILE", file), expected);
        check(
            "nosuch",
            &format!(
                "error: `nosuch`: cannot read the checkpoint: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"
            ),
        );
        check("out", &format!("error: `out`: is a folder, not a checkpoint file\n\n{hint}"));
        check(
            "data.jsonl",
            &format!(
                "error: `data.jsonl`: is not a safetensors file: its header would have {} bytes\n\n{hint}",
                length(&place.read("data.jsonl"))
            ),
        );
        check(
            "model/model.safetensors",
            &format!(
                "error: `model/model.safetensors`: has no `undertone` metadata, so it is not a checkpoint of this program\n\n{hint}"
            ),
        );
        check(
            "empty.safetensors",
            &format!("error: `empty.safetensors`: has 0 bytes, too few for a safetensors file\n\n{hint}"),
        );
        check(
            "cut.safetensors",
            &format!("error: `cut.safetensors`: its header has {header} bytes, but only {rest} follow\n\n{hint}"),
        );
        check(
            "lying.safetensors",
            &format!(
                "error: `lying.safetensors`: is not a safetensors file: its header would have 4611686018427387904 bytes\n\n{hint}"
            ),
        );
    }
}

/// A checkpoint is input from outside, too: an edited one gives an error, not a crash.
#[test]
fn checkpoints_that_were_tampered_with() {
    let place = trained();
    let whole = place.read(CHECKPOINT);
    let parts = Parts::of(&whole);
    let write = |parts: Parts| place.write("bad.safetensors", parts.file());
    let in_experiment = |from: &'static str, to: &'static str| {
        move |description: &mut Value| {
            let experiment = description["experiment"].as_str().unwrap().to_owned();
            assert!(experiment.contains(from), "{experiment}");
            description["experiment"] = json!(experiment.replace(from, to));
        }
    };
    let refused = |expected: &str| {
        for command in [
            "evaluate bad.safetensors --against base",
            "predict bad.safetensors data.jsonl",
            "export bad.safetensors e",
        ] {
            check(&place, command, &format!("error: `bad.safetensors`{expected}"));
        }
    };
    let of_format = |format: Value| {
        let mut parts = parts.clone();
        parts.envelope["format"] = format;
        write(parts);
    };
    of_format(json!(9));
    refused(
        ": was written in format 9, this program reads format 3\n\n\
        hint: train again, or use the version of `undertone` that wrote the checkpoint",
    );
    of_format(json!("x"));
    refused(", `undertone`: its metadata cannot be read: invalid type: string \"x\", expected u32 at line 1 column 13");
    let changed = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut parts = parts.clone();
        change(&mut parts.envelope["description"]);
        write(parts.sealed());
        refused(expected);
    };
    changed(
        &in_experiment("rank = 2", "rang = 2"),
        ": its experiment cannot be read: unknown key `rang`\n\n\
        hint: it was written by another version of `undertone`",
    );
    changed(
        &in_experiment("draws = 1000", "draws = 0"),
        ", `evaluation.draws`: `draws` (0) is too few for an interval\n\nhint: 10000 takes well under a second",
    );
    changed(
        &in_experiment("path = \"data.jsonl\"", "path = []"),
        ", `data.path`: `data.path` is missing\n\nhint: name a JSONL file here or with `--set data.path=FILE`",
    );
    changed(
        &in_experiment("rank = 2", "rank = 1000000000000"),
        ", `lora.rank`: `rank` (1000000000000) is above 4096\n\n\
        hint: 8 to 64 is usual; `model.method = \"full\"` trains without adapters",
    );
    let other_shape = "the model needs F32 [3, 16]\n\nhint: the checkpoint belongs to another configuration";
    changed(
        &in_experiment("rank = 2", "rank = 3"),
        &format!(", `weights/model.layers.0.self_attn.q_proj.lora_A.weight`: is F32 [2, 16], {other_shape}"),
    );
    changed(&|d| d["arm"] = json!("nobody"), ": has no arm `nobody`\n\nhint: its arms are: none, past");
    changed(
        &|d| d["base_model"] = json!("0000"),
        ": was trained from other weights than those in `model`\n\n\
        hint: point `--set model.path=` to the base model it was trained from",
    );

    // `NaN` weights are named in the error; nothing is scored, predicted or exported with them.
    let data = f32::NAN.to_le_bytes().repeat(parts.data.len() / 4);
    write(Parts { data, ..parts }.sealed());
    for command in ["evaluate bad.safetensors", "predict bad.safetensors data.jsonl", "export bad.safetensors e"] {
        check(
            &place,
            command,
            "error: `bad.safetensors`, `weights/model.layers.0.self_attn.q_proj.lora_A.weight`: value 0 is `NaN`, \
            not a finite number\n\n\
            hint: the training has diverged; use an earlier checkpoint, or train with a lower learning rate",
        );
    }
}

#[test]
fn nonsense_to_evaluate() {
    let place = trained();
    check(
        &place,
        &format!("evaluate {CHECKPOINT} --against nosuch"),
        &format!(
            "error: `nosuch`: cannot read the checkpoint: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"
        ),
    );
    check(
        &place,
        &format!("evaluate {CHECKPOINT} --set training.epochs=no"),
        "error: `--set`, `training.epochs=no`: `epochs` is `\"no\"`; it must be a whole number of at least 0",
    );
    check(
        &place,
        &format!("evaluate {CHECKPOINT} --set data.path=nosuch.jsonl"),
        &format!("error: `nosuch.jsonl`: cannot open: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"),
    );
    check(
        &place,
        &format!("evaluate {CHECKPOINT} --view future"),
        "error: invalid value 'future' for '--view <VIEW>'\n  \
        [possible values: none, reasons, reactions, past, last_reaction, oracle]\n\nFor more information, try '--help'.",
    );
    check(
        &place,
        &format!("evaluate {CHECKPOINT} --view oracle --source predicted"),
        "error: `--source`: `oracle` cannot use predicted thoughts: the reason would be predicted from the target itself\n\n\
        hint: `oracle` goes with the user's own reason; choose another view for predicted thoughts",
    );
    // A training with another split has other held-out users.
    place.run("train x.toml --arm past --set training.epochs=1 --set name=other --set split.seed=3").succeeded();
    check(
        &place,
        &format!("evaluate {CHECKPOINT} --against out/other/past/fold0/best.safetensors"),
        "error: `out/other/past/fold0/best.safetensors`: was trained with other values of `split`\n\n\
        hint: compare arms of the same experiment",
    );
    // No user was held out.
    place
        .run(
            "train x.toml --arm past --set training.epochs=1 --set name=all --set split.train=0.8 --set split.test=0.0",
        )
        .succeeded();
    check(
        &place,
        "evaluate out/all/past/fold0/best.safetensors",
        "error: `out/all/past/fold0/best.safetensors`: its experiment has no test users with a target\n\n\
        hint: choose the other `--split`, or train again with more held-out users",
    );
    // A checkpoint that is moved keeps its fold, and so its held-out users.
    place
        .run("train x.toml --arm past --set training.epochs=1 --set name=folds --set split.folds=3 --fold 1")
        .succeeded();
    place.write("best.safetensors", place.read("out/folds/past/fold1/best.safetensors"));
    let [moved, in_place] = ["best.safetensors", "out/folds/past/fold1/best.safetensors"]
        .map(|path| place.run(&format!("evaluate {path} --json")).json()["metrics"][0]["nats_per_token"].clone());
    assert!(moved.is_f64());
    assert_eq!(moved, in_place);
    check(
        &place,
        "evaluate best.safetensors --set split.folds=0",
        "error: `best.safetensors`: was trained in fold 1, and its experiment now has 1 fold\n\n\
        hint: leave `split` and `data` as they were in training",
    );
}

/// No setting tests a model on users that it was trained on: either other users are scored, or the command is
/// refused.
#[test]
fn nobody_is_tested_on_whom_a_model_was_trained() {
    let place = trained();
    place.write("fewer.jsonl", program::sample(4));
    let trained_on = trained_users(&place);
    let mut refused = 0;
    for setting in ["split.seed=1", "split.seed=2", "split.seed=3", "split.seed=4", "data.path=fewer.jsonl"] {
        let ran = place.run(&format!("evaluate {CHECKPOINT} --records records.jsonl --set {setting}"));
        if ran.status.success() {
            let tested = place.text("records.jsonl");
            for user in &trained_on {
                assert!(
                    !tested.contains(&format!("\"user\":\"{user}\"")),
                    "{setting}: `{user}`, trained on, is tested"
                );
            }
            std::fs::remove_file(place.path("records.jsonl")).unwrap();
        } else {
            assert_eq!(ran.status.code(), Some(2), "{setting}: {}", ran.stderr);
            assert!(ran.stderr.starts_with(&format!("error: `{CHECKPOINT}`")), "{setting}: {}", ran.stderr);
            assert!(ran.stderr.contains(", who would be scored"), "{setting}: {}", ran.stderr);
            assert!(!place.path("records.jsonl").exists(), "{setting}");
            refused += 1;
        }
    }
    assert!(refused > 0, "some of these settings hold out other users");
}

/// The users that the experiment's own split trains on.
fn trained_users(place: &Workplace) -> Vec<String> {
    let mut users = Vec::new();
    for line in place.text("data.jsonl").lines() {
        let conversation: Value = serde_json::from_str(line).unwrap();
        let id = conversation["id"].as_str().unwrap();
        let shown = place.run(&format!("inspect x.toml --arm past --json --conversation {id}")).json();
        if shown["streams"][0]["split"] == "train" {
            users.push(shown["streams"][0]["user"].as_str().unwrap().to_owned());
        }
    }
    assert!(!users.is_empty());
    users
}

#[test]
fn nonsense_to_predict() {
    let place = trained();
    let check = |words: &str, expected: &str| check(&place, &format!("predict {CHECKPOINT} {words}"), expected);
    check(
        "nosuch.jsonl",
        &format!("error: `nosuch.jsonl`: cannot open: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"),
    );
    check("data.jsonl --id nobody", "error: `data.jsonl`: has no conversation `nobody`");
    check("data.jsonl --temperature=-1", "error: `--temperature`: -1 is not from 0 to 100");
    check("data.jsonl --temperature nan", "error: `--temperature`: NaN is not from 0 to 100");
    check("data.jsonl --top-p 0", "error: `--top-p`: 0 is not above 0 and at most 1");
    check(
        "data.jsonl --max-new-tokens 18446744073709551615",
        "error: `data.jsonl`, `user9001_task1_conversation1`: its last message is longer than the 0 tokens that the new tokens leave of the context\n\n\
        hint: lower `--max-new-tokens`, or raise `data.context_tokens`",
    );
    check(
        "data.jsonl --speaker reason",
        "error: `data.jsonl`, `user9001_task1_conversation1`: ends with the wrong role: \
        a reason follows a message of the user\n\n\
        hint: end the conversation with the message that the thought is about",
    );
    check(
        "data.jsonl --speaker dog",
        "error: invalid value 'dog' for '--speaker <SPEAKER>'\n  [possible values: user, reaction, reason]\n\n\
        For more information, try '--help'.",
    );
}

#[test]
fn nonsense_to_export() {
    let place = trained();
    check(
        &place,
        &format!("export {CHECKPOINT} e --format onnx"),
        "error: invalid value 'onnx' for '--format <FORMAT>'\n  [possible values: hf, peft, gguf]\n\n\
        For more information, try '--help'.",
    );
    check(
        &place,
        &format!("export {CHECKPOINT} e --dtype q8_0"),
        "error: `e`: is not written: a Hugging Face folder has no blocks of 4 or 8 bits here\n\n\
        hint: choose `f32`, `f16` or `bf16`, or the format `gguf`",
    );
    check(
        &place,
        &format!("export {CHECKPOINT}"),
        "error: the following required arguments were not provided:\n  <DESTINATION>\n\n\
        Usage: undertone export <CHECKPOINT> <DESTINATION>\n\nFor more information, try '--help'.",
    );
    // The base model has other weights.
    let mut weights = tiny_folder::weights();
    weights[0].values[0] += 1.0;
    place.write("model/model.safetensors", tiny_folder::safetensors(&weights, json!({})));
    check(
        &place,
        &format!("export {CHECKPOINT} e"),
        &format!(
            "error: `{CHECKPOINT}`: was trained from other weights than those in `model`\n\n\
            hint: point `--set model.path=` to the base model it was trained from"
        ),
    );
}
