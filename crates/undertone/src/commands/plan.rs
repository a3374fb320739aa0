//! `undertone ablate --plan`: what a study would run, what that costs, and what it could see, before anything is
//! spent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::Serialize;
use undertone_data::{PREDICTED_TOKENS, Row, Source, Split, Stream, Target, pack};
use undertone_eval::{
    Arms, Inference, KnownRows, Rules, StandardError, Subset, Table, columns, compare, count, decimal, score,
};
use undertone_model::{Cache, Gradients, Opening, Sampling, derived_seed};
use undertone_train::Checkpoint;

use super::{print_json, print_text};
use crate::amendments::look;
use crate::base::Base;
use crate::experiment::{Arm, Experiment};
use crate::keys::Kept;
use crate::report::primary_pair;
use crate::study::{Evaluated, Study, Training};
use crate::writing::Writer;

/// Tokens on which two arms are compared.
const COMPARED_TOKENS: usize = 49_152;

/// Texts of a measurement, the tokens of their prompt, and tokens that each writes.
const MEASURED_TEXTS: usize = 16;
const MEASURED_PROMPT: usize = 256;
const MEASURED_WRITING: usize = 16;

/// Tokens that a measurement may run through the model: a minute or less on two cores.
const MEASURED_TOKENS: usize = 16_384;

/// A study before it is run.
#[derive(Debug, Serialize)]
struct Plan {
    trainings: Vec<Planned>,
    scorings: Vec<Planned>,
    /// Messages that arms write, and first messages that all models make up, each of as many tokens as it may have.
    writings: Vec<Planned>,
    tokens_per_second: Speeds,
    hours: f64,
    detectable: Option<Detectable>,
}

/// All trainings, all scorings, or all writing, of one arm.
#[derive(Debug, Serialize)]
struct Planned {
    arm: String,
    /// Folds times seeds.
    runs: usize,
    /// Those that are finished, and are not run again.
    finished: usize,
    /// Tokens that go through the model in what is left.
    tokens: usize,
    hours: f64,
}

/// What the primary comparison could see, if users differ as much as under the untrained model.
#[derive(Debug, Serialize)]
struct Detectable {
    arm_a: String,
    arm_b: String,
    /// Test users of the study with a primary item.
    users: usize,
    /// Of them, those on whom it was measured.
    measured_users: usize,
    /// In nats per token.
    difference: f64,
}

/// Tokens a second on this machine.
#[derive(Debug, Clone, Copy, Serialize)]
struct Speeds {
    training: f64,
    scoring: f64,
    writing: f64,
}

pub(crate) fn run(study: &Study, base: &Base, json: bool) -> anyhow::Result<()> {
    look(study, base)?;
    let experiment = &study.experiment;
    let speeds = Speeds::measure(study, base);
    let trainings: Vec<Planned> = experiment
        .arms
        .iter()
        .filter(|arm| experiment.trained(arm).name == arm.name)
        .map(|arm| trainings(study, base, arm, speeds.training))
        .chain(writers(study, base, speeds))
        .collect();
    let arms = study.evaluated();
    let scorings: Vec<Planned> = arms
        .iter()
        .map(|arm| {
            let kept = |training| study.records(arm, training, base);
            evaluations(study, arm, kept, speeds.scoring, |fold| scored(study, arm, fold))
        })
        .collect();
    let writer = Writer::new(study, &study.primary_items(Split::Test))?;
    let chosen: BTreeSet<&str> = writer.items().collect();
    let written = |arm: &Evaluated| {
        let kept = |training| study.written(arm, training, base, &writer);
        evaluations(study, arm, kept, speeds.writing, |fold| written(study, arm, fold, &chosen))
    };
    let mut writings: Vec<Planned> = if chosen.is_empty() { Vec::new() } else { arms.iter().map(written).collect() };
    writings.extend(first_messages(study, base, &arms, speeds.writing));
    let hours = trainings.iter().chain(&scorings).chain(&writings).map(|planned| planned.hours).sum();
    let detectable = detectable(study, base)?;
    let plan = Plan { trainings, scorings, writings, tokens_per_second: speeds, hours, detectable };
    match json {
        true => print_json(&plan),
        false => print_text(&plan.text(experiment)),
    }
    Ok(())
}

