//! One conversation as an arm sees it.

use std::path::Path;

use undertone_data::{Layout, Purpose, Source, Split, Stream, Template, View};
use undertone_files::InputError;

use crate::error::StudyError;
use crate::experiment::Experiment;
use crate::jobs::predict_thoughts::read_predicted_thoughts;
use crate::study::Study;

/// The windows of a conversation, laid out for an arm.
pub struct Inspected {
    /// The arm's name.
    pub arm: String,
    /// Which thoughts it sees.
    pub view: View,
    /// The windows, each with the split of its user.
    pub streams: Vec<(Split, Stream)>,
    /// Decodes their tokens.
    pub template: Template,
}

/// Lays a conversation out for an arm: the first of each if none is named; as for training, or as for `scoring`, with every
/// candidate label. `path` is the experiment's, for messages.
///
/// # Errors
/// There is no such arm, or no such conversation with a target; the data or the model's folder is wrong.
pub fn inspect(
    experiment: Experiment,
    path: &Path,
    arm: Option<&str>,
    conversation: Option<&str>,
    scoring: bool,
) -> Result<Inspected, StudyError> {
    let arm = experiment.arm(arm, path)?.clone();
    let mut study = Study::prepare(experiment, path, &[])?;
    if arm.source == Source::Predicted {
        let thoughts = read_predicted_thoughts(&study)?;
        study.set_predicted(thoughts);
    }
    let corpus = &study.folds[0].corpus;
    let (view, source) = arm.shown();
    let (kinds, purpose, dropout) = match scoring {
        true => (study.experiment.data.targets.clone(), Purpose::Score, None),
        // The thought dropout of the first epoch.
        false => (study.experiment.training_targets(&arm), Purpose::Train, arm.dropout([study.experiment.seed, 0])),
    };
    let layout = Layout { dropout, ..Layout::new(view, &kinds, purpose) };
    let windows = |split| corpus.streams(split, source, 0, layout).into_iter().map(move |stream| (split, stream));
    let mut streams: Vec<(Split, Stream)> =
        [Split::Train, Split::Validation, Split::Test].into_iter().flat_map(windows).collect();
    let is_wanted = |stream: &Stream| conversation.is_none_or(|wanted| conversation_of(stream) == wanted);
    let Some(id) = streams.iter().find(|(_, stream)| is_wanted(stream)).map(|(_, one)| conversation_of(one).to_owned())
    else {
        let data = &study.experiment.data.path.as_slice()[0];
        let id = conversation.unwrap_or_default();
        let similarity = |(_, stream): &(Split, Stream)| strsim::jaro_winkler(id, conversation_of(stream));
        let nearest = streams.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        let hint = nearest.map(|(_, stream)| format!("did you mean `{}`?", conversation_of(stream)));
        return Err(InputError::new(data, format!("has no conversation `{id}` with a target"))
            .hint(hint.unwrap_or_default())
            .into());
    };
    streams.retain(|(_, stream)| conversation_of(stream) == id);
    Ok(Inspected { arm: arm.name, view, streams, template: corpus.builder().template.clone() })
}

/// The id of the conversation that a window is of.
fn conversation_of(stream: &Stream) -> &str {
    stream.id.rsplit_once('/').map_or(&stream.id, |(conversation, _)| conversation)
}
