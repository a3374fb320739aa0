//! How the primary difference changes with what the study decided beforehand: the length of replies and the timing
//! margin. And what the difference is made of: presence, topic, person and content.

use std::collections::BTreeSet;

use serde::Serialize;
use undertone_data::{Source, TargetKind};
use undertone_report::{ForestRow, Table, columns, count, interval, or_nothing, shown_interval, signed};
use undertone_stats::{Arms, Contrast, Decision, ItemRecord, NotComparable, Rules, Subset, by_group};

use crate::arms::Evaluated;
use crate::experiment::{Arm, Experiment};
use crate::replies::OtherReplies;

/// One difference under several settings.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sensitivity {
    /// What changes from row to row.
    setting: &'static str,
    /// The name of the difference.
    difference: String,
    note: &'static str,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Serialize)]
struct Row {
    name: String,
    /// The mean number of tokens of earlier replies that an item's path lacks.
    reply_tokens_lost: f64,
    contrast: Contrast,
}

/// Two arms on the primary next prompts, or on the first kind; without a decision.
fn row(
    name: String,
    arms: Arms<'_>,
    rules: Rules,
    is_counted: &dyn Fn(&ItemRecord) -> bool,
) -> Result<Option<Row>, NotComparable> {
    let kinds = TargetKind::ALL.into_iter();
    let Some(kind) = kinds.clone().find(|kind| arms.b.iter().any(|record| record.kind == *kind)) else {
        return Ok(None);
    };
    let subset =
        if arms.b.iter().any(|record| record.primary && record.kind == kind) { Subset::Primary } else { Subset::All };
    let group = |record: &ItemRecord| is_counted(record).then(String::new);
    let contrast = by_group(&arms, rules, (kind, subset), group)?.pop().map(|(_, contrast)| contrast);
    let counted =
        |record: &&ItemRecord| record.kind == kind && (subset == Subset::All || record.primary) && is_counted(record);
    let lost: Vec<f64> = arms.b.iter().filter(counted).map(|record| record.reply_tokens_lost as f64).collect();
    let reply_tokens_lost = lost.iter().sum::<f64>() / lost.len().max(1) as f64;
    Ok(contrast.map(|contrast| Row { name, reply_tokens_lost, contrast }))
}

/// The records of an arm.
fn records_of<'a>(arms: &[Evaluated], records: &'a [Vec<ItemRecord>], name: &str) -> Option<&'a [ItemRecord]> {
    let place = arms.iter().position(|arm| arm.name == name)?;
    Some(&records[place])
}

/// The primary difference against the timing margin; `None` without margins.
pub(super) fn by_timing_margin(
    experiment: &Experiment,
    arms: &[Evaluated],
    records: &[Vec<ItemRecord>],
    rules: Rules,
) -> Result<Option<Sensitivity>, NotComparable> {
    let pairs = experiment.margin_pairs();
    let [Some(a), Some(b)] = experiment.primary_pair() else { return Ok(None) };
    if pairs.is_empty() {
        return Ok(None);
    }
    let mut rows = Vec::new();
    let own = a.timing_margin_seconds.max(b.timing_margin_seconds);
    for (margin, [a, b]) in [(own, [a.clone(), b.clone()])].into_iter().chain(pairs) {
        let both = records_of(arms, records, &a.name).zip(records_of(arms, records, &b.name));
        let Some((a, b)) = both else { continue };
        rows.extend(row(format!("{margin} s"), Arms { a, b, primary: false }, rules, &|_| true)?);
    }
    Ok(Some(Sensitivity {
        setting: "timing margin",
        difference: format!("{} − {}", b.name, a.name),
        note: "The same models and items, with only those thoughts that are older than the target's message by more than the margin. A difference that \
               vanishes with a small margin may come from clocks that disagree.",
        rows,
    }))
}

/// The primary difference against the length of replies; `None` with one length.
pub(super) fn by_reply_length(
    experiment: &Experiment,
    arms: &[Evaluated],
    records: &[Vec<ItemRecord>],
    others: &[OtherReplies],
    rules: Rules,
) -> Result<Option<Sensitivity>, NotComparable> {
    let [Some(a), Some(b)] = experiment.primary_pair() else { return Ok(None) };
    let Some((in_a, in_b)) = records_of(arms, records, &a.name).zip(records_of(arms, records, &b.name)) else {
        return Ok(None);
    };
    if others.is_empty() {
        return Ok(None);
    }
    let tokens = experiment.data.reply_tokens().to_string();
    // Every row is on the items that are primary with every length.
    let is_primary = |records: &[ItemRecord]| -> BTreeSet<String> {
        records.iter().filter(|record| record.primary).map(|record| record.item.clone()).collect()
    };
    let mut common = is_primary(in_b);
    for other in others {
        common = common.intersection(&is_primary(&other.records[1])).cloned().collect();
    }
    let is_counted = |record: &ItemRecord| common.is_empty() || common.contains(&record.item);
    let mut rows = Vec::from_iter(row(tokens, Arms { a: in_a, b: in_b, primary: false }, rules, &is_counted)?);
    for OtherReplies { tokens, records: [a, b] } in others {
        rows.extend(row(tokens.to_string(), Arms { a, b, primary: false }, rules, &is_counted)?);
    }
    Ok(Some(Sensitivity {
        setting: "most tokens of a reply",
        difference: format!("{} − {}", b.name, a.name),
        note: "Thoughts about a reply may repeat what was cut from it. A difference that vanishes with longer replies is recovered text. The models are \
               trained anew with each length, on the same users.",
        rows,
    }))
}

