use super::*;
use crate::record::{RecordFault, RecordProblem, example};

/// One next prompt: item, user, tokens, nats.
type Row = (&'static str, &'static str, usize, f64);

fn arm(name: &str, rows: &[Row]) -> Vec<ItemRecord> {
    let record = |&(item, user, tokens, nats): &Row| ItemRecord {
        arm: name.into(),
        nats,
        tokens,
        bytes: 4 * tokens,
        ..example(item, user)
    };
    rows.iter().map(record).collect()
}

const NONE: [Row; 3] = [("a", "user1", 10, 20.0), ("b", "user1", 30, 30.0), ("c", "user2", 20, 50.0)];
const PAST: [Row; 3] = [("a", "user1", 10, 18.0), ("b", "user1", 30, 33.0), ("c", "user2", 20, 40.0)];

fn compared(a: &[ItemRecord], b: &[ItemRecord]) -> Comparison {
    compare(&[Arms { a, b, primary: true }], Rules::default()).unwrap().remove(0)
}

fn refused(a: &[ItemRecord], b: &[ItemRecord]) -> String {
    compare(&[Arms { a, b, primary: true }], Rules::default()).unwrap_err().to_string()
}

fn close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() < 1e-12, "{actual} is not {expected}");
}

#[test]
fn the_difference_is_a_ratio_of_sums_by_user() {
    // User 1: +1 nat on 40 tokens; user 2: −10 nats on 20.
    let comparison = compared(&arm("none", &NONE), &arm("past", &PAST));
    let primary = comparison.contrast(TargetKind::NextPrompt, Subset::Primary).unwrap();
    assert_eq!((primary.items, primary.users, primary.tokens), (3, 2, 60));
    let losses = primary.losses.as_ref().unwrap();
    close(losses.a, 100.0 / 60.0);
    close(losses.b, 91.0 / 60.0);
    close(losses.difference.ratio.value, -0.15);
    close(losses.a_mean_of_user_means, (50.0 / 40.0 + 50.0 / 20.0) / 2.0);
    close(losses.difference.mean_of_user_means.value, (0.025 - 0.5) / 2.0);
    // The users have ⅔ and ⅓ of the tokens and residuals of 0.175 and −0.35 per token, so CR2 multiplies their squares by 2
    // and ⅛ (see `WeightedMean`); t has one degree of freedom.
    let t = losses.difference.ratio.of_models.unwrap().student_t;
    assert!((t.high - (-0.15 + 12.706_204_7 * 0.076_562_5_f64.sqrt())).abs() < 1e-6, "{t:?}");
}

#[test]
fn items_are_paired_so_what_both_arms_share_cancels() {
    // Users range from 1 to 20 nats per token; arm b is 0.5 lower on every token.
    let users: Vec<String> = (1..=20).map(|user| format!("user{user:02}")).collect();
    let rows = |lower: f64| -> Vec<ItemRecord> {
        let record = |(user, level): (&String, u8)| ItemRecord {
            item: user.clone(),
            user: user.clone(),
            nats: 8.0 * (f64::from(level) - lower),
            ..arm("none", &[("a", "user1", 8, 0.0)])[0].clone()
        };
        users.iter().zip(1..).map(record).collect()
    };
    let mut b = rows(0.5);
    b.iter_mut().for_each(|record| record.arm = "past".into());
    let comparison = compared(&rows(0.0), &b);
    let intervals = comparison.contrasts[0].losses.as_ref().unwrap().difference.ratio.of_models.unwrap();
    for interval in [intervals.bca, intervals.student_t] {
        close(interval.low, -0.5);
        close(interval.high, -0.5);
    }
}

#[test]
fn the_order_of_records_changes_no_byte() {
    let (a, b) = (arm("none", &NONE), arm("past", &PAST));
    let turned = |records: &[ItemRecord]| records.iter().rev().cloned().collect::<Vec<_>>();
    let text = |comparison: &Comparison| serde_json::to_string_pretty(comparison).unwrap();
    let expected = text(&compared(&a, &b));
    assert_eq!(text(&compared(&turned(&a), &b)), expected);
    assert_eq!(text(&compared(&a, &turned(&b))), expected);
}

#[test]
fn a_comparison_survives_json() {
    let comparison = compared(&arm("none", &NONE[..1]), &arm("past", &PAST[..1]));
    let text = serde_json::to_string(&comparison).unwrap();
    assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), comparison);
}

