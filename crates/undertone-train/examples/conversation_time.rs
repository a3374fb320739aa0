//! Times whole conversations, one at a time, in turns with another program: our side of `make bench`.
//!
//! ```text
//! cargo run --release --workspace --example conversation_time -- \
//!     MODEL_FOLDER DATA.jsonl epoch|score|labels highest|high|medium FOLDER
//! ```
//!
//! Targets are the user messages after the first, or the labels of reactions, each with its whole history
//! up to the model's context. FOLDER receives the files with which the other program does the same work:
//! `rows.jsonl`, with a line for each conversation, and for `epoch` the untrained adapters in PEFT's format. Then
//! each line of standard input requests the next conversation, and a line of JSON gives its seconds: for `epoch`
//! an optimiser step, for `score` the nats under two arms, for `labels` the nats of every candidate. After the
//! input ends, the last line gives the peak memory and the nats of every target of the requested conversations;
//! for `epoch`, the trained model scores them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use undertone_data::{
    Access, Candidate, Corpus, CorpusSpec, GivenFormat, Layout, OnTooLong, Purpose, ReadOptions, Reader, Source, Split,
    Stream, StreamBuilder, Target, TargetKind, View, encode, pack,
};
use undertone_export::{Original, peft};
use undertone_model::{
    Decoder, DeviceName, Gradients, LoraConfig, MatmulPrecision, ModelConfig, Recompute, load_template,
};
use undertone_score::KnownRows;
use undertone_train::{AdamW, TrainingConfig, Update, clip_factor, global_norm, peak_mib};

/// The work on each conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Work {
    Epoch,
    Score,
    Labels,
}

/// The windows of one conversation, arm by arm.
struct Conversation {
    id: String,
    windows: Vec<(&'static str, Stream)>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    undertone_model::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, work, precision, folder] = arguments.as_slice() else {
        return Err("usage: conversation_time MODEL_FOLDER DATA epoch|score|labels PRECISION FOLDER".into());
    };
    let (model, folder) = (Path::new(model), Path::new(folder));
    let work: Work = serde_json::from_value(work.as_str().into())?;
    let conversations = conversations(model, Path::new(data), work)?;
    fs::create_dir_all(folder)?;
    write_rows(&conversations, &folder.join("rows.jsonl"))?;

    let mut decoder = Decoder::load(model, &DeviceName::default().open()?)?;
    decoder.set_precision(serde_json::from_value::<MatmulPrecision>(precision.as_str().into())?);
    if work == Work::Epoch {
        decoder.add_adapters(&LoraConfig { dropout: 0.0, ..LoraConfig::default() }, 0);
        let adapter = folder.join("adapter");
        let _ = fs::remove_dir_all(&adapter);
        let template = load_template(model, &decoder.config, &GivenFormat::default())?;
        peft(
            &decoder,
            Original { folder: model, name: "./base", about: "", template: &template },
            &adapter,
            &Value::Null,
        )?;
    }
    let config = TrainingConfig { row_tokens: decoder.config.max_position_embeddings, ..TrainingConfig::default() };
    let mut trainer = Trainer { decoder, optimizer: AdamW::default(), config, steps: 0 };
    let say = |value: Value| -> std::io::Result<()> {
        writeln!(stdout(), "{value}")?;
        stdout().flush()
    };
    say(json!({ "conversations": conversations.len() }))?;
    let mut done = 0;
    let mut nats = BTreeMap::new();
    for (conversation, line) in conversations.iter().zip(stdin().lock().lines()) {
        line?;
        let begun = Instant::now();
        match work {
            Work::Epoch => trainer.step(conversation),
            Work::Score | Work::Labels => trainer.score(conversation, &mut nats),
        }
        let seconds = begun.elapsed().as_secs_f64();
        // The other program is next, and needs most of the machine's memory.
        undertone_model::release_freed_memory();
        done += 1;
        let count = |count_of_stream: fn(&Stream) -> usize| {
            conversation.windows.iter().map(|(_, stream)| count_of_stream(stream)).sum::<usize>()
        };
        say(json!({
            "id": conversation.id, "seconds": seconds,
            "tokens": count(|stream| stream.tokens.len()), "targets": count(|stream| stream.targets.len()),
        }))?;
    }
    let peak = peak_mib();
    if work == Work::Epoch {
        for conversation in &conversations[..done] {
            trainer.score(conversation, &mut nats);
        }
    }
    say(json!({ "peak_mib": peak, "nats": nats }))?;
    Ok(())
}

struct Trainer {
    decoder: Decoder,
    optimizer: AdamW,
    config: TrainingConfig,
    steps: usize,
}

