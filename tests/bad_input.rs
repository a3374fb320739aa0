//! Whatever comes from outside and is wrong gets one clear error (path, place, cause, hint), exit code
//! 2, and leaves nothing behind.
//!
//! Each test breaks one thing in a working folder and pins what the program says on stderr, word for
//! word. Around every run the whole folder is compared, file by file, and the program has 4 GiB of
//! address space: who believes a lying size does not get away with it.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "support/program.rs"]
mod program;
#[path = "support/mod.rs"]
mod support;
#[path = "support/tiny_folder.rs"]
mod tiny_folder;

use program::{EXPERIMENT, Workplace};
use serde_json::{Value, json};

/// A training of the arm `past` with two steps, and its checkpoint.
const CHECKPOINT: &str = "out/tiny/past/fold0/best.safetensors";
const DOWNLOAD: &str = "hint: the download may be incomplete; fetch the file again";
const NO_SUCH_FILE: &str = "hint: check the path; it is taken relative to the current folder";

/// Runs a command that must be refused, with these words and without a trace.
#[track_caller]
fn check(place: &Workplace, words: &str, expected: &str) {
    let before = place.files("");
    let ran = place.run_in_4_gib(words);
    // Which devices there are depends on how this test was built.
    let stderr = ran.stderr.replace("it has: flex, libtorch;", "it has: flex;");
    assert_eq!(stderr.trim_end(), expected.trim_end(), "`undertone {words}` ({})", ran.status);
    assert_eq!(ran.status.code(), Some(2), "`undertone {words}`: {stderr}");
    assert_eq!(ran.stdout, "", "`undertone {words}` has no result");
    let after = place.files("");
    let new: Vec<&String> = after.keys().filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(before == after, "`undertone {words}` left or changed {new:?}");
}

/// A working folder, enough for what is refused before anything is trained.
fn place() -> Workplace {
    Workplace::new(6)
}

/// A working folder with a [`CHECKPOINT`].
fn trained() -> Workplace {
    let place = Workplace::new(6);
    place.run("train x.toml --arm past --set training.epochs=1").succeeded();
    place
}

/// The sample's first conversation after `change`, as one line.
fn conversation(change: impl FnOnce(&mut Value)) -> String {
    let mut conversation: Value = serde_json::from_str(&program::sample(1)).unwrap();
    change(&mut conversation);
    conversation.to_string() + "\n"
}

// Experiments

#[test]
fn experiment_files_that_cannot_be_read() {
    let place = place();
    check(
        &place,
        "train nosuch.toml",
        &format!(
            "error: `nosuch.toml`: cannot read the experiment: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"
        ),
    );
    check(&place, "train model", "error: `model`: cannot read the experiment: Is a directory (os error 21)");
    place.write("empty.toml", "\n \n");
    check(
        &place,
        "train empty.toml",
        "error: `empty.toml`: is empty\n\nhint: start from a copy of `experiments/demo.toml`",
    );
    place.write("binary.toml", b"name = \"\xFF\"");
    check(
        &place,
        "ablate binary.toml",
        "error: `binary.toml`: cannot read the experiment: stream did not contain valid UTF-8",
    );
    place.write("cut.toml", &EXPERIMENT[..EXPERIMENT.find("\"past\"").unwrap() + 4]);
    check(
        &place,
        "inspect cut.toml",
        "error: `cut.toml` line 36: invalid basic string, expected `\"`\n\nhint: experiment files are TOML: https://toml.io",
    );
}

