//! Which arms are compared.

use std::collections::BTreeSet;

use undertone_data::Source;

use crate::experiment::{Arm, Declared, Experiment};
use crate::study::Evaluated;

/// Two arms to compare, by their places among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PairOfArms {
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) primary: bool,
}

/// Which arms are compared, of those that came to their end: those the file declares, or the first arm with every other and shuffled thoughts with
/// the user's own, of which the first is primary.
pub(super) fn pairs_of_arms(experiment: &Experiment, arms: &[Evaluated]) -> Vec<PairOfArms> {
    let index = |name: &str| arms.iter().position(|arm| arm.name == name);
    let pair = |a: &str, b: &str, primary| Some(PairOfArms { a: index(a)?, b: index(b)?, primary });
    if !experiment.comparisons.is_empty() {
        let declared = experiment.comparisons.iter();
        return declared.filter_map(|Declared { a, b, primary }| pair(a, b, *primary)).collect();
    }
    let (first, others) = experiment.arms.split_first().expect("an experiment has an arm");
    let mut names: Vec<(&str, &str)> = others.iter().map(|arm| (first.name.as_str(), arm.name.as_str())).collect();
    for arm in experiment.arms.iter().filter(|arm| arm.source != Source::Own) {
        let is_own = |own: &&Arm| own.source == Source::Own && (own.view, own.timing) == (arm.view, arm.timing);
        let own = experiment.arms.iter().filter(is_own).find(|own| own.trained_as.is_none());
        names.extend(own.map(|own| (arm.name.as_str(), own.name.as_str())));
    }
    let mut seen = BTreeSet::new();
    names.retain(|pair| seen.insert(*pair));
    names.into_iter().enumerate().filter_map(|(place, (a, b))| pair(a, b, place == 0)).collect()
}

/// The arms a and b of the comparison that the study is made for: the primary one, or the first.
pub(crate) fn primary_pair(experiment: &Experiment) -> [Option<&Arm>; 2] {
    let declared = &experiment.comparisons;
    match declared.iter().find(|one| one.primary).or(declared.first()) {
        Some(Declared { a, b, .. }) => [a, b].map(|name| experiment.arms.iter().find(|arm| arm.name == *name)),
        None => [experiment.arms.first(), experiment.arms.get(1)],
    }
}

/// Each arm with a training of its own, and before it the untrained model that sees the same.
pub(super) fn pairs_with_base(experiment: &Experiment, arms: &[Evaluated]) -> Vec<PairOfArms> {
    let trained = experiment.arms.iter().filter(|arm| arm.trained_as.is_none());
    trained
        .filter_map(|arm| {
            let a = arms.iter().position(|base| base.trained.is_none() && base.shown == arm.shown())?;
            let b = arms.iter().position(|other| other.name == arm.name)?;
            Some(PairOfArms { a, b, primary: false })
        })
        .collect()
}