impl Speeds {
    /// Trains on, scores and writes a little.
    fn measure(study: &Study, base: &Base) -> Self {
        let experiment = &study.experiment;
        let training = {
            let arm = experiment.trained(&experiment.arms[0]);
            let streams = study.training_streams(&arm, 0, Split::Train, None);
            let mut decoder = base.trainable(experiment, experiment.seed);
            decoder.precision = base.decoder.precision;
            speed(&pack(&streams, experiment.training.row_tokens), |row| {
                let scale = 1.0 / row.supervised().len().max(1) as f64;
                let mut gradients = Gradients::default();
                decoder.nats_and_gradients(row, scale, experiment.training.recompute, None, &mut gradients);
            })
        };
        let streams = study.test_streams(experiment.arms[0].shown(), 0, Split::Test);
        let rows = pack(&streams, experiment.evaluation.row_tokens);
        let scoring = speed(&rows, |row| drop(base.decoder.nats(row)));
        let prompt = &streams[0].tokens[..streams[0].trunk.min(MEASURED_PROMPT)];
        let (before, last) = prompt.split_at(prompt.len() - 1);
        let mut cache = Cache::default();
        drop(base.decoder.logits(before, &mut cache, true));
        let sampling = Sampling { max_new_tokens: MEASURED_WRITING, ..Sampling::default() };
        let opening = Opening { cache, prompt: last.to_vec(), sampling };
        let begun = Instant::now();
        // No id is the end: as many tokens as were asked for.
        let texts = base.decoder.generate_all(vec![opening; MEASURED_TEXTS], u32::MAX);
        let written: usize = texts.iter().map(|(ids, _)| ids.len()).sum();
        Self { training, scoring, writing: written as f64 / begun.elapsed().as_secs_f64() }
    }
}

fn tokens(streams: &[Stream]) -> usize {
    streams.iter().map(|stream| stream.tokens.len()).sum()
}

/// What is left of training an arm.
fn trainings(study: &Study, base: &Base, arm: &Arm, speed: f64) -> Planned {
    let all = study.trainings();
    let left: Vec<&Training> = all.iter().filter(|training| !is_finished(study, arm, **training, base)).collect();
    let of_fold =
        |fold| study.experiment.training.epochs * tokens(&study.training_streams(arm, fold, Split::Train, None));
    planned(&arm.name, all.len(), left.len(), left.iter().map(|training| of_fold(training.fold)).sum(), speed)
}

/// The writers of predicted thoughts, if an arm sees such: each training user is in two of three, and every thought is
/// written once, of so many tokens at most.
fn writers(study: &Study, base: &Base, speeds: Speeds) -> Option<Planned> {
    let experiment = &study.experiment;
    experiment.arms.iter().any(|arm| arm.source == Source::Predicted).then(|| {
        let left: Vec<usize> = (0..study.folds.len()).filter(|fold| !study.predicted(*fold, base).is_there()).collect();
        let arm = study.writer_arm();
        let of_fold =
            |fold| 2 * experiment.training.epochs * tokens(&study.training_streams(&arm, fold, Split::Train, None));
        let trained = left.iter().map(|fold| of_fold(*fold)).sum();
        let mut planned = planned("writers", study.folds.len(), left.len(), trained, speeds.training);
        let thoughts: usize = study.encoded.iter().flat_map(|encoded| &encoded.thoughts).map(Vec::len).sum();
        planned.hours += (left.len() * thoughts * PREDICTED_TOKENS) as f64 / speeds.writing / 3600.0;
        planned
    })
}

