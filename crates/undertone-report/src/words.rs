//! Comparisons in sentences.
//!
//! A sentence begins with the *change* from arm a to arm b, such as `Seeing past thoughts`. The caller, who knows the
//! arms, provides it.

use undertone_stats::{
    ALPHA, Comparison, Contrast, Decision, ENOUGH_USERS, Evidence, Heterogeneity, PairedLosses, Question, counted,
};

use crate::numbers::{interval, p_value, shown_interval};

/// The result of a comparison's headline in words: the difference, the decision, the interval, and a warning if users
/// are few.
pub fn verdict(comparison: &Comparison, change: &str) -> String {
    let told = |contrast| contrast_in_words(comparison, contrast, change);
    comparison.headline().map_or_else(|| "Nothing is compared.".to_owned(), told)
}

fn contrast_in_words(comparison: &Comparison, contrast: &Contrast, change: &str) -> String {
    let (a, b) = (&comparison.arm_a, &comparison.arm_b);
    let (kind, subset) = (contrast.kind, contrast.subset);
    let Some(losses) = &contrast.losses else {
        return format!("{kind} ({subset}): no items, so nothing is compared.");
    };
    let (items, users) = (counted(contrast.items, "item"), counted(contrast.users, "user"));
    let effect = effect(losses.difference.ratio.value);
    let mut words = format!("{kind} ({subset}): {change} {effect} on {items} of {users}.");
    if let Some(evidence) = &losses.evidence {
        words += &format!(" Verdict: {}.", decision_in_words(evidence, b));
    }
    words += &interval_in_words(losses, comparison.rules.question, [a, b]);
    if losses.difference.too_few_users {
        words += &format!(" Fewer than {ENOUGH_USERS} users are too few to say much about other users.");
    }
    words
}

/// The interval that answers the question, as a sentence.
fn interval_in_words(losses: &PairedLosses, question: Question, [a, b]: [&str; 2]) -> String {
    let difference = &losses.difference;
    let Some((shown, error)) = shown_interval(difference).zip(difference.standard_error) else {
        return " An interval needs at least two users.".to_owned();
    };
    let side = |zero: bool| if zero { "includes" } else { "excludes" };
    match (question, difference.degrees_of_freedom) {
        (Question::WayOfTraining, Some(freedom)) => format!(
            " Over other users and other trainings, the 95 % interval of `{b}` − `{a}`, {} (Student's t with {freedom:.1} degrees of freedom), {} zero.",
            interval(shown),
            side(shown.contains_zero())
        ),
        _ => {
            let shown = difference.ratio.of_models.map_or(shown, |models| models.student_t);
            format!(
                " Over other users, with these trained models, the 95 % interval of `{b}` − `{a}`, {} (Student's t with {:.1} degrees of freedom), {} zero.",
                interval(shown),
                error.freedom_of_users,
                side(shown.contains_zero())
            )
        }
    }
}

/// A difference of losses as a predicate.
fn effect(difference: f64) -> String {
    let nats = match format!("{:.3}", difference.abs()) {
        digits if digits == "0.000" => "less than 0.001".to_owned(),
        digits => digits,
    };
    match difference {
        0.0 => "did not change the loss".to_owned(),
        below if below < 0.0 => format!("lowered the loss by {nats} nats per token"),
        _ => format!("raised the loss by {nats} nats per token"),
    }
}

/// What a decision is called in a table.
pub(crate) fn decision_name(evidence: &Evidence) -> String {
    match evidence.one_training {
        true => "undecided: one training".to_owned(),
        false => evidence.decision.to_string(),
    }
}

/// The decision about arm b with its p-value.
fn decision_in_words(evidence: &Evidence, b: &str) -> String {
    let decision = match evidence.decision {
        Decision::Undecided if evidence.one_training => "undecided: one training of each arm".to_owned(),
        Decision::Undecided | Decision::Tied => evidence.decision.to_string(),
        decision => format!("`{b}` is {decision}"),
    };
    let p = evidence.p_different.map(p_value).map_or_else(String::new, |p| match p.starts_with('<') {
        true => format!(" (p {p})"),
        false => format!(" (p = {p})"),
    });
    let small = if evidence.within_margin { ", by less than the declared margin" } else { "" };
    decision + small + &p
}

