//! The next message or thought of a conversation, as the model of a checkpoint writes it.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use undertone_data::{Conversation, Encoded, Reader, Role, Speaker, StopReason, ThoughtKind, caught};
use undertone_files::{InputError, Place};
use undertone_model::Sampling;

use crate::base::{Base, stream_builder, tokenizer_failed};
use crate::checkpoint::open_checkpoint;
use crate::error::StudyError;
use crate::experiment::Experiment;
use crate::results::warnings;

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
        let builder = stream_builder(&experiment)?;
        let context = experiment.data.context_tokens;
        let assistant_tokens = experiment.data.reply_tokens().limit().min(context / 2);
        let encoded = caught(|| Encoded::new(conversation, &builder.template, assistant_tokens))
            .map_err(|failed| tokenizer_failed(&experiment.model.path, &failed))?;
        let room = context.saturating_sub(self.sampling.max_new_tokens);
        let (view, _) = arm.shown();
        let (prompt, left_out) = builder.prompt(&encoded, view, self.speaker, room);
        if left_out == encoded.messages.len() {
            let cause = format!(
                "its last message is longer than the {room} tokens that `--max-new-tokens` leaves of the context"
            );
            return Err(InputError::new(&self.conversation, cause)
                .hint("lower `--max-new-tokens`, or raise `data.context_tokens`")
                .into());
        }
        if left_out > 0 {
            tracing::warn!("note: the first {left_out} messages do not fit the context and are left out");
        }
        let base = Base::load(&experiment)?;
        let decoder = base.restored(&experiment, &checkpoint, &self.checkpoint)?;
        let begun = Instant::now();
        let (ids, stopped) = decoder.generate(&prompt, builder.template.end(self.speaker), self.sampling);
        Ok(Predicted {
            speaker: self.speaker.name().to_owned(),
            text: builder.template.decode(&ids),
            tokens: ids.len(),
            prompt_tokens: prompt.len(),
            messages_left_out: left_out,
            view: view.to_string(),
            stopped,
            seconds: begun.elapsed().as_secs_f64(),
            warnings: warnings(experiment.data.synthetic, 0, &[], &[(&arm.name, view)]),
        })
    }

    /// The conversation, which must end with a message that the speaker can follow.
    fn conversation(&self, experiment: &Experiment) -> Result<Conversation, InputError> {
        let path = &self.conversation;
        let (records, _) = Reader::open(&[path], experiment.data.read_options())?.read_all()?;
        let is_wanted = |id: &str| self.id.as_ref().is_none_or(|wanted| wanted == id);
        let Some(record) = records.into_iter().find(|record| is_wanted(&record.conversation.id)) else {
            let id = self.id.as_deref().unwrap_or_default();
            return Err(InputError::new(path, format!("has no conversation `{id}`")));
        };
        let conversation = record.conversation;
        let follows = match self.speaker {
            Speaker::Thought(ThoughtKind::Reaction) => Some((Role::Assistant, "assistant")),
            Speaker::Thought(ThoughtKind::Reason) => Some((Role::User, "user")),
            _ => None,
        };
        let last = conversation.messages.last().map(|message| message.role);
        match follows.filter(|(role, _)| last != Some(*role)) {
            None => Ok(conversation),
            Some((_, role)) => {
                let speaker = self.speaker.name();
                let cause = format!("ends with the wrong role: a {speaker} follows a message of the {role}");
                Err(InputError::new(path, cause)
                    .at(Place::Named(conversation.id))
                    .hint("end the conversation with the message that the thought is about"))
            }
        }
    }
}
