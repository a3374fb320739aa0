//! Chats of every form, from every kind of file.

use super::source::MAX_CHAT_BYTES;
use super::*;

fn convert(text: impl AsRef<[u8]>, skip_invalid: bool) -> Result<(Converted, Vec<Value>), InputError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut lines = Vec::new();
    match convert_chats(file.path(), None, skip_invalid, &mut lines) {
        Ok(converted) => {
            let lines = std::str::from_utf8(&lines).unwrap().lines();
            Ok((converted, lines.map(|line| serde_json::from_str(line).unwrap()).collect()))
        }
        Err(WriteError::Input(error)) => Err(error),
        Err(WriteError::Io(error)) => panic!("{error}"),
    }
}

fn roles_and_texts(line: &Value) -> Vec<(&str, &str)> {
    let messages = line["messages"].as_array().unwrap().iter();
    messages.map(|message| (message["type"].as_str().unwrap(), message["content"].as_str().unwrap())).collect()
}

#[test]
fn every_form_is_found_and_converted() {
    let forms = [
        (
            ChatForm::Openai,
            r#"{"id": "a_b", "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "A"}]}, {"role": "assistant", "content": "B"}]}"#,
            "chat1-a-b",
        ),
        (
            ChatForm::Sharegpt,
            r#"{"conversations": [{"from": "human", "value": "A"}, {"from": "gpt", "value": "B"}]}"#,
            "chat1",
        ),
        (
            ChatForm::Sharegpt,
            r#"{"id": "q_W_17", "conversations": [{"from": "human", "value": "A"}, {"from": "gpt", "value": "B"}]}"#,
            "userq-W_task1_conversation1",
        ),
        (
            ChatForm::Wildchat,
            r#"{"conversation_hash": "h", "hashed_ip": "f0", "model": "gpt-4", "conversation": [{"role": "user", "content": "A", "timestamp": "2023-04-09T00:02:53Z"}, {"role": "assistant", "content": "B", "timestamp": null}]}"#,
            "userf0_task1_conversation1",
        ),
        (ChatForm::Ultrachat, r#"{"id": "7", "data": ["A", "B"]}"#, "chat1-7"),
    ];
    for (form, chat, id) in forms {
        for text in [format!("{chat}\n\n"), format!("\u{feff} [{chat}]\n")] {
            let (converted, lines) = convert(&text, false).unwrap();
            let told = (converted.form, converted.conversations, converted.system_texts, converted.unnamed_users);
            let is_named = form == ChatForm::Wildchat;
            assert_eq!(told, (Some(form), 1, usize::from(form == ChatForm::Openai), usize::from(!is_named)));
            assert_eq!(lines[0]["id"], id);
            assert_eq!(roles_and_texts(&lines[0]), [("user", "A"), ("assistant", "B")]);
            assert_eq!(lines[0]["model_name"].as_str(), is_named.then_some("gpt-4"));
            assert_eq!(lines[0]["messages"][0].get("timestamp").is_some(), is_named);
        }
    }
}

#[test]
fn what_is_not_of_the_form_is_refused_or_skipped_and_counted() {
    let good = r#"{"conversations": [{"from": "human", "value": "A"}]}"#;
    let cases = [
        (r#"{"conversations": []}"#, "has no messages"),
        (r#"{"messages": []}"#, "has no list `conversations`"),
        (r#"{"conversations": [{"value": "A"}]}"#, "`conversations[0]` does not say who writes"),
        (r#"{"conversations": [{"from": "human"}]}"#, "`conversations[0]` is not text"),
        (
            r#"{"conversations": [{"from": "tool", "value": "A"}]}"#,
            "`conversations[0]` is written by `tool`, which is no user and no assistant",
        ),
        ("7", "has no list `conversations`"),
    ];
    for (bad, cause) in cases {
        let lines = format!("{good}\n{bad}\n{good}\n");
        let error = convert(&lines, false).unwrap_err();
        assert_eq!((error.place, error.cause.as_str()), (Place::Line(2), cause));
        let array = format!("[{good}, {bad}, {good}]");
        let error = convert(&array, false).unwrap_err();
        assert_eq!((error.place, error.cause.as_str()), (Place::Named("[1]".into()), cause));
        for text in [lines, array] {
            let (converted, lines) = convert(&text, true).unwrap();
            assert_eq!((converted.conversations, converted.skipped, lines.len()), (2, 1, 2));
            assert!(converted.skipped_reasons[0].ends_with(cause), "{:?}", converted.skipped_reasons);
        }
    }
    assert_eq!(convert(r#"{"text": "A"}"#, false).unwrap_err().cause, "is of no known form of chats");
    let (converted, _) = convert(format!("7\n{good}\n"), true).unwrap();
    assert_eq!((converted.conversations, converted.skipped), (1, 1));
    assert_eq!(convert("", true).unwrap_err().cause, "holds no conversation that can be converted");
    let error = convert(format!("{good}\n{{\"conver\n"), false).unwrap_err();
    assert!(error.cause.starts_with("is not JSON: EOF"), "{error}");
}

#[test]
fn what_the_reader_would_refuse_is_not_written() {
    let chat = |text: &str| {
        format!(r#"[{{"messages": [{{"role": "user", "content": "{text}", "timestamp": "yesterday"}}]}}]"#)
    };
    let (_, lines) = convert(chat("A"), false).unwrap();
    assert_eq!(lines[0]["messages"], json!([{"type": "user", "content": "A"}]));
    let error = convert(chat(&"a".repeat(MAX_TEXT_BYTES + 1)), false).unwrap_err();
    assert_eq!(error.cause, "`messages[0]` is longer than 4194304 bytes, the most that is read");
    assert_eq!(convert(chat(&"a".repeat(MAX_TEXT_BYTES)), false).unwrap().0.conversations, 1);
    let numbers = format!(r#"[{{"messages": [{}0]}}]"#, "0,".repeat(MAX_CHAT_BYTES / 2));
    let error = convert(&numbers, false).unwrap_err();
    assert!(error.cause.contains("a chat is longer than 16777216 bytes"), "{error}");
    // The limit is of one chat, not of the file.
    let many = vec![chat(&"a".repeat(MAX_TEXT_BYTES)); 6].join(",").replace("],[", ",");
    assert_eq!(convert(&many, false).unwrap().0.conversations, 6);
}

#[test]
fn an_array_that_was_cut_off_is_salvaged() {
    let good = r#"{"conversations": [{"from": "human", "value": "A"}]}"#;
    let whole = format!("[{good}, {good}]");
    for cut in 1..whole.len() {
        let error = convert(&whole[..cut], false).unwrap_err();
        assert!(error.cause.starts_with("is not a whole JSON array: "), "{error}");
        let kept = usize::from(cut > good.len()) + usize::from(cut > 2 * good.len() + 2);
        match convert(&whole[..cut], true) {
            Ok((converted, lines)) => {
                assert_eq!((converted.conversations, lines.len()), (kept, kept), "cut at {cut}");
                assert!(converted.cut_off.is_some());
            }
            Err(_) => assert_eq!(kept, 0, "cut at {cut}"),
        }
    }
    assert_eq!(
        convert(format!("{whole} x"), true).unwrap().0.cut_off.unwrap(),
        "trailing characters at line 1 column 110"
    );
}

#[test]
fn packed_files_and_tables_are_read_and_salvaged() {
    let chat = |index: usize| format!(r#"{{"conversations": [{{"from": "human", "value": "A{index}"}}]}}"#) + "\n";
    let text: String = (0..9000).map(chat).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    for packed in [gzip.finish().unwrap(), zstd::encode_all(text.as_bytes(), 3).unwrap()] {
        assert!(packed.len() < text.len() / 4);
        let (converted, lines) = convert(&packed, false).unwrap();
        assert_eq!((converted.conversations, converted.cut_off), (9000, None));
        assert_eq!(roles_and_texts(&lines[8999]), [("user", "A8999")]);
        let cut = &packed[..packed.len() - 9];
        let error = convert(cut, false).unwrap_err();
        assert!(error.cause.starts_with("is not a whole file: "), "{error}");
        let (converted, lines) = convert(cut, true).unwrap();
        assert!(converted.cut_off.is_some() && lines.len() == converted.conversations && lines.len() > 100);
    }
}

/// WildChat as its publishers write it: nested groups, a time in microseconds, Snappy.
#[test]
fn a_parquet_table_is_read_row_by_row() {
    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;

    let schema = parquet::schema::parser::parse_message_type(
        "message chats {
            optional binary hashed_ip (UTF8);
            required group conversation (LIST) { repeated group list { required group element {
                required binary role (UTF8); optional binary content (UTF8); optional int64 timestamp (TIMESTAMP_MICROS);
            } } }
        }",
    )
    .unwrap();
    for compression in
        [Compression::SNAPPY, Compression::ZSTD(Default::default()), Compression::GZIP(Default::default())]
    {
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut file = SerializedFileWriter::new(Vec::new(), schema.clone().into(), properties.into()).unwrap();
        let mut rows = file.next_row_group().unwrap();
        let texts = |texts: &[&str]| texts.iter().map(|text| ByteArray::from(*text)).collect::<Vec<_>>();
        // Two rows: two messages, and one without content.
        let mut write = |values: &[&str], definitions: &[i16], repetitions: Option<&[i16]>| {
            let mut column = rows.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&texts(values), Some(definitions), repetitions).unwrap();
            column.close().unwrap();
        };
        write(&["f0"], &[1, 0], None);
        write(&["user", "assistant", "user"], &[1, 1, 1], Some(&[0, 1, 0]));
        write(&["A", "B"], &[2, 2, 1], Some(&[0, 1, 0]));
        let mut column = rows.next_column().unwrap().unwrap();
        let times = [1_680_998_573_000_000];
        column.typed::<Int64Type>().write_batch(&times, Some(&[2, 1, 1]), Some(&[0, 1, 0])).unwrap();
        column.close().unwrap();
        rows.close().unwrap();
        let table = file.into_inner().unwrap();

        let error = convert(&table, false).unwrap_err();
        assert_eq!(
            (error.place, error.cause.as_str()),
            (Place::Named("row 2".into()), "`conversation[0]` is not text")
        );
        let (converted, lines) = convert(&table, true).unwrap();
        assert_eq!((converted.form, converted.conversations, converted.skipped), (Some(ChatForm::Wildchat), 1, 1));
        assert_eq!(lines[0]["id"], "userf0_task1_conversation1");
        assert_eq!(roles_and_texts(&lines[0]), [("user", "A"), ("assistant", "B")]);
        assert_eq!(lines[0]["messages"][0]["timestamp"], "2023-04-09T00:02:53Z");
        for cut in (4..table.len()).step_by(7) {
            let error = convert(&table[..cut], true).unwrap_err();
            assert!(error.cause.starts_with("is not a whole Parquet file: "), "{error}");
        }
        for at in 0..table.len() {
            let mut damaged = table.clone();
            damaged[at] ^= 0x55;
            drop(convert(&damaged, true));
        }
    }
}

#[test]
fn conversations_in_the_published_form_stay_as_they_are() {
    let line = json!({"id": "user1_task2_conversation3", "messages": [
        {"type": "user", "content": "A", "reasons": [{"content": "why", "label": "task_motivation"}]},
    ]});
    let (converted, lines) = convert(format!("[{line}]"), false).unwrap();
    assert_eq!((converted.form, converted.unnamed_users, &lines[0]), (Some(ChatForm::Thoughttrace), 0, &line));
    let error = convert(line.to_string().replace("task_motivation", "none_known"), false).unwrap_err();
    assert!(error.cause.contains("unknown label of a reason"), "{error}");
}
