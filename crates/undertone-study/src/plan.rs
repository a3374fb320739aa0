//! The plan of a study: what would run, what it would cost, and its power.

use std::collections::BTreeSet;
use std::time::Instant;

use serde::Serialize;
use undertone_data::{PREDICTED_TOKENS, Row, Split, Stream, Target, pack};
use undertone_model::{Cache, Gradients, Opening, Sampling};
use undertone_report::{Table, columns, count, decimal};
use undertone_train::{Description, LAST, available_mib, needed_mib};

use crate::amendments::check_folder;
use crate::arms::{Evaluated, Training, thought_writer_arm};
use crate::artifact::CachedFile;
use crate::context::Context;
use crate::error::StudyError;
use crate::experiment::Arm;
use crate::fingerprint;
use crate::jobs::attribute::{attributed_tokens, attribution_file, is_attributed};
use crate::jobs::first_messages::first_messages_file;
use crate::jobs::predict_thoughts::thoughts_file;
use crate::jobs::score::scores_file;
use crate::jobs::write::MessageWriter;
use crate::names::WRITERS;
use crate::power::Power;
use crate::replies::{PreparedReplies, prepare_other_replies};
use crate::study::{Stage, Study};

/// The measurement of writing speed: texts, tokens of their prompt, new tokens per text.
const MEASURED_TEXTS: usize = 16;
const MEASURED_PROMPT: usize = 256;
const MEASURED_WRITING: usize = 16;

/// The token budget for measuring speed: a minute or less on two cores.
const MEASURED_TOKENS: usize = 16_384;

/// The plan of a study.
#[derive(Debug, Serialize)]
pub struct Plan {
    #[serde(skip)]
    name: String,
    trainings: Vec<Planned>,
    scorings: Vec<Planned>,
    /// Messages that arms write and first messages of all models, each counted with the most tokens it may have.
    writings: Vec<Planned>,
    /// Scorings with one thought left out, if the experiment asks for them.
    attributions: Vec<Planned>,
    tokens_per_second: Speeds,
    hours: f64,
    /// About how much memory a training needs, in MiB, and how much is available now, if the system reports it.
    needed_mib: f64,
    available_mib: Option<f64>,
    power: Option<Power>,
}

/// All trainings, all scorings or all writing of one arm.
#[derive(Debug, Serialize)]
struct Planned {
    arm: String,
    /// Folds times seeds.
    runs: usize,
    /// Finished runs, which are not repeated.
    finished: usize,
    /// Tokens that the unfinished runs put through the model.
    tokens: usize,
    hours: f64,
}

/// Tokens per second on this machine.
#[derive(Debug, Clone, Copy, Serialize)]
struct Speeds {
    training: f64,
    scoring: f64,
    writing: f64,
}

