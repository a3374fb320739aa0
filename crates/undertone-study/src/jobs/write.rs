//! Lets every arm write messages in place of users' messages, to compare them with the true ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::{Value, json};
use undertone_data::{
    Item, Role, Source, Speaker, Split, StopReason, Target, TargetKind, ThoughtAt, View, sample_by_hash,
};
use undertone_files::{InputError, Place};
use undertone_model::{Decoder, SentenceEncoder};
use undertone_score::{likeness, write};
use undertone_stats::{Written, read_written, written_lines};

use crate::arms::{Evaluated, Training};
use crate::artifact::CachedFile;
use crate::base::sha256_of_model;
use crate::context::Context;
use crate::error::StudyError;
use crate::experiment::Experiment;
use crate::fingerprint;
use crate::names::{REPEAT, WRITTEN};
use crate::observer::Event;
use crate::study::Study;

/// The messages that every arm writes, and the encoder that measures them.
pub(crate) struct MessageWriter {
    /// The true messages, by item.
    truths: BTreeMap<String, Truth>,
    encoder: Option<SentenceEncoder>,
    /// SHA-256 of the encoder.
    encoder_sha256: Option<String>,
}

/// A message that a user wrote.
struct Truth {
    user: String,
    text: String,
    /// The user's previous message.
    before: String,
    /// The user's own thoughts that the primary comparison shows before the message, one per line.
    thoughts: String,
}

/// The thoughts that an arm of the primary comparison sees before each item: none that was written too late for it.
fn seen_thoughts(study: &Study) -> BTreeMap<String, Vec<ThoughtAt>> {
    let pair = study.experiment.primary_pair().into_iter().flatten().rev();
    let Some(view) = pair.map(|arm| arm.shown().0).find(View::sees_thoughts) else { return BTreeMap::new() };
    let targets = study.tested_once((view, Source::Own)).flat_map(|stream| stream.targets);
    targets.map(|target| (target.item.to_string(), target.seen)).collect()
}

impl MessageWriter {
    /// Chooses the messages and loads the encoder.
    ///
    /// # Errors
    /// The encoder's folder is missing, or holds no encoder.
    pub(crate) fn new(study: &Study, primary: &BTreeSet<String>) -> Result<Self, InputError> {
        let experiment = &study.experiment;
        let writing = &experiment.evaluation.writing;
        let chosen = sample_by_hash(&study.primary_prompts(primary), writing.messages, experiment.seed);
        let mut truths = BTreeMap::new();
        let seen = seen_thoughts(study);
        for encoded in study.encoded.iter() {
            let messages = &encoded.conversation.messages;
            for item in encoded.items(0..messages.len(), &[TargetKind::NextPrompt]) {
                let before = messages[..item.message].iter().rev().find(|message| message.role == Role::User);
                let thoughts = seen.get(&item.to_string()).map_or(&[][..], Vec::as_slice);
                let thoughts = thoughts.iter().map(|(on, one)| format!("- {}", messages[*on].thoughts[*one].content));
                if chosen.contains(&item.to_string()) {
                    let truth = Truth {
                        user: encoded.conversation.user.clone(),
                        text: messages[item.message].content.clone(),
                        before: before.map(|message| message.content.clone()).unwrap_or_default(),
                        thoughts: thoughts.collect::<Vec<_>>().join("\n"),
                    };
                    truths.insert(item.to_string(), truth);
                }
            }
        }
        let wants_encoder = !writing.encoder.as_os_str().is_empty() && !truths.is_empty();
        let encoder = wants_encoder.then(|| load_encoder(experiment)).transpose()?;
        let encoder_sha256 = encoder.is_some().then(|| sha256_of_model(&writing.encoder)).transpose()?;
        Ok(Self { truths, encoder, encoder_sha256 })
    }

    /// What identifies the chosen messages and the encoder.
    fn identity(&self) -> Value {
        json!({ "items": self.items().collect::<Vec<_>>(), "encoder": self.encoder_sha256 })
    }

    /// The number of messages that every arm writes.
    pub(crate) fn messages(&self) -> usize {
        self.truths.len()
    }

