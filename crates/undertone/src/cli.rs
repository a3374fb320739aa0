//! The arguments of every command. The doc comments are the help texts.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use undertone_data::{Access, ChatForm, Source, Split, Synthetic, Timing};
use undertone_export::{Format, WeightType};

/// Fine-tune a language model to predict a user's next message, and measure what the user's thoughts add.
#[derive(Debug, Parser)]
#[command(name = "undertone", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print results as JSON on stdout; messages for people go to stderr.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print more notes; if the environment variable `RUST_LOG` is set, it alone chooses which.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Print no notes and no progress.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the families of models that can be trained.
    Models,
    /// Convert a GGUF file to a Hugging Face folder.
    Import(Import),
    /// Check, summarize or generate conversation files.
    #[command(subcommand)]
    Data(Data),
    /// Show one conversation as an arm of an experiment sees it: targets, thoughts, branches and cuts.
    Inspect(Inspect),
    /// Train one arm of an experiment.
    Train(Train),
    /// Score a checkpoint on held-out users, alone or against another model.
    Evaluate(Evaluate),
    /// Train, score and compare all arms of an experiment; run it again to resume a stopped study.
    Ablate(Ablate),
    /// Write the user's next message in a conversation, or a thought.
    Predict(Predict),
    /// Serve a checkpoint as a simulated user, which speaks the OpenAI chat protocol.
    Serve(Serve),
    /// Export a checkpoint as a Hugging Face folder, a GGUF file or a PEFT adapter.
    Export(Export),
    /// List studies and their trainings: state, losses, and the keys in which their experiments differ.
    Runs(Runs),
    /// Check that the files of a study are as they were written.
    Verify(Verify),
    /// Train the last steps before a checkpoint again, and check that its bytes are the same.
    Replay(Replay),
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A GGUF file, or the first part of a split one: of Llama, Qwen 2 and 3, Gemma 3, SmolLM3, OLMo 2, Phi 3 or Granite.
    pub(crate) source: PathBuf,
    /// The folder to create.
    pub(crate) destination: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    /// Validate every line, and count irregularities.
    Check(DataFiles),
    /// Count users, messages, thoughts, labels, thoughts written after the next message, and near-duplicate task descriptions.
    Stats(DataFiles),
    /// Download a dataset of the Hugging Face Hub, and check it.
    Fetch(Fetch),
    /// Check that a file is the published ThoughtTrace, and count what is in it.
    Verify(VerifyData),
    /// Print the JSON Schema of a conversation.
    Schema,
    /// Convert chats of another dataset: OpenAI messages, ShareGPT, WildChat, LMSYS-Chat-1M or UltraChat.
    Convert(Convert),
    /// Replace e-mail addresses, telephone numbers, links and names from surveys, and count them.
    Redact(Redact),
    /// Generate synthetic conversations with a known effect of thoughts, to rehearse a study; by default as many as in
    /// the published dataset.
    Synthesize(Synthesize),
}

