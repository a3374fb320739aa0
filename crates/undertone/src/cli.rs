//! The command line's shape: what can be asked, in the words of its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use undertone_data::{Access, Source, Split, Synthetic, Timing};
use undertone_export::Format;

/// Fine-tune a language model to predict what a user says next, and measure what their thoughts add.
#[derive(Debug, Parser)]
#[command(name = "undertone", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print machine-readable results on stdout; everything for people goes to stderr.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more about what happens; the environment variable `RUST_LOG` chooses exactly.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Print results and errors only, without notes and progress.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
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
    /// Train and compare all arms of an experiment; a stopped study goes on where it was.
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
    /// Read every line, and count what is odd.
    Check(DataFiles),
    /// Count users, messages, thoughts, labels, late thoughts and near-duplicate tasks.
    Stats(DataFiles),
    /// Make up conversations with a known effect of thoughts, to rehearse a study. The default is the published dataset's size.
    Synthesize(Synthesize),
}

#[derive(Debug, Args)]
pub(crate) struct Synthesize {
    /// The JSONL file to make.
    pub(crate) destination: PathBuf,
    /// Number of users.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.users)]
    pub(crate) users: usize,
    /// Number of conversations.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.conversations)]
    pub(crate) conversations: usize,
    /// Number of user messages.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.turns)]
    pub(crate) turns: usize,
    /// Number of reasons and reactions.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.thoughts)]
    pub(crate) thoughts: usize,
    /// The share of reactions that name what the user asks for next, from 0 (thoughts add nothing) to 1.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.reliability)]
    pub(crate) reliability: f64,
    /// Approximate number of words of a reply.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.reply_words)]
    pub(crate) reply_words: usize,
    /// Seed of all draws.
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
    /// Show the layout for evaluation: every candidate label, not only the true one.
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
    pub(crate) view: Option<Access>,
    /// Score under this timing: until when the thoughts must have been written.
    #[arg(long)]
    pub(crate) timing: Option<Timing>,
    /// Score with thoughts of this source.
    #[arg(long)]
    pub(crate) source: Option<Source>,
    /// Which users: those held out for testing, or for validation.
    #[arg(long, default_value = "test")]
    pub(crate) split: Split,
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
    /// Only show what would run, what it would cost, and the smallest difference it could find.
    #[arg(long)]
    pub(crate) plan: bool,
    /// The number of arms that are trained side by side; each needs its own memory, and all share the cores.
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
    /// The most tokens to write.
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
    pub(crate) format: Format,
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
