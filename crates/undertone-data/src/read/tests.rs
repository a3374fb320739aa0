//! Lines in, records and reports out; refused lines are in `refusals`.

mod refusals;

use std::path::PathBuf;

use super::*;
use crate::conversation::{Role, Survey};

/// A folder with one file of these bytes.
fn file(bytes: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("FILE");
    std::fs::write(&path, bytes).expect("the file is written");
    (folder, path)
}

fn read_with(bytes: impl AsRef<[u8]>, options: ReadOptions) -> Result<(Vec<Record>, ReadReport), InputError> {
    let (_folder, path) = file(bytes);
    Reader::open(&[path], options)?.read_all()
}

/// Joins the lines of a test's JSON without their indentation.
fn one_line(json: &str) -> String {
    json.lines().map(str::trim).collect()
}

fn read_one(json: &str) -> (Record, ReadReport) {
    let (mut records, report) = read_with(one_line(json), ReadOptions::default()).expect("the line is valid");
    assert_eq!(records.len(), 1);
    (records.remove(0), report)
}

/// A conversation of this one message.
fn message(json: &str) -> String {
    format!(r#"{{"id":"user1_task1_conversation1","messages":[{json}]}}"#)
}

const VALID: &str = r#"{"id":"user1_task1_conversation1","messages":[{"type":"user","content":"hi"}]}"#;

#[test]
fn the_published_form() {
    let (record, report) = read_one(
        r#"{"id":"user6_task2_conversation1","model_name":"GPT-5.4","model_provider":"OpenAI",
            "created_at":"2026-04-08T22:04:03.707000+00:00","updated_at":null,
            "task_summary":"Learn a language","task_expectation":"advice",
            "survey_answers":[{"age":"59","gender":" Female","education":"None","frequency":5,"purposes":"Research, Writing"}],
            "messages":[
            {"id":1775686292163,"timestamp":"2026-04-08T22:11:32.163Z","type":"user",
             "content":" I need help\n",
             "reasons":[{"content":"To begin.","timestamp":"2026-04-09T00:22:05.092+02:00",
                         "label":"task_motivation"}]},
            {"id":1775686310330,"timestamp":"2026-04-08T22:11:50.329Z","type":"assistant",
             "content":"Gladly.",
             "reactions":[{"content":"Nice","timestamp":null,"label":"scope_fit"},
                          {"content":" ","timestamp":null,"label":null}]}]}"#,
    );
    let thought =
        |content: &str, label, written_at| crate::conversation::Thought { content: content.into(), label, written_at };
    let message = |role, content: &str, sent_at, thoughts| crate::conversation::Message {
        role,
        content: content.into(),
        sent_at: Some(sent_at),
        thoughts,
    };
    assert_eq!(
        record.conversation,
        Conversation {
            id: "user6_task2_conversation1".into(),
            user: "user6".into(),
            task: "user6_task2".into(),
            assistant_model: Some("GPT-5.4".into()),
            survey: Survey {
                age: Some(59),
                gender: Some("Female".into()),
                education: None,
                frequency: Some("5".into())
            },
            messages: vec![
                message(
                    Role::User,
                    "I need help",
                    1_775_686_292_163,
                    vec![thought("To begin.", Some(0), Some(1_775_686_925_092))],
                ),
                message(Role::Assistant, "Gladly.", 1_775_686_310_329, vec![thought("Nice", Some(3), None)],),
            ],
        }
    );
    assert_eq!(record.task_text, PostHoc::of("learn a language"));
    assert_eq!(record.line, 1);
    assert_eq!(
        report,
        ReadReport {
            files: 1,
            lines: 1,
            conversations: 1,
            messages: 2,
            thoughts: 2,
            messages_trimmed: 1,
            empty_thoughts_dropped: 1,
            thoughts_without_time: 1,
            ..ReadReport::default()
        }
    );
}

#[test]
fn the_earlier_form_has_text_and_a_session_id_that_conversations_share() {
    let (record, report) = read_one(
        r#"{"id":"user0_task1_conversation0","conversation_id":"conv_study_x_1773846464905",
            "survey_answers":[{"purposes":["Research","Writing"],"feedback":""}],
            "messages":[{"type":"user","text":"Hi","reasons":[{"text":"Hello."}]}]}"#,
    );
    let conversation = record.conversation;
    assert_eq!(conversation.id, "user0_task1_conversation0");
    assert_eq!(conversation.task, "user0_task1");
    assert_eq!(conversation.messages[0].content, "Hi");
    assert_eq!(conversation.messages[0].thoughts[0].content, "Hello.");
    assert_eq!(record.task_text, PostHoc::of("Hi"));
    assert_eq!(report.thoughts_without_label, 1);
    assert_eq!(report.unknown_fields, [].into());
}

