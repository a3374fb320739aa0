//! The next message or thought of a conversation, as the model of a checkpoint writes it.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use undertone_data::{Conversation, Reader, Speaker, StopReason};
use undertone_files::InputError;
use undertone_model::Sampling;

use crate::base::Base;
use crate::checkpoint::open_checkpoint;
use crate::error::StudyError;
use crate::experiment::Experiment;
use crate::results::warnings;
use crate::simulator::Prompter;

/// What to predict, and how.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// A JSONL file with the conversation so far.
    pub conversation: PathBuf,
    /// The id of the conversation; the first one of the file if not given.
    pub id: Option<String>,
    /// Who writes: the user, or the user's thought about the last message.
    pub speaker: Speaker,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Overrides of the checkpoint's experiment.
    pub overrides: Vec<String>,
}

/// A predicted text.
#[derive(Debug, Serialize)]
pub struct Predicted {
    /// Who writes it.
    pub speaker: String,
    /// The text.
    pub text: String,
    /// Its tokens.
    pub tokens: usize,
    /// Tokens before it.
    pub prompt_tokens: usize,
    /// First messages of the conversation that did not fit the context.
    pub messages_left_out: usize,
    /// Which thoughts the model saw.
    pub view: String,
    /// Why the text ends.
    pub stopped: StopReason,
    /// How long it took.
    #[serde(skip)]
    pub seconds: f64,
    /// What a reader must not overlook.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

impl Prediction {
    /// Writes the text.
    ///
    /// # Errors
    /// The checkpoint or the conversation cannot be read, the speaker does not follow its last message, or that message does
    /// not fit the context.
    pub fn run(&self) -> Result<Predicted, StudyError> {
        let (checkpoint, experiment) = open_checkpoint(&self.checkpoint, &self.overrides)?;
        let arm = experiment.arm(Some(&checkpoint.description.arm), &self.checkpoint)?;
        let conversation = self.conversation(&experiment)?;
        let prompter = Prompter::new(&experiment, arm)?;
        let new_tokens = self.sampling.max_new_tokens;
        let id = conversation.id.clone();
        let prompt = prompter
            .prompt(conversation, self.speaker, None, new_tokens)
            .map_err(|error| prompter.refused(&self.conversation, id, error))?;
        if prompt.messages_left_out > 0 {
            tracing::warn!(
                "note: the first {} messages do not fit the context and are left out",
                prompt.messages_left_out
            );
        }
        let base = Base::load(&experiment)?;
        let decoder = base.restored(&experiment, &checkpoint, &self.checkpoint)?;
        let begun = Instant::now();
        let (ids, stopped) = decoder.generate(&prompt.ids, prompter.template().end(self.speaker), self.sampling);
        Ok(Predicted {
            speaker: self.speaker.name().to_owned(),
            text: prompter.template().decode(&ids),
            tokens: ids.len(),
            prompt_tokens: prompt.ids.len(),
            messages_left_out: prompt.messages_left_out,
            view: prompter.view().to_string(),
            stopped,
            seconds: begun.elapsed().as_secs_f64(),
            warnings: warnings(experiment.data.synthetic, 0, &[], &[(&arm.name, prompter.view())]),
        })
    }

    /// The conversation.
    fn conversation(&self, experiment: &Experiment) -> Result<Conversation, InputError> {
        let path = &self.conversation;
        let (records, _) = Reader::open(&[path], experiment.data.read_options())?.read_all()?;
        let is_wanted = |id: &str| self.id.as_ref().is_none_or(|wanted| wanted == id);
        let Some(record) = records.into_iter().find(|record| is_wanted(&record.conversation.id)) else {
            let id = self.id.as_deref().unwrap_or_default();
            return Err(InputError::new(path, format!("has no conversation `{id}`")));
        };
        Ok(record.conversation)
    }
}
