//! Comparisons in sentences.
//!
//! A sentence begins with the *change* from arm a to arm b, such as `Seeing past thoughts`. The caller, who knows the
//! arms, provides it.

use undertone_stats::{Comparison, Contrast, Decision, ENOUGH_USERS, Evidence, counted};

use crate::numbers::{interval, p_value, shown_interval};

/// The result of a comparison's headline in words: the difference, the decision, the interval, and a warning if users
/// are few.
pub fn verdict(comparison: &Comparison, change: &str) -> String {
    let Comparison { arm_a, arm_b, .. } = comparison;
    let told = |contrast| contrast_in_words(contrast, [arm_a, arm_b], change);
    comparison.headline().map_or_else(|| "Nothing is compared.".to_owned(), told)
}

fn contrast_in_words(contrast: &Contrast, [a, b]: [&str; 2], change: &str) -> String {
    let (kind, subset) = (contrast.kind, contrast.subset);
    let Some(losses) = &contrast.losses else {
        return format!("{kind} ({subset}): no items, so nothing is compared.");
    };
    let (items, users) = (counted(contrast.items, "item"), counted(contrast.users, "user"));
    let effect = effect(losses.difference.ratio.value);
    let decision = decision_in_words(&losses.evidence, b);
    let mut words = format!("{kind} ({subset}): {change} {effect} on {items} of {users}. Verdict: {decision}.");
    let Some(shown) = shown_interval(&losses.difference) else {
        return words + " An interval needs at least two users.";
    };
    let few = losses.difference.too_few_users;
    let method = if few { format!(" by Student's t({})", contrast.users - 1) } else { String::new() };
    let side = if shown.contains_zero() { "includes" } else { "excludes" };
    words += &format!(" The 95 % interval of `{b}` − `{a}`{method}, {}, {side} zero.", interval(shown));
    if few {
        words += &format!(" Fewer than {ENOUGH_USERS} users are too few to say much about other users.");
    }
    words
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

/// The decision about arm b with its p-value.
fn decision_in_words(evidence: &Evidence, b: &str) -> String {
    let decision = match evidence.decision {
        Decision::Undecided => "undecided".to_owned(),
        Decision::Tied => "tied".to_owned(),
        decision => format!("`{b}` is {decision}"),
    };
    let p = evidence.p_adjusted.map(p_value).map_or_else(String::new, |p| match p.starts_with('<') {
        true => format!(" (p {p})"),
        false => format!(" (p = {p})"),
    });
    let small = if evidence.within_margin { ", by less than the declared margin" } else { "" };
    decision + small + &p
}

/// Sentences: which comparisons are decided by their headlines, which are not, and which variance intervals include.
pub fn decisions_in_words(comparisons: &[Comparison]) -> Vec<String> {
    let (mut decided, mut open) = (Vec::new(), Vec::new());
    for comparison in comparisons {
        let (a, b) = (&comparison.arm_a, &comparison.arm_b);
        let Some(losses) = comparison.headline().and_then(|contrast| contrast.losses.as_ref()) else { continue };
        match losses.evidence.decision {
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
    let seeds = decided.is_some().then(|| seeds_note(&comparisons[0]));
    decided.into_iter().chain(sentence("Too few users to decide", open)).chain(seeds).collect()
}

/// Whether the intervals of a comparison include the variance between training seeds.
pub fn seeds_note(comparison: &Comparison) -> String {
    match comparison.seeds {
        1 => "Intervals include the variance between users but not between training seeds: another training seed could change the result."
            .to_owned(),
        seeds => format!(
            "Intervals include the variance between users and between {seeds} training seeds; p-values hold for \
             these trained models only."
        ),
    }
}

/// Flags of items on which the arms of a comparison disagree, one sentence per flag.
pub(crate) fn disagreements_in_words(comparison: &Comparison) -> impl Iterator<Item = String> {
    comparison.disagreements.iter().map(|one| {
        let items = counted(one.items, "item");
        format!(
            "`{}` differs between the arms for {items}; the comparison treats the flag as set if either arm sets it.",
            one.field
        )
    })
}

#[cfg(test)]
mod tests {
    use undertone_stats::{Arms, ItemRecord, Rules, compare};

    use super::*;
    use crate::example::example;

    /// One next prompt per user, each of 10 tokens, with these nats.
    fn arm(name: &str, nats: impl IntoIterator<Item = f64>) -> Vec<ItemRecord> {
        let record = |(user, nats): (usize, f64)| ItemRecord {
            arm: name.into(),
            nats,
            ..example(&format!("item{user}"), &format!("user{user:02}"))
        };
        nats.into_iter().enumerate().map(record).collect()
    }

    fn compared(a: &[ItemRecord], b: &[ItemRecord]) -> Comparison {
        compare(&[Arms { a, b, primary: true }], Rules::default()).unwrap().remove(0)
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
             `past` is better (p < 0.001). The 95 % interval of `past` − `none`, −0.500 to −0.500, excludes zero."
        );
        let worse = compared(&b, &arm("none", users().map(|user| 50.0 + user)));
        assert!(verdict(&worse, "Seeing nothing").contains("Seeing nothing raised the loss by 0.500 nats"));
    }

    #[test]
    fn few_users_are_warned_of() {
        let (none, past) = (arm("none", [20.0, 30.0, 50.0]), arm("past", [18.0, 33.0, 40.0]));
        assert_eq!(
            verdict(&compared(&past, &none), "Hiding thoughts"),
            "next_prompt (primary): Hiding thoughts raised the loss by 0.300 nats per token on 3 items of 3 users. Verdict: \
             undecided (p = 0.750). The 95 % interval of `none` − `past` by Student's t(2), −1.329 to +1.929, includes zero. \
             Fewer than 10 users are too few to say much about other users."
        );
        assert_eq!(
            verdict(&compared(&none[..1], &past[..1]), SEEING),
            "next_prompt (primary): Seeing past thoughts lowered the loss by 0.200 nats per token on 1 item of 1 user. Verdict: \
             undecided. An interval needs at least two users."
        );
        let same = compared(&past, &arm("none", [18.0, 33.0, 40.0]));
        assert!(verdict(&same, SEEING).contains("Seeing past thoughts did not change the loss on 3 items"));
    }

    #[test]
    fn nothing_to_compare_is_told() {
        let alone = |name| vec![ItemRecord { primary: false, ..arm(name, [20.0]).remove(0) }];
        let comparison = compared(&alone("none"), &alone("past"));
        assert_eq!(verdict(&comparison, SEEING), "next_prompt (primary): no items, so nothing is compared.");
    }

    #[test]
    fn decided_and_open_comparisons_are_told_apart() {
        let users = || (0..12).map(|user| (user, 20.0 + f64::from(user)));
        let none = arm("none", users().map(|(_, nats)| nats));
        let past = arm("past", users().map(|(user, nats)| nats - 5.0 + f64::from(user % 2)));
        let odd = arm("odd", users().map(|(user, nats)| nats + if user % 2 == 0 { 2.0 } else { -1.0 }));
        let comparisons = [compared(&none, &past), compared(&none, &odd)];
        assert_eq!(
            decisions_in_words(&comparisons),
            [
                "Decided: `past` is better than `none`.",
                "Too few users to decide: `odd` against `none` (about 80 users like these would detect a difference of this size).",
                "Intervals include the variance between users but not between training seeds: another training seed could change the result.",
            ]
        );
        assert_eq!(decisions_in_words(&comparisons[1..]).len(), 1, "an open comparison needs no such note");
        assert_eq!(decisions_in_words(&[]), [""; 0]);
    }
}
