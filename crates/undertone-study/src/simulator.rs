//! A trained model that writes as a user: a conversation becomes a prompt, which the model continues.

use std::path::{Path, PathBuf};

use undertone_data::{
    Conversation, Encoded, PromptOptions, Role, Speaker, StreamBuilder, TargetKind, Template, ThoughtKind, Timing,
    TokenizerFailed, View, caught,
};
use undertone_files::{InputError, Place};
use undertone_model::Decoder;

use crate::base::{Base, stream_builder, tokenizer_failed};
use crate::checkpoint::open_checkpoint;
use crate::error::StudyError;
use crate::experiment::{Arm, Experiment};
use crate::results::warnings;

/// Makes prompts as an arm of an experiment sees conversations. Reads no weights.
#[derive(Debug)]
pub struct Prompter {
    builder: StreamBuilder,
    view: View,
    context_tokens: usize,
    assistant_tokens: usize,
    model: PathBuf,
}

/// The tokens before a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The tokens, which end with the header of the speaker.
    pub ids: Vec<u32>,
    /// First messages of the conversation that did not fit.
    pub messages_left_out: usize,
}

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// A thought is about the last message, which has the wrong role.
    #[error("ends with the wrong role: a {} follows a message of the {follows}", speaker.name())]
    WrongRole {
        /// Whose text is asked for.
        speaker: Speaker,
        /// The role that the last message needs.
        follows: &'static str,
    },
    /// The last message alone is too long.
    #[error("its last message is longer than the {room} tokens that the new tokens leave of the context")]
    TooLong {
        /// Tokens of the context without the new ones.
        room: usize,
    },
    /// The tokenizer fails on a text.
    #[error(transparent)]
    Tokenizer(TokenizerFailed),
}

impl Prompter {
    /// The prompts of an arm.
    ///
    /// # Errors
    /// The base model's tokenizer, configuration or chat format cannot be used.
    pub fn new(experiment: &Experiment, arm: &Arm) -> Result<Self, InputError> {
        let context_tokens = experiment.data.context_tokens;
        Ok(Self {
            builder: stream_builder(experiment)?,
            view: arm.shown().0,
            context_tokens,
            assistant_tokens: experiment.data.reply_tokens().limit().min(context_tokens / 2),
            model: experiment.model.path.clone(),
        })
    }

    /// Which thoughts prompts show.
    pub fn view(&self) -> View {
        self.view
    }

    /// The template of conversations.
    pub fn template(&self) -> &Template {
        &self.builder.template
    }

    /// The prompt for the speaker's next text: the latest whole messages that fit the context together with `new_tokens`
    /// new ones. A `system` text replaces the experiment's.
    ///
    /// # Errors
    /// The speaker does not follow the last message, or that message does not fit.
    pub fn prompt(
        &self,
        conversation: Conversation,
        speaker: Speaker,
        system: Option<&str>,
        new_tokens: usize,
    ) -> Result<Prompt, PromptError> {
        let follows = match speaker {
            Speaker::Thought(ThoughtKind::Reaction) => Some(Role::Assistant),
            Speaker::Thought(ThoughtKind::Reason) => Some(Role::User),
            _ => None,
        };
        let last = conversation.messages.last().map(|message| message.role);
        if let Some(role) = follows.filter(|role| last != Some(*role)) {
            return Err(PromptError::WrongRole { speaker, follows: Speaker::Message(role).name() });
        }
        let room = self.context_tokens.saturating_sub(new_tokens);
        let (ids, messages_left_out, messages) = caught(|| {
            let encoded = Encoded::new(conversation, &self.builder.template, self.assistant_tokens);
            let options = PromptOptions { system, view: self.view, speaker, limit: room };
            let (ids, left_out) = self.builder.prompt(&encoded, options);
            (ids, left_out, encoded.messages.len())
        })
        .map_err(PromptError::Tokenizer)?;
        let is_whole = messages == 0 || messages_left_out < messages;
        match is_whole && ids.len() <= room {
            true => Ok(Prompt { ids, messages_left_out }),
            false => Err(PromptError::TooLong { room }),
        }
    }

    /// The error for a file whose conversation `id` gives no prompt.
    pub(crate) fn refused(&self, path: &Path, id: String, error: PromptError) -> InputError {
        let refused = InputError::new(path, error.to_string()).at(Place::Named(id));
        match error {
            PromptError::WrongRole { .. } => {
                refused.hint("end the conversation with the message that the thought is about")
            }
            PromptError::TooLong { .. } => refused.hint("lower `--max-new-tokens`, or raise `data.context_tokens`"),
            PromptError::Tokenizer(failed) => tokenizer_failed(&self.model, &failed),
        }
    }
}

/// A checkpoint that writes as a user.
#[derive(Debug)]
pub struct Simulator {
    /// Makes its prompts.
    pub prompter: Prompter,
    /// Continues them.
    pub decoder: Decoder,
    /// The name of its arm.
    pub arm: String,
    /// Which thoughts its arm sees.
    pub view: View,
    /// Whose texts it was trained to write: the user's messages, reactions, reasons. Not empty.
    pub speakers: Vec<Speaker>,
    /// What a reader of its texts must not overlook.
    pub warnings: Vec<String>,
}

impl Simulator {
    /// Opens a checkpoint, with overrides of single keys of its experiment.
    ///
    /// # Errors
    /// The checkpoint or its base model cannot be used, or it was trained to write no text.
    pub fn open(path: &Path, overrides: &[String]) -> Result<Self, StudyError> {
        let (checkpoint, experiment) = open_checkpoint(path, overrides)?;
        let arm = experiment.arm(Some(&checkpoint.description.arm), path)?;
        let targets = experiment.training_targets(arm);
        let writes = |kind: &&TargetKind| kind.labels().is_none();
        let speakers: Vec<Speaker> = targets.iter().filter(writes).map(|kind| Speaker::of(*kind)).collect();
        if speakers.is_empty() {
            let cause = format!("its arm `{}` was trained on labels alone, and writes no text", arm.name);
            return Err(InputError::new(path, cause)
                .hint("train an arm with `next_prompt`, `reaction` or `reason` among its targets")
                .into());
        }
        let view = arm.shown().0;
        let mut prompter = Prompter::new(&experiment, arm)?;
        // What is given to a simulator has no times, and was written before the text that is asked for.
        prompter.view.timing = Timing::Anchored;
        let base = Base::load(&experiment)?;
        Ok(Self {
            prompter,
            decoder: base.restored(&experiment, &checkpoint, path)?,
            arm: arm.name.clone(),
            view,
            speakers,
            warnings: warnings(experiment.data.synthetic, 0, &[], &[(&arm.name, view)]),
        })
    }
}