/// What is left of scoring an arm, or of its writing: what is not kept.
fn evaluations(
    study: &Study,
    arm: &Evaluated,
    kept: impl Fn(Training) -> Kept,
    speed: f64,
    of_fold: impl Fn(usize) -> usize,
) -> Planned {
    let is_once = |training: &Training| arm.trained.is_some() || training.seed == study.experiment.seed;
    let all: Vec<Training> = study.trainings().into_iter().filter(is_once).collect();
    let left: Vec<&Training> = all.iter().filter(|training| !kept(**training).is_there()).collect();
    planned(&arm.name, all.len(), left.len(), left.iter().map(|one| of_fold(one.fold)).sum(), speed)
}

fn scored(study: &Study, arm: &Evaluated, fold: usize) -> usize {
    tokens(&study.test_streams(arm.shown, fold, Split::Test))
}

/// The most tokens that are written in a fold.
fn written(study: &Study, arm: &Evaluated, fold: usize, chosen: &BTreeSet<&str>) -> usize {
    let streams = study.test_streams(arm.shown, fold, Split::Test);
    let is_written = |target: &&Target| target.is_truth() && chosen.contains(target.item.to_string().as_str());
    let messages = streams.iter().flat_map(|stream| &stream.targets).filter(is_written).count();
    messages * study.experiment.evaluation.writing.max_new_tokens
}

/// What is left of first messages that models make up, of so many tokens at most.
fn first_messages(study: &Study, base: &Base, arms: &[Evaluated], speed: f64) -> Option<Planned> {
    let writing = &study.experiment.evaluation.writing;
    let is_own = |arm: &&Evaluated| arm.trained.as_ref().is_none_or(|trained| trained.name == arm.name);
    let kept: Vec<Kept> = arms
        .iter()
        .filter(is_own)
        .flat_map(|arm| study.trainings().into_iter().map(move |training| (arm, training)))
        .filter(|(arm, training)| study.makes_up_first_messages(*training, arm))
        .map(|(arm, training)| study.made_up(&arm.name, arm.trained.as_ref(), training, base))
        .collect();
    let left = kept.iter().filter(|kept| !kept.is_there()).count();
    let tokens = left * writing.first_messages * writing.max_new_tokens;
    (!kept.is_empty()).then(|| planned("first messages", kept.len(), left, tokens, speed))
}

fn planned(arm: &str, runs: usize, left: usize, tokens: usize, speed: f64) -> Planned {
    let hours = if tokens == 0 { 0.0 } else { tokens as f64 / speed / 3600.0 };
    Planned { arm: arm.to_owned(), runs, finished: runs - left, tokens, hours }
}

/// Whether a training of an arm was finished before.
fn is_finished(study: &Study, arm: &Arm, training: Training, base: &Base) -> bool {
    let folder = study.folder(&arm.name, training);
    Checkpoint::read(&folder.join("last.safetensors")).is_ok_and(|last| {
        last.description.state.finished && last.description.training_key == study.training_key(arm, training, base)
    })
}