#[test]
fn subsets_are_told_apart_and_empty_ones_said() {
    let (mut a, mut b) = (arm("none", &NONE), arm("past", &PAST));
    // `a` is primary only in the arm that sees thoughts, `b` quotes a thought, `c` is a first message.
    a[0].primary = false;
    b[1].quotes_target = true;
    (a[2].primary, b[2].primary) = (false, false);
    let comparison = compared(&a, &b);
    let items: Vec<usize> = comparison.contrasts.iter().map(|c| c.items).collect();
    assert_eq!(items, [2, 3, 1]);
    let disagreement = |field: &str| Disagreement { field: field.into(), items: 1 };
    assert_eq!(comparison.disagreements, [disagreement("primary"), disagreement("quotes_target")]);
    b[0].primary = false;
    b[1].primary = false;
    a[1].primary = false;
    let comparison = compared(&a, &b);
    assert_eq!(comparison.contrasts[0].losses, None);
    assert!(!serde_json::to_string(&comparison).unwrap().contains("NaN"));
}

#[test]
fn kinds_are_never_pooled() {
    let (mut a, mut b) = (arm("none", &NONE), arm("past", &PAST));
    a[0].kind = TargetKind::Reaction;
    b[0].kind = TargetKind::Reaction;
    let comparison = compared(&a, &b);
    let items_and_tokens = |kind| comparison.contrast(kind, Subset::All).map(|c| (c.items, c.tokens));
    assert_eq!(items_and_tokens(TargetKind::NextPrompt), Some((2, 50)));
    assert_eq!(items_and_tokens(TargetKind::Reaction), Some((1, 10)));
    assert_eq!(items_and_tokens(TargetKind::Reason), None);
}

#[test]
fn what_is_no_pair_is_refused_with_the_difference_named() {
    let (a, b) = (arm("none", &NONE), arm("past", &PAST));
    let more = [("d", "u", 1, 1.0), ("e", "u", 1, 1.0), ("f", "u", 1, 1.0), ("g", "u", 1, 1.0)];
    let longer = [&a[..2], &arm("none", &more)].concat();
    assert_eq!(
        refused(&longer, &b),
        "the arms scored different items: 4 only in `none` (`d`, `e`, `f`), 1 only in `past` (`c`)"
    );
    assert_eq!(refused(&a[..2], &b), "the arms scored different items: none only in `none`, 1 only in `past` (`c`)");
    assert_eq!(refused(&a, &[]), "an arm has no item records, so there is nothing to compare");
    assert_eq!(refused(&a, &a), "both sides are arm `none`");
    assert_eq!(refused(&a, &[a.clone(), b.clone()].concat()), "one side holds several arms: `none`, `past`");
    let mut spoilt = b.clone();
    spoilt[1].nats = f64::NAN;
    let error = compare(&[Arms { a: &a, b: &spoilt, primary: true }], Rules::default()).unwrap_err();
    assert!(matches!(error, NotComparable::Record(RecordFault { problem: RecordProblem::Nats(_), .. })));
}

#[test]
fn items_that_are_not_the_same_target_are_refused_field_by_field() {
    let (a, b) = (arm("none", &NONE), arm("past", &PAST));
    let refused_if = |change: fn(&mut ItemRecord), expected: &str| {
        let mut changed = b.clone();
        change(&mut changed[1]);
        let start = "the arms differ in the targets of 1 item: ";
        assert_eq!(refused(&a, &changed), format!("{start}{expected} in `past`"));
    };
    refused_if(|r| r.user = "user9".into(), "`user` of `b` is `user1` in `none` and `user9`");
    refused_if(
        |r| r.conversation = "x".into(),
        "`conversation` of `b` is `user1_task1_conversation1` in `none` and `x`",
    );
    refused_if(|r| r.kind = TargetKind::Reason, "`kind` of `b` is `next_prompt` in `none` and `reason`");
    refused_if(|r| r.tokens = 31, "`tokens` of `b` is `30` in `none` and `31`");
    refused_if(|r| r.bytes = 1, "`bytes` of `b` is `120` in `none` and `1`");
}

/// The same records for each seed; seed s adds s · `apart` nats to every item.
fn with_seeds(records: &[ItemRecord], seeds: &[u64], apart: f64) -> Vec<ItemRecord> {
    let trained_with = |seed: &u64| {
        let change = |record: &ItemRecord| ItemRecord {
            seed: Some(*seed),
            nats: record.nats + apart * *seed as f64,
            ..record.clone()
        };
        records.iter().map(change).collect::<Vec<_>>()
    };
    seeds.iter().flat_map(trained_with).collect()
}

