//! The command line's shape: what can be asked, in the words of its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use undertone_data::{Access, Source, Synthetic, Timing};

/// Fine-tune a language model to predict what a user says next, and measure what their thoughts add.
#[derive(Debug, Parser)]
#[command(name = "undertone", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print machine-readable results on stdout; everything for people goes to stderr.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Turn a GGUF file into a Hugging Face folder.
    Import(Import),
    /// Look at conversation files.
    #[command(subcommand)]
    Data(Data),
    /// Show one conversation as an arm of an experiment sees it: targets, thoughts, branches, cuts.
    Inspect(Inspect),
    /// Train one arm of an experiment.
    Train(Train),
    /// Score a checkpoint on held-out users, alone or against another.
    Evaluate(Evaluate),
    /// Train and compare all arms of an experiment; goes on where it was stopped.
    Ablate(Ablate),
    /// Write what the user says next.
    Predict(Predict),
    /// Write a checkpoint as a Hugging Face folder or a PEFT adapter.
    Export(Export),
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A .gguf file of a Llama (F32, F16, BF16, Q4_0, Q4_1, Q8_0).
    pub(crate) source: PathBuf,
    /// The folder to make.
    pub(crate) destination: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    /// Read every line, and state what was odd.
    Check(DataFiles),
    /// Count users, messages, thoughts, labels, late thoughts and near-duplicate tasks.
    Stats(DataFiles),
    /// Make up conversations with a known effect of thoughts, to rehearse a study; of the published dataset's size, if not told.
    Synthesize(Synthesize),
}

#[derive(Debug, Args)]
pub(crate) struct Synthesize {
    /// The JSONL file to make.
    pub(crate) destination: PathBuf,
    /// People.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.users)]
    pub(crate) users: usize,
    /// Conversations of all of them.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.conversations)]
    pub(crate) conversations: usize,
    /// User messages of all conversations.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.turns)]
    pub(crate) turns: usize,
    /// Reasons and reactions of all messages.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.thoughts)]
    pub(crate) thoughts: usize,
    /// How often a reaction names what is asked for next, from 0 (thoughts add nothing) to 1.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.reliability)]
    pub(crate) reliability: f64,
    /// Words of a reply, about.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.reply_words)]
    pub(crate) reply_words: usize,
    /// What all draws depend on.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct DataFiles {
    /// JSONL files of conversations.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Skip and count lines that cannot be read, instead of stopping at the first.
    #[arg(long)]
    pub(crate) skip_invalid: bool,
}

/// The experiment, and changes to it.
#[derive(Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// An experiment file, such as experiments/demo.toml.
    pub(crate) experiment: PathBuf,
    /// Override one key, such as `--set training.epochs=1`; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,
    /// The id of a conversation; the first one if not given.
    #[arg(long)]
    pub(crate) conversation: Option<String>,
    /// Which arm; the first one if not given.
    #[arg(long)]
    pub(crate) arm: Option<String>,
    /// As laid out for evaluation: every candidate label, not only the true one.
    #[arg(long)]
    pub(crate) scoring: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,
    /// Which arm; the first one if not given.
    #[arg(long)]
    pub(crate) arm: Option<String>,
    /// Which fold, counted from 0, where the experiment divides users in folds.
    #[arg(long, default_value_t = 0)]
    pub(crate) fold: usize,
    /// Train with this seed instead of the experiment's: one of its `seeds`, for example.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Go on from `last.safetensors`.
    #[arg(long)]
    pub(crate) resume: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// A checkpoint, such as checkpoints/demo/past/fold0/best.safetensors.
    pub(crate) checkpoint: PathBuf,
    /// Compare with another checkpoint, or with `base`, the untrained model.
    #[arg(long)]
    pub(crate) against: Option<PathBuf>,
    /// Score under this view instead of the one it was trained with.
    #[arg(long)]
    pub(crate) view: Option<ViewArg>,
    /// Until when the thoughts must have been written.
    #[arg(long)]
    pub(crate) timing: Option<TimingArg>,
    /// Whose thoughts are shown.
    #[arg(long)]
    pub(crate) source: Option<SourceArg>,
    /// Which users: those held out for testing, or for validation.
    #[arg(long, default_value = "test")]
    pub(crate) split: SplitArg,
    /// Write one JSON line an item to this file.
    #[arg(long)]
    pub(crate) records: Option<PathBuf>,
    /// Override one key of the checkpoint's experiment, such as `--set data.path=FILE`.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Ablate {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,
    /// Only say what would run, what it would cost, and the smallest difference it could find.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Train so many arms side by side; each needs its own memory, and all share the cores.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Predict {
    /// A checkpoint.
    pub(crate) checkpoint: PathBuf,
    /// A JSONL file with the conversation so far.
    pub(crate) conversation: PathBuf,
    /// Which conversation of the file, by id; the first one if not given.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Who speaks next.
    #[arg(long, default_value = "user")]
    pub(crate) speaker: SpeakerArg,
    /// 0 is greedy; higher is more varied.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f64,
    /// Sample from the smallest set of tokens with this much probability.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f64,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Stop after so many tokens.
    #[arg(long, default_value_t = 128)]
    pub(crate) max_new_tokens: usize,
    /// Override one key of the checkpoint's experiment.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A checkpoint.
    pub(crate) checkpoint: PathBuf,
    /// The folder to make.
    pub(crate) destination: PathBuf,
    /// What to write.
    #[arg(long, default_value = "hf")]
    pub(crate) format: ExportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// A Hugging Face folder, adapters merged.
    Hf,
    /// A PEFT adapter folder.
    Peft,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SpeakerArg {
    /// The user's next message.
    User,
    /// The user's reaction to the last reply.
    Reaction,
    /// The user's reason for the last message.
    Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SplitArg {
    /// The users held out for results.
    Test,
    /// The users held out for choices.
    Validation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ViewArg {
    /// No thought.
    None,
    /// Earlier reasons.
    Reasons,
    /// Earlier reactions.
    Reactions,
    /// Both.
    Past,
    /// Reactions to the reply right before the target.
    LastReaction,
    /// Both, and the target's own reason: a ceiling, never a prediction.
    Oracle,
}

impl From<ViewArg> for Access {
    fn from(view: ViewArg) -> Self {
        match view {
            ViewArg::None => Self::None,
            ViewArg::Reasons => Self::Reasons,
            ViewArg::Reactions => Self::Reactions,
            ViewArg::Past => Self::Past,
            ViewArg::LastReaction => Self::LastReaction,
            ViewArg::Oracle => Self::Oracle,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimingArg {
    /// Written before the target's message was sent.
    Strict,
    /// Attached to an earlier message, whenever written.
    Anchored,
}

impl From<TimingArg> for Timing {
    fn from(timing: TimingArg) -> Self {
        match timing {
            TimingArg::Strict => Self::Strict,
            TimingArg::Anchored => Self::Anchored,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SourceArg {
    /// The user's own.
    Own,
    /// Each thought another user's, of the same kind and length.
    Shuffled,
    /// All of them of one other user's conversation.
    ShuffledTrajectory,
    /// Words that say nothing, as many tokens.
    Filler,
}

impl From<SourceArg> for Source {
    fn from(source: SourceArg) -> Self {
        match source {
            SourceArg::Own => Self::Own,
            SourceArg::Shuffled => Self::Shuffled,
            SourceArg::ShuffledTrajectory => Self::ShuffledTrajectory,
            SourceArg::Filler => Self::Filler,
        }
    }
}
