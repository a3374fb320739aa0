use super::*;

/// Checks the problems of an experiment text, as they are shown.
fn check(text: &str, overrides: &[&str], expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    std::fs::write(&path, text).unwrap();
    let overrides: Vec<String> = overrides.iter().map(|&setting| setting.to_owned()).collect();
    let shown: Vec<String> = match Experiment::read(&path, &overrides) {
        Ok(_) => Vec::new(),
        Err(Problems(problems)) => problems
            .iter()
            .map(|problem| {
                let hint = problem.hint.as_deref().map(|hint| format!(" // {hint}")).unwrap_or_default();
                format!("{problem}{hint}").replace(&path.display().to_string(), "x.toml")
            })
            .collect(),
    };
    assert_eq!(shown, expected);
}

const FINE: &str = "name = \"x\"\n[model]\npath = \"m\"\n[data]\npath = \"d.jsonl\"\n[[arm]]\nname = \"none\"\n";

#[test]
fn a_complete_file_is_read_and_survives_its_own_resolved_form() {
    check(FINE, &[], &[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    std::fs::write(&path, FINE).unwrap();
    let experiment = Experiment::read(&path, &["training.epochs=7".into(), "data.path=[\"a\", \"b\"]".into()]).unwrap();
    assert_eq!((experiment.training.epochs, experiment.data.path.as_slice().len()), (7, 2));
    assert_eq!(Experiment::from_resolved(&path, &experiment.resolved()).unwrap(), experiment);
}

#[test]
fn the_experiments_that_are_shipped_can_be_read_and_are_complete() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
    for name in ["demo", "thoughttrace", "full-finetune"] {
        let path = folder.join(format!("{name}.toml"));
        let experiment = Experiment::read(&path, &["data.path=\"x.jsonl\"".into()]).unwrap();
        assert_eq!(experiment.name, name);
        let text = std::fs::read_to_string(&path).unwrap();
        let written: toml::Table = text.parse().unwrap();
        let resolved: toml::Table = experiment.resolved().parse().unwrap();
        assert!(written.contains_key("seeds"), "{name}.toml lacks `seeds`");
        for section in ["data", "split", "training", "evaluation"] {
            let keys = |table: &toml::Table| table[section].as_table().unwrap().keys().cloned().collect::<Vec<_>>();
            let missing: Vec<_> = keys(&resolved).into_iter().filter(|key| !keys(&written).contains(key)).collect();
            assert!(missing.is_empty(), "{name}.toml lacks {missing:?} of [{section}]");
        }
    }
}

#[test]
fn all_problems_are_reported_at_once_with_their_lines() {
    check(
        "name = \"x\"\nsede = 1\n[model]\npath = \"m\"\n[training]\nepochs = \"many\"\nlearning_rate = -1.0\n[data]\npath = 7\n[split]\nfolds = true\n[[arm]]\nname = \"a\"\nview = \"passt\"\n[[arm]]\nname = \"a\"\nsource = \"shuffled\"\n",
        &[],
        &[
            "`x.toml` line 2: unknown key `sede` // did you mean `seed`? The keys here are: name, seed, seeds, device, output, model, data, split, lora, training, evaluation, stage, arm, comparison",
            "`x.toml` line 6: `epochs` is `\"many\"`; it must be a whole number of at least 0",
            "`x.toml` line 7: `learning_rate` (-1) must be above 0 // 1e-4 to 5e-4 is usual for LoRA, 1e-5 to 5e-5 for full fine-tuning",
            "`x.toml` line 9: `path` is `7`; it must be a path or a list of paths",
            "`x.toml` line 11: `folds` is `true`; it must be a number of folds or \"users\"",
            "`x.toml` line 14: `view` has the unknown value `passt` // did you mean `past`? The values here are: none, reasons, reactions, past, last_reaction, oracle",
            "`x.toml` line 16: two arms are called `a` // give each its own name",
            "`x.toml` line 17: the view `none` shows no thoughts, so `source` has no effect // choose a view such as `past`",
        ],
    );
}

#[test]
fn a_setting_is_checked_like_the_file() {
    check(
        FINE,
        &["training.epoch=1", "training.clip_norm=-1", "device=cpu", "nonsense"],
        &[
            "`--set`, `training.epoch=1`: unknown key `epoch` // did you mean `epochs`? The keys here are: epochs, conversations_per_step, row_tokens, learning_rate, warmup_steps, schedule, final_learning_rate_share, weight_decay, beta1, beta2, epsilon, clip_norm, max_skipped_steps, recompute, validate_every_steps, patience_validations, save_every_steps, keep_last, keep_best, keep_every_steps",
            "`--set`, `device=cpu`: `device` has the unknown value `cpu` // the values here are: flex, libtorch, cuda, wgpu",
            "`--set`, `nonsense`: is not of the form `section.key=value` // for example `--set training.epochs=1` or `--set data.path=a.jsonl`",
            "`--set`, `training.clip_norm=-1`: `clip_norm` (-1) is negative // 0 turns clipping off",
        ],
    );
    check(
        "name = [\n",
        &[],
        &["`x.toml` line 1: unclosed array, expected `]` // experiment files are TOML: https://toml.io"],
    );
    check(" \n", &[], &["`x.toml`: is empty // start from a copy of `experiments/demo.toml`"]);
}

#[test]
fn values_of_another_type_are_shown_with_what_they_must_be() {
    let with_path = |path: &str| FINE.replace("path = \"d.jsonl\"", &format!("path = {path}"));
    let refused = |path: &str, shown: &str, expected: &str| {
        let problem = format!("`x.toml` line 5: `path` is `{shown}`; it must be {expected}");
        check(&with_path(path), &[], &[problem.as_str()]);
    };
    refused("1979-05-27", "1979-05-27", "a path or a list of paths");
    refused("{ file = \"a\" }", "{ file = \"a\" }", "a path or a list of paths");
    // One wrong entry of a list is one problem.
    refused("[\n  \"a\",\n  7,\n]", "7", "text in quotes");
    check(
        &format!("{FINE}[evaluation.judge]\nleast_telling = 300\n[split]\nfolds = -2\nseed = 1.5\n"),
        &[],
        &[
            "`x.toml` line 9: `least_telling` is `300`; it must be a whole number from 0 to 255",
            "`x.toml` line 11: `folds` is `-2`; it must be a number of folds or \"users\"",
            "`x.toml` line 12: `seed` is `1.5`; it must be a whole number of at least 0",
        ],
    );
}

#[test]
fn a_text_with_endless_problems_is_given_up() {
    let text: String = (0..100_000).map(|index| format!("key{index} = 0\n")).collect();
    let error = Experiment::from_resolved(Path::new("x"), &text).unwrap_err();
    assert_eq!(error.cause, "its experiment cannot be read: unknown key `key0`");
}
