//! Errors that occur only during training.

use super::*;

/// A `NaN` loss is not an error of the input: exit code 1, an error with the step's items, and no
/// checkpoint.
#[test]
fn a_training_that_diverges_names_the_step_and_its_items() {
    let place = place();
    let check = |words: &str, expected: &str| {
        let ran =
            place.run(&format!("train x.toml --set training.learning_rate=1e30 --set training.warmup_steps=0 {words}"));
        assert_eq!(ran.status.code(), Some(1), "{}", ran.stderr);
        let told = ran.stderr.lines().filter(|line| !line.starts_with("none: step ")).collect::<Vec<_>>().join("\n");
        let (before, items) = told.split_once("; items of this step: ").unwrap_or_else(|| panic!("{told}"));
        assert_eq!(before, format!("error: training diverged: after step 1, {expected}"));
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