/// An endless file is refused by what it is, not when memory runs out.
#[test]
fn an_endless_file() {
    let place = place();
    check(&place, "train /dev/zero", "error: `/dev/zero`: is longer than 1048576 bytes, the most that is read");
    check(
        &place,
        "evaluate /dev/zero",
        "error: `/dev/zero`: is not a regular file\n\n\
        hint: a checkpoint is a file such as `checkpoints/NAME/ARM/best.safetensors`, written by `undertone train` or `ablate`",
    );
    check(&place, "import /dev/zero model2", "error: `/dev/zero`: is not a regular file");
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_key() {
    let place = place();
    place.write("x.toml", EXPERIMENT.replace("warmup_steps = 1", "warmup_step = 1"));
    check(
        &place,
        "train x.toml",
        "error: `x.toml` line 26: unknown key `warmup_step`\n\n\
        hint: did you mean `warmup_steps`? The keys here are: epochs, conversations_per_step, row_tokens, learning_rate, \
        warmup_steps, schedule, final_learning_rate_share, weight_decay, beta1, beta2, epsilon, clip_norm, recompute, \
        validate_every_steps, patience_validations, save_every_steps",
    );
    place.write("x.toml", EXPERIMENT.replace("[lora]", "[adapters]"));
    check(
        &place,
        "train x.toml",
        "error: `x.toml` line 17: unknown key `adapters`\n\n\
        hint: the keys here are: name, seed, device, output, model, data, split, lora, training, evaluation, arm",
    );
}

#[test]
fn several_problems_are_told_at_once_in_the_order_of_the_file() {
    let place = place();
    let text = EXPERIMENT
        .replace("path = \"model\"", "path = 5")
        .replace("context_tokens = 2048", "context_tokens = 12")
        .replace("test = 0.3", "test = 0.9")
        .replace("rank = 2", "rank = 0")
        .replace("epochs = 2", "epochs = \"two\"")
        .replace("view = \"past\"", "view = \"passed\"\ntiming = \"strictly\"");
    place.write("x.toml", text);
    check(
        &place,
        "ablate x.toml",
        "error: `x.toml` line 5: `path`: invalid type: integer `5`, expected path string\n\n\
        error: `x.toml` line 10: `context_tokens` (12) is below 64\n\n\
        hint: the model's own context is a good value, or less to save time\n\n\
        error: `x.toml` line 13: `train`, `validation` and `test` add up to 1.6, not 1 (0.5 + 0.2 + 0.9)\n\n\
        hint: lower one of them\n\n\
        error: `x.toml` line 18: `rank` is 0\n\n\
        hint: 8 to 64 is usual; `model.method = \"full\"` trains without adapters\n\n\
        error: `x.toml` line 23: `epochs`: invalid type: string \"two\", expected usize\n\n\
        error: `x.toml` line 37: `view` has the unknown value `passed`\n\n\
        hint: did you mean `past`? The values here are: none, reasons, reactions, past, oracle\n\n\
        error: `x.toml` line 38: `timing` has the unknown value `strictly`\n\n\
        hint: did you mean `strict`? The values here are: strict, anchored",
    );
}

/// One broken key is one problem, also where it is written with its section.
#[test]
fn a_dotted_key_that_is_wrong_is_told_once() {
    let place = place();
    let dotted =
        EXPERIMENT.replace("[lora]\nrank = 2", "[lora]\n").replace("name = \"tiny\"", "name = \"tiny\"\nlora.rang = 2");
    place.write("x.toml", dotted.replace("[lora]\n\nalpha = 4.0\ndropout = 0.1\n", ""));
    check(
        &place,
        "train x.toml",
        "error: `x.toml` line 2: unknown key `rang`\n\n\
        hint: did you mean `rank`? The keys here are: rank, alpha, dropout, rslora, targets",
    );
}

/// What cannot be parsed says nothing about what is missing.
#[test]
fn a_file_that_is_no_toml_is_one_problem() {
    let place = place();
    place.write("x.toml", format!("{EXPERIMENT}\n[model]\n"));
    check(
        &place,
        "train x.toml",
        "error: `x.toml` line 39: duplicate key\n\nhint: experiment files are TOML: https://toml.io",
    );
}

#[test]
fn combinations_that_cannot_be() {
    let place = place();
    let broken = |from: &str, to: &str, expected: &str| {
        assert!(EXPERIMENT.contains(from), "{from}");
        place.write("x.toml", EXPERIMENT.replace(from, to));
        check(&place, "ablate x.toml", expected);
    };
    broken(
        "view = \"none\"",
        "view = \"none\"\nsource = \"shuffled\"",
        "error: `x.toml` line 34: shuffled thoughts are not seen by the view `none`\n\nhint: choose a view such as `past`",
    );
    broken(
        "name = \"past\"",
        "name = \"none\"",
        "error: `x.toml` line 36: two arms are called `none`\n\nhint: give each its own name",
    );
    broken(
        "name = \"none\"",
        "name = \"none\"\ntrained_as = \"nobody\"",
        "error: `x.toml` line 33: `trained_as` names the arm `nobody`, which is not there\n\nhint: name another `[[arm]]`",
    );
    broken(
        "test = 0.3",
        "test = 0.3\nfolds = 3\ntest_users = [\"user9001\"]",
        "error: `x.toml` line 16: `folds` tests every user once, so `test_users` and `validation_users` cannot be given\n\n\
        hint: remove the lists, or set `folds = 0`",
    );
    broken(
        "name = \"tiny\"",
        "name = \"../tiny\"",
        "error: `x.toml` line 1: `name` (\"../tiny\") must be the name of a folder\n\nhint: use letters, digits and `-`",
    );
    broken(
        "rank = 2",
        "rank = 1000000000000",
        "error: `x.toml` line 18: `rank` (1000000000000) is above 4096\n\n\
        hint: 8 to 64 is usual; `model.method = \"full\"` trains without adapters",
    );
}

#[test]
fn settings_on_the_command_line_are_checked_like_the_file() {
    let place = place();
    let form = "is not of the form `section.key=value`\n\n\
        hint: for example `--set training.epochs=1` or `--set data.path=a.jsonl`";
    check(&place, "train x.toml --set training", &format!("error: `--set`, `training`: {form}"));
    check(&place, "train x.toml --set =5", &format!("error: `--set`, `=5`: {form}"));
    check(&place, "train x.toml --set a-b.c=5", &format!("error: `--set`, `a-b.c=5`: {form}"));
    check(
        &place,
        "train x.toml --set sede=5",
        "error: `--set`, `sede=5`: unknown key `sede`\n\n\
        hint: did you mean `seed`? The keys here are: name, seed, device, output, model, data, split, lora, training, \
        evaluation, arm",
    );
    check(
        &place,
        "train x.toml --set lora.rang=5",
        "error: `--set`, `lora.rang=5`: unknown key `rang`\n\n\
        hint: did you mean `rank`? The keys here are: rank, alpha, dropout, rslora, targets",
    );
    check(
        &place,
        "train x.toml --set training.epochs=many",
        "error: `--set`, `training.epochs=many`: `training.epochs`: invalid type: string \"many\", expected usize",
    );
    check(
        &place,
        "train x.toml --set training.learning_rate=-1 --set training.epochs=0",
        "error: `--set`, `training.epochs=0`: `epochs` is 0\n\n\
        hint: use `undertone evaluate` to score without training\n\n\
        error: `--set`, `training.learning_rate=-1`: `learning_rate` (-1) must be above 0\n\n\
        hint: LoRA likes 1e-4 to 5e-4, full fine-tuning 1e-5 to 5e-5",
    );
    check(
        &place,
        "train x.toml --set training.patience_validations=2 --set split.validation=0.0 --set split.train=0.7",
        "error: `--set`, `training.patience_validations=2`: `patience_validations` needs validation users, \
        and `split.validation` is 0\n\n\
        hint: set `split.validation`, or `patience_validations = 0`",
    );
}

#[test]
fn arms_folds_and_users_that_are_not_there() {
    let place = place();
    check(&place, "train x.toml --arm nope", "error: `x.toml`: has no arm `nope`\n\nhint: its arms are: none, past");
    check(
        &place,
        "train x.toml --fold 3",
        "error: `x.toml`, `split.folds`: has 1 folds, so no fold 3\n\nhint: folds are counted from 0",
    );
    check(
        &place,
        "train x.toml --set split.test_users=[\"user901\"]",
        "error: `x.toml`, `test_users`: no conversation is by user `user901`\n\nhint: did you mean `user9001`?",
    );
    check(
        &place,
        "inspect x.toml --conversation user9003_task1_conversation9",
        "error: `data.jsonl`: has no conversation `user9003_task1_conversation9` with a target\n\n\
        hint: did you mean `user9003_task1_conversation1`?",
    );
}

/// Told before anything is trained or scored, not after.
#[test]
fn a_split_without_users_to_train_or_test_on() {
    let place = place();
    check(
        &place,
        "ablate x.toml --set split.train=0.0 --set split.test=0.8",
        "error: `data.jsonl`: no training user has a target for the arm `none`\n\n\
        hint: use more conversations, other `targets`, or another split",
    );
    check(
        &place,
        "ablate x.toml --set split.train=0.8 --set split.test=0.0",
        "error: `data.jsonl`: no test user has a target\n\n\
        hint: use more conversations, other `targets`, or another split",
    );
    place.write(
        "shuffled.toml",
        format!("{EXPERIMENT}\n[[arm]]\nname = \"strangers\"\nview = \"past\"\nsource = \"shuffled\"\n"),
    );
    check(
        &place,
        "ablate shuffled.toml",
        "error: `data.jsonl`, `user9001_task1_conversation1`: no other user of the validation split has a reason to shuffle\n\n\
        hint: shuffled thoughts need at least two users with thoughts in every split: use more users, or fewer folds",
    );
    place.write("data.jsonl", program::sample(2));
    check(
        &place,
        "ablate x.toml --set split.folds=2",
        "error: `x.toml`, `folds`: 2 fold(s) of 1 user(s) leave nobody to train on",
    );
}

#[test]
fn a_device_that_was_not_built() {
    let place = place();
    check(
        &place,
        "train x.toml --set device=cuda",
        "error: `model`, `device`: this `undertone` was built without the device `cuda`\n\n\
        hint: it has: flex; see `Devices` in README.md for how to build the others",
    );
    check(
        &place,
        "train x.toml --set device=tpu",
        "error: `--set`, `device=tpu`: `device` has the unknown value `tpu`\n\n\
        hint: the values here are: flex, libtorch, cuda, wgpu",
    );
}

// Conversations

#[test]
fn conversation_files_that_cannot_be_read() {
    let place = place();
    check(
        &place,
        "data check nosuch.jsonl",
        &format!("error: `nosuch.jsonl`: cannot open: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"),
    );
    check(
        &place,
        "data stats model",
        "error: `model`: is a folder, not a file\n\nhint: name the conversation files inside it",
    );
    let one_a_line = "hint: a conversation file holds one JSON object a line, each one conversation";
    place.write("empty.jsonl", "");
    check(&place, "data check empty.jsonl", &format!("error: `empty.jsonl`: the file is empty\n\n{one_a_line}"));
    // A good file does not make up for a bad one, in any order.
    check(
        &place,
        "data check data.jsonl empty.jsonl",
        &format!("error: `empty.jsonl`: the file is empty\n\n{one_a_line}"),
    );
    place.write("blank.jsonl", "\n\n");
    check(
        &place,
        "data check blank.jsonl",
        &format!("error: `blank.jsonl`: the file has only blank lines (2)\n\n{one_a_line}"),
    );
    check(
        &place,
        "data check data.jsonl data.jsonl",
        "error: `data.jsonl` line 1, `id`: conversation id `user9001_task1_conversation1` is already at `data.jsonl` line 1\n\n\
        hint: was a file named twice, or do two files overlap?",
    );
}

/// Breaks the second line of a file; the first is whole.
#[test]
fn conversations_that_are_wrong() {
    let place = place();
    let broken = |line: &str, expected: &str| {
        place.write("bad.jsonl", format!("{}{line}", program::sample(6).lines().nth(5).unwrap().to_owned() + "\n"));
        check(&place, "data check bad.jsonl", &format!("error: `bad.jsonl` line 2{expected}"));
        // Whoever reads conversations says the same.
        check(&place, "train x.toml --set data.path=bad.jsonl", &format!("error: `bad.jsonl` line 2{expected}"));
    };
    broken(
        &program::sample(1)[..500],
        ", `messages[1]`: the line ends in the middle of its JSON: EOF while parsing a string (column 500)\n\n\
        hint: was the file cut off, or is one object spread over several lines?",
    );
    broken("{\"messages\": nonsense}", ", `messages`: no valid JSON: expected ident (column 15)");
    broken(
        &conversation(|c| c["messages"] = json!("none")),
        ", `messages`: invalid type: string \"none\", expected a sequence (column 54)",
    );
    broken(
        &conversation(|c| c["messages"][0]["content"] = json!(7)),
        ", `messages[0].content`: invalid type: integer `7`, expected a string (column 61)",
    );
    broken(
        &format!("[{}]", conversation(|_| {}).trim()),
        ": the line is a JSON list, not a conversation\n\nhint: write one JSON object a line: `jq -c '.[]' FILE` does that",
    );
    broken(
        &conversation(|c| c["messages"].as_array_mut().unwrap().retain(|message| message["type"] == "assistant")),
        ", `messages`: the conversation has no user message",
    );
    broken(&conversation(|c| c["messages"] = json!([])), ", `messages`: the conversation has no messages");
    broken(&conversation(|c| drop(c.as_object_mut().unwrap().remove("messages"))), ": `messages` is missing or null");
    broken(
        &conversation(|c| c["messages"][0]["type"] = json!("usr")),
        ", `messages[0].type`: unknown message type `usr`\n\n\
        hint: did you mean `user`? a message is of type `user` or `assistant`",
    );
    broken(
        &conversation(|c| c["messages"][0]["reasons"][0]["label"] = json!("task_motivaton")),
        ", `messages[0].reasons[0].label`: unknown label of a reason: `task_motivaton`\n\n\
        hint: did you mean `task_motivation`? labels of a reason are `task_motivation`, `task_continuation`, \
        `context_grounding_and_constraints`, `content_expectation`, `social_and_others`, `style_expectation`, \
        `task_reorientation`",
    );
    broken(
        &conversation(|c| c["messages"][1]["reactions"][0]["label"] = json!("task_motivation")),
        ", `messages[1].reactions[0].label`: `task_motivation` is a label of a reason, but this thought is a reaction\n\n\
        hint: labels of a reaction are `explicit_affirmation`, `content_relevance`, `presentation_style`, `scope_fit`, \
        `partial_satisfaction`",
    );
    broken(
        &conversation(|c| c["messages"][2]["timestamp"] = json!("yesterday at nine")),
        ", `messages[2].timestamp`: unparsable time `yesterday at nine`\n\n\
        hint: a time is RFC 3339 with `Z` or an offset, such as `2026-04-08T22:11:32.163Z`, or whole milliseconds \
        or seconds since 1970 (years 2000 to 2099)",
    );
    broken(
        &conversation(|c| c["messages"][0]["reactions"] = json!([{"content": "fine"}])),
        ", `messages[0].reactions`: a user message has `reactions`\n\n\
        hint: reasons hang on user messages, reactions on assistant messages",
    );
}

#[test]
fn bytes_that_are_no_text() {
    let place = place();
    place.write("bad.jsonl", b"{\"messages\": \"\xC3\x28\"}\n");
    check(
        &place,
        "data check bad.jsonl",
        "error: `bad.jsonl` line 1: invalid UTF-8 at byte 15 of the line\n\nhint: save the file as UTF-8",
    );
    place.write("bad.jsonl", b"\x1F\x8B\x08\x00\x00");
    check(
        &place,
        "data check bad.jsonl",
        "error: `bad.jsonl` line 1: invalid UTF-8 at byte 2 of the line\n\n\
        hint: the file looks like a gzip archive; decompress it first",
    );
}

#[test]
fn skipping_bad_lines_counts_them_and_is_not_for_a_file_of_nothing_else() {
    let place = place();
    place.write("bad.jsonl", format!("nonsense\n{}\n{{}}\n", program::sample(1)));
    let ran = place.run("data check --skip-invalid bad.jsonl").succeeded();
    assert!(ran.stdout.contains("       2  skipped lines\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("          skipped: `bad.jsonl` line 1: "), "{}", ran.stdout);
    place.write("bad.jsonl", "nonsense\n{}\n");
    check(
        &place,
        "data check --skip-invalid bad.jsonl",
        "error: `bad.jsonl`: none of its 2 lines is a valid conversation; line 1: no valid JSON: expected ident (column 2)\n\n\
        hint: a conversation file holds one JSON object a line, each one conversation",
    );
}

#[test]
fn a_target_that_is_longer_than_the_context() {
    let place = place();
    let long = "all work and no play makes jack a dull boy ".repeat(10);
    place.write(
        "data.jsonl",
        program::sample(5)
            + &conversation(|c| {
                c["id"] = json!("user9009_task1_conversation1");
                c["messages"][4]["content"] = json!(long.trim());
            }),
    );
    // 429 bytes of text, 17 of `<|im_start|>user`, newline and end.
    check(
        &place,
        "train x.toml --set data.context_tokens=400",
        "error: `data.jsonl`, `user9009_task1_conversation1`: message 4 of `user9009_task1_conversation1` needs 437 tokens \
        with what hangs on it, the context holds 400\n\n\
        hint: targets are never truncated: raise `data.context_tokens`, or leave this conversation out",
    );
    check(
        &place,
        "train x.toml --set data.context_tokens=5000",
        "error: `model`: `data.context_tokens` (5000) exceeds the model's context of 4096\n\nhint: lower `data.context_tokens`",
    );
}

/// The real tokenizer and its context of 8,192, where it is at hand.
#[test]
fn a_target_that_is_longer_than_the_context_of_the_real_model() {
    let Some(model) = support::model() else { return };
    let place = place();
    std::os::unix::fs::symlink(model.canonicalize().unwrap(), place.path("smollm2")).unwrap();
    place.write("data.jsonl", conversation(|c| c["messages"][2]["content"] = json!("word ".repeat(9000).trim())));
    check(
        &place,
        "train x.toml --set model.path=smollm2 --set data.context_tokens=8192",
        "error: `data.jsonl`, `user9001_task1_conversation1`: message 2 of `user9001_task1_conversation1` needs 9005 tokens \
        with what hangs on it, the context holds 8192\n\n\
        hint: targets are never truncated: raise `data.context_tokens`, or leave this conversation out",
    );
}

// Models

#[test]
fn model_folders_that_are_none() {
    let place = place();
    let expected = "a Hugging Face model folder is expected\n\n\
        hint: `make model` puts SmolLM2-135M-Instruct under `checkpoints/`; `undertone import` converts a GGUF file";
    check(
        &place,
        "train x.toml --set model.path=nosuch",
        &format!("error: `nosuch`: there is no such folder; {expected}"),
    );
    check(
        &place,
        "train x.toml --set model.path=data.jsonl",
        &format!("error: `data.jsonl`: is not a folder; {expected}"),
    );
    for (name, error) in [("config.json", "read"), ("tokenizer.json", "read")] {
        let model = place.read(&format!("model/{name}"));
        std::fs::remove_file(place.path("model").join(name)).unwrap();
        check(
            &place,
            "train x.toml",
            &format!("error: `model/{name}`: cannot {error}: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"),
        );
        place.write(&format!("model/{name}"), model);
    }
    std::fs::remove_file(place.path("model/model.safetensors")).unwrap();
    check(
        &place,
        "train x.toml",
        "error: `model`: holds neither `model.safetensors` nor `model.safetensors.index.json`\n\n\
        hint: check the path; weights in other formats (`.bin`, `.pt`) are not read, GGUF files are imported first",
    );
}

#[test]
fn a_tokenizer_that_does_not_fit_the_model() {
    let place = place();
    let mut smaller = tiny_folder::config();
    smaller["vocab_size"] = json!(200);
    smaller["bos_token_id"] = json!(0);
    smaller["eos_token_id"] = json!(1);
    place.write("model/config.json", smaller.to_string());
    check(
        &place,
        "train x.toml",
        "error: `model/tokenizer.json`, `È`: has the id `200`, but the model's `vocab_size` is `200`\n\n\
        hint: `tokenizer.json` and `config.json` belong to different models",
    );
    place.write("model/config.json", tiny_folder::config().to_string());
    let other = tiny_folder::tokenizer().to_string().replace("<|im_end|>", "</s>");
    place.write("model/tokenizer.json", other);
    check(
        &place,
        "train x.toml",
        "error: `model/tokenizer.json`, `<|im_end|>`: is not in the vocabulary, and the chat template needs it\n\n\
        hint: choose an instruction-tuned base model with the ChatML template, such as SmolLM2-Instruct",
    );
    place.write("model/tokenizer.json", "{\"model\": ");
    check(
        &place,
        "train x.toml",
        "error: `model/tokenizer.json`: is no tokenizer file: EOF while parsing a value at line 1 column 10",
    );
}

#[test]
fn safetensors_that_are_cut_off_or_lie() {
    let place = place();
    let whole = place.read("model/model.safetensors");
    let header_bytes = u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let broken = |bytes: &[u8], expected: &str| {
        place.write("model/model.safetensors", bytes);
        check(&place, "train x.toml", &format!("error: `model/model.safetensors`{expected}"));
    };
    broken(b"", &format!(": has 0 bytes, too few for a safetensors file\n\n{DOWNLOAD}"));
    broken(&whole[..1000], &format!(": its header has {header_bytes} bytes, but only 992 follow\n\n{DOWNLOAD}"));
    broken(
        &whole[..8 + header_bytes + 16512],
        &format!(", `model.norm.weight`: ends at byte 32192, but the file holds 16512 bytes of tensors\n\n{DOWNLOAD}"),
    );
    let lying = [&(1_u64 << 62).to_le_bytes()[..], &whole[8..]].concat();
    broken(&lying, ": is no safetensors file: its header would have 4611686018427387904 bytes");
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).expect(from);
        [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat()
    };
    broken(
        &replaced("[258,16]", "[999,99]"),
        ", `model.embed_tokens.weight`: has 16512 bytes, which is not what type `F32` and shape `[999, 99]` need",
    );
    broken(
        &replaced("\"shape\":[258,16]", "\"shape\":[99,9e9]"),
        ", `model.embed_tokens.weight`: its entry in the header is wrong: \
        invalid type: floating point `9000000000.0`, expected usize",
    );
    broken(
        &replaced("[0,16512]", "[9,16512]"),
        ", `model.embed_tokens.weight`: has 16503 bytes, which is not what type `F32` and shape `[258, 16]` need",
    );
    broken(
        &replaced("model.norm.weight", "model.nerd.weight"),
        ", `model.norm.weight`: there is no tensor of this name\n\nhint: the nearest name in the file is `model.nerd.weight`",
    );
    let mut infinite = whole.clone();
    infinite[8 + header_bytes..][..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    broken(&infinite, ", `model.embed_tokens.weight`: value 0 is `inf`, not a finite number");
}

/// Nobody allocates what a configuration claims before the weights bear it out.
#[test]
fn absurd_sizes_in_the_configuration() {
    let place = place();
    let broken = |key: &str, value: Value, expected: &str| {
        let mut config = tiny_folder::config();
        config[key] = value;
        place.write("model/config.json", config.to_string());
        check(&place, "train x.toml", &format!("error: `model/{expected}"));
    };
    broken(
        "vocab_size",
        json!(10_000_000),
        "model.safetensors`, `model.embed_tokens.weight`: has shape `[258, 16]`, but the configuration asks for \
        `[10000000, 16]`\n\nhint: `config.json` and the weights belong to different models",
    );
    broken(
        "num_hidden_layers",
        json!(1_000_000),
        "model.safetensors`, `model.layers.2.input_layernorm.weight`: there is no tensor of this name\n\n\
        hint: the nearest name in the file is `model.layers.0.input_layernorm.weight`",
    );
    broken(
        "intermediate_size",
        json!(u64::MAX),
        "config.json`, `intermediate_size`: is `18446744073709551615`, not a whole number from 1 to 1000000",
    );
    broken(
        "num_attention_heads",
        json!(0),
        "config.json`, `num_attention_heads`: is `0`, not a whole number from 1 to 1000000",
    );
    broken(
        "model_type",
        json!("gpt2"),
        "config.json`, `model_type`: `gpt2` is not supported; only `llama` is\n\n\
        hint: choose a base model of the Llama architecture, such as SmolLM2",
    );
    broken(
        "num_hidden_layers",
        json!(1),
        "model.safetensors`: the model has no use for `model.layers.1.input_layernorm.weight`, \
        `model.layers.1.mlp.down_proj.weight`, `model.layers.1.mlp.gate_proj.weight`, `model.layers.1.mlp.up_proj.weight`, \
        `model.layers.1.post_attention_layernorm.weight`, `model.layers.1.self_attn.k_proj.weight`, \
        `model.layers.1.self_attn.o_proj.weight`, `model.layers.1.self_attn.q_proj.weight` and 1 more\n\n\
        hint: `config.json` and the weights belong to different models",
    );
}

#[test]
fn gguf_files_that_are_cut_off_or_lie() {
    let place = place();
    let whole = tiny_folder::gguf();
    let broken = |bytes: &[u8], expected: &str| {
        place.write("tiny.gguf", bytes);
        check(&place, "import tiny.gguf imported", &format!("error: `tiny.gguf`{expected}"));
    };
    broken(b"", ": is no GGUF file: it does not begin with `GGUF`");
    broken(&whole[..10], &format!(", `the header`: needs 8 bytes, but the file ends after 2\n\n{DOWNLOAD}"));
    broken(
        &whole[..whole.len() - 1],
        &format!(
            ", `output_norm.weight`: ends 32192 bytes into the tensor data, but the file holds 32191\n\n{DOWNLOAD}"
        ),
    );
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    broken(&with(4, &[9]), ": has GGUF version `9`; only 2 and 3 are read");
    broken(
        &with(8, &u64::MAX.to_le_bytes()),
        ", `the header`: claims 18446744073709551615 tensors, more than the 65536 that are believed",
    );
    broken(
        &with(24, &(1_u64 << 60).to_le_bytes()),
        ", `the metadata`: claims a text of 1152921504606846976 bytes, more than the 16777216 that are believed",
    );
    let find =
        |text: &str| whole.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() + text.len();
    // Behind a tensor's name stand the number of its axes, then the axes.
    broken(
        &with(find("token_embd.weight") + 4, &(1_u64 << 60).to_le_bytes()),
        ", `token_embd.weight`: has shape `[258, 1152921504606846976]` at offset 0, larger than any file",
    );
    broken(
        &with(find("token_embd.weight") + 4, &(1_u64 << 30).to_le_bytes()),
        &format!(
            ", `token_embd.weight`: ends 1108101562368 bytes into the tensor data, but the file holds 32192\n\n{DOWNLOAD}"
        ),
    );
    // Behind the key of a number stand its type and the number.
    broken(
        &with(find("llama.block_count") + 4, &1_000_000_u32.to_le_bytes()),
        ", `blk.2.attn_norm.weight`: there is no tensor of this name",
    );
    broken(
        &with(find("llama.embedding_length") + 4, &0_u32.to_le_bytes()),
        ", `hidden_size`: is `0`, not a whole number from 1 to 1000000",
    );
    check(
        &place,
        "import nosuch.gguf imported",
        &format!("error: `nosuch.gguf`: cannot read: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"),
    );
    check(&place, "import model imported", "error: `model`: is not a regular file");
}

// Outputs

/// The tests may run as root, who may write anywhere; nobody can write below a file or into /proc.
#[test]
fn output_folders_that_cannot_be_written() {
    let place = trained();
    place.write("whole.gguf", tiny_folder::gguf());
    check(
        &place,
        "train x.toml --set output=data.jsonl",
        "error: `data.jsonl/tiny/none/fold0/log.jsonl`: cannot write: `data.jsonl` is not a folder",
    );
    check(
        &place,
        "ablate x.toml --set output=data.jsonl/deeper",
        "error: `data.jsonl/deeper/tiny/experiment.toml`: cannot write: `data.jsonl` is not a folder",
    );
    check(
        &place,
        "import whole.gguf data.jsonl/model",
        "error: `data.jsonl/model`: cannot look at the destination: Not a directory (os error 20)",
    );
    check(
        &place,
        &format!("export {CHECKPOINT} data.jsonl/model"),
        "error: `data.jsonl/model`: cannot look at the destination: Not a directory (os error 20)",
    );
    check(
        &place,
        &format!("evaluate {CHECKPOINT} --records data.jsonl/records.jsonl"),
        "error: `data.jsonl/records.jsonl`: cannot write: `data.jsonl` is not a folder",
    );
    if cfg!(target_os = "linux") {
        check(
            &place,
            "train x.toml --set output=/proc",
            &format!(
                "error: `/proc/tiny/none/fold0/log.jsonl`: cannot write: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"
            ),
        );
        check(
            &place,
            "import whole.gguf /proc/model",
            &format!(
                "error: `/proc/model`: cannot create this folder: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"
            ),
        );
        check(
            &place,
            &format!("export {CHECKPOINT} /proc/model"),
            &format!(
                "error: `/proc/model`: cannot create this folder: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"
            ),
        );
    }
}

/// A disk that fills up while a file is being written, as a limit on its size: no part of it is left.
#[test]
fn a_disk_that_is_full() {
    let place = trained();
    place.write("whole.gguf", tiny_folder::gguf());
    let checkpoint = place.read(CHECKPOINT);
    let too_large = "cannot write: File too large (os error 27)";
    let refused = |words: &str, expected: &str| {
        let ran = place.run_with_files_of_8_kib(words);
        let told: Vec<&str> = ran.stderr.lines().filter(|line| !line.contains(": step ")).collect();
        assert_eq!(told.join("\n"), format!("error: {expected}"), "`{words}`");
        assert_eq!(ran.status.code(), Some(2), "`{words}`: {}", ran.stderr);
        for (name, bytes) in place.files("") {
            let partial = name.contains("/.") || name.starts_with('.') || name.starts_with("new");
            assert!(!partial, "`{words}` left `{name}` of {} bytes", bytes.len());
        }
        assert!(place.read(CHECKPOINT) == checkpoint, "`{words}`");
    };
    refused("import whole.gguf new", &format!("`new`, `model.safetensors`: {too_large}"));
    refused(&format!("export {CHECKPOINT} new"), &format!("`new/model.safetensors`: {too_large}"));
    refused(
        "train x.toml --arm none --set lora.rank=8",
        &format!("`out/tiny/none/fold0/best.safetensors`: {too_large}"),
    );
    assert!(!place.path("out/tiny/none/fold0/best.safetensors").exists());
}

#[test]
fn output_folders_that_exist() {
    let place = trained();
    place.write("whole.gguf", tiny_folder::gguf());
    let again = "hint: choose another destination, or delete this one first";
    check(
        &place,
        "import whole.gguf model",
        &format!("error: `model`: already exists; an import does not overwrite\n\n{again}"),
    );
    check(
        &place,
        &format!("export {CHECKPOINT} model"),
        "error: `model`: already exists\n\nhint: choose another name, or remove it first",
    );
    check(
        &place,
        &format!("evaluate {CHECKPOINT} --records data.jsonl"),
        "error: `data.jsonl`: already exists\n\nhint: choose another name, or remove it first",
    );
    check(
        &place,
        "train x.toml --arm past --set training.epochs=1",
        "error: `out/tiny/past/fold0`: already holds a training\n\n\
        hint: add `--resume` to go on with it, or choose another `name`",
    );
    let place = Workplace::new(12);
    place.run("ablate x.toml").succeeded();
    check(
        &place,
        "ablate x.toml --set training.epochs=3",
        "error: `out/tiny`: already holds another study: its experiment, data or base model differ\n\n\
        hint: choose another name with `--set name=…`, or remove the folder",
    );
    place.write("data.jsonl", program::sample(11));
    check(
        &place,
        "ablate x.toml",
        "error: `out/tiny`: already holds another study: its experiment, data or base model differ\n\n\
        hint: choose another name with `--set name=…`, or remove the folder",
    );
}

// Checkpoints

#[test]
fn files_that_are_no_checkpoint() {
    let place = trained();
    let hint = "hint: a checkpoint is a file such as `checkpoints/NAME/ARM/best.safetensors`, written by `undertone train` or `ablate`";
    let whole = place.read(CHECKPOINT);
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
            &format!("error: `data.jsonl`: is not a whole safetensors file: header too large\n\n{hint}"),
        );
        check(
            "model/model.safetensors",
            &format!(
                "error: `model/model.safetensors`: has no `undertone` metadata, so it is not a checkpoint of this program\n\n{hint}"
            ),
        );
        check(
            "empty.safetensors",
            &format!("error: `empty.safetensors`: is not a whole safetensors file: header too small\n\n{hint}"),
        );
        check(
            "cut.safetensors",
            &format!("error: `cut.safetensors`: is not a whole safetensors file: invalid header length\n\n{hint}"),
        );
        check(
            "lying.safetensors",
            &format!("error: `lying.safetensors`: is not a whole safetensors file: header too large\n\n{hint}"),
        );
    }
}

/// A checkpoint comes from outside, too: whoever edits one gets an error, not a crash.
#[test]
fn checkpoints_that_were_tampered_with() {
    let place = trained();
    let whole = place.read(CHECKPOINT);
    let (header, data) = tiny_folder::safetensors_parts(&whole);
    let write = |change: &dyn Fn(&mut Value), data: &[u8]| {
        let mut header = Value::Object(header.clone());
        let mut description: Value =
            serde_json::from_str(header["__metadata__"]["undertone"].as_str().unwrap()).unwrap();
        change(&mut description);
        header["__metadata__"]["undertone"] = json!(description.to_string());
        let header = header.to_string();
        place.write("bad.safetensors", [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat());
    };
    let in_experiment = |from: &'static str, to: &'static str| {
        move |description: &mut Value| {
            let experiment = description["experiment"].as_str().unwrap().to_owned();
            assert!(experiment.contains(from), "{experiment}");
            description["experiment"] = json!(experiment.replace(from, to));
        }
    };
    let changed = |change: &dyn Fn(&mut Value), expected: &str| {
        write(change, data);
        for command in [
            "evaluate bad.safetensors --against base",
            "predict bad.safetensors data.jsonl",
            "export bad.safetensors e",
        ] {
            check(&place, command, &format!("error: `bad.safetensors`{expected}"));
        }
    };
    changed(&|d| d["format"] = json!(9), ": was written in format 9, this program reads format 1");
    changed(
        &|d| d["format"] = json!("x"),
        ", `undertone`: its description cannot be read: invalid type: string \"x\", expected u32 at line 1 column 13",
    );
    changed(
        &in_experiment("rank = 2", "rang = 2"),
        ": its experiment cannot be read: unknown field `rang`, expected one of `rank`, `alpha`, `dropout`, `rslora`, `targets`\n\n\
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

    // Weights that are no numbers: named, and nothing is scored, said or written with them.
    write(&|_| {}, &f32::NAN.to_le_bytes().repeat(data.len() / 4));
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
        "error: `--set`, `training.epochs=no`: `training.epochs`: invalid type: string \"no\", expected usize",
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
        [possible values: none, reasons, reactions, past, oracle]\n\nFor more information, try '--help'.",
    );
    // Another split of another training: not the same held-out users.
    place.run("train x.toml --arm past --set training.epochs=1 --set name=other --set split.seed=3").succeeded();
    check(
        &place,
        &format!("evaluate {CHECKPOINT} --against out/other/past/fold0/best.safetensors"),
        "error: `out/other/past/fold0/best.safetensors`: was trained in another way: not the same `split`\n\n\
        hint: only arms that differ in nothing but what they see can be compared",
    );
    // Nobody was held out.
    place
        .run(
            "train x.toml --arm past --set training.epochs=1 --set name=all --set split.train=0.8 --set split.test=0.0",
        )
        .succeeded();
    check(
        &place,
        "evaluate out/all/past/fold0/best.safetensors",
        "error: `out/all/past/fold0/best.safetensors`: its experiment has no test users with a target\n\n\
        hint: `--split` chooses between test and validation users; only another training can hold out more",
    );
    // A checkpoint of a fold that has left its folder.
    place
        .run("train x.toml --arm past --set training.epochs=1 --set name=folds --set split.folds=3 --fold 1")
        .succeeded();
    place.write("best.safetensors", place.read("out/folds/past/fold1/best.safetensors"));
    check(
        &place,
        "evaluate best.safetensors",
        "error: `best.safetensors`: cannot tell which of the 3 folds it was trained in\n\n\
        hint: keep the checkpoint in its folder, such as `fold3/`: its held-out users depend on it",
    );
}

/// Held-out users are held out: no setting makes a test of those a model was trained on. Either other
/// users are scored, or it is refused.
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
            assert!(ran.stderr.contains("was trained on"), "{setting}: {}", ran.stderr);
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
        "error: `data.jsonl`: its last message does not fit the 0 tokens beside `--max-new-tokens`\n\n\
        hint: lower `--max-new-tokens`, or raise `data.context_tokens`",
    );
    check(
        "data.jsonl --speaker reason",
        "error: `data.jsonl`, `user9001_task1_conversation1`: ends with the other role, \
        but a reason follows a message of the user\n\n\
        hint: cut the conversation after the message that is thought about",
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
        "error: invalid value 'onnx' for '--format <FORMAT>'\n  [possible values: hf, peft]\n\n\
        For more information, try '--help'.",
    );
    check(
        &place,
        &format!("export {CHECKPOINT}"),
        "error: the following required arguments were not provided:\n  <DESTINATION>\n\n\
        Usage: undertone export <CHECKPOINT> <DESTINATION>\n\nFor more information, try '--help'.",
    );
    // The base model has gone, or is another.
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

// The command line itself

#[test]
fn commands_and_flags_that_do_not_exist() {
    let place = place();
    check(
        &place,
        "frobnicate",
        "error: unrecognized subcommand 'frobnicate'\n\nUsage: undertone [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.",
    );
    check(
        &place,
        "train x.toml --epochs 3",
        "error: unexpected argument '--epochs' found\n\n  tip: to pass '--epochs' as a value, use '-- --epochs'\n\n\
        Usage: undertone train <EXPERIMENT>\n\nFor more information, try '--help'.",
    );
    check(
        &place,
        "data check",
        "error: the following required arguments were not provided:\n  <FILES>...\n\n\
        Usage: undertone data check <FILES>...\n\nFor more information, try '--help'.",
    );
    check(
        &place,
        "train x.toml --fold -1",
        "error: unexpected argument '-1' found\n\n  tip: to pass '-1' as a value, use '-- -1'\n\n\
        Usage: undertone train [OPTIONS] <EXPERIMENT>\n\nFor more information, try '--help'.",
    );
}

// Runs

/// A loss that is not a number is not the input's fault: exit code 1, with the items of the step, and
/// no checkpoint is made of nonsense.
#[test]
fn a_training_that_diverges_names_the_step_and_its_items() {
    let place = place();
    let check = |words: &str, expected: &str| {
        let ran =
            place.run(&format!("train x.toml --set training.learning_rate=1e30 --set training.warmup_steps=0 {words}"));
        assert_eq!(ran.status.code(), Some(1), "{}", ran.stderr);
        let told = ran.stderr.lines().filter(|line| !line.starts_with("none: step ")).collect::<Vec<_>>().join("\n");
        let (before, items) = told.split_once("; the step's items: ").unwrap_or_else(|| panic!("{told}"));
        assert_eq!(before, format!("error: training diverged: after 1 steps {expected}"));
        let (items, hint) = items.split_once("\n\n").unwrap();
        assert_eq!(hint, "hint: lower `training.learning_rate`, or look at these items with `undertone inspect`");
        for item in items.split(", ") {
            assert!(item.starts_with("user90") && item.ends_with("/next_prompt"), "{item}");
        }
        let files = place.files("out");
        assert!(files.keys().all(|name| !name.ends_with(".safetensors")), "{:?}", files.keys());
    };
    check("--set training.conversations_per_step=1", "the loss is NaN nats and the gradient norm NaN");
    check("--set training.validate_every_steps=1", "the validation loss is NaN nats per token");
}