    /// The messages that every arm writes.
    pub(crate) fn items(&self) -> impl Iterator<Item = &str> {
        self.truths.keys().map(String::as_str)
    }

    /// The true text of a message.
    pub(crate) fn truth(&self, item: &str) -> &str {
        &self.truths[item].text
    }

    /// The user's own thoughts that the primary comparison shows before the message, one per line.
    pub(crate) fn thoughts(&self, item: &str) -> &str {
        &self.truths[item].thoughts
    }

    /// The file with the messages that an arm writes in one training.
    pub(crate) fn file(&self, context: &Context<'_>, arm: &Evaluated, training: Training) -> CachedFile {
        let Context { study, base, .. } = context;
        let path = study.training_folder(&arm.name, training).join(WRITTEN);
        CachedFile::new(path, fingerprint::of_written(study, base, arm, training, &self.identity()))
    }

    /// Lets the model of an arm write the chosen messages of one fold, or reads those that exist.
    ///
    /// # Errors
    /// The model or the messages cannot be read; the user stopped it.
    pub(crate) fn write(
        &self,
        context: &Context<'_>,
        arm: &Evaluated,
        training: Training,
        decoder: impl FnOnce() -> Result<Decoder, InputError>,
    ) -> Result<Vec<Written>, StudyError> {
        let study = context.study;
        let file = self.file(context, arm, training);
        if let Some(path) = file.reuse()? {
            return Ok(read_written(path)?);
        }
        let row = arm.trained_name();
        context.observe(row, Event::Doing(&format!("writes as `{}`", arm.name)));
        let streams = study.test_streams(arm.shown, training, Split::Test);
        let template = &study.folds[training.fold].corpus.builder().template;
        let sampling = study.experiment.evaluation.writing.sampling(study.experiment.seed);
        // After a stop no new message is begun.
        let chosen = |target: &Target| !context.is_stopped() && self.truths.contains_key(&target.item.to_string());
        let begun = Instant::now();
        let texts = write(&decoder()?, &streams, chosen, template.end(Speaker::Message(Role::User)), sampling);
        let compared = |(item, ids, stopped): (Item, Vec<u32>, StopReason)| {
            let item = item.to_string();
            let truth = &self.truths[&item];
            let text = template.decode(&ids).trim().to_owned();
            let likeness = likeness(&text, &truth.text, self.encoder.as_ref());
            Written {
                item,
                user: truth.user.clone(),
                arm: arm.name.clone(),
                fold: Some(training.fold),
                seed: arm.trained().map(|_| training.seed),
                primary: true,
                text,
                stopped: Some(stopped),
                likeness,
            }
        };
        let written: Vec<Written> = texts.into_iter().map(compared).collect();
        let seconds = begun.elapsed().as_secs_f64();
        tracing::info!("{row}: wrote {} messages as `{}` in {seconds:.0} s", written.len(), arm.name);
        context.check_stop(file.folder())?;
        file.write(&written_lines(&written).expect("written to memory"))?;
        Ok(written)
    }

    /// The baseline that repeats each user's previous message.
    pub(crate) fn repeated(&self) -> Vec<Written> {
        let repeated = |(item, truth): (&String, &Truth)| Written {
            item: item.clone(),
            user: truth.user.clone(),
            arm: REPEAT.to_owned(),
            fold: None,
            seed: None,
            primary: true,
            text: truth.before.clone(),
            stopped: None,
            likeness: likeness(&truth.before, &truth.text, self.encoder.as_ref()),
        };
        self.truths.iter().map(repeated).collect()
    }
}

fn load_encoder(experiment: &Experiment) -> Result<SentenceEncoder, InputError> {
    let path = &experiment.evaluation.writing.encoder;
    if !path.is_dir() {
        return Err(InputError::new(path, "does not exist; a sentence encoder is expected")
            .at(Place::Named("evaluation.writing.encoder".into()))
            .hint("`make encoder` puts all-MiniLM-L6-v2 under `checkpoints/`; \"\" measures no similarity"));
    }
    let device = experiment.device.open().map_err(|absent| InputError::new(path, absent.to_string()))?;
    SentenceEncoder::load(path, &device)
}
