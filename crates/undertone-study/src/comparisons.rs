//! Which arms are compared, and what changes from one to the other.

use std::collections::BTreeSet;

use undertone_data::{Access, Source, Timing};

use crate::arms::{Evaluated, Model};
use crate::experiment::{Arm, DeclaredComparison, Experiment};

/// Two arms to compare, by their indices among the evaluated arms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PairOfArms {
    pub(crate) a: usize,
    pub(crate) b: usize,
    pub(crate) primary: bool,
    /// What changes from a to b, such as `Seeing past thoughts`.
    pub(crate) change: String,
}

/// The pairs of arms that the file declares. If it declares none: the first arm with every other arm, and every other
/// source of thoughts with the user's own thoughts; the first pair is primary. Leaves out pairs with an arm that is not
/// in `evaluated`.
pub(crate) fn pairs_of_arms(experiment: &Experiment, evaluated: &[Evaluated]) -> Vec<PairOfArms> {
    let pair = |a: &Arm, b: &Arm, primary| {
        let place = |arm: &Arm| evaluated.iter().position(|one| one.name == arm.name);
        Some(PairOfArms { a: place(a)?, b: place(b)?, primary, change: change(a, b) })
    };
    let arm = |name: &str| experiment.arms.iter().find(|arm| arm.name == name);
    if !experiment.comparisons.is_empty() {
        let declared = experiment.comparisons.iter();
        return declared.filter_map(|DeclaredComparison { a, b, primary }| pair(arm(a)?, arm(b)?, *primary)).collect();
    }
    let (first, others) = experiment.arms.split_first().expect("an experiment has an arm");
    let mut pairs: Vec<(&Arm, &Arm)> = others.iter().map(|arm| (first, arm)).collect();
    for arm in experiment.arms.iter().filter(|arm| arm.source != Source::Own) {
        let is_own = |own: &&Arm| own.source == Source::Own && (own.view, own.timing) == (arm.view, arm.timing);
        let own = experiment.arms.iter().filter(is_own).find(|own| own.trained_as.is_none());
        pairs.extend(own.map(|own| (arm, own)));
    }
    // Predicted thoughts stand where the user's own do, so what they add is told apart from that place.
    let shows = |source: Source| move |arm: &&Arm| arm.source == source && arm.trained_as.is_none();
    for predicted in experiment.arms.iter().filter(shows(Source::Predicted)) {
        let alike = |arm: &&Arm| (arm.view, arm.timing) == (predicted.view, predicted.timing);
        let presence = experiment.arms.iter().filter(shows(Source::Presence)).find(alike);
        pairs.extend(presence.map(|presence| (presence, predicted)));
    }
    let mut seen = BTreeSet::new();
    pairs.retain(|(a, b)| seen.insert((&a.name, &b.name)));
    pairs.into_iter().enumerate().filter_map(|(place, (a, b))| pair(a, b, place == 0)).collect()
}

/// Under each view of a trained arm: the untrained model and the arm, and, if there are stages, the untrained model and the
/// model after them, and the latter and the arm.
pub(crate) fn pairs_with_base(experiment: &Experiment, evaluated: &[Evaluated]) -> Vec<PairOfArms> {
    let mut pairs: Vec<PairOfArms> = Vec::new();
    for arm in experiment.arms.iter().filter(|arm| arm.trained_as.is_none()) {
        let place = |is_it: &dyn Fn(&Model) -> bool| {
            evaluated.iter().position(|one| one.shown == arm.shown() && is_it(&one.model))
        };
        let untrained = place(&|model| matches!(model, Model::Untrained));
        let staged = place(&|model| matches!(model, Model::Staged));
        let trained = evaluated.iter().position(|one| one.name == arm.name);
        for (a, b, change) in [
            (untrained, trained, "Training"),
            (untrained, staged, "The training of the stages"),
            (staged, trained, "Training after the stages"),
        ] {
            let (Some(a), Some(b)) = (a, b) else { continue };
            if !pairs.iter().any(|pair| (pair.a, pair.b) == (a, b)) {
                pairs.push(PairOfArms { a, b, primary: false, change: change.to_owned() });
            }
        }
    }
    pairs
}

/// What changes from arm a to arm b, as the subject of a sentence.
pub(crate) fn change(a: &Arm, b: &Arm) -> String {
    match (thoughts(a), thoughts(b)) {
        (None, Some(in_b)) => format!("Seeing {in_b}"),
        (Some(in_a), None) => format!("Hiding {in_a}"),
        (Some(in_a), Some(in_b)) if in_a != in_b => format!("Seeing {in_b} instead of {in_a}"),
        _ => format!("The training of `{}` instead of that of `{}`", b.name, a.name),
    }
}

/// The thoughts that an arm sees, in words; `None` if it sees none.
fn thoughts(arm: &Arm) -> Option<String> {
    let (own, noun) = match arm.view {
        Access::None => return None,
        Access::Reasons => ("past reasons", "reasons"),
        Access::Reactions => ("past reactions", "reactions"),
        Access::Past => ("past thoughts", "thoughts"),
        Access::LastReaction => ("the last reaction", "reactions"),
        Access::Oracle => ("past thoughts and the message's own reason", "thoughts and own reasons"),
    };
    let words = match arm.source {
        Source::Own => own.to_owned(),
        Source::Presence => format!("that there are {noun}"),
        Source::SameConversation => format!("words of the same conversation for {noun}"),
        Source::OtherConversation => format!("the user's {noun} from other conversations"),
        Source::Shuffled => format!("other users' {noun}"),
        Source::ShuffledTrajectory => format!("the {noun} of one other user"),
        Source::Filler => format!("filler for {noun}"),
        Source::Predicted => format!("predicted {noun}"),
    };
    let whenever = if arm.timing == Timing::Anchored { ", whenever written," } else { "" };
    Some(words + whenever)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_between_arms_is_the_subject_of_a_sentence() {
        let arm = |view, source| Arm { name: format!("{view:?}").to_lowercase(), view, source, ..Arm::default() };
        let none = arm(Access::None, Source::Own);
        let past = arm(Access::Past, Source::Own);
        let shuffled = arm(Access::Past, Source::Shuffled);
        let anchored = Arm { timing: Timing::Anchored, ..past.clone() };
        let reasons = arm(Access::Reasons, Source::Predicted);
        for (a, b, expected) in [
            (&none, &past, "Seeing past thoughts"),
            (&past, &none, "Hiding past thoughts"),
            (&none, &shuffled, "Seeing other users' thoughts"),
            (&shuffled, &past, "Seeing past thoughts instead of other users' thoughts"),
            (&none, &anchored, "Seeing past thoughts, whenever written,"),
            (&none, &reasons, "Seeing predicted reasons"),
            (&past, &past, "The training of `past` instead of that of `past`"),
        ] {
            assert_eq!(change(a, b), expected);
        }
    }
}