/// Plans a study; trains, scores and writes a little to measure the speed of this machine.
///
/// # Errors
/// The folder holds another study; the data, the model or the encoder is wrong.
pub fn plan(context: &Context<'_>) -> Result<Plan, StudyError> {
    check_folder(context)?;
    let study = context.study;
    let experiment = &study.experiment;
    study.require_targets()?;
    let speeds = Speeds::measure(context);
    let mut trainings: Vec<Planned> = trained(context, speeds);
    let arms = study.evaluated();
    let scoring = |arm: &Evaluated| {
        let file = |training| scores_file(context, arm, training);
        evaluations(study, arm, file, speeds.scoring, |fold| scored_tokens(study, arm, fold))
    };
    let mut scorings: Vec<Planned> = arms.iter().map(scoring).collect();
    for PreparedReplies { tokens, study } in prepare_other_replies(study)? {
        let context = &Context { study: &study, ..*context };
        let named = |planned: Planned| Planned { arm: format!("{}, replies {tokens}", planned.arm), ..planned };
        trainings.extend(trained(context, speeds).into_iter().map(named));
        let scoring = |arm: &Evaluated| {
            let file = |training| scores_file(context, arm, training);
            evaluations(&study, arm, file, speeds.scoring, |fold| scored_tokens(&study, arm, fold))
        };
        scorings.extend(study.evaluated().iter().map(scoring).map(named));
    }
    let writer = MessageWriter::new(study, &study.primary_items(Split::Test))?;
    let chosen: BTreeSet<&str> = writer.items().collect();
    let writing = |arm: &Evaluated| {
        let file = |training| writer.file(context, arm, training);
        evaluations(study, arm, file, speeds.writing, |fold| written_tokens(study, arm, fold, &chosen))
    };
    let mut writings: Vec<Planned> = if chosen.is_empty() { Vec::new() } else { arms.iter().map(writing).collect() };
    writings.extend(first_messages(context, &arms, speeds.writing));
    let attributed = |arm: &&Evaluated| study.trainings().into_iter().any(|one| is_attributed(study, arm, one));
    let attributions: Vec<Planned> =
        arms.iter().filter(attributed).map(|arm| left_out(context, arm, speeds.scoring)).collect();
    let all = trainings.iter().chain(&scorings).chain(&writings).chain(&attributions);
    let hours = all.map(|planned| planned.hours).sum();
    let power = Power::of(study);
    let name = experiment.name.clone();
    let decoder = context.base.trainable(experiment, experiment.seed);
    let row_tokens = experiment.training.row_tokens.max(experiment.data.context_tokens);
    Ok(Plan {
        name,
        trainings,
        scorings,
        writings,
        attributions,
        tokens_per_second: speeds,
        hours,
        needed_mib: needed_mib(&decoder, row_tokens, experiment.training.recompute),
        available_mib: available_mib(),
        power,
    })
}

impl Speeds {
    /// Trains, scores and writes a little.
    fn measure(context: &Context<'_>) -> Self {
        let Context { study, base, .. } = context;
        let experiment = &study.experiment;
        let training = {
            let arm = experiment.trained(&experiment.arms[0]);
            let streams = study.training_streams(&arm, study.first_training(0), Split::Train, None);
            let decoder = base.trainable(experiment, experiment.seed);
            speed(&pack(&streams, experiment.training.row_tokens), |row| {
                let scale = 1.0 / row.supervised().len().max(1) as f64;
                let mut gradients = Gradients::default();
                decoder.nats_and_gradients(row, scale, experiment.training.recompute, None, &mut gradients);
            })
        };
        let streams = study.test_streams(experiment.arms[0].shown(), study.first_training(0), Split::Test);
        let rows = pack(&streams, experiment.evaluation.row_tokens);
        let scoring = speed(&rows, |row| drop(base.decoder.nats(row)));
        let prompt = &streams[0].tokens[..streams[0].trunk.min(MEASURED_PROMPT)];
        let (before, last) = prompt.split_at(prompt.len() - 1);
        let mut cache = Cache::default();
        drop(base.decoder.logits(before, &mut cache, true));
        let sampling = Sampling { max_new_tokens: MEASURED_WRITING, ..Sampling::default() };
        let opening = Opening { cache, prompt: last.to_vec(), sampling };
        let begun = Instant::now();
        // `u32::MAX` is no token id, so no text ends early.
        let texts = base.decoder.generate_all(vec![opening; MEASURED_TEXTS], u32::MAX);
        let written: usize = texts.iter().map(|(ids, _)| ids.len()).sum();
        Self { training, scoring, writing: written as f64 / begun.elapsed().as_secs_f64() }
    }
}

fn tokens(streams: &[Stream]) -> usize {
    streams.iter().map(|stream| stream.tokens.len()).sum()
}

/// The trainings of every stage, of every arm, and of the writers of predicted thoughts.
fn trained(context: &Context<'_>, speeds: Speeds) -> Vec<Planned> {
    let stages: Vec<&Stage> = context.study.stages().collect();
    let stages = stages.into_iter().rev().map(|stage| {
        let (arm, _) = stage.training();
        let planned = trainings(&Context { study: &stage.study, ..*context }, arm, speeds.training);
        Planned { arm: format!("stage {}", planned.arm), ..planned }
    });
    let arms = context.study.experiment.trained_arms().map(|arm| trainings(context, arm, speeds.training));
    stages.chain(arms).chain(thought_writers(context, speeds)).collect()
}

