//! The power of a study: how often it would decide its primary comparison, by simulating its own decision rule.

use std::collections::BTreeMap;

use serde::Serialize;
use undertone_data::{Split, Target};
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
    /// Simulates the study's design, and designs with more users, divisions or seeds; `None` if no user has a
    /// target.
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
            let is_one_each = experiment.split.folds == Folds::EachUser;
            let design = if is_one_each { Design { folds: tokens.len(), ..design } } else { design };
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

/// The tokens of each tested user in the headline: the primary items of the first kind, or all its items if none is primary.
fn tokens_of_users(study: &Study) -> Vec<usize> {
    let primary = study.primary_items(Split::Test);
    let Some(arm) = study.experiment.primary_pair()[1].or(study.experiment.arms.first()) else { return Vec::new() };
    let targets: Vec<(String, Target)> = study
        .tested_once(arm.shown())
        .flat_map(|stream| stream.targets.into_iter().map(move |target| (stream.user.clone(), target)))
        .filter(|(_, target)| target.is_truth())
        .collect();
    let Some(kind) = targets.iter().map(|(_, target)| target.item.kind).min() else { return Vec::new() };
    let of_kind = || targets.iter().filter(|(_, target)| target.item.kind == kind);
    let is_primary = |target: &Target| primary.contains(&target.item.to_string());
    let has_primary = of_kind().any(|(_, target)| is_primary(target));
    let mut tokens: BTreeMap<&str, usize> = BTreeMap::new();
    for (user, target) in of_kind().filter(|(_, target)| !has_primary || is_primary(target)) {
        *tokens.entry(user).or_default() += target.span.len();
    }
    tokens.into_values().collect()
}
