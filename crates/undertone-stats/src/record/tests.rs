use std::io;

use undertone_data::TargetKind;
use undertone_files::Place;

use super::files::MAX_LINE_BYTES;
use super::*;

fn record(item: &str, nats: f64) -> ItemRecord {
    ItemRecord { nats, tokens: 4, bytes: 17, visible_thoughts: 2, ..example(item, "user1") }
}

fn label(truth: usize, probabilities: &[f64]) -> ItemRecord {
    ItemRecord {
        kind: TargetKind::ReactionLabel,
        label: Some(LabelOutcome { truth, probabilities: probabilities.to_vec() }),
        ..record("label", 0.5)
    }
}

fn read(text: &str) -> Result<Vec<ItemRecord>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.jsonl");
    std::fs::write(&path, text).unwrap();
    read_records(&path).map_err(|error| format!("{}: {}", error.place, error.cause))
}

fn line(record: &ItemRecord) -> String {
    serde_json::to_string(record).unwrap() + "\n"
}

#[test]
fn records_survive_writing_and_reading() {
    let mut other = label(1, &[0.25, 0.75]);
    other.fold = Some(3);
    let records = [record("first", 9.5), other];
    let mut bytes = Vec::new();
    write_records(&mut bytes, &records).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(
        text.lines().next().unwrap(),
        r#"{"item":"first","conversation":"user1_task1_conversation1","user":"user1","kind":"next_prompt","arm":"past","nats":9.5,"tokens":4,"bytes":17,"primary":true,"quotes_target":false,"visible_thoughts":2,"reply_tokens_lost":0}"#
    );
    assert_eq!(read(&text).unwrap(), records);
}

#[test]
fn bad_lines_are_named() {
    let good = line(&record("first", 9.5));
    let cases = [
        ("{\"item\":".to_owned(), " line 2: not an item record: EOF while parsing a value at column 8"),
        (good.clone(), " line 2: item `first`: the arm has this item already"),
        (
            good.replace("first", "second").replace("9.5", "null"),
            " line 2: not an item record: invalid type: null, expected f64 at column ",
        ),
        (
            good.replace("first", "second").replace("9.5", "1e400"),
            " line 2: not an item record: number out of range at column ",
        ),
        (line(&record("second", -1.0)), " line 2: item `second`: `nats` is -1, not a finite"),
        (good.replace("first", "second").replace(":4,", ":0,"), " line 2: item `second`: `tokens` is 0, not from 1"),
        (
            good.replace("past", "none").replace("bytes", "octets"),
            " line 2: not an item record: unknown field `octets`",
        ),
        ("x".repeat(MAX_LINE_BYTES + 1), " line 2: longer than 1048576 bytes"),
    ];
    for (bad, expected) in cases {
        let error = read(&(good.clone() + &bad)).unwrap_err();
        assert!(error.starts_with(expected), "{error:?} is not {expected:?}…");
    }
    let missing = read_records("no/such/items.jsonl").unwrap_err();
    assert_eq!(missing.place, Place::File);
}

#[test]
fn records_that_would_spoil_a_sum_are_not_written() {
    for nats in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut bytes = Vec::new();
        let error = write_records(&mut bytes, &[record("a", 1.0), record("b", nats)]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(bytes.is_empty());
    }
}

#[test]
fn labels_are_checked() {
    let problem = |record: ItemRecord| check_records(&[record]).unwrap_err().problem;
    assert_eq!(check_records(&[label(1, &[0.25, 0.75])]), Ok(()));
    assert_eq!(problem(label(2, &[0.25, 0.75])), RecordProblem::Truth { truth: 2, classes: 2 });
    assert_eq!(problem(label(0, &[])), RecordProblem::Truth { truth: 0, classes: 0 });
    assert_eq!(problem(label(0, &[0.25, 0.5])), RecordProblem::ProbabilitySum(0.75));
    assert_eq!(problem(label(0, &[-0.5, 1.5])), RecordProblem::Probability(-0.5));
    assert!(matches!(problem(label(0, &[f64::NAN, 1.0])), RecordProblem::Probability(p) if p.is_nan()));
    let text = ItemRecord { kind: TargetKind::Reaction, ..label(0, &[1.0]) };
    assert_eq!(problem(text), RecordProblem::LabelOnText(TargetKind::Reaction));
    let other = ItemRecord { item: "other".into(), ..label(0, &[1.0]) };
    let fault = check_records(&[label(1, &[0.25, 0.75]), other]).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "item `other` of arm `past`: there are 1 candidates, but 2 in earlier records of the same kind"
    );
}

#[test]
fn the_true_message_is_ranked_by_nats_per_token_and_last_of_equals() {
    let rank = |others: &[(f64, usize)]| {
        let distractors = others.iter().map(|&(nats, tokens)| Distractor { nats, tokens }).collect();
        ItemRecord { distractors, ..record("first", 8.0) }.rank()
    };
    // The true message has 2 nats per token.
    assert_eq!(rank(&[(9.0, 4), (2.5, 1)]), Some(1));
    assert_eq!(rank(&[(9.0, 9), (2.5, 1)]), Some(2));
    assert_eq!(rank(&[(9.0, 9), (2.0, 1)]), Some(3));
    assert_eq!(rank(&[]), None);
    let having = |item: &str, distractors: Vec<Distractor>| ItemRecord { distractors, ..record(item, 8.0) };
    let one = Distractor { nats: 1.0, tokens: 1 };
    assert_eq!(check_records(&[record("first", 8.0), having("second", vec![one])]), Ok(()));
    let fault = check_records(&[having("second", vec![one]), having("third", vec![one; 2])]).unwrap_err();
    assert_eq!(fault.problem, RecordProblem::Distractors { distractors: 2, before: 1 });
    let empty = having("second", vec![Distractor { tokens: 0, ..one }]);
    assert_eq!(check_records(&[empty]).unwrap_err().problem, RecordProblem::Tokens(0));
}

#[test]
fn of_equal_labels_the_first_is_predicted() {
    let outcome = |probabilities: &[f64]| {
        let label = label(0, probabilities).label.unwrap();
        label.prediction()
    };
    assert_eq!(outcome(&[0.2, 0.4, 0.4]), 1);
    assert_eq!(outcome(&[0.5, 0.5]), 0);
}