#[test]
fn seeds_are_paired_averaged_and_part_of_the_error() {
    let a = with_seeds(&arm("none", &NONE), &[0, 1, 2], 0.0);
    let b = with_seeds(&arm("past", &PAST), &[0, 1, 2], 1.0);
    let comparison = compared(&a, &b);
    let primary = comparison.contrast(TargetKind::NextPrompt, Subset::Primary).unwrap();
    // Three seeds do not make three times the items. The seeds add 0, 1 and 2 nats to each of three items.
    assert_eq!((primary.items, primary.users, primary.tokens), (3, 2, 60));
    let losses = primary.losses.as_ref().unwrap();
    close(losses.difference.ratio.value, (91.0 + 3.0 - 100.0) / 60.0);
    let with = losses.difference.standard_error.unwrap().with_trainings.unwrap();
    // Users have 2 and 1 items, 40 and 20 tokens: 1/20 nats per token from seed to seed for both.
    close(with.components.training, 1.0 / 20.0);
    assert_eq!((comparison.seeds, comparison.folds, with.trainings), (3, 1, 3));
    // An untrained arm has no seed and is paired with each seed of the other.
    let untrained = compared(&arm("base", &NONE), &b);
    close(untrained.contrasts[0].losses.as_ref().unwrap().difference.ratio.value, losses.difference.ratio.value);
}

#[test]
fn other_seeds_are_refused() {
    let a = with_seeds(&arm("none", &NONE), &[0, 1], 0.0);
    let b = with_seeds(&arm("past", &PAST), &[0, 2], 0.0);
    assert_eq!(refused(&a, &b), "the arms have different seeds: `none` [0, 1], `past` [0, 2]");
    let short = with_seeds(&arm("past", &PAST), &[0, 1], 0.0);
    assert_eq!(refused(&a, &short[..5]), "arm `past` scored 1 item in fewer trainings than the others: `c`");
}

#[test]
fn comparisons_made_together_are_corrected_together_but_for_the_primary() {
    let users: Vec<String> = (0..10).map(|user| format!("user{user}")).collect();
    let rows = |name: &str, lower: f64| -> Vec<ItemRecord> {
        let record = |(index, user): (usize, &String)| ItemRecord {
            item: user.clone(),
            user: user.clone(),
            nats: 20.0 - lower - 0.01 * index as f64,
            ..arm(name, &[("a", "user1", 8, 0.0)])[0].clone()
        };
        users.iter().enumerate().map(record).collect()
    };
    let trained = |name: &str, lower: f64| with_seeds(&rows(name, lower), &[0, 1], 0.0);
    let none = trained("none", 0.0);
    let others = [trained("past", 0.010), trained("oracle", 0.012), trained("filler", 0.011)];
    let family: Vec<Arms<'_>> =
        others.iter().enumerate().map(|(index, b)| Arms { a: &none, b, primary: index == 0 }).collect();
    let rules = Rules { margin: Some(0.002), ..Rules::default() };
    let comparisons = compare(&family, rules).unwrap();
    let losses = |place: usize| comparisons[place].contrasts[0].losses.as_ref().unwrap();
    let raw = |place: usize| RawP::new(&losses(place).difference, rules.question, rules.margin);
    let found = |place: usize| losses(place).evidence.unwrap();
    assert_eq!((found(0).p_different, found(0).p_tied), (raw(0).different, raw(0).tied));
    // Differences and ties of the other comparisons are one family.
    let both = [raw(1), raw(2)].map(|p| [p.different.unwrap(), p.tied.unwrap()]);
    let corrected = holm(both.as_flattened());
    let shown = [found(1), found(2)].map(|evidence| [evidence.p_different.unwrap(), evidence.p_tied.unwrap()]);
    assert_eq!(shown.as_flattened(), corrected);
    assert!(corrected.iter().any(|p| *p < 1.0), "{corrected:?}");
    // Nothing is decided about other subsets.
    assert!(
        comparisons[1]
            .contrast(TargetKind::NextPrompt, Subset::All)
            .unwrap()
            .losses
            .as_ref()
            .unwrap()
            .evidence
            .is_none()
    );
}