/// The unfinished trainings of an arm.
fn trainings(context: &Context<'_>, arm: &Arm, speed: f64) -> Planned {
    let study = context.study;
    let all = study.trainings();
    let left: Vec<&Training> = all.iter().filter(|training| !is_finished(context, arm, **training)).collect();
    let config = &study.experiment.training;
    let cost = |training| {
        let windows = study.training_streams(arm, training, Split::Train, None);
        let steps = config.epochs * windows.len().div_ceil(config.conversations_per_step);
        let validations = match config.validate_every_steps {
            0 => config.epochs,
            every => steps.div_ceil(every),
        };
        // A validation only goes forward, which costs about a third.
        let validated = tokens(&study.training_streams(arm, training, Split::Validation, None));
        config.epochs * tokens(&windows) + validations * validated / 3
    };
    planned(&arm.name, all.len(), left.len(), left.iter().map(|training| cost(**training)).sum(), speed)
}

/// The scorings of an arm with one thought left out.
fn left_out(context: &Context<'_>, arm: &Evaluated, speed: f64) -> Planned {
    let study = context.study;
    let all: Vec<Training> = study.trainings().into_iter().filter(|one| is_attributed(study, arm, *one)).collect();
    let left: Vec<&Training> = all.iter().filter(|one| !attribution_file(context, arm, **one).is_current()).collect();
    let tokens = left.iter().map(|one| attributed_tokens(study, arm, **one)).sum();
    planned(&arm.name, all.len(), left.len(), tokens, speed)
}

/// The writers of predicted thoughts, if an arm sees predicted thoughts. Each training user trains two of the three
/// writers, and every thought is written once, with at most [`PREDICTED_TOKENS`] tokens.
fn thought_writers(context: &Context<'_>, speeds: Speeds) -> Option<Planned> {
    let study = context.study;
    study.experiment.sees_predicted().then(|| {
        let is_left = |fold: &usize| !thoughts_file(context, *fold).is_current();
        let left: Vec<usize> = (0..study.folds.len()).filter(is_left).collect();
        let (arm, epochs) = (thought_writer_arm(), study.experiment.training.epochs);
        let cost =
            |fold| 2 * epochs * tokens(&study.training_streams(&arm, study.first_training(fold), Split::Train, None));
        let trained = left.iter().map(|fold| cost(*fold)).sum();
        let mut planned = planned(WRITERS, study.folds.len(), left.len(), trained, speeds.training);
        let thoughts: usize = study.encoded.iter().flat_map(|encoded| &encoded.thoughts).map(Vec::len).sum();
        planned.hours += (left.len() * thoughts * PREDICTED_TOKENS) as f64 / speeds.writing / 3600.0;
        planned
    })
}

/// The evaluations of an arm. One whose `file` is not current costs `cost` tokens.
fn evaluations(
    study: &Study,
    arm: &Evaluated,
    file: impl Fn(Training) -> CachedFile,
    speed: f64,
    cost: impl Fn(usize) -> usize,
) -> Planned {
    let is_scored = |training: &Training| arm.trained().is_some() || study.scores_untrained_in(*training);
    let all: Vec<Training> = study.trainings().into_iter().filter(is_scored).collect();
    let left: Vec<&Training> = all.iter().filter(|training| !file(**training).is_current()).collect();
    planned(&arm.name, all.len(), left.len(), left.iter().map(|one| cost(one.fold)).sum(), speed)
}

fn scored_tokens(study: &Study, arm: &Evaluated, fold: usize) -> usize {
    tokens(&study.test_streams(arm.shown, study.first_training(fold), Split::Test))
}

/// The most tokens that an arm writes in a fold.
fn written_tokens(study: &Study, arm: &Evaluated, fold: usize, chosen: &BTreeSet<&str>) -> usize {
    let streams = study.test_streams(arm.shown, study.first_training(fold), Split::Test);
    let is_written = |target: &&Target| target.is_truth() && chosen.contains(target.item.to_string().as_str());
    let messages = streams.iter().flat_map(|stream| &stream.targets).filter(is_written).count();
    messages * study.experiment.evaluation.writing.max_new_tokens
}