/// What each source adds to the one before it.
const STEPS: [(Source, &str); 4] = [
    (Source::Presence, "presence"),
    (Source::SameConversation, "topic"),
    (Source::OtherConversation, "person"),
    (Source::Own, "content"),
];

/// What the difference between the user's own thoughts and none is made of, as far as the study has arms for it; `None`
/// without an arm between them.
pub(super) fn decomposition(
    experiment: &Experiment,
    arms: &[Evaluated],
    records: &[Vec<ItemRecord>],
    rules: Rules,
) -> Result<Option<Sensitivity>, NotComparable> {
    let [a, b] = experiment.primary_pair();
    let Some(own) = [b, a].into_iter().flatten().find(|arm| arm.source == Source::Own && arm.shown().0.sees_thoughts())
    else {
        return Ok(None);
    };
    // Every arm of the chain is trained itself, on the same targets and with the same dropout.
    let declared = |name: &str| experiment.arms.iter().find(|arm| arm.name == name);
    let is_alike = |arm: &Evaluated| {
        let is_trained_alike = |one: &Arm| {
            let has_thoughts = one.shown().0.sees_thoughts();
            one.targets == own.targets && (!has_thoughts || one.thought_dropout == own.thought_dropout)
        };
        arm.is_trained_itself() && declared(&arm.name).is_some_and(is_trained_alike)
    };
    let none = arms.iter().position(|arm| is_alike(arm) && !arm.shown.0.sees_thoughts());
    let shown_as = |source: Source| {
        let is_it = |arm: &&Evaluated| match source {
            Source::Own => arm.name == own.name && is_alike(arm),
            _ => is_alike(arm) && arm.shown == (own.shown().0, source),
        };
        arms.iter().find(is_it).and_then(|arm| records_of(arms, records, &arm.name))
    };
    if shown_as(Source::Own).is_none() {
        return Ok(None);
    }
    let Some(none) = none.map(|place| &records[place][..]) else { return Ok(None) };
    let present: Vec<(&str, &[ItemRecord])> =
        STEPS.into_iter().filter_map(|(source, name)| Some((name, shown_as(source)?))).collect();
    if present.len() < 2 {
        return Ok(None);
    }
    // Every step is on the same items: those for which every source has words.
    let lacking: BTreeSet<&str> = present
        .iter()
        .flat_map(|(_, records)| *records)
        .filter(|one| one.lacks_words)
        .map(|one| one.item.as_str())
        .collect();
    let is_counted = |record: &ItemRecord| !lacking.contains(record.item.as_str());
    let mut rows = Vec::new();
    let mut before = none;
    // A source without an arm adds its part to the next.
    let mut names: Vec<&str> = Vec::new();
    for (source, name) in STEPS {
        names.push(name);
        let Some(records) = shown_as(source) else { continue };
        let arms = Arms { a: before, b: records, primary: false };
        rows.extend(row(names.join(" and "), arms, rules, &is_counted)?);
        (before, names) = (records, Vec::new());
    }
    let total = Arms { a: none, b: before, primary: false };
    rows.extend(row("all together".into(), total, rules, &is_counted)?);
    Ok(Some(Sensitivity {
        setting: "part",
        difference: format!("{} − no thoughts", own.name),
        note: "Presence: that there is a thought. Topic: as many words of the same conversation in its place. Person: the same user's thoughts from another \
               conversation. Content: what the thoughts say. Each part is the difference between two arms that are trained alike, on the same items; \
               the parts add up.",
        rows,
    }))
}

impl Sensitivity {
    /// As a table.
    pub(super) fn table(&self) -> Table {
        let row = |Row { name, reply_tokens_lost, contrast }: &Row| {
            let losses = contrast.losses.as_ref()?;
            Some(vec![
                name.clone(),
                count(contrast.items),
                count(contrast.users),
                format!("{reply_tokens_lost:.0}"),
                signed(losses.difference.ratio.value),
                or_nothing(shown_interval(&losses.difference).map(interval)),
            ])
        };
        Table {
            title: format!("`{}` by {}, nats per token", self.difference, self.setting),
            header: columns(&[self.setting], &["items", "users", "reply tokens cut", "difference", "95 % interval"]),
            rows: self.rows.iter().filter_map(row).collect(),
            notes: vec![
                self.note.to_owned(),
                "Reply tokens cut is the mean number of tokens of earlier replies that an item's history lacks. None of these differences \
                 is tested."
                    .to_owned(),
            ],
        }
    }

    /// As rows of a plot.
    pub(super) fn forest(&self) -> Vec<ForestRow> {
        let row = |Row { name, reply_tokens_lost, contrast }: &Row| {
            let difference = &contrast.losses.as_ref()?.difference;
            Some(ForestRow {
                name: name.clone(),
                value: difference.ratio.value,
                interval: shown_interval(difference),
                decision: Decision::Undecided,
                numbers: format!("{} · {reply_tokens_lost:.0} cut", signed(difference.ratio.value)),
                primary: false,
            })
        };
        self.rows.iter().filter_map(row).collect()
    }

    /// What changes from row to row.
    pub(super) fn setting(&self) -> &str {
        self.setting
    }
}
