//! What TensorBoard's HParams page shows of a training: what its arm sees, and the numbers of its experiment.

use serde_json::Value;
use undertone_train::Hyperparameter;

use crate::arms::Training;
use crate::experiment::{Arm, Experiment, Method};

/// The hyperparameters of a training, by name.
pub(crate) fn hyperparameters(experiment: &Experiment, arm: &Arm, training: Training) -> Vec<(String, Hyperparameter)> {
    let mut all = vec![
        ("arm".to_owned(), Hyperparameter::Text(arm.name.clone())),
        ("fold".to_owned(), Hyperparameter::Number(training.fold as f64)),
        ("seed".to_owned(), Hyperparameter::Number(training.seed as f64)),
    ];
    let mut add = |prefix: &str, section: Value| {
        let value = |value: &Value| match value {
            Value::Number(number) => number.as_f64().map(Hyperparameter::Number),
            Value::String(text) => Some(Hyperparameter::Text(text.clone())),
            Value::Bool(flag) => Some(Hyperparameter::Flag(*flag)),
            _ => None,
        };
        for (key, found) in section.as_object().into_iter().flatten() {
            all.extend(value(found).map(|value| (format!("{prefix}.{key}"), value)));
        }
    };
    let plain = |section: serde_json::Result<Value>| section.expect("plain data");
    let mut sees = plain(serde_json::to_value(arm));
    // Its name stands there already.
    sees.as_object_mut().map(|keys| keys.remove("name"));
    add("arm", sees);
    add("training", plain(serde_json::to_value(&experiment.training)));
    add("model", plain(serde_json::to_value(&experiment.model)));
    if experiment.model.method == Method::Lora {
        add("lora", plain(serde_json::to_value(&experiment.lora)));
    }
    all
}