/// The first messages that are not generated yet, each counted with the most tokens it may have.
fn first_messages(context: &Context<'_>, arms: &[Evaluated], speed: f64) -> Option<Planned> {
    let study = context.study;
    let writing = &study.experiment.evaluation.writing;
    let files: Vec<CachedFile> = arms
        .iter()
        .filter(|arm| arm.trained_name() == arm.name)
        .flat_map(|arm| study.trainings().into_iter().map(move |training| (arm, training)))
        .filter(|(arm, training)| study.makes_up_first_messages(*training, arm))
        .map(|(arm, training)| first_messages_file(context, &arm.name, arm.trained(), training))
        .collect();
    let left = files.iter().filter(|file| !file.is_current()).count();
    let tokens = left * writing.first_messages * writing.max_new_tokens;
    (!files.is_empty()).then(|| planned("first messages", files.len(), left, tokens, speed))
}

fn planned(arm: &str, runs: usize, left: usize, tokens: usize, speed: f64) -> Planned {
    let hours = if tokens == 0 { 0.0 } else { tokens as f64 / speed / 3600.0 };
    Planned { arm: arm.to_owned(), runs, finished: runs - left, tokens, hours }
}

/// Whether a training of an arm is finished.
fn is_finished(context: &Context<'_>, arm: &Arm, training: Training) -> bool {
    let Context { study, base, .. } = context;
    let last = study.training_folder(&arm.name, training).join(LAST);
    Description::read(&last).is_ok_and(|last| {
        last.state.finished && last.training_key == fingerprint::of_training(study, base, arm, training)
    })
}

/// Tokens per second over a few rows, after a warm-up row.
fn speed(rows: &[Row], mut work: impl FnMut(&Row)) -> f64 {
    // Rows from the median length up: the first rows of a file may be unusually long or short.
    let mut order: Vec<&Row> = rows.iter().collect();
    order.sort_by_key(|row| row.tokens.len());
    let middle = &order[order.len() / 2..];
    work(middle[0]);
    let (mut tokens, begun) = (0, Instant::now());
    for row in middle.iter().step_by((middle.len() / 3).max(1)) {
        work(row);
        tokens += row.tokens.len();
        if tokens > MEASURED_TOKENS / 4 {
            break;
        }
    }
    tokens as f64 / begun.elapsed().as_secs_f64()
}

impl Plan {
    /// The plan as a table and a sentence, for a terminal.
    pub fn text(&self) -> String {
        let row = |what: &str, planned: &Planned| {
            vec![
                what.to_owned(),
                planned.arm.clone(),
                count(planned.runs),
                count(planned.finished),
                count(planned.tokens),
                decimal(planned.hours),
            ]
        };
        let rows = self.trainings.iter().map(|planned| row("train", planned));
        let rows = rows.chain(self.scorings.iter().map(|planned| row("score", planned)));
        let rows = rows.chain(self.writings.iter().map(|planned| row("write", planned)));
        let rows = rows.chain(self.attributions.iter().map(|planned| row("leave out thoughts", planned))).collect();
        let available = self.available_mib.map_or_else(String::new, |mib| format!("; {mib:.0} MiB are available"));
        let Speeds { training, scoring, writing } = self.tokens_per_second;
        let table = Table {
            title: format!("What `{}` would run", self.name),
            header: columns(&["", "arm"], &["runs", "finished", "tokens left", "hours"]),
            rows,
            notes: vec![
                format!(
                    "Measured now: {training:.0} tokens a second in training, {scoring:.0} in scoring, {writing:.0} in writing. \
                     Total: {} hours on this machine.",
                    decimal(self.hours)
                ),
                format!("A training needs about {:.0} MiB of memory{available}.", self.needed_mib),
            ],
        };
        let power = self.power.as_ref().map_or_else(
            || "No test user has a target, so the study could decide nothing.\n".to_owned(),
            |power| power.table().terminal(),
        );
        format!("{}\n{power}", table.terminal())
    }
}
