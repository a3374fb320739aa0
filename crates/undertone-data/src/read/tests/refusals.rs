//! Lines in, errors out. In expected errors, `FILE` stands for the path.

use super::*;

/// Place, cause and hint of the error.
fn show(error: &InputError) -> String {
    let folder = error.path.parent().map(|folder| format!("{}/", folder.display()));
    let text = error.to_string().replace(&folder.unwrap_or_default(), "");
    match &error.hint {
        Some(hint) => format!("{text}\nhint: {hint}"),
        None => text,
    }
}

#[track_caller]
fn check_error(bytes: impl AsRef<[u8]>, expect: &str) {
    let error = read_with(bytes, ReadOptions::default()).expect_err("the file is invalid");
    assert_eq!(show(&error), expect);
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open = |path: &Path| {
        let error = Reader::open(&[path], ReadOptions::default()).expect_err("it is no file");
        show(&error)
    };
    assert_eq!(
        open(&folder.path().join("missing.jsonl")),
        "`missing.jsonl`: cannot open: No such file or directory (os error 2)\n\
         hint: check the path; it is taken relative to the current folder"
    );
    std::fs::create_dir(folder.path().join("data")).expect("the folder is made");
    assert_eq!(
        open(&folder.path().join("data")),
        "`data`: is a folder, not a file\nhint: name the conversation files inside it"
    );
    let none = Reader::open::<&Path>(&[], ReadOptions::default()).expect_err("nothing to read");
    assert_eq!(none.to_string(), "`(no file)`: no conversation file was given");
}

#[test]
fn files_without_conversations() {
    let hint = "hint: a conversation file has one JSON object per line; each object is one conversation";
    check_error("", &format!("`FILE`: the file is empty\n{hint}"));
    check_error("\n \r\n\t", &format!("`FILE`: the file has only blank lines (3)\n{hint}"));
    let skip = ReadOptions { on_invalid: OnInvalid::Skip, ..ReadOptions::default() };
    let error = read_with("x\n\n{}\n", skip).expect_err("no line is valid");
    assert_eq!(
        show(&error),
        format!(
            "`FILE`: none of its 2 lines is a valid conversation; \
             line 1: not valid JSON: expected value (column 1)\n{hint}"
        )
    );
}

