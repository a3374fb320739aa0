//! Contrasts in sentences.

use super::pairing::counted;
use super::{Comparison, Contrast};
use crate::inference::{Decision, ENOUGH_USERS, Interval};

impl Contrast {
    pub(super) fn in_words(&self, [a, b]: [&str; 2]) -> String {
        let (kind, subset) = (self.kind, self.subset);
        let Some(losses) = &self.losses else {
            return format!("{kind} ({subset}): no items, so nothing is compared.");
        };
        let difference = losses.difference.ratio;
        let by = match format!("{:.3}", difference.value.abs()) {
            digits if digits == "0.000" => "less than 0.001".to_owned(),
            digits => digits,
        };
        let result = match difference.value {
            0.0 => format!("`{b}` equals `{a}`"),
            below if below < 0.0 => format!("`{b}` is lower than `{a}` by {by} nats per token"),
            _ => format!("`{a}` is lower than `{b}` by {by} nats per token"),
        };
        let items = counted(self.items, "item");
        let users = counted(self.users, "user");
        let mut words = format!("{kind} ({subset}): {result} on {items} of {users}: {}.", self.decided(b));
        let Some(intervals) = difference.intervals else {
            return words + " One user gives no interval, and shows little about others.";
        };
        let few = losses.difference.too_few_users;
        let (interval, by) = match few {
            true => (intervals.student_t, format!(" by Student's t({})", self.users - 1)),
            false => (intervals.bca, String::new()),
        };
        words += &format!(" Zero lies {} the 95 % interval of `{b}` − `{a}`{by}, {interval}.", side_of_zero(interval));
        if few {
            words += &format!(" Too few users: fewer than {ENOUGH_USERS} show little about others.");
        }
        words
    }

    /// The one word and what it rests on.
    fn decided(&self, b: &str) -> String {
        let Some(evidence) = self.losses.as_ref().map(|losses| losses.evidence) else { return String::new() };
        let word = match evidence.decision {
            Decision::Undecided => "undecided".to_owned(),
            Decision::Tied => "tied".to_owned(),
            decision => format!("`{b}` is {decision}"),
        };
        let p = evidence.p_adjusted.map(p_value).map_or_else(String::new, |p| match p.starts_with('<') {
            true => format!(" (p {p})"),
            false => format!(" (p = {p})"),
        });
        let small = if evidence.within_margin { ", by less than the declared margin" } else { "" };
        word + small + &p
    }
}

/// What some comparisons decide by their headlines, what they leave open, and which variance that is of, in a sentence each.
pub fn decided_in_words(comparisons: &[Comparison]) -> Vec<String> {
    let (mut decided, mut open) = (Vec::new(), Vec::new());
    for comparison in comparisons {
        let (a, b) = (&comparison.arm_a, &comparison.arm_b);
        let Some(losses) = comparison.headline().and_then(|contrast| contrast.losses.as_ref()) else { continue };
        match losses.evidence.decision {
            Decision::Undecided => {
                let needed = losses.difference.users_needed();
                let needed =
                    needed.map(|users| format!(" ({users} users like these would, if that is the true difference)"));
                open.push(format!("`{b}` against `{a}`{}", needed.unwrap_or_default()));
            }
            Decision::Tied => decided.push(format!("`{b}` and `{a}` are tied")),
            word => decided.push(format!("`{b}` is {word} than `{a}`")),
        }
    }
    let sentence = |begins: &str, all: Vec<String>| (!all.is_empty()).then(|| format!("{begins}: {}.", all.join("; ")));
    let decided = sentence("These users decide", decided);
    let seeds = decided.is_some().then(|| comparisons[0].seeds_note.clone());
    decided.into_iter().chain(sentence("These users do not decide", open)).chain(seeds).collect()
}

/// A p-value with three decimals.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.0005 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

fn side_of_zero(interval: Interval) -> &'static str {
    if interval.contains_zero() { "inside" } else { "outside" }
}