/// Tokens a second over a few rows, after one that warms up.
fn speed(rows: &[Row], mut work: impl FnMut(&Row)) -> f64 {
    // From the middle: the first conversations of a file are not its longest or shortest by design, but may be.
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

/// Scores the untrained model under both views of the primary comparison, on a window of each of as many test
/// users as can be afforded, chosen by hash. Windows of a user are taken for one.
fn detectable(study: &Study, base: &Base) -> anyhow::Result<Option<Detectable>> {
    let experiment = &study.experiment;
    let [a, b] = primary_pair(experiment);
    let (Some(a), Some(b)) = (a, b) else { return Ok(None) };
    // Without thoughts to tell apart, the untrained model has nothing to say.
    if a.shown() == b.shown() {
        return Ok(None);
    }
    let primary = study.primary_items(Split::Test);
    let streams = |arm: &Arm| -> Vec<Stream> {
        (0..study.folds.len()).flat_map(|fold| study.test_streams(arm.shown(), fold, Split::Test)).collect()
    };
    let (in_a, in_b) = (streams(a), streams(b));
    let windows = window_of_each_user(&in_a, &in_b, &primary);
    let mut order: Vec<(&&str, &(usize, &str))> = windows.iter().collect();
    order.sort_by_key(|(user, _)| derived_seed(&["plan", user]));
    let mut tokens = 0;
    let fits = |(index, (_, (cost, _))): &(usize, (&&str, &(usize, &str)))| {
        tokens += cost;
        *index < 2 || tokens <= COMPARED_TOKENS
    };
    let chosen: BTreeSet<&str> = order.into_iter().enumerate().take_while(fits).map(|(_, (_, (_, id)))| *id).collect();
    let mut known = KnownRows::default();
    let mut scored = |name: &str, streams: &[Stream]| {
        let some: Vec<Stream> = streams.iter().filter(|stream| chosen.contains(stream.id.as_str())).cloned().collect();
        let mut records = score(&base.decoder, &mut known, name, &some, experiment.evaluation.row_tokens, |_| {});
        records.iter_mut().for_each(|record| record.primary = primary.contains(&record.item));
        records
    };
    let (in_a, in_b) = (scored("a", &in_a), scored("b", &in_b));
    if in_a.is_empty() {
        return Ok(None);
    }
    let rules = Rules { margin: None, ..experiment.rules() };
    let comparison = compare(&[Arms { a: &in_a, b: &in_b, primary: true }], rules)?.remove(0);
    let kind = in_a[0].kind;
    let difference: Option<Inference> = comparison
        .contrast(kind, Subset::Primary)
        .and_then(|contrast| contrast.losses.as_ref())
        .map(|losses| losses.difference.clone());
    Ok(difference.and_then(|difference| {
        let error: StandardError = difference.standard_error?;
        Some(Detectable {
            arm_a: a.name.clone(),
            arm_b: b.name.clone(),
            users: windows.len(),
            measured_users: difference.users,
            difference: error.with_users(windows.len()).minimum_detectable(),
        })
    }))
}

/// Of each user with a primary item one window that has such, chosen by hash: its tokens in both arms together, and its id.
fn window_of_each_user<'a>(
    in_a: &'a [Stream],
    in_b: &'a [Stream],
    primary: &BTreeSet<String>,
) -> BTreeMap<&'a str, (usize, &'a str)> {
    let in_b: BTreeMap<&str, usize> = in_b.iter().map(|stream| (stream.id.as_str(), stream.tokens.len())).collect();
    let has_primary = |stream: &&Stream| stream.targets.iter().any(|one| primary.contains(&one.item.to_string()));
    let mut windows: Vec<&Stream> = in_a.iter().filter(has_primary).collect();
    windows.sort_by_key(|stream| derived_seed(&["plan", &stream.id]));
    let mut of_users = BTreeMap::new();
    for Stream { id, user, tokens, .. } in windows {
        of_users.entry(user.as_str()).or_insert((tokens.len() + in_b[id.as_str()], id.as_str()));
    }
    of_users
}

impl Plan {
    fn text(&self, experiment: &Experiment) -> String {
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
        let rows = rows.chain(self.writings.iter().map(|planned| row("write", planned))).collect();
        let Speeds { training, scoring, writing } = self.tokens_per_second;
        let table = Table {
            title: format!("What `{}` would run", experiment.name),
            header: columns(&["", "arm"], &["runs", "finished", "tokens left", "hours"]),
            rows,
            notes: vec![format!(
                "Measured just now: {training:.0} tokens a second in training, {scoring:.0} in scoring, {writing:.0} in writing. \
                 In all {} hours on this machine.",
                decimal(self.hours)
            )],
        };
        let detectable = match &self.detectable {
            Some(detectable) => format!(
                "If users differ as they do under the untrained model (one window each of {} of {} test users was measured), the smallest true \
                 difference that four of five such studies would find between `{}` and `{}` is {} nats per token; the \
                 variance of training comes on top.",
                detectable.measured_users,
                detectable.users,
                detectable.arm_a,
                detectable.arm_b,
                decimal(detectable.difference)
            ),
            None => {
                "The smallest detectable difference is not known: the primary comparison has fewer than two users, \
                     or two arms that see the same."
                    .to_owned()
            }
        };
        format!("{}\n{detectable}\n", table.terminal())
    }
}