#[test]
fn exactly_one_decision_is_primary() {
    let both_kinds = |rows: &[Row], name: &str| {
        let prompts = with_seeds(&arm(name, rows), &[0, 1], 0.0);
        let reasons = prompts.iter().map(|record| ItemRecord {
            kind: TargetKind::Reason,
            item: format!("{}/reason", record.item),
            ..record.clone()
        });
        prompts.iter().cloned().chain(reasons).collect::<Vec<ItemRecord>>()
    };
    let comparison = compared(&both_kinds(&NONE, "none"), &both_kinds(&PAST, "past"));
    assert_eq!(comparison.decided().count(), 2);
    assert_eq!(comparison.headline().unwrap().kind, TargetKind::NextPrompt);
    let p = |kind| {
        let losses = comparison.contrast(kind, Subset::Primary).unwrap().losses.as_ref().unwrap();
        (losses.difference.p, losses.evidence.unwrap().p_different)
    };
    assert_eq!(p(TargetKind::NextPrompt).0, p(TargetKind::NextPrompt).1);
    assert_eq!(p(TargetKind::Reason).0, p(TargetKind::Reason).1, "a family of one is not corrected");
}

#[test]
fn items_that_see_a_thought_without_words_are_left_out_and_counted() {
    let (a, mut b) = (arm("none", &NONE), arm("past", &PAST));
    b[0].lacks_words = true;
    let comparison = compared(&a, &b);
    assert_eq!(comparison.without_words, 1);
    assert_eq!(comparison.contrasts.iter().map(|c| c.items).collect::<Vec<_>>(), [2, 2, 2]);
}

/// Two models that no arm has trained, such as the untrained one and the one after the stages, are the same in all folds.
#[test]
fn models_without_a_training_of_their_own_are_one_training() {
    let in_folds = |name: &str, rows: &[Row]| -> Vec<ItemRecord> {
        let place =
            |record: ItemRecord| ItemRecord { fold: Some(usize::from(record.user == "user2")), seed: None, ..record };
        arm(name, rows).into_iter().map(place).collect()
    };
    let comparison = compared(&in_folds("base", &NONE), &in_folds("staged", &PAST));
    let losses = comparison.headline().unwrap().losses.as_ref().unwrap();
    assert!(losses.difference.standard_error.is_some_and(|error| error.with_trainings.is_none()));
    assert!(losses.evidence.as_ref().is_none_or(|evidence| evidence.one_training));
}

#[test]
fn divisions_test_each_user_once_and_give_cells() {
    let in_folds = |name: &str, rows: &[Row], more: f64| -> Vec<ItemRecord> {
        let place = |record: &ItemRecord, division: usize| ItemRecord {
            fold: Some(2 * division + usize::from(record.user == "user2")),
            seed: Some(0),
            nats: record.nats + more * division as f64,
            ..record.clone()
        };
        arm(name, rows).iter().flat_map(|record| [place(record, 0), place(record, 1)]).collect()
    };
    let (a, b) = (in_folds("none", &NONE, 0.0), in_folds("past", &PAST, 2.0));
    let comparison = compared(&a, &b);
    let primary = comparison.headline().unwrap();
    assert_eq!((primary.items, primary.users, primary.tokens, comparison.folds, comparison.seeds), (3, 2, 60, 4, 1));
    close(primary.losses.as_ref().unwrap().difference.ratio.value, (91.0 + 3.0 - 100.0) / 60.0);
    // The untrained model is scored once and paired with every training.
    let untrained = compared(&arm("base", &NONE), &b);
    close(untrained.headline().unwrap().losses.as_ref().unwrap().difference.ratio.value, -0.1);
    // An item that moved to another fold is another target.
    let mut moved = b.clone();
    moved[0].fold = Some(1);
    assert_eq!(
        refused(&a, &moved),
        "the arms differ in the targets of 1 item: `fold` of `a` is `0` in `none` and `1` in `past`"
    );
}

#[test]
fn groups_hold_their_own_items_and_nothing_else() {
    let (a, b) = (arm("none", &NONE), arm("past", &PAST));
    let arms = Arms { a: &a, b: &b, primary: false };
    let group_of = |record: &ItemRecord| (record.item != "b").then(|| record.user.clone());
    let groups = by_group(&arms, Rules::default(), (TargetKind::NextPrompt, Subset::All), group_of).unwrap();
    let shown: Vec<_> = groups
        .iter()
        .map(|(name, contrast)| {
            (name.as_str(), contrast.items, contrast.losses.as_ref().unwrap().difference.ratio.value)
        })
        .collect();
    assert_eq!(shown, [("user1", 1, -0.2), ("user2", 1, -0.5)]);
}