#[derive(Debug, Args)]
pub(crate) struct Synthesize {
    /// The JSONL file to create.
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
    /// Share of reactions that name what the user asks for next, from 0 (thoughts add nothing) to 1.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.reliability)]
    pub(crate) reliability: f64,
    /// Write reactions only after the next message was sent: hindsight, which `strict` must not show in time.
    #[arg(long)]
    pub(crate) late: bool,
    /// Approximate number of words per reply.
    #[arg(long, default_value_t = Synthetic::PUBLISHED.reply_words)]
    pub(crate) reply_words: usize,
    /// Seed of all random draws.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// `thoughttrace`, or `hf:owner/name@revision` for another dataset of the Hub.
    pub(crate) dataset: String,
    /// The file to create.
    pub(crate) destination: PathBuf,
    /// The file of the dataset to download; needed if it is not `thoughttrace`.
    #[arg(long)]
    pub(crate) file: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyData {
    /// A copy of ThoughtTrace.jsonl.
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// A JSON array of chats, one chat a line (also packed by gzip or Zstandard), or a Parquet table.
    pub(crate) source: PathBuf,
    /// The JSONL file to create.
    pub(crate) destination: PathBuf,
    /// The form of the source; found in its first chat if not given.
    #[arg(long)]
    pub(crate) from: Option<ChatForm>,
    /// Skip and count chats that are not of the form, and keep what stands before the place where a file is cut off.
    #[arg(long)]
    pub(crate) skip_invalid: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Redact {
    /// A JSONL file of conversations.
    pub(crate) source: PathBuf,
    /// The JSONL file to create.
    pub(crate) destination: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DataFiles {
    /// JSONL files of conversations.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Skip and count unreadable lines, instead of stopping at the first.
    #[arg(long)]
    pub(crate) skip_invalid: bool,
}

/// The experiment, and overrides of its keys.
#[derive(Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// An experiment file, such as experiments/demo.toml.
    pub(crate) experiment: PathBuf,
    /// Override one key, such as `--set training.epochs=1`; repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,
    /// Id of the conversation; by default the first.
    #[arg(long)]
    pub(crate) conversation: Option<String>,
    /// Name of the arm; by default the first.
    #[arg(long)]
    pub(crate) arm: Option<String>,
    /// Show the layout for scoring, which adds distractors and labels other than the true one.
    #[arg(long)]
    pub(crate) scoring: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,
    /// Name of the arm; by default the first.
    #[arg(long)]
    pub(crate) arm: Option<String>,
    /// Fold to train, counted from 0, if the experiment has folds.
    #[arg(long, default_value_t = 0)]
    pub(crate) fold: usize,
    /// Training seed; by default the experiment's `seed`.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Resume from `last.safetensors`, the last checkpoint of this training.
    #[arg(long)]
    pub(crate) resume: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// A checkpoint, such as checkpoints/demo/past/fold0/best.safetensors.
    pub(crate) checkpoint: PathBuf,
    /// Compare with this checkpoint, or with `base`, the untrained model.
    #[arg(long)]
    pub(crate) against: Option<PathBuf>,
    /// Which thoughts the model sees; by default as in training.
    #[arg(long)]
    pub(crate) view: Option<Access>,
    /// Which thoughts count by time: `strict` (written before the target was sent) or `anchored` (any time); by default
    /// as in training.
    #[arg(long)]
    pub(crate) timing: Option<Timing>,
    /// Whose thoughts the model sees; by default as in training.
    #[arg(long)]
    pub(crate) source: Option<Source>,
    /// Which held-out users are scored.
    #[arg(long, default_value = "test")]
    pub(crate) split: Split,
    /// Write the scores to this file, one JSON line per item.
    #[arg(long)]
    pub(crate) records: Option<PathBuf>,
    /// Override one key of the checkpoint's experiment, such as `--set data.path=FILE`; repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Ablate {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,
    /// Only show what would run, what it would cost, and the power of the study.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Only write down the data, items, rules and planned power, before anything is trained; the report compares them.
    #[arg(long, conflicts_with = "plan")]
    pub(crate) register: bool,
    /// In the report's conversations, replace e-mail addresses, telephone numbers and links; only what is shown changes.
    #[arg(long)]
    pub(crate) redact: bool,
    /// Number of arms to train in parallel; each needs its own memory, and all share the cores.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Predict {
    /// A checkpoint, such as checkpoints/demo/past/fold0/best.safetensors.
    pub(crate) checkpoint: PathBuf,
    /// A JSONL file with the conversation so far.
    pub(crate) conversation: PathBuf,
    /// Id of the conversation in the file; by default the first.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// What to write.
    #[arg(long, default_value = "user")]
    pub(crate) speaker: SpeakerArg,
    /// Sampling temperature; 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f64,
    /// Sample from the smallest set of most likely tokens with at least this total probability.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f64,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Maximum number of tokens to write.
    #[arg(long, default_value_t = 128)]
    pub(crate) max_new_tokens: usize,
    /// Override one key of the checkpoint's experiment; repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A checkpoint, such as checkpoints/demo/past/fold0/best.safetensors.
    pub(crate) checkpoint: PathBuf,
    /// The address to listen on. Others than this machine's own need the environment variable UNDERTONE_API_KEY, which
    /// requests must then carry.
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 8000)]
    pub(crate) port: u16,
    /// Which role of a request is the simulated user; the other one is the assistant that is being tested.
    #[arg(long, default_value = "assistant")]
    pub(crate) user_role: UserRole,
    /// Maximum number of tokens of a text, if a request names none.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_new_tokens: u32,
    /// Override one key of the checkpoint's experiment, such as `--set model.path=FOLDER`; repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A checkpoint, such as checkpoints/demo/past/fold0/best.safetensors.
    pub(crate) checkpoint: PathBuf,
    /// The folder to create.
    pub(crate) destination: PathBuf,
    /// The format to write.
    #[arg(long, default_value = "hf")]
    pub(crate) format: Format,
    /// The type of the weights; q8_0, q4_0 and q4_k are for GGUF.
    #[arg(long, default_value = "f32")]
    pub(crate) dtype: WeightType,
    /// The most bytes of weights in one file of a Hugging Face folder, such as 500MB or 5GB.
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = bytes)]
    pub(crate) shard_size: u64,
}

/// A size such as `500MB`, in bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000)];
    let size = units.into_iter().find_map(|(unit, bytes)| {
        let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        number.checked_mul(bytes).filter(|size| *size > 0)
    });
    size.ok_or_else(|| "a whole number above 0 with MB or GB is expected, such as 500MB".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// A folder of runs.
    #[arg(default_value = "checkpoints")]
    pub(crate) folder: PathBuf,
    /// Also send every training to the MLflow server at this address, such as http://127.0.0.1:5000.
    #[arg(long, value_name = "URL")]
    pub(crate) mlflow: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The folder of a study, such as checkpoints/demo, or a folder in it.
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// A checkpoint, such as checkpoints/demo/past/fold0/last.safetensors.
    pub(crate) checkpoint: PathBuf,
    /// The fewest steps to train again; it begins at the newest earlier checkpoint that allows them, or at the start.
    #[arg(long, default_value_t = 1)]
    pub(crate) steps: usize,
    /// Override one key of the checkpoint's experiment, such as `--set model.path=FOLDER`; repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
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
pub(crate) enum UserRole {
    /// The answering side of the protocol, as clients expect: `user` messages are the tested assistant's.
    Assistant,
    /// As in the data: `assistant` messages are the tested assistant's.
    User,
}
