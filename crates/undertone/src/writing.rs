//! What every arm writes itself: next prompts, to be compared with the true ones, and first messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use undertone_data::{InputError, Place, Role, Speaker, Split, Target, TargetKind};
use undertone_eval::{Likeness, Written, diversity, read_written, sample_of_items, write, written_lines};
use undertone_model::{Cache, Decoder, Opening, Sampling, SentenceEncoder};
use undertone_train::TrainError;

use crate::STOP;
use crate::base::fingerprint;
use crate::keys::Kept;
use crate::progress::Line;
use crate::study::{Evaluated, REPEAT, Study, Training};

/// The messages that every arm writes, and what they are measured with.
pub(crate) struct Writer {
    /// What was really written, by item.
    truths: BTreeMap<String, Truth>,
    encoder: Option<SentenceEncoder>,
    /// SHA-256 of the encoder; empty without one.
    encoder_sha256: String,
}

/// A message that a user really wrote.
struct Truth {
    user: String,
    text: String,
    /// The user's message before.
    before: String,
    /// What the user thought of earlier messages, one a line.
    thoughts: String,
}

/// How unlike each other the first messages of an arm are.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FirstMessages {
    /// The arm; real users come last.
    pub(crate) arm: String,
    /// How many messages.
    pub(crate) messages: usize,
    /// The mean over trainings, from 0 to 100.
    pub(crate) diversity: f64,
}

/// What one training made up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MadeUp {
    messages: Vec<String>,
}

