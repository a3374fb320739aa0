//! Rules of `[training]`, whose keys are those of [`TrainingConfig`].

use undertone_train::TrainingConfig;

use super::problem::Found;
use super::split::SplitSection;

/// The most epochs; the order of the whole training is planned beforehand.
const MAX_EPOCHS: usize = 10_000;

pub(super) fn rules(training: &TrainingConfig, split: &SplitSection, found: &mut Found) {
    found.require(
        training.epochs > 0,
        "training.epochs",
        "`epochs` is 0",
        "use `undertone evaluate` to score without training",
    );
    found.require(
        training.epochs <= MAX_EPOCHS,
        "training.epochs",
        format!("`epochs` ({}) is above {MAX_EPOCHS}", training.epochs),
        "1 to 10 is usual",
    );
    found.require(
        training.conversations_per_step > 0,
        "training.conversations_per_step",
        "`conversations_per_step` is 0",
        "1 takes one conversation a step",
    );
    found.require(training.row_tokens > 0, "training.row_tokens", "`row_tokens` is 0", "2048 is a good value");
    found.require(
        training.learning_rate > 0.0 && training.learning_rate.is_finite(),
        "training.learning_rate",
        format!("`learning_rate` ({}) must be above 0", training.learning_rate),
        "1e-4 to 5e-4 is usual for LoRA, 1e-5 to 5e-5 for full fine-tuning",
    );
    for (name, value, usual) in [("beta1", training.beta1, "0.9"), ("beta2", training.beta2, "0.999")] {
        found.require(
            (0.0..1.0).contains(&value),
            &format!("training.{name}"),
            format!("`{name}` ({value}) must be from 0 to below 1"),
            &format!("{usual} is usual"),
        );
    }
    found.require(
        training.epsilon > 0.0,
        "training.epsilon",
        format!("`epsilon` ({}) must be above 0", training.epsilon),
        "1e-8 is usual",
    );
    found.require(
        training.clip_norm >= 0.0,
        "training.clip_norm",
        format!("`clip_norm` ({}) is negative", training.clip_norm),
        "0 turns clipping off",
    );
    found.require(
        (0.0..=1.0).contains(&training.final_learning_rate_share),
        "training.final_learning_rate_share",
        format!("`final_learning_rate_share` ({}) must be from 0 to 1", training.final_learning_rate_share),
        "0.1 ends at a tenth of the peak",
    );
    found.require(
        training.weight_decay >= 0.0,
        "training.weight_decay",
        format!("`weight_decay` ({}) is negative", training.weight_decay),
        "0.01 is usual",
    );
    for (name, count) in [("keep_last", training.keep_last), ("keep_best", training.keep_best)] {
        found.require(
            count > 0,
            &format!("training.{name}"),
            format!("`{name}` is 0, and a training needs one such checkpoint"),
            "1 keeps no earlier ones",
        );
    }
    found.require(
        training.patience_validations == 0 || split.can_validate(),
        "training.patience_validations",
        "`patience_validations` needs validation users, and `split.validation` is 0",
        "set `split.validation`, or `patience_validations = 0`",
    );
    for (key, value) in [
        ("training.weight_decay", training.weight_decay),
        ("training.clip_norm", training.clip_norm),
        ("training.epsilon", training.epsilon),
    ] {
        found.require_finite(key, value);
    }
}