#[test]
fn invalid_json() {
    let cut_off = "hint: was the file cut off, or is one object spread over several lines?";
    check_error(
        &VALID[..74],
        &format!(
            "`FILE` line 1, `messages[0].content`: the line ends in the middle of its JSON: \
             EOF while parsing a string (column 74)\n{cut_off}"
        ),
    );
    check_error(
        "{\n \"id\": 1\n}",
        &format!(
            "`FILE` line 1: the line ends in the middle of its JSON: \
             EOF while parsing an object (column 1)\n{cut_off}"
        ),
    );
    check_error(format!("{VALID}\n{VALID}x"), "`FILE` line 2: not valid JSON: trailing characters (column 79)");
    check_error(
        format!("[{VALID}]"),
        "`FILE` line 1: the line is a JSON list, not a conversation\n\
         hint: `undertone data convert` writes one JSON object per line, from a list of conversations or of chats",
    );
    check_error(
        message(r#"{"type":"user","content":"\ud800"}"#),
        "`FILE` line 1, `messages[0].content`: not valid JSON: \
         unexpected end of hex escape (column 79)",
    );
}

#[test]
fn wrong_types() {
    check_error(
        "42",
        "`FILE` line 1: invalid type: integer `42`, expected a conversation (a JSON object) \
         (column 2)",
    );
    check_error(r#"{"messages":{}}"#, "`FILE` line 1, `messages`: invalid type: map, expected a sequence (column 12)");
    check_error(
        r#"{"messages":[null]}"#,
        "`FILE` line 1, `messages[0]`: invalid type: null, expected a message (a JSON object) \
         (column 17)",
    );
    check_error(
        message(r#"{"type":"user","content":["hi"]}"#),
        "`FILE` line 1, `messages[0].content`: invalid type: sequence, expected a string \
         (column 71)",
    );
    check_error(
        message(r#"{"type":"user","timestamp":1.5}"#),
        "`FILE` line 1, `messages[0].timestamp`: invalid type: floating point `1.5`, \
         expected a string or an integer (column 76)",
    );
    check_error(r#"{"messages":[],"messages":[]}"#, "`FILE` line 1: duplicate field `messages` (column 25)");
}

#[test]
fn bytes_that_are_no_text() {
    check_error(
        b"{\"id\":\"\xC3\x28\"}",
        "`FILE` line 1: invalid UTF-8 at byte 8 of the line\nhint: save the file as UTF-8",
    );
    check_error(b"\xFF\xFE{\0", "`FILE`: is text in UTF-16\nhint: save it as UTF-8");
    check_error(b"PK\x03\x04", "`FILE`: is a ZIP archive\nhint: unpack it, and name a file in it");
    check_error(b"PAR1", "`FILE`: is a Parquet file\nhint: `undertone data convert` reads conversations from Parquet");
    check_error(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "`FILE`: is a Git LFS pointer, and not the file itself\n\
         hint: run `git lfs pull` in its repository, or download the file",
    );
    check_error(
        b"\x1F\x8B\x08\x00",
        "`FILE` line 1: cannot read: unexpected end of file\nhint: the file is cut off or damaged; get it again",
    );
    check_error(
        b"\x28\xB5\x2F\xFD\x00",
        "`FILE` line 1: cannot read: incomplete frame\nhint: the file is cut off or damaged; get it again",
    );
}

#[test]
fn a_line_past_the_limit_is_passed_over() {
    let options = |on_invalid| ReadOptions { on_invalid, max_line_bytes: VALID.len(), ..ReadOptions::default() };
    let long = "x".repeat(1 << 18);
    let text = format!("{long}\n{VALID}\n{long}");
    let error = read_with(&text, options(OnInvalid::Error)).expect_err("the line is too long");
    assert_eq!(
        show(&error),
        "`FILE` line 1: the line is longer than 78 bytes\n\
         hint: a line holds one conversation; if this line is correct, raise `max_line_bytes`"
    );
    let (records, report) = read_with(&text, options(OnInvalid::Skip)).expect("one is valid");
    assert_eq!((records.len(), records[0].line, report.skipped_lines), (1, 2, 2));
}

#[test]
fn nesting_does_not_overflow_the_stack() {
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    // Ignored without recursion.
    let (_, report) = read_one(&format!(r#"{{"extra":{deep},{}"#, &VALID[1..]));
    assert_eq!(report.unknown_fields, [("extra".to_owned(), 1)].into());
    check_error(
        message(&format!(r#"{{"type":"user","content":{deep}}}"#)),
        "`FILE` line 1, `messages[0].content`: invalid type: sequence, expected a string \
         (column 71)",
    );
}

#[test]
fn duplicate_ids() {
    let hint = "hint: was a file given twice, or do two files overlap?";
    let (_folder, path) = file(format!("{VALID}\n\n{VALID}"));
    let error =
        Reader::open(&[&path], ReadOptions::default()).and_then(Reader::read_all).expect_err("the id is there twice");
    let cause = format!("conversation id `user1_task1_conversation1` is already at `{}` line 1", path.display());
    assert_eq!(error.cause, cause);
    assert_eq!(error.place, Place::JsonPath(3, "id".into()));

    let (_first, first) = file(VALID);
    let (_second, second) = file(VALID);
    let error = Reader::open(&[&first, &second], ReadOptions::default())
        .and_then(Reader::read_all)
        .expect_err("the id is in both");
    assert_eq!(error.path, second);
    assert!(error.cause.ends_with(&format!("`{}` line 1", first.display())));
    assert_eq!(format!("hint: {}", error.hint.unwrap_or_default()), hint);
}

#[test]
fn conversations_without_messages() {
    check_error("{}", "`FILE` line 1: `messages` is missing or null");
    check_error(
        r#"{"conversations":[]}"#,
        "`FILE` line 1: `messages` is missing or null\n\
         hint: `undertone data convert` converts chats of OpenAI's, ShareGPT's, WildChat's, LMSYS's and UltraChat's form",
    );
    check_error(
        message(r#"{"role":"user","content":"hi"}"#),
        "`FILE` line 1, `messages[0]`: the message's `type` is missing or null\n\
         hint: `undertone data convert` converts chats of OpenAI's, ShareGPT's, WildChat's, LMSYS's and UltraChat's form",
    );
    check_error(r#"{"messages":null}"#, "`FILE` line 1: `messages` is missing or null");
    check_error(message(""), "`FILE` line 1, `messages`: the conversation has no messages");
    check_error(
        message(r#"{"type":"assistant","content":"hi"}"#),
        "`FILE` line 1, `messages`: the conversation has no user message",
    );
    check_error(
        message(r#"{"type":"user","content":" "},{"type":"assistant","content":"hi"}"#),
        "`FILE` line 1, `messages`: every user message of the conversation is empty",
    );
}

#[test]
fn unknown_message_types() {
    check_error(
        message(r#"{"content":"hi"}"#),
        "`FILE` line 1, `messages[0]`: the message's `type` is missing or null\n\
         hint: `type` is `user` or `assistant`",
    );
    check_error(
        message(r#"{"type":"Asistant","content":"hi"}"#),
        "`FILE` line 1, `messages[0].type`: unknown message type `Asistant`\n\
         hint: did you mean `assistant`? a message is of type `user` or `assistant`",
    );
    check_error(
        message(r#"{"type":"human","content":"hi"}"#),
        "`FILE` line 1, `messages[0].type`: unknown message type `human`\n\
         hint: a message is of type `user` or `assistant`",
    );
}

/// A user message with one reason that has these fields.
fn reason(fields: &str) -> String {
    message(&format!(r#"{{"type":"user","content":"hi","reasons":[{{"content":"x",{fields}}}]}}"#))
}

#[test]
fn unknown_labels() {
    let known = "labels of a reason are `task_motivation`, `task_continuation`, \
                 `context_grounding_and_constraints`, `content_expectation`, \
                 `social_and_others`, `style_expectation`, `task_reorientation`";
    let place = "`FILE` line 1, `messages[0].reasons[0].label`";
    check_error(
        reason(r#""label":"task_motivaton""#),
        &format!(
            "{place}: unknown label of a reason: `task_motivaton`\n\
             hint: did you mean `task_motivation`? {known}"
        ),
    );
    check_error(
        reason(r#""label":"Social & Others""#),
        &format!(
            "{place}: unknown label of a reason: `Social & Others`\n\
             hint: did you mean `social_and_others`? {known}"
        ),
    );
    check_error(
        reason(r#""label":"scope_fit""#),
        &format!(
            "{place}: `scope_fit` is a label of a reaction, but this thought is a reason\n\
             hint: {known}"
        ),
    );
    let flood = "\u{7}".repeat(1_000);
    let error = read_with(
        reason(&format!(r#""label":"{}""#, flood.escape_unicode().to_string().replace("{7}", "0007"))),
        ReadOptions::default(),
    )
    .expect_err("the label is unknown");
    assert!(error.cause.len() < 500 && !error.cause.contains('\u{7}'), "{error}");
}

#[test]
fn unparsable_times() {
    let hint = "hint: a time is RFC 3339 with `Z` or an offset, such as \
                `2026-04-08T22:11:32.163Z`, or whole milliseconds or seconds since 1970, \
                in the years 2000 to 2099; a time that is not known is `null`";
    for (time, shown) in [
        (r#""yesterday""#, "`yesterday`"),
        (r#""2026-04-08T22:11:32""#, "`2026-04-08T22:11:32`"),
        (r#""2026-13-08T22:11:32Z""#, "`2026-13-08T22:11:32Z`"),
        (r#""""#, "``"),
        (r#""1970-01-01T00:00:00Z""#, "`1970-01-01T00:00:00Z`"),
        (r#""0001-01-01T00:00:00Z""#, "`0001-01-01T00:00:00Z`"),
        (r#""9999-12-31T23:59:59Z""#, "`9999-12-31T23:59:59Z`"),
        ("0", "`0`"),
        ("5", "`5`"),
        ("-9223372036854775808", "`-9223372036854775808`"),
        ("18446744073709551615", "`18446744073709551615`"),
    ] {
        check_error(
            reason(&format!(r#""timestamp":{time}"#)),
            &format!("`FILE` line 1, `messages[0].reasons[0].timestamp`: invalid time {shown}\n{hint}"),
        );
    }
}

#[test]
fn thoughts_on_the_wrong_message() {
    let hint = "hint: reasons belong to user messages, reactions to assistant messages";
    check_error(
        message(r#"{"type":"user","content":"hi","reasons":[],"reactions":[{"content":"x"}]}"#),
        &format!("`FILE` line 1, `messages[0].reactions`: a user message has `reactions`\n{hint}"),
    );
    check_error(
        message(r#"{"type":"user","content":"hi"},{"type":"assistant","reasons":[{}]}"#),
        &format!("`FILE` line 1, `messages[1].reasons`: an assistant message has `reasons`\n{hint}"),
    );
    // An empty list is allowed.
    read_one(&message(r#"{"type":"user","content":"hi","reactions":[],"reasons":null}"#));
}

#[test]
fn a_text_that_is_too_long_for_a_tokenizer() {
    let of = |bytes: usize| message(&format!(r#"{{"type":"user","content":"{}"}}"#, "x".repeat(bytes)));
    read_one(&of(4 << 20));
    check_error(
        of((4 << 20) + 1),
        "`FILE` line 1, `messages[0]`: the text has 4194305 bytes, more than 4194304, the most that is read\n\
         hint: no model reads so long a text at once; shorten it",
    );
}

#[test]
fn content_and_text_that_differ() {
    check_error(
        message(r#"{"type":"user","content":"hi","text":"ho"}"#),
        "`FILE` line 1, `messages[0]`: `content` and `text` are both present and differ\n\
         hint: the two published forms use one each; remove one of them",
    );
    read_one(&message(r#"{"type":"user","content":"hi","text":"hi"}"#));
}

#[test]
fn policies_refuse_with_the_place_in_the_file() {
    let options = ReadOptions {
        clean: serde_json::from_str(r#"{"consecutive":"refuse"}"#).expect("an option"),
        ..ReadOptions::default()
    };
    let user = r#"{"type":"user","content":"hi"}"#;
    let error = read_with(message(&format!("{user},{user}")), options).expect_err("refused");
    assert_eq!(
        show(&error),
        "`FILE` line 1, `messages[1]`: two user messages in a row\n\
         hint: `consecutive` is `refuse`; `keep` and `merge` allow it"
    );
}
