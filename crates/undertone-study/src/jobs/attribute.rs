//! Leaves out one thought at a time and scores the targets after it again.

use std::collections::{BTreeMap, BTreeSet};

use undertone_data::{Conversation, Layout, Purpose, Role, Source, Split, Stream, Target, ThoughtAt, sample_by_hash};
use undertone_files::InputError;
use undertone_model::Decoder;
use undertone_score::{KnownRows, score};
use undertone_stats::{Attributed, ItemRecord, attributed_lines, read_attributed};

use crate::arms::{Evaluated, Training};
use crate::artifact::CachedFile;
use crate::context::Context;
use crate::error::StudyError;
use crate::experiment::Arm;
use crate::fingerprint;
use crate::observer::Event;
use crate::study::Study;

/// The file with the effects of single thoughts in one training; in the study's folder, those of all trainings.
pub(crate) const ATTRIBUTED: &str = "attribution.jsonl";

/// Whether single thoughts are left out in a training of an arm: of arm b of the primary comparison, or of arm a if b does
/// not see the user's own thoughts, in the first division and with the first seed.
pub(crate) fn is_attributed(study: &Study, arm: &Evaluated, training: Training) -> bool {
    let [a, b] = study.experiment.primary_pair();
    let sees_own = |one: &&Arm| one.shown().0.sees_thoughts() && one.source == Source::Own;
    study.experiment.evaluation.attribution > 0
        && [b, a].into_iter().flatten().find(sees_own).is_some_and(|one| one.name == arm.name)
        && study.scores_untrained_in(training)
}

/// Leaves out thoughts of the held-out users of a training, and reports what each did to every target after it. `records`
/// are the arm's scores with all thoughts.
///
/// # Errors
/// The earlier result cannot be read; the user stopped it.
pub(crate) fn attribute(
    context: &Context<'_>,
    arm: &Evaluated,
    training: Training,
    decoder: impl FnOnce() -> Result<Decoder, InputError>,
    records: &[ItemRecord],
) -> Result<Vec<Attributed>, StudyError> {
    let study = context.study;
    let file = attribution_file(context, arm, training);
    if let Some(path) = file.reuse()? {
        return Ok(read_attributed(path)?);
    }
    context.observe(arm.trained_name(), Event::Doing("leaves out single thoughts"));
    let decoder = decoder()?;
    let chosen = chosen(study, arm);
    let scored: BTreeMap<&str, &ItemRecord> = records.iter().map(|record| (record.item.as_str(), record)).collect();
    let conversations: BTreeMap<&str, &Conversation> =
        study.encoded.iter().map(|encoded| (encoded.conversation.id.as_str(), &encoded.conversation)).collect();
    let mut found = Vec::new();
    for stream in study.test_streams(arm.shown, training, Split::Test) {
        for thought in seen_in(&stream).into_iter().filter(|thought| chosen.contains(&name(&stream, *thought))) {
            context.check_stop(file.folder())?;
            let layout = Layout {
                left_out: Some(thought),
                ..Layout::new(arm.shown.0, &study.experiment.data.targets, Purpose::Score)
            };
            let corpus = &study.folds[training.fold].corpus;
            let without = corpus.stream(&stream.id, arm.shown.1, layout).expect("the window is laid out already");
            let again = score(&decoder, &mut KnownRows::default(), &arm.name, &[without], usize::MAX, |_| {});
            let again: BTreeMap<&str, f64> = again.iter().map(|record| (record.item.as_str(), record.nats)).collect();
            let sees = |target: &&Target| target.is_truth() && target.seen.contains(&thought);
            for target in stream.targets.iter().filter(sees) {
                let item = target.item.to_string();
                let nats_saved = again[item.as_str()] - scored[item.as_str()].nats;
                let conversation = conversations[target.item.conversation.as_str()];
                found.push(attributed(conversation, target, thought, nats_saved));
            }
        }
    }
    file.write(&attributed_lines(&found).expect("written to memory"))?;
    Ok(found)
}

/// The file with what leaving out single thoughts does in one training.
pub(crate) fn attribution_file(context: &Context<'_>, arm: &Evaluated, training: Training) -> CachedFile {
    let Context { study, base, .. } = context;
    let path = study.training_folder(&arm.name, training).join(ATTRIBUTED);
    let count = study.experiment.evaluation.attribution;
    CachedFile::new(path, format!("{} {count}", fingerprint::of_records(study, base, arm, training)))
}

/// The tokens of all scorings in one training, each with one thought left out.
pub(crate) fn attributed_tokens(study: &Study, arm: &Evaluated, training: Training) -> usize {
    let chosen = chosen(study, arm);
    let cost = |stream: Stream| {
        let left_out = seen_in(&stream).into_iter().filter(|thought| chosen.contains(&name(&stream, *thought)));
        left_out.count() * stream.tokens.len()
    };
    study.test_streams(arm.shown, training, Split::Test).into_iter().map(cost).sum()
}

/// The thoughts that are left out, one at a time.
fn chosen(study: &Study, arm: &Evaluated) -> BTreeSet<String> {
    sample_by_hash(&all_thoughts(study, arm), study.experiment.evaluation.attribution, study.experiment.seed)
}

/// Every thought that a target of the first division sees, by window.
fn all_thoughts(study: &Study, arm: &Evaluated) -> BTreeSet<String> {
    let streams = study.tested_once(arm.shown);
    streams.flat_map(|stream| seen_in(&stream).into_iter().map(move |thought| name(&stream, thought))).collect()
}

fn seen_in(stream: &Stream) -> BTreeSet<ThoughtAt> {
    stream.targets.iter().flat_map(|target| target.seen.iter().copied()).collect()
}

fn name(stream: &Stream, (message, thought): ThoughtAt) -> String {
    format!("{}/{message}/{thought}", stream.id)
}

fn attributed(
    conversation: &Conversation,
    target: &Target,
    (message, thought): ThoughtAt,
    nats_saved: f64,
) -> Attributed {
    let about = &conversation.messages[message];
    let kind = about.thought_kind();
    let told = &about.thoughts[thought];
    let between = &conversation.messages[(message + 1).min(target.item.message)..target.item.message];
    let written = told.written_at.zip(conversation.messages[target.item.message].sent_at);
    Attributed {
        item: target.item.to_string(),
        user: conversation.user.clone(),
        message,
        thought,
        kind: format!("{kind:?}").to_lowercase(),
        label: told.label.map(|label| kind.labels()[label].name.to_owned()),
        age_turns: between.iter().filter(|message| message.role == Role::User).count(),
        age_seconds: written.map(|(written, sent)| (sent - written) / 1000),
        thoughts_seen: target.seen.len(),
        nats_saved,
    }
}