/// Sentences: which comparisons are decided by their headlines, which are not, and what the intervals cover.
pub fn decisions_in_words(comparisons: &[Comparison]) -> Vec<String> {
    let (mut decided, mut open, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for comparison in comparisons {
        let (a, b) = (&comparison.arm_a, &comparison.arm_b);
        let Some(losses) = comparison.headline().and_then(|contrast| contrast.losses.as_ref()) else { continue };
        let Some(evidence) = losses.evidence else { continue };
        match evidence.decision {
            Decision::Undecided if evidence.one_training => alone.push(format!("`{b}` against `{a}`")),
            Decision::Undecided => {
                let enough =
                    |users| format!(" (about {users} users like these would detect a difference of this size)");
                let enough = losses.difference.users_needed().map(enough);
                open.push(format!("`{b}` against `{a}`{}", enough.unwrap_or_default()));
            }
            Decision::Tied => decided.push(format!("`{b}` and `{a}` are tied")),
            decision => decided.push(format!("`{b}` is {decision} than `{a}`")),
        }
    }
    let sentence = |start: &str, all: Vec<String>| (!all.is_empty()).then(|| format!("{start}: {}.", all.join("; ")));
    let decided = sentence("Decided", decided);
    let scope = decided.is_some().then(|| scope_note(&comparisons[0]));
    let open = sentence("Too few users or trainings to decide", open);
    let alone = sentence("Undecided, because each arm was trained once", alone);
    decided.into_iter().chain(open).chain(alone).chain(scope).collect()
}

/// What the intervals and p-values of a comparison are about.
pub fn scope_note(comparison: &Comparison) -> String {
    let trainings = comparison.contrasts.iter().filter_map(|contrast| contrast.losses.as_ref());
    let trainings = trainings.map(|losses| losses.difference.trainings).max().unwrap_or(1);
    match (comparison.rules.question, trainings) {
        (Question::TheseModels, _) => {
            "Intervals and p-values are about these trained models and other users: another training could give another result.".to_owned()
        }
        (Question::WayOfTraining, 1) => {
            "Each arm was trained once, so the variance between trainings is unknown: intervals are about these trained models and other users, and nothing is decided about the way of training. `split.repeats` or `seeds` adds trainings."
                .to_owned()
        }
        (Question::WayOfTraining, trainings) => format!(
            "Intervals and p-values are about this way of training, other users and other trainings; the variance between trainings is estimated from {}.",
            match comparison.folds {
                1 => counted(trainings, "training seed"),
                _ => counted(trainings, "fold"),
            }
        ),
    }
}

/// Whether users differ, as a sentence or two.
pub fn heterogeneity_in_words(found: &Heterogeneity) -> String {
    let Heterogeneity { between_users, p, monte_carlo_error, users } = found;
    let more = if *p <= ALPHA { "Users differ more than" } else { "There is no evidence that users differ more than" };
    format!(
        "{more} items that are dealt to them at random (p = {p:.3} ± {monte_carlo_error:.3}, not corrected). The standard \
         deviation between the true differences of {} is estimated as {between_users:.3} nats per token. Each user's own difference is \
         shrunk towards the mean by the share of noise in it. All of this is about these trained models.",
        counted(users.len(), "user")
    )
}

/// Flags of items on which the arms of a comparison disagree, one sentence per flag.
pub(crate) fn disagreements_in_words(comparison: &Comparison) -> impl Iterator<Item = String> {
    let without_words = (comparison.without_words > 0).then(|| {
        let items = counted(comparison.without_words, "item");
        let (a, b) = (&comparison.arm_a, &comparison.arm_b);
        format!("{items} left out of `{b}` − `{a}`: an arm sees a thought there for which its source has no words.")
    });
    let flags = comparison.disagreements.iter().map(|one| {
        let items = counted(one.items, "item");
        format!(
            "`{}` differs between the arms for {items}; the comparison treats the flag as set if either arm sets it.",
            one.field
        )
    });
    flags.chain(without_words)
}

#[cfg(test)]
mod tests {
    use undertone_stats::{Arms, ItemRecord, Rules, compare};

    use super::*;
    use crate::example::example;

    /// One next prompt per user, each of 10 tokens, with these nats in each of two trainings.
    fn arm(name: &str, nats: impl IntoIterator<Item = f64>) -> Vec<ItemRecord> {
        let record = |(user, nats): (usize, f64)| ItemRecord {
            arm: name.into(),
            nats,
            ..example(&format!("item{user}"), &format!("user{user:02}"))
        };
        let once: Vec<ItemRecord> = nats.into_iter().enumerate().map(record).collect();
        let trained = |seed| once.iter().cloned().map(move |record| ItemRecord { seed: Some(seed), ..record });
        trained(0).chain(trained(1)).collect()
    }

    fn compared(a: &[ItemRecord], b: &[ItemRecord]) -> Comparison {
        compare(&[Arms { a, b, primary: true }], Rules::default()).unwrap().remove(0)
    }

    /// The records of the first training.
    fn once(records: &[ItemRecord]) -> Vec<ItemRecord> {
        records.iter().filter(|record| record.seed == Some(0)).cloned().collect()
    }

    const SEEING: &str = "Seeing past thoughts";

    #[test]
    fn a_verdict_tells_the_difference_the_decision_and_the_interval() {
        let users = || (0..20).map(f64::from);
        let b = arm("past", users().map(|user| 45.0 + user));
        let comparison = compared(&arm("none", users().map(|user| 50.0 + user)), &b);
        assert_eq!(
            verdict(&comparison, SEEING),
            "next_prompt (primary): Seeing past thoughts lowered the loss by 0.500 nats per token on 20 items of 20 users. Verdict: \
             `past` is better (p < 0.001). Over other users and other trainings, the 95 % interval of `past` − `none`, −0.500 to −0.500 \
             (Student's t with 19.0 degrees of freedom), excludes zero."
        );
        let worse = compared(&b, &arm("none", users().map(|user| 50.0 + user)));
        assert!(verdict(&worse, "Seeing nothing").contains("Seeing nothing raised the loss by 0.500 nats"));
    }

    #[test]
    fn one_training_and_few_users_are_told() {
        let (none, past) = (arm("none", [20.0, 30.0, 50.0]), arm("past", [18.0, 33.0, 40.0]));
        assert_eq!(
            verdict(&compared(&once(&past), &once(&none)), "Hiding thoughts"),
            "next_prompt (primary): Hiding thoughts raised the loss by 0.300 nats per token on 3 items of 3 users. Verdict: \
             undecided: one training of each arm. Over other users, with these trained models, the 95 % interval of `none` − `past`, \
             −1.329 to +1.929 (Student's t with 2.0 degrees of freedom), includes zero. \
             Fewer than 10 users are too few to say much about other users."
        );
        assert!(verdict(&compared(&past, &none), "Hiding thoughts").contains("undecided (p = 0.511)"));
        let alone = |records: &[ItemRecord]| once(records)[..1].to_vec();
        assert_eq!(
            verdict(&compared(&alone(&none), &alone(&past)), SEEING),
            "next_prompt (primary): Seeing past thoughts lowered the loss by 0.200 nats per token on 1 item of 1 user. Verdict: \
             undecided: one training of each arm. An interval needs at least two users. Fewer than 10 users are too few to say much about other users."
        );
        let same = compared(&past, &arm("none", [18.0, 33.0, 40.0]));
        assert!(verdict(&same, SEEING).contains("Seeing past thoughts did not change the loss on 3 items"));
    }

    #[test]
    fn nothing_primary_means_that_all_items_decide() {
        let alone = |name| vec![ItemRecord { primary: false, ..arm(name, [20.0]).remove(0) }];
        let comparison = compared(&alone("none"), &alone("past"));
        assert!(verdict(&comparison, SEEING).starts_with("next_prompt (all): "));
    }

    #[test]
    fn decided_and_open_comparisons_are_told_apart() {
        let users = || (0..12).map(|user| (user, 20.0 + f64::from(user)));
        let none = arm("none", users().map(|(_, nats)| nats));
        let past = arm("past", users().map(|(user, nats)| nats - 5.0 + f64::from(user % 2)));
        let odd = arm("odd", users().map(|(user, nats)| nats + if user % 2 == 0 { 2.0 } else { -1.0 }));
        let comparisons = [compared(&none, &past), compared(&none, &odd), compared(&once(&none), &once(&past))];
        assert_eq!(
            decisions_in_words(&comparisons),
            [
                "Decided: `past` is better than `none`.",
                "Too few users or trainings to decide: `odd` against `none` (about 80 users like these would detect a difference of this size).",
                "Undecided, because each arm was trained once: `past` against `none`.",
                "Intervals and p-values are about this way of training, other users and other trainings; the variance between trainings is estimated from 2 training seeds.",
            ]
        );
        assert_eq!(decisions_in_words(&comparisons[1..2]).len(), 1, "an open comparison needs no such note");
        assert_eq!(decisions_in_words(&[]), [""; 0]);
    }
}
