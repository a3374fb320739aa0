//! Wrong experiment files and settings.

use super::*;

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

/// An endless file is refused by its type or a size limit, not when memory runs out.
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
    check(
        &place,
        "data check /dev/zero",
        "error: `/dev/zero`: is a device, not a file\n\nhint: name a conversation file, or a pipe",
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
        warmup_steps, schedule, final_learning_rate_share, weight_decay, beta1, beta2, epsilon, clip_norm, max_skipped_steps, recompute, \
        validate_every_steps, patience_validations, save_every_steps, keep_last, keep_best, keep_every_steps",
    );
    place.write("x.toml", EXPERIMENT.replace("[lora]", "[adapters]"));
    check(
        &place,
        "train x.toml",
        "error: `x.toml` line 17: unknown key `adapters`\n\n\
        hint: the keys here are: name, seed, seeds, device, output, model, data, split, lora, training, evaluation, stage, arm, comparison",
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
        "error: `x.toml` line 5: `path` is `5`; it must be text in quotes\n\n\
        error: `x.toml` line 10: `context_tokens` (12) is below 64\n\n\
        hint: the model's own context is a good value, or less to save time\n\n\
        error: `x.toml` line 13: `train`, `validation` and `test` add up to 1.6, not 1 (0.5 + 0.2 + 0.9)\n\n\
        hint: lower one of them\n\n\
        error: `x.toml` line 18: `rank` is 0\n\n\
        hint: 8 to 64 is usual; `model.method = \"full\"` trains without adapters\n\n\
        error: `x.toml` line 23: `epochs` is `\"two\"`; it must be a whole number of at least 0\n\n\
        error: `x.toml` line 37: `view` has the unknown value `passed`\n\n\
        hint: did you mean `past`? The values here are: none, reasons, reactions, past, last_reaction, oracle\n\n\
        error: `x.toml` line 38: `timing` has the unknown value `strictly`\n\n\
        hint: did you mean `strict`? The values here are: strict, anchored",
    );
}

#[test]
fn an_arm_may_not_have_the_name_of_an_output() {
    let place = place();
    for name in ["report.html", "RESULTS.json", "records", "plots", "manifest.json"] {
        place.write("x.toml", EXPERIMENT.replace("name = \"past\"", &format!("name = \"{name}\"")));
        check(
            &place,
            "ablate x.toml",
            &format!(
                "error: `x.toml` line 36: the name `{name}` is taken by the study's own file or folder of this name\n\n\
                hint: choose another name"
            ),
        );
    }
    place.write("x.toml", EXPERIMENT.replace("name = \"past\"", "name = \"None\""));
    check(
        &place,
        "ablate x.toml",
        "error: `x.toml` line 36: the names `none` and `None` differ only in case\n\nhint: choose another name",
    );
    for name in [&"x".repeat(101), " past", "pa\\nst", "../past"] {
        place.write("x.toml", EXPERIMENT.replace("name = \"past\"", &format!("name = \"{name}\"")));
        let ran = place.run("ablate x.toml");
        assert!(ran.stderr.contains("must be usable as a folder name"), "{}", ran.stderr);
    }
}

#[test]
fn many_unknown_keys_are_refused_at_once() {
    let place = place();
    let keys: String = (0..20_000).map(|number| format!("k{number} = 1\n")).collect();
    place.write("x.toml", keys + EXPERIMENT);
    let ran = place.run("ablate x.toml --plan");
    assert_eq!(ran.status.code(), Some(2));
    assert_eq!(ran.stderr.matches("unknown key").count(), 20);
    assert!(ran.stderr.ends_with("error: `x.toml`: has more problems; these are the first 20\n"), "{}", ran.stderr);
}

/// One wrong key gives one error, also if it is written with its section.
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