#[test]
fn ids() {
    let users = |ids: &str| {
        let (record, report) = read_one(&format!(r#"{{{ids}"messages":[{{"type":"user","content":"hi"}}]}}"#));
        let Conversation { id, user, task, .. } = record.conversation;
        (format!("{id} | {user} | {task}"), report.ids_of_other_shape, report.ids_missing)
    };
    let published = "user12_task3_conversation1 | user12 | user12_task3".to_owned();
    for ids in [
        r#""id":"user12_task3_conversation1","#,
        r#""conversation_id":"user12_task3_conversation1","#,
        r#""id":7,"conversation_id":"user12_task3_conversation1","#,
        r#""id":null,"conversation_id":"user12_task3_conversation1","#,
    ] {
        assert_eq!(users(ids), (published.clone(), 0, 0), "{ids}");
    }
    for other in ["abc", "user_task1_conversation1", "user1_task1", "u1_t1_c1", "user1_conversation1_task1"] {
        let ids = format!(r#""id":"{other}","#);
        assert_eq!(users(&ids), (format!("{other} | {other} | {other}"), 1, 0));
    }
    assert_eq!(users(r#""id":7,"#), ("7 | 7 | 7".into(), 1, 0));
    assert_eq!(users(r#""id":"abc","conversation_id":"conv_9","#), ("abc | abc | abc".into(), 1, 0));
    assert_eq!(users(""), ("FILE:1 | FILE:1 | FILE:1".into(), 0, 1));
    assert_eq!(users(r#""id":" ","#), ("FILE:1 | FILE:1 | FILE:1".into(), 0, 1));
}

#[test]
fn times_of_messages() {
    let sent_at = |fields: &str| {
        let json = message(&format!(r#"{{"type":"user","content":"hi"{fields}}}"#));
        let (record, report) = read_one(&json);
        (record.conversation.messages[0].sent_at, report.messages_timed_by_id, report.messages_without_time)
    };
    let expect = Some(1_775_686_292_163);
    assert_eq!(sent_at(r#","timestamp":"2026-04-08T22:11:32.163Z""#), (expect, 0, 0));
    assert_eq!(sent_at(r#","timestamp":"2026-04-09T00:11:32.163+02:00""#), (expect, 0, 0));
    assert_eq!(sent_at(r#","timestamp":1775686292163"#), (expect, 0, 0));
    assert_eq!(sent_at(r#","timestamp":1775686292"#), (Some(1_775_686_292_000), 0, 0));
    assert_eq!(sent_at(r#","timestamp":null,"id":1775686292163"#), (expect, 1, 0));
    assert_eq!(sent_at(r#","timestamp":1775686292163,"id":5"#), (expect, 0, 0));
    for no_time in ["", r#","id":17"#, r#","id":"1775686292163""#, r#","id":null"#, r#","id":18446744073709551615"#] {
        assert_eq!(sent_at(no_time), (None, 0, 1), "{no_time}");
    }
}

#[test]
fn unknown_fields_are_counted_by_name() {
    let (_, report) = read_one(
        r#"{"id":"user1_task1_conversation1","lang":"en","deep":{"a":[1,{"b":2}]},"messages":[
            {"type":"user","content":"hi","tokens":1,"reasons":[{"content":"x","score":1}]},
            {"type":"assistant","content":"hi","tokens":2,"reactions":[]}]}"#,
    );
    let expect = [("deep", 1), ("lang", 1), ("messages.reasons.score", 1), ("messages.tokens", 2)];
    assert_eq!(report.unknown_fields, expect.map(|(name, count)| (name.to_owned(), count)).into());
}

#[test]
fn a_flood_of_unknown_fields_is_counted_without_keeping_its_names() {
    let names: String =
        (0..1_000).map(|index| format!(r#""\u001b[2J{}{index}":0,"#, "x".repeat(100 * (index % 2)))).collect();
    let (_, report) = read_one(&format!("{{{names}{}", &VALID[1..]));
    assert_eq!(report.unknown_fields.len(), MAX_UNKNOWN_FIELDS);
    let named: usize = report.unknown_fields.values().sum();
    assert_eq!(named + report.other_unknown_fields, 1_000);
    for name in report.unknown_fields.keys() {
        assert!(name.chars().count() <= 80 && !name.contains('\u{1b}'), "{name:?}");
    }
}

#[test]
fn several_files_are_read_in_order_with_marks_line_ends_and_blank_lines() {
    let (_first, first) = file(format!("\u{feff}{VALID}\r\n\r\n   \n"));
    let (_second, second) = file(VALID.replace("user1", "user2"));
    let reader = Reader::open(&[&first, &second], ReadOptions::default()).expect("both exist");
    let (records, report) = reader.read_all().expect("both are valid");
    let read: Vec<_> =
        records.iter().map(|record| (record.conversation.user.as_str(), &*record.path, record.line)).collect();
    assert_eq!(read, [("user1", first.as_path(), 1), ("user2", second.as_path(), 1)]);
    assert_eq!(
        report,
        ReadReport {
            files: 2,
            lines: 4,
            blank_lines: 2,
            byte_order_marks: 1,
            conversations: 2,
            messages: 2,
            messages_without_time: 2,
            ..ReadReport::default()
        }
    );
}

#[test]
fn skipping_counts_lines_and_keeps_the_first_reasons() {
    let options = ReadOptions { on_invalid: OnInvalid::Skip, ..ReadOptions::default() };
    // The skipped line has an empty thought and an unknown field, too: neither is counted.
    let odd = r#"{"id":"x","extra":1,"messages":[{"type":"user","reasons":[{"content":""}]}]}"#;
    let text = format!("{VALID}\n{odd}\n{VALID}\n{}", "{}\n".repeat(7));
    let (records, report) = read_with(text, options).expect("one line is valid");
    assert_eq!(records.len(), 1);
    let reasons: Vec<_> = report
        .skipped_reasons
        .iter()
        .map(|reason| reason.split_once("FILE` ").map_or("", |(_, reason)| reason))
        .collect();
    assert_eq!(reasons.len(), SKIPPED_REASONS);
    assert_eq!(reasons[0], "line 2, `messages`: every user message of the conversation is empty");
    assert!(reasons[1].starts_with("line 3, `id`: conversation id"));
    assert_eq!(reasons[2], "line 4: `messages` is missing or null");
    assert_eq!(
        ReadReport { skipped_reasons: Vec::new(), ..report },
        ReadReport {
            files: 1,
            lines: 10,
            skipped_lines: 9,
            conversations: 1,
            messages: 1,
            messages_without_time: 1,
            ..ReadReport::default()
        }
    );
}

#[test]
fn the_iterator_ends_after_an_error() {
    let (_folder, path) = file(format!("{VALID}\nx\n{}", VALID.replace("user1", "user2")));
    let mut reader = Reader::open(&[path], ReadOptions::default()).expect("the file exists");
    assert!(reader.next().is_some_and(|record| record.is_ok()));
    assert!(reader.next().is_some_and(|record| record.is_err()));
    assert!(reader.next().is_none());
}

#[test]
fn messages_out_of_time_order_are_counted() {
    let at = |time: i64| format!(r#"{{"type":"user","content":"hi","timestamp":{time}}}"#);
    let messages = [1_775_686_300, 1_775_686_200, 1_775_686_250, 1_775_686_300].map(at);
    let (_, report) = read_one(&message(&messages.join(",")));
    assert_eq!((report.messages_out_of_time_order, report.conversations_with_times_backwards), (2, 1));
}

#[test]
fn options_refuse_unknown_keys() {
    let options: ReadOptions = serde_json::from_str(r#"{"on_invalid":"skip"}"#).expect("valid");
    assert_eq!(options.on_invalid, OnInvalid::Skip);
    assert_eq!(options.max_line_bytes, MAX_LINE_BYTES);
    assert!(serde_json::from_str::<ReadOptions>(r#"{"on_invald":"skip"}"#).is_err());
}

#[test]
fn merged_reports_add_up() {
    let (_, mut total) = read_one(VALID);
    let (_, other) = read_one(VALID);
    total.merge(&other);
    assert_eq!((total.files, total.lines, total.messages), (2, 2, 2));
}
