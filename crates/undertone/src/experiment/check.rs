//! Which values of an experiment cannot go together: every problem, with reason and advice.

use std::path::Path;

use undertone_data::{Access, Place, Source};
use undertone_model::{DeviceName, MatmulPrecision};

use super::{Declared, Experiment, Folds, Method};
use crate::study::{REPEAT, UNIGRAM, UNTRAINED};

/// The most passes over the data; the whole order of training is laid out beforehand.
const MAX_EPOCHS: usize = 10_000;

/// The most resamples; more change nothing but the time.
const MAX_DRAWS: usize = 1_000_000;

/// The most trainings of an arm.
const MAX_SEEDS: usize = 100;

/// The most messages of other users beside a true one.
const MAX_DISTRACTORS: usize = 100;

/// The most tokens of a message that an arm writes.
const MAX_NEW_TOKENS: usize = 8192;

/// The highest rank of an adapter; no linear layer is narrow enough to need more.
const MAX_RANK: usize = 4096;

/// A combination that cannot be.
pub(super) struct Problem {
    pub(super) key: String,
    pub(super) cause: String,
    pub(super) hint: String,
}

impl Experiment {
    /// Keys whose values cannot go together, with reason and advice.
    pub(super) fn impossible(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut check = |fine: bool, key: &str, cause: String, hint: &str| {
            if !fine {
                found.push(Problem { key: key.into(), cause, hint: hint.into() });
            }
        };
        let plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        check(
            plain(&self.name),
            "name",
            format!("`name` ({:?}) must be the name of a folder", self.name),
            "use letters, digits and `-`",
        );
        check(
            !self.model.path.as_os_str().is_empty(),
            "model.path",
            "`model.path` is missing".into(),
            "name a Hugging Face folder; `make model` makes one",
        );
        check(
            self.device == DeviceName::Flex || self.model.matmul_precision == MatmulPrecision::Highest,
            "model.matmul_precision",
            format!("`matmul_precision` is for the device `flex`, and `device` is `{}`", self.device),
            "set it to \"highest\", or `device = \"flex\"`",
        );
        check(
            !self.data.path.as_slice().is_empty(),
            "data.path",
            "`data.path` is missing".into(),
            "name a JSONL file here or with `--set data.path=FILE`",
        );
        check(
            !self.data.targets.is_empty(),
            "data.targets",
            "`data.targets` is empty".into(),
            "for example `targets = [\"next_prompt\"]`",
        );
        check(
            self.data.context_tokens >= 64,
            "data.context_tokens",
            format!("`context_tokens` ({}) is below 64", self.data.context_tokens),
            "the model's own context is a good value, or less to save time",
        );
        check(
            self.data.assistant_tokens >= 16,
            "data.assistant_tokens",
            format!("`assistant_tokens` ({}) is below 16", self.data.assistant_tokens),
            "the marker of a shortened message alone takes several tokens",
        );
        let training = &self.training;
        check(
            training.epochs > 0,
            "training.epochs",
            "`epochs` is 0".into(),
            "use `undertone evaluate` to score without training",
        );
        check(
            training.conversations_per_step > 0,
            "training.conversations_per_step",
            "`conversations_per_step` is 0".into(),
            "1 takes one conversation a step",
        );
        check(
            training.learning_rate > 0.0 && training.learning_rate.is_finite(),
            "training.learning_rate",
            format!("`learning_rate` ({}) must be above 0", training.learning_rate),
            "LoRA likes 1e-4 to 5e-4, full fine-tuning 1e-5 to 5e-5",
        );
        check(
            (0.0..1.0).contains(&training.beta1),
            "training.beta1",
            format!("`beta1` ({}) must be from 0 to below 1", training.beta1),
            "0.9 is usual",
        );
        check(
            (0.0..1.0).contains(&training.beta2),
            "training.beta2",
            format!("`beta2` ({}) must be from 0 to below 1", training.beta2),
            "0.999 is usual",
        );
        check(
            training.epsilon > 0.0,
            "training.epsilon",
            format!("`epsilon` ({}) must be above 0", training.epsilon),
            "1e-8 is usual",
        );
        check(
            training.clip_norm >= 0.0,
            "training.clip_norm",
            format!("`clip_norm` ({}) is negative", training.clip_norm),
            "0 turns clipping off",
        );
        check(
            (0.0..=1.0).contains(&training.final_learning_rate_share),
            "training.final_learning_rate_share",
            format!("`final_learning_rate_share` ({}) must be from 0 to 1", training.final_learning_rate_share),
            "0.1 ends at a tenth of the peak",
        );
        check(
            training.weight_decay >= 0.0,
            "training.weight_decay",
            format!("`weight_decay` ({}) is negative", training.weight_decay),
            "0.01 is usual",
        );
        let can_validate = self.split.validation > 0.0 || !self.split.validation_users.is_empty();
        check(
            training.patience_validations == 0 || can_validate,
            "training.patience_validations",
            "`patience_validations` needs validation users, and `split.validation` is 0".into(),
            "set `split.validation`, or `patience_validations = 0`",
        );
        if self.model.method == Method::Lora {
            check(
                self.lora.rank <= MAX_RANK,
                "lora.rank",
                format!("`rank` ({}) is above {MAX_RANK}", self.lora.rank),
                "8 to 64 is usual; `model.method = \"full\"` trains without adapters",
            );
            check(
                self.lora.rank > 0,
                "lora.rank",
                "`rank` is 0".into(),
                "8 to 64 is usual; `model.method = \"full\"` trains without adapters",
            );
            check(
                !self.lora.targets.is_empty(),
                "lora.targets",
                "`lora.targets` is empty: nothing would be trained".into(),
                "q, k, v, o, gate, up, down",
            );
            check(
                (0.0..1.0).contains(&self.lora.dropout),
                "lora.dropout",
                format!("`dropout` ({}) must be from 0 to below 1", self.lora.dropout),
                "0.05 is usual",
            );
            check(
                self.lora.alpha > 0.0,
                "lora.alpha",
                format!("`alpha` ({}) must be above 0", self.lora.alpha),
                "twice the rank is usual",
            );
        }
        check(
            (1..=MAX_SEEDS).contains(&self.seeds.0) && self.seed.checked_add(self.seeds.0 as u64).is_some(),
            "seeds",
            format!("`seeds` ({}) must be from 1 to {MAX_SEEDS}", self.seeds.0),
            "3 or more show how much training itself varies; each costs a training of every arm",
        );
        let margin = self.evaluation.margin;
        check(
            margin.is_none_or(|margin| margin > 0.0 && margin.is_finite()),
            "evaluation.margin",
            format!("`margin` ({}) must be above 0", margin.unwrap_or_default()),
            "in nats per token: the largest difference that would not matter, such as 0.01",
        );
        check(
            self.evaluation.draws >= undertone_eval::MIN_DRAWS,
            "evaluation.draws",
            format!("`draws` ({}) is too few for an interval", self.evaluation.draws),
            "10000 takes well under a second",
        );
        check(
            self.evaluation.distractors <= MAX_DISTRACTORS,
            "evaluation.distractors",
            format!("`distractors` ({}) is above {MAX_DISTRACTORS}", self.evaluation.distractors),
            "9 make one of ten right by chance",
        );
        let writing = &self.evaluation.writing;
        check(
            (1..=MAX_NEW_TOKENS).contains(&writing.max_new_tokens),
            "evaluation.writing.max_new_tokens",
            format!("`max_new_tokens` ({}) must be from 1 to {MAX_NEW_TOKENS}", writing.max_new_tokens),
            "64 holds nine of ten messages",
        );
        check(
            (0.0..=100.0).contains(&writing.temperature),
            "evaluation.writing.temperature",
            format!("`temperature` ({}) must be from 0 to 100", writing.temperature),
            "0 always writes what is most likely",
        );
        check(
            writing.top_p > 0.0 && writing.top_p <= 1.0,
            "evaluation.writing.top_p",
            format!("`top_p` ({}) must be above 0 and at most 1", writing.top_p),
            "1 cuts nothing off",
        );
        check(
            writing.first_messages != 1,
            "evaluation.writing.first_messages",
            "one first message cannot be diverse".into(),
            "0 writes none; 20 say enough",
        );
        let judge = &self.evaluation.judge;
        check(
            !judge.is_asked() || judge.url.starts_with("http://") || judge.url.starts_with("https://"),
            "evaluation.judge.url",
            format!("`url` ({:?}) must begin with `http://` or `https://`", judge.url),
            "the base of an OpenAI-compatible endpoint, such as `http://localhost:8000/v1`",
        );
        check(
            !judge.is_asked() || !judge.model.is_empty(),
            "evaluation.judge.model",
            "a judge needs the name of a `model`".into(),
            "as the endpoint calls it",
        );
        check(
            !judge.is_asked() || writing.messages > 0,
            "evaluation.judge.url",
            "a judge has nothing to judge: `evaluation.writing.messages` is 0".into(),
            "let arms write some messages",
        );
        check(
            (1..=5).contains(&judge.least_telling),
            "evaluation.judge.least_telling",
            format!("`least_telling` ({}) must be from 1 to 5", judge.least_telling),
            "1 judges every message, 4 those whose thoughts tell much",
        );
        for (section, rows) in [("training", training.row_tokens), ("evaluation", self.evaluation.row_tokens)] {
            check(rows > 0, &format!("{section}.row_tokens"), "`row_tokens` is 0".into(), "2048 is a good value");
        }
        let finite = [
            ("training.weight_decay", training.weight_decay),
            ("training.clip_norm", training.clip_norm),
            ("training.epsilon", training.epsilon),
            ("lora.alpha", self.lora.alpha),
        ];
        for (key, value) in finite {
            let name = key.rsplit('.').next().unwrap_or(key);
            check(
                value.is_finite(),
                key,
                format!("`{name}` ({value}) must be a finite number"),
                "see experiments/demo.toml",
            );
        }
        check(
            training.epochs <= MAX_EPOCHS,
            "training.epochs",
            format!("`epochs` ({}) is above {MAX_EPOCHS}", training.epochs),
            "1 to 10 is usual",
        );
        check(
            self.evaluation.draws <= MAX_DRAWS,
            "evaluation.draws",
            format!("`draws` ({}) is above {MAX_DRAWS}", self.evaluation.draws),
            "10000 is usual",
        );
        let folds = self.split.folds().is_some();
        if !folds {
            // Users are known once the data is read; here the lists are taken at their word.
            let once = self.split.once();
            let listed: Vec<&str> = once.validation_users.iter().chain(&once.test_users).map(String::as_str).collect();
            for problem in once.problems(listed, Path::new("")) {
                let Place::Named(key) = &problem.place else { continue };
                let hint = problem.hint.as_deref().unwrap_or("lower one of them");
                check(false, &format!("split.{key}"), problem.cause, hint);
            }
        }
        check(
            !(folds && (!self.split.test_users.is_empty() || !self.split.validation_users.is_empty())),
            "split.folds",
            "`folds` tests every user once, so `test_users` and `validation_users` cannot be given".into(),
            "remove the lists, or set `folds = 0`",
        );
        check(
            self.split.folds != Folds::Count(1),
            "split.folds",
            "one fold would leave nobody to train on".into(),
            "use 2 or more, \"users\", or 0 for a single split",
        );
        check(
            !self.arms.is_empty(),
            "arm",
            "there is no `[[arm]]`".into(),
            "an arm says what a model sees, for example `name = \"none\"`",
        );
        for (index, arm) in self.arms.iter().enumerate() {
            let key = |part: &str| format!("arm[{index}].{part}");
            let name = &arm.name;
            check(
                plain(name),
                &key("name"),
                format!("the arm's `name` ({name:?}) must be the name of a folder"),
                "use letters, digits and `-`",
            );
            check(
                !self.arms[..index].iter().any(|other| other.name == *name),
                &key("name"),
                format!("two arms are called `{name}`"),
                "give each its own name",
            );
            check(
                name != "base" && !name.starts_with("base-") && ![UNIGRAM, REPEAT, UNTRAINED].contains(&name.as_str()),
                &key("name"),
                format!("the name `{name}` is taken by a yardstick"),
                "call it something else",
            );
            if let Some(other) = &arm.trained_as {
                let known = self.arms.iter().find(|arm| arm.name == *other);
                check(
                    known.is_some(),
                    &key("trained_as"),
                    format!("`trained_as` names the arm `{other}`, which is not there"),
                    "name another `[[arm]]`",
                );
                check(
                    known.is_none_or(|known| known.trained_as.is_none()),
                    &key("trained_as"),
                    format!("the arm `{other}` is not trained itself"),
                    "name the arm whose training is meant",
                );
                check(
                    arm.targets.is_none(),
                    &key("targets"),
                    "an arm with `trained_as` has no training of its own, so no `targets`".into(),
                    "remove one of the two",
                );
            }
            check(
                arm.targets.as_ref().is_none_or(|targets| !targets.is_empty()),
                &key("targets"),
                "the arm's `targets` is empty".into(),
                "remove the key to train on `data.targets`",
            );
            let dropout = arm.thought_dropout;
            check(
                (0.0..=1.0).contains(&dropout),
                &key("thought_dropout"),
                format!("`thought_dropout` ({dropout}) must be from 0 to 1"),
                "0.5 shows half of the thoughts in training",
            );
            check(
                dropout == 0.0 || (arm.view != Access::None && arm.trained_as.is_none()),
                &key("thought_dropout"),
                "`thought_dropout` hides thoughts in training, and this arm is trained on none".into(),
                "set it on an arm that is trained with thoughts",
            );
            check(
                arm.source != Source::Predicted || arm.view != Access::Oracle,
                &key("source"),
                "a predicted reason of the target's own message is written by a model that has read the message".into(),
                "`oracle` goes with the user's own reason; choose another view for predicted thoughts",
            );
            check(
                name != "writers",
                &key("name"),
                "the name `writers` is taken by the folder of those who predict thoughts".into(),
                "call it something else",
            );
            check(
                arm.source == Source::Own || arm.view != Access::None,
                &key("source"),
                "no source of thoughts is seen by the view `none`".into(),
                "choose a view such as `past`",
            );
        }
        for (index, Declared { a, b, primary }) in self.comparisons.iter().enumerate() {
            for (part, name) in [("a", a), ("b", b)] {
                check(
                    self.arms.iter().any(|arm| arm.name == *name),
                    &format!("comparison[{index}].{part}"),
                    format!("the comparison names the arm `{name}`, which is not there"),
                    "name an `[[arm]]`",
                );
            }
            check(
                a != b,
                &format!("comparison[{index}].b"),
                format!("the comparison is of `{a}` with itself"),
                "name two arms",
            );
            let earlier = &self.comparisons[..index];
            check(
                !earlier.iter().any(|other| (&other.a, &other.b) == (a, b)),
                &format!("comparison[{index}].b"),
                format!("`{a}` and `{b}` are compared twice"),
                "remove one",
            );
            check(
                !(*primary && earlier.iter().any(|other| other.primary)),
                &format!("comparison[{index}].primary"),
                "two comparisons are primary".into(),
                "a study is made for one; the others are corrected for how many they are",
            );
        }
        found
    }
}