impl Writer {
    /// Chooses the messages and loads the encoder.
    ///
    /// # Errors
    /// The encoder's folder is not there or is none.
    pub(crate) fn new(study: &Study, primary: &BTreeSet<String>) -> Result<Self, InputError> {
        let experiment = &study.experiment;
        let writing = &experiment.evaluation.writing;
        let chosen = sample_of_items(&study.primary_prompts(primary), writing.messages, experiment.seed);
        let mut truths = BTreeMap::new();
        for encoded in study.encoded.iter() {
            let messages = &encoded.conversation.messages;
            for item in encoded.items(0..messages.len(), &[TargetKind::NextPrompt]) {
                let before = messages[..item.message].iter().rev().find(|message| message.role == Role::User);
                let thoughts = messages[..item.message].iter().flat_map(|message| &message.thoughts);
                let thoughts = thoughts.map(|thought| format!("- {}", thought.content));
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
        let load = || {
            let path = &writing.encoder;
            if !path.is_dir() {
                return Err(InputError::new(path, "there is no such folder; a sentence encoder is expected")
                    .at(Place::Named("evaluation.writing.encoder".into()))
                    .hint("`make encoder` puts all-MiniLM-L6-v2 under `checkpoints/`; \"\" measures no similarity"));
            }
            let device = experiment.device.open().map_err(|absent| InputError::new(path, absent.to_string()))?;
            SentenceEncoder::load(path, &device)
        };
        let encoder = wants_encoder.then(load).transpose()?;
        let encoder_sha256 = if encoder.is_some() { fingerprint(&writing.encoder)? } else { String::new() };
        Ok(Self { truths, encoder, encoder_sha256 })
    }

    /// Which messages are written, and what measures them.
    pub(crate) fn identity(&self) -> String {
        self.items().chain([self.encoder_sha256.as_str()]).collect::<Vec<_>>().join(" ")
    }

    /// How many messages every arm writes.
    pub(crate) fn messages(&self) -> usize {
        self.truths.len()
    }

    /// The messages that every arm writes.
    pub(crate) fn items(&self) -> impl Iterator<Item = &str> {
        self.truths.keys().map(String::as_str)
    }

    /// What was really written in a message.
    pub(crate) fn truth(&self, item: &str) -> &str {
        &self.truths[item].text
    }

    /// What the user thought before, one thought a line.
    pub(crate) fn thoughts(&self, item: &str) -> &str {
        &self.truths[item].thoughts
    }

    /// Lets the model of an arm write the chosen messages of one fold, or reads what it wrote before.
    ///
    /// # Errors
    /// What was saved cannot be read; the user stopped it.
    pub(crate) fn write(
        &self,
        study: &Study,
        arm: &Evaluated,
        Training { fold, seed }: Training,
        decoder: impl FnOnce() -> Result<Decoder, InputError>,
        kept: &Kept,
        progress: &Line,
    ) -> anyhow::Result<Vec<Written>> {
        if kept.is_there() {
            return Ok(read_written(&kept.path)?);
        }
        progress.does(&format!("writes as `{}`", arm.name));
        let streams = study.test_streams(arm.shown, fold, Split::Test);
        let template = &study.folds[fold].corpus.builder().template;
        let sampling = study.experiment.evaluation.writing.sampling(study.experiment.seed);
        // Who wants to stop does not wait for the rest.
        let chosen =
            |target: &Target| !STOP.load(Ordering::Relaxed) && self.truths.contains_key(&target.item.to_string());
        let begun = std::time::Instant::now();
        let texts = write(&decoder()?, &streams, chosen, template.end(), sampling);
        let of_item = |(item, ids, stopped): (undertone_data::Item, Vec<u32>, _)| {
            let item = item.to_string();
            let truth = &self.truths[&item];
            let text = template.decode(&ids).trim().to_owned();
            let likeness = Likeness::new(&text, &truth.text, self.encoder.as_ref());
            Written {
                item,
                user: truth.user.clone(),
                arm: arm.name.clone(),
                fold: Some(fold),
                seed: arm.trained.as_ref().map(|_| seed),
                primary: true,
                text,
                stopped: Some(stopped),
                likeness,
            }
        };
        let written: Vec<Written> = texts.into_iter().map(of_item).collect();
        let seconds = begun.elapsed().as_secs_f64();
        progress.note(&format!("wrote {} messages as `{}` in {seconds:.0} s", written.len(), arm.name));
        if STOP.load(Ordering::Relaxed) {
            return Err(TrainError::Interrupted(kept.folder()).into());
        }
        kept.write(&written_lines(&written)?)?;
        Ok(written)
    }

    /// The yardstick: each user's last message once more.
    pub(crate) fn repeated(&self) -> Vec<Written> {
        let of_item = |(item, truth): (&String, &Truth)| Written {
            item: item.clone(),
            user: truth.user.clone(),
            arm: REPEAT.to_owned(),
            fold: None,
            seed: None,
            primary: true,
            text: truth.before.clone(),
            stopped: None,
            likeness: Likeness::new(&truth.before, &truth.text, self.encoder.as_ref()),
        };
        self.truths.iter().map(of_item).collect()
    }
}

/// Lets a model make up first messages, or reads those it made up before.
///
/// # Errors
/// What was saved cannot be read or written.
pub(crate) fn first_messages(
    study: &Study,
    seed: u64,
    decoder: impl FnOnce() -> Result<Decoder, InputError>,
    kept: &Kept,
) -> anyhow::Result<MadeUp> {
    let writing = &study.experiment.evaluation.writing;
    if writing.first_messages == 0 {
        return Ok(MadeUp { messages: Vec::new() });
    }
    if kept.is_there() {
        let bytes = std::fs::read(&kept.path).map_err(|error| InputError::io(&kept.path, "read", &error))?;
        let fault = |error: serde_json::Error| {
            InputError::new(&kept.path, error.to_string())
                .at(Place::Line(error.line()))
                .hint("remove the file to make it again")
        };
        return Ok(serde_json::from_slice(&bytes).map_err(fault)?);
    }
    let builder = study.folds[0].corpus.builder();
    let (decoder, prompt) = (decoder()?, builder.opening(Speaker::Message(Role::User)));
    let opening = |number: u64| {
        // As likely as the model holds them: diversity is a property of what it believes, not of a temperature.
        let max_new_tokens = writing.max_new_tokens;
        let seed = seed.wrapping_mul(1 << 20).wrapping_add(number);
        let sampling = Sampling { temperature: 1.0, top_p: 1.0, seed, max_new_tokens, ..Sampling::default() };
        Opening { cache: Cache::default(), prompt: prompt.clone(), sampling }
    };
    let goes_on = |_: &u64| !STOP.load(Ordering::Relaxed);
    let openings = (0..writing.first_messages as u64).take_while(goes_on).map(opening);
    let texts = decoder.generate_all(openings, builder.template.end());
    let messages = texts.iter().map(|(ids, _)| builder.template.decode(ids).trim().to_owned()).collect();
    if STOP.load(Ordering::Relaxed) {
        return Err(TrainError::Interrupted(kept.folder()).into());
    }
    let made_up = MadeUp { messages };
    kept.write(&serde_json::to_vec_pretty(&made_up)?)?;
    Ok(made_up)
}

/// How diverse the first messages of each arm are, and those of as many real users.
pub(crate) fn first_message_diversity(study: &Study, by_arm: &[(String, Vec<MadeUp>)]) -> Vec<FirstMessages> {
    let wanted = study.experiment.evaluation.writing.first_messages;
    if wanted == 0 {
        return Vec::new();
    }
    let of = |arm: &str, groups: &[Vec<String>]| {
        let all: Vec<f64> = groups.iter().filter_map(|group| diversity(group)).collect();
        let messages = groups.iter().map(Vec::len).sum();
        (!all.is_empty()).then(|| FirstMessages {
            arm: arm.to_owned(),
            messages,
            diversity: all.iter().sum::<f64>() / all.len() as f64,
        })
    };
    let of_arm = |(arm, made_up): &(String, Vec<MadeUp>)| {
        of(arm, &made_up.iter().map(|one| one.messages.clone()).collect::<Vec<_>>())
    };
    let first = |encoded: &undertone_data::Encoded| {
        let mut messages = encoded.conversation.messages.iter();
        let first = messages.find(|message| message.role == Role::User && !message.content.is_empty())?;
        Some((encoded.conversation.id.clone(), first.content.clone()))
    };
    let real: BTreeMap<String, String> = study.encoded.iter().filter_map(first).collect();
    let chosen = sample_of_items(&real.keys().cloned().collect(), wanted, study.experiment.seed);
    let real: Vec<String> = chosen.iter().map(|id| real[id].clone()).collect();
    by_arm.iter().filter_map(of_arm).chain(of("real users", &[real])).collect()
}