impl Trainer {
    /// One optimiser step.
    fn step(&mut self, conversation: &Conversation) {
        let streams = || conversation.windows.iter().map(|(_, stream)| stream);
        let scale = 1.0 / streams().map(Stream::supervised_tokens).sum::<usize>() as f64;
        let mut gradients = Gradients::default();
        for row in pack(streams(), self.config.row_tokens) {
            self.decoder.nats_and_gradients(&row, scale, Recompute::Off, None, &mut gradients);
        }
        let clip = clip_factor(&global_norm(&self.decoder, &gradients), self.config.clip_norm);
        let update = Update { gradients, clip, learning_rate: 1e-4, step: self.steps };
        self.optimizer.step(&mut self.decoder, update, &self.config);
        self.steps += 1;
    }

    /// The nats of every target, by [`key`].
    fn score(&self, conversation: &Conversation, nats: &mut BTreeMap<String, f64>) {
        let mut known = KnownRows::default();
        for (arm, stream) in &conversation.windows {
            for row in pack([stream], self.config.row_tokens) {
                let row_nats = known.nats_by_target(&self.decoder, &row);
                nats.extend(stream.targets.iter().map(|target| key(arm, target)).zip(row_nats));
            }
        }
    }
}

/// The name of a target in both programs.
fn key(arm: &str, target: &Target) -> String {
    match target.candidate {
        Some(Candidate::Label { label, .. }) => format!("{arm} {} {label}", target.item),
        _ => format!("{arm} {}", target.item),
    }
}

/// Every conversation with a target, in file order.
fn conversations(model: &Path, data: &Path, work: Work) -> Result<Vec<Conversation>, Box<dyn std::error::Error>> {
    let config = ModelConfig::read(model)?;
    let template = load_template(model, &config, &GivenFormat::default())?;
    let builder = StreamBuilder::new(template, "");
    let past = View { access: Access::Past, ..View::default() };
    let (arms, kind, purpose): (&[_], _, _) = match work {
        Work::Epoch => (&[("none", View::default())], TargetKind::NextPrompt, Purpose::Train),
        Work::Score => (&[("none", View::default()), ("past", past)], TargetKind::NextPrompt, Purpose::Score),
        Work::Labels => (&[("none", View::default())], TargetKind::ReactionLabel, Purpose::Score),
    };
    let kinds = [kind];
    let shown: Vec<(View, Source)> = arms.iter().map(|(_, view)| (*view, Source::Own)).collect();
    let spec = CorpusSpec {
        shown: &shown,
        kinds: &kinds,
        context_tokens: config.max_position_embeddings,
        assistant_tokens: config.max_position_embeddings,
        on_too_long: OnTooLong::Error,
        distractors: 0,
        seed: 0,
        windows: None,
    };
    let (records, _) = Reader::open(&[PathBuf::from(data)], ReadOptions::default())?.read_all()?;
    let all: Vec<_> = records.into_iter().map(|record| record.conversation).collect();
    let ids: Vec<String> = all.iter().map(|conversation| conversation.id.clone()).collect();
    let splits = all.iter().map(|conversation| (conversation.user.clone(), Split::Train)).collect();
    let corpus = Corpus::new(data, encode(all, &builder, &spec), &splits, builder, &spec)?;
    let mut conversations: Vec<Conversation> =
        ids.into_iter().map(|id| Conversation { id, windows: Vec::new() }).collect();
    for (arm, view) in arms {
        let layout = Layout::new(*view, &kinds, purpose);
        for mut stream in corpus.streams(Split::Train, Source::Own, 0, layout) {
            stream.targets.retain(|target| kind != TargetKind::NextPrompt || target.earlier_user_messages > 0);
            let Some(target) = stream.targets.first() else { continue };
            let id = &target.item.conversation;
            let conversation = conversations.iter_mut().find(|conversation| conversation.id == *id);
            conversation.expect("it was read").windows.push((*arm, stream));
        }
    }
    conversations.retain(|conversation| !conversation.windows.is_empty());
    Ok(conversations)
}

/// Writes the targets of each conversation twice: as separate rows, and as spans of whole windows.
fn write_rows(conversations: &[Conversation], path: &Path) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(fs::File::create(path)?);
    for Conversation { id, windows } in conversations {
        let row = |arm: &str, stream: &Stream, target: &Target| {
            let tokens = stream.plain_row(target);
            let (prompt, completion) = tokens.split_at(tokens.len() - target.span.len());
            json!({ "key": key(arm, target), "prompt": prompt, "completion": completion })
        };
        let rows: Vec<Value> = windows
            .iter()
            .flat_map(|(arm, stream)| stream.targets.iter().map(|target| row(arm, stream, target)))
            .collect();
        let window = |(arm, stream): &(&str, Stream)| {
            let spans = stream.targets.iter().map(|target| json!([target.span.start, target.span.end]));
            let keys = stream.targets.iter().map(|target| key(arm, target));
            json!({ "tokens": stream.tokens, "spans": spans.collect::<Vec<_>>(), "keys": keys.collect::<Vec<_>>() })
        };
        let windows: Vec<Value> = windows.iter().map(window).collect();
        writeln!(file, "{}", json!({ "id": id, "rows": rows, "windows": windows }))?;
    }
    file.flush()
}