/// A file that cannot be parsed gives no further errors about missing keys.
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
        "error: `x.toml` line 34: the view `none` shows no thoughts, so `source` has no effect\n\nhint: choose a view such as `past`",
    );
    broken(
        "name = \"past\"",
        "name = \"none\"",
        "error: `x.toml` line 36: two arms are called `none`\n\nhint: give each its own name",
    );
    broken(
        "name = \"none\"",
        "name = \"none\"\ntrained_as = \"nobody\"",
        "error: `x.toml` line 33: `trained_as` names the arm `nobody`, which does not exist\n\nhint: name another `[[arm]]`",
    );
    let compared = |a: &str, b: &str, expected: &str| {
        place.write("x.toml", format!("{EXPERIMENT}\n[[comparison]]\na = \"{a}\"\nb = \"{b}\"\n"));
        check(&place, "ablate x.toml", expected);
    };
    compared(
        "none",
        "future",
        "error: `x.toml` line 41: the comparison names the arm `future`, which does not exist\n\nhint: name an `[[arm]]`",
    );
    compared("past", "past", "error: `x.toml` line 41: the comparison is of `past` with itself\n\nhint: name two arms");
    broken(
        "view = \"none\"",
        "view = \"none\"\nthought_dropout = 0.5",
        "error: `x.toml` line 34: `thought_dropout` has no effect: this arm has no training of its own, or trains without thoughts\n\n\
        hint: set it on an arm that is trained with thoughts",
    );
    broken(
        "draws = 1000",
        "draws = 1000\nmargin = 0.0",
        "error: `x.toml` line 30: `margin` (0) must be above 0\n\n\
        hint: in nats per token: the largest difference that would not matter, such as 0.01",
    );
    broken(
        "output = \"out\"",
        "output = \"out\"\nseeds = 0",
        "error: `x.toml` line 3: `seeds` (0) must be from 1 to 100\n\n\
        hint: 3 or more show how much training itself varies; each costs a training of every arm",
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
        "error: `x.toml` line 1: `name` (\"../tiny\") must be usable as a folder name\n\nhint: use up to 100 letters, digits, `-` and `_`",
    );
    broken(
        "rank = 2",
        "rank = 1000000000000",
        "error: `x.toml` line 18: `rank` (1000000000000) is above 4096\n\n\
        hint: 8 to 64 is usual; `model.method = \"full\"` trains without adapters",
    );
    broken(
        "output = \"out\"\n\n[model]",
        "output = \"out\"\ndevice = \"libtorch\"\n\n[model]\nmatmul_precision = \"high\"",
        "error: `x.toml` line 6: `matmul_precision` is for the device `flex`, and `device` is `libtorch`\n\n\
        hint: set it to \"highest\", or `device = \"flex\"`",
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
        hint: did you mean `seed`? The keys here are: name, seed, seeds, device, output, model, data, split, lora, training, \
        evaluation, stage, arm, comparison",
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
        "error: `--set`, `training.epochs=many`: `epochs` is `\"many\"`; it must be a whole number of at least 0",
    );
    check(
        &place,
        "train x.toml --set training.learning_rate=-1 --set training.epochs=0",
        "error: `--set`, `training.epochs=0`: `epochs` is 0\n\n\
        hint: use `undertone evaluate` to score without training\n\n\
        error: `--set`, `training.learning_rate=-1`: `learning_rate` (-1) must be above 0\n\n\
        hint: 1e-4 to 5e-4 is usual for LoRA, 1e-5 to 5e-5 for full fine-tuning",
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
        "error: `x.toml`, `split.folds`: has 1 fold, so no fold 3\n\nhint: folds are counted from 0",
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

/// The error comes before anything is trained or scored.
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
        "error: `data.jsonl`, `user9001_task1_conversation1`: no other user of the validation split has a reason that can replace this one\n\n\
        hint: shuffled thoughts need at least two users with thoughts in every split: use more users, or fewer folds",
    );
    place.write("data.jsonl", program::sample(2));
    check(
        &place,
        "ablate x.toml --set split.folds=2",
        "error: `x.toml`, `folds`: 2 fold(s) of 1 user(s) leave no user to train on",
    );
}

#[test]
fn a_device_that_was_not_built() {
    let place = place();
    check(
        &place,
        "train x.toml --set device=cuda",
        "error: `model`, `device`: this `undertone` was built without the device `cuda`\n\n\
        hint: this build has the devices: flex; see `Devices` in README.md for how to build the others",
    );
    check(
        &place,
        "train x.toml --set device=tpu",
        "error: `--set`, `device=tpu`: `device` has the unknown value `tpu`\n\n\
        hint: the values here are: flex, libtorch, cuda, wgpu",
    );
}
