//! Hyperparameters as TensorBoard's HParams page reads them: a run says once with which values it trains, and at its end that
//! it has ended. The page puts runs side by side with the last value of each of their scalars.

use std::collections::HashMap;

use protobuf::Message;
use protobuf::well_known_types::Value;
use tensorboard_proto::api::Status;
use tensorboard_proto::plugin_hparams::{HParamsPluginData, SessionEndInfo, SessionStartInfo};
use tensorboard_proto::summary::{Summary, Summary_Value, SummaryMetadata, SummaryMetadata_PluginData};

/// The value of a hyperparameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Hyperparameter {
    /// A number.
    Number(f64),
    /// A word.
    Text(String),
    /// Whether something is done.
    Flag(bool),
}

/// What a run says at its start, `seconds` after 1970.
pub(crate) fn session_start(hyperparameters: &[(String, Hyperparameter)], seconds: f64) -> Summary {
    let value = |(name, value): &(String, Hyperparameter)| {
        let mut message = Value::new();
        match value {
            Hyperparameter::Number(number) => message.set_number_value(*number),
            Hyperparameter::Text(text) => message.set_string_value(text.clone()),
            Hyperparameter::Flag(flag) => message.set_bool_value(*flag),
        }
        (name.clone(), message)
    };
    let mut start = SessionStartInfo::new();
    start.set_hparams(hyperparameters.iter().map(value).collect::<HashMap<_, _>>());
    start.set_start_time_secs(seconds);
    let mut data = HParamsPluginData::new();
    data.set_session_start_info(start);
    summary("_hparams_/session_start_info", &data)
}

/// What a run says when it has taken all its steps.
pub(crate) fn session_end(seconds: f64) -> Summary {
    let mut end = SessionEndInfo::new();
    end.set_status(Status::STATUS_SUCCESS);
    end.set_end_time_secs(seconds);
    let mut data = HParamsPluginData::new();
    data.set_session_end_info(end);
    summary("_hparams_/session_end_info", &data)
}

fn summary(tag: &str, data: &HParamsPluginData) -> Summary {
    let mut plugin = SummaryMetadata_PluginData::new();
    plugin.set_plugin_name("hparams".to_owned());
    plugin.set_content(data.write_to_bytes().expect("every field is set"));
    let mut metadata = SummaryMetadata::new();
    metadata.set_plugin_data(plugin);
    let mut value = Summary_Value::new();
    value.set_tag(tag.to_owned());
    value.set_metadata(metadata);
    let mut summary = Summary::new();
    summary.mut_value().push(value);
    summary
}
