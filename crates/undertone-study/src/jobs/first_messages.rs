//! Generates first messages of conversations with each model, and measures their diversity.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use undertone_data::{Encoded, Role, Speaker, sample_by_hash};
use undertone_files::{InputError, Place};
use undertone_model::{Cache, Decoder, Opening, Sampling};
use undertone_stats::diversity;

use crate::arms::Training;
use crate::artifact::CachedFile;
use crate::context::Context;
use crate::error::StudyError;
use crate::experiment::Arm;
use crate::fingerprint;
use crate::study::Study;

/// The number of message seeds that belong to one training seed.
const SEEDS_OF_A_TRAINING: u64 = 1 << 20;

/// The first messages of one training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirstMessages {
    messages: Vec<String>,
}

/// The diversity of the first messages of an arm.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Diversity {
    /// The arm; real users come last.
    pub(crate) arm: String,
    /// The number of messages.
    pub(crate) messages: usize,
    /// The mean over trainings, from 0 to 100.
    pub(crate) diversity: f64,
}

/// The file with the first messages of a training, or of the untrained model.
pub(crate) fn first_messages_file(
    context: &Context<'_>,
    name: &str,
    trained: Option<&Arm>,
    training: Training,
) -> CachedFile {
    let Context { study, base, .. } = context;
    let path = study.training_folder(name, training).join("first_messages.json");
    CachedFile::new(path, fingerprint::of_first_messages(study, base, trained, training))
}

/// Generates first messages with a model, or reads those that exist.
///
/// # Errors
/// The file cannot be read or written; the user stopped it.
pub(crate) fn first_messages(
    context: &Context<'_>,
    seed: u64,
    decoder: impl FnOnce() -> Result<Decoder, InputError>,
    file: &CachedFile,
) -> Result<FirstMessages, StudyError> {
    if let Some(path) = file.reuse()? {
        let bytes = std::fs::read(path).map_err(|error| InputError::io(path, "read", &error))?;
        return Ok(serde_json::from_slice(&bytes).map_err(|error| {
            InputError::new(path, error.to_string())
                .at(Place::Line(error.line()))
                .hint("remove the file to make it again")
        })?);
    }
    let writing = &context.study.experiment.evaluation.writing;
    let builder = context.study.folds[0].corpus.builder();
    let (decoder, prompt) = (decoder()?, builder.opening(Speaker::Message(Role::User)));
    let opening = |number: u64| {
        // Samples from the model's own distribution: diversity is a property of the model, not of a temperature.
        let max_new_tokens = writing.max_new_tokens;
        let seed = seed.wrapping_mul(SEEDS_OF_A_TRAINING).wrapping_add(number);
        let sampling = Sampling { temperature: 1.0, top_p: 1.0, seed, max_new_tokens, ..Sampling::default() };
        Opening { cache: Cache::default(), prompt: prompt.clone(), sampling }
    };
    let numbers = (0..writing.first_messages as u64).take_while(|_| !context.is_stopped());
    let texts = decoder.generate_all(numbers.map(opening), builder.template.end(Speaker::Message(Role::User)));
    let messages = texts.iter().map(|(ids, _)| builder.template.decode(ids).trim().to_owned()).collect();
    context.check_stop(file.folder())?;
    let first_messages = FirstMessages { messages };
    file.write(&serde_json::to_vec_pretty(&first_messages).expect("plain data"))?;
    Ok(first_messages)
}

/// The diversity of the first messages of each arm, and of as many real first messages.
pub(crate) fn first_message_diversity(study: &Study, by_arm: &[(String, Vec<FirstMessages>)]) -> Vec<Diversity> {
    let wanted = study.experiment.evaluation.writing.first_messages;
    if wanted == 0 {
        return Vec::new();
    }
    let mean = |arm: &str, groups: &[FirstMessages]| {
        let all: Vec<f64> = groups.iter().filter_map(|group| diversity(&group.messages)).collect();
        let messages = groups.iter().map(|group| group.messages.len()).sum();
        (!all.is_empty()).then(|| Diversity {
            arm: arm.to_owned(),
            messages,
            diversity: all.iter().sum::<f64>() / all.len() as f64,
        })
    };
    let first = |encoded: &Encoded| {
        let mut messages = encoded.conversation.messages.iter();
        let first = messages.find(|message| message.role == Role::User && !message.content.is_empty())?;
        Some((encoded.conversation.id.clone(), first.content.clone()))
    };
    let real: BTreeMap<String, String> = study.encoded.iter().filter_map(first).collect();
    let chosen = sample_by_hash(&real.keys().cloned().collect(), wanted, study.experiment.seed);
    let real = FirstMessages { messages: chosen.iter().map(|id| real[id].clone()).collect() };
    by_arm.iter().filter_map(|(arm, groups)| mean(arm, groups)).chain(mean("real users", &[real])).collect()
}
