//! The power of a study: how often it would decide its primary comparison, by simulating its own decision rule.

use std::collections::BTreeMap;

use serde::Serialize;
use undertone_data::{Split, TargetKind};
use undertone_report::{Table, columns, count};
use undertone_stats::{ALPHA, Components, Design, Simulation};

use crate::comparisons::{pairs_of_arms, pairs_with_base};
use crate::experiment::{Folds, PlannedSection};
use crate::study::Study;

/// The numbers of users for which power is simulated, in numbers of the study's users.
const TIMES_USERS: [usize; 3] = [1, 2, 4];

/// The numbers of divisions, or of seeds with a single split, for which power is simulated beside the study's own.
const TIMES_TRAINED: [usize; 4] = [1, 2, 3, 5];

/// How many differences of users are simulated for one row, and the fewest and most studies.
const SIMULATED: usize = 2_000_000;
const FEWEST_STUDIES: usize = 200;
const MOST_STUDIES: usize = 2_000;

/// The power of some designs to find one difference.
#[derive(Debug, Serialize)]
pub(crate) struct Power {
    /// The difference and the standard deviations that are assumed, in nats per token.
    assumed: PlannedSection,
    /// How many other p-values are corrected together.
    others: usize,
    designs: Vec<Powered>,
}

/// The power of one design.
#[derive(Debug, Serialize)]
struct Powered {
    users: usize,
    #[serde(flatten)]
    design: Design,
    /// Of the primary comparison.
    primary: f64,
    /// Of a comparison with the smallest p-value among the others.
    smallest_of_others: f64,
}

impl Power {
    /// Simulates the study's design, and designs with more users, divisions or seeds; `None` if no user has a primary
    /// item.
    pub(crate) fn of(study: &Study) -> Option<Self> {
        let tokens = tokens_of_users(study);
        if tokens.is_empty() {
            return None;
        }
        let experiment = &study.experiment;
        let assumed = experiment.evaluation.planned.clone();
        let components =
            Components { user: assumed.user_sd, training: assumed.training_sd, rest: Some(assumed.rest_sd) };
        let evaluated = study.evaluated();
        let comparisons = pairs_of_arms(experiment, &evaluated).len() + pairs_with_base(experiment, &evaluated).len();
        let tests = if experiment.evaluation.margin.is_some() { 2 } else { 1 };
        let others = (comparisons * experiment.data.targets.len()).saturating_sub(1) * tests;
        let folds = study.folds.iter().filter(|fold| fold.division == 0).count();
        let own = Design { folds, repeats: experiment.split.repeats, seeds: experiment.seeds.0 };
        let mut designs: Vec<Design> = TIMES_TRAINED
            .into_iter()
            .map(|times| match experiment.split.folds {
                Folds::Count(2..) => Design { repeats: times, ..own },
                _ => Design { seeds: times, ..own },
            })
            .chain([own])
            .collect();
        designs.sort();
        designs.dedup();
        let powered = |(times, design): (usize, Design)| {
            let tokens: Vec<usize> = tokens.iter().copied().cycle().take(times * tokens.len()).collect();
            let simulation = Simulation { tokens: &tokens, design, components, difference: assumed.difference };
            let cells = tokens.len() * design.repeats * design.seeds;
            let studies = (SIMULATED / cells).clamp(FEWEST_STUDIES, MOST_STUDIES);
            let decided = |level: f64| simulation.share_decided(level, studies, experiment.seed);
            Powered {
                users: tokens.len(),
                design,
                primary: decided(ALPHA),
                smallest_of_others: decided(ALPHA / others.max(1) as f64),
            }
        };
        let all = TIMES_USERS.into_iter().flat_map(|times| designs.iter().map(move |design| (times, *design)));
        Some(Self { designs: all.map(powered).collect(), assumed, others })
    }

    /// As a table.
    pub(crate) fn table(&self) -> Table {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let row = |one: &Powered| {
            let Design { folds, repeats, seeds } = one.design;
            let trainings = [folds, repeats, seeds, folds * repeats * seeds];
            let counts = [one.users].into_iter().chain(trainings).map(count);
            counts.chain([percent(one.primary), percent(one.smallest_of_others)]).collect()
        };
        let PlannedSection { difference, user_sd, training_sd, rest_sd } = self.assumed;
        Table {
            title: format!("Power to find a difference of {difference} nats per token"),
            header: columns(
                &["users"],
                &["folds", "repeats", "seeds", "trainings of an arm", "primary", "smallest of the others"],
            ),
            rows: self.designs.iter().map(row).collect(),
            notes: vec![format!(
                "The share of simulated studies with a verdict, by the rule that decides this study. Assumed standard deviations in nats per \
                 token: {user_sd} between users, {training_sd} between trainings, {rest_sd} of the rest (`[evaluation.planned]`). \
                 The smallest of the others is the smallest of {} that are corrected together.",
                match self.others {
                    1 => "one p-value".to_owned(),
                    others => format!("{} p-values", count(others)),
                }
            )],
        }
    }
}

/// The tokens of the primary items of each tested user, of the first kind of target.
fn tokens_of_users(study: &Study) -> Vec<usize> {
    let primary = study.primary_items(Split::Test);
    let targets = &study.experiment.data.targets;
    let kind = targets.iter().copied().find(|kind| *kind == TargetKind::NextPrompt).unwrap_or(targets[0]);
    let Some(arm) = study.experiment.primary_pair()[1].or(study.experiment.arms.first()) else { return Vec::new() };
    let mut tokens: BTreeMap<String, usize> = BTreeMap::new();
    for training in study.first_trainings().filter(|training| study.folds[training.fold].division == 0) {
        for stream in study.test_streams(arm.shown(), training, Split::Test) {
            let is_counted = |item: &undertone_data::Item| item.kind == kind && primary.contains(&item.to_string());
            let counted = stream.targets.iter().filter(|target| target.is_truth() && is_counted(&target.item));
            let sum: usize = counted.map(|target| target.span.len()).sum();
            if sum > 0 {
                *tokens.entry(stream.user.clone()).or_default() += sum;
            }
        }
    }
    tokens.into_values().collect()
}
