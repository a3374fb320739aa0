//! Broken conversation files.

use super::*;

#[test]
fn conversation_files_that_cannot_be_read() {
    let place = place();
    check(
        &place,
        "data check nosuch.jsonl",
        &format!("error: `nosuch.jsonl`: cannot open: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"),
    );
    check(
        &place,
        "data stats model",
        "error: `model`: is a folder, not a file\n\nhint: name the conversation files inside it",
    );
    let one_a_line = "hint: a conversation file has one JSON object per line; each object is one conversation";
    place.write("empty.jsonl", "");
    check(&place, "data check empty.jsonl", &format!("error: `empty.jsonl`: the file is empty\n\n{one_a_line}"));
    // A good file does not make up for a bad one.
    check(
        &place,
        "data check data.jsonl empty.jsonl",
        &format!("error: `empty.jsonl`: the file is empty\n\n{one_a_line}"),
    );
    place.write("blank.jsonl", "\n\n");
    check(
        &place,
        "data check blank.jsonl",
        &format!("error: `blank.jsonl`: the file has only blank lines (2)\n\n{one_a_line}"),
    );
    check(
        &place,
        "data check data.jsonl data.jsonl",
        "error: `data.jsonl` line 1, `id`: conversation id `user9001_task1_conversation1` is already at `data.jsonl` line 1\n\n\
        hint: was a file given twice, or do two files overlap?",
    );
}

/// Breaks the second line of a file; the first is valid.
#[test]
fn conversations_that_are_wrong() {
    let place = place();
    let broken = |line: &str, expected: &str| {
        place.write("bad.jsonl", format!("{}{line}", program::sample(6).lines().nth(5).unwrap().to_owned() + "\n"));
        check(&place, "data check bad.jsonl", &format!("error: `bad.jsonl` line 2{expected}"));
        // Training gives the same error.
        check(&place, "train x.toml --set data.path=bad.jsonl", &format!("error: `bad.jsonl` line 2{expected}"));
    };
    broken(
        &program::sample(1)[..500],
        ", `messages[1]`: the line ends in the middle of its JSON: EOF while parsing a string (column 500)\n\n\
        hint: was the file cut off, or is one object spread over several lines?",
    );
    broken("{\"messages\": nonsense}", ", `messages`: not valid JSON: expected ident (column 15)");
    broken(
        &conversation(|c| c["messages"] = json!("none")),
        ", `messages`: invalid type: string \"none\", expected a sequence (column 54)",
    );
    broken(
        &conversation(|c| c["messages"][0]["content"] = json!(7)),
        ", `messages[0].content`: invalid type: integer `7`, expected a string (column 61)",
    );
    broken(
        &format!("[{}]", conversation(|_| {}).trim()),
        ": the line is a JSON list, not a conversation\n\nhint: `undertone data convert` writes one JSON object per line, from a list of conversations or of chats",
    );
    broken(
        &conversation(|c| c["messages"].as_array_mut().unwrap().retain(|message| message["type"] == "assistant")),
        ", `messages`: the conversation has no user message",
    );
    broken(&conversation(|c| c["messages"] = json!([])), ", `messages`: the conversation has no messages");
    broken(&conversation(|c| drop(c.as_object_mut().unwrap().remove("messages"))), ": `messages` is missing or null");
    broken(
        &conversation(|c| c["messages"][0]["type"] = json!("usr")),
        ", `messages[0].type`: unknown message type `usr`\n\n\
        hint: did you mean `user`? a message is of type `user` or `assistant`",
    );
    broken(
        &conversation(|c| c["messages"][0]["reasons"][0]["label"] = json!("task_motivaton")),
        ", `messages[0].reasons[0].label`: unknown label of a reason: `task_motivaton`\n\n\
        hint: did you mean `task_motivation`? labels of a reason are `task_motivation`, `task_continuation`, \
        `context_grounding_and_constraints`, `content_expectation`, `social_and_others`, `style_expectation`, \
        `task_reorientation`",
    );
    broken(
        &conversation(|c| c["messages"][1]["reactions"][0]["label"] = json!("task_motivation")),
        ", `messages[1].reactions[0].label`: `task_motivation` is a label of a reason, but this thought is a reaction\n\n\
        hint: labels of a reaction are `explicit_affirmation`, `content_relevance`, `presentation_style`, `scope_fit`, \
        `partial_satisfaction`",
    );
    broken(
        &conversation(|c| c["messages"][2]["timestamp"] = json!("yesterday at nine")),
        ", `messages[2].timestamp`: invalid time `yesterday at nine`\n\n\
        hint: a time is RFC 3339 with `Z` or an offset, such as `2026-04-08T22:11:32.163Z`, or whole milliseconds \
        or seconds since 1970, in the years 2000 to 2099; a time that is not known is `null`",
    );
    broken(
        &conversation(|c| c["messages"][0]["reactions"] = json!([{"content": "fine"}])),
        ", `messages[0].reactions`: a user message has `reactions`\n\n\
        hint: reasons belong to user messages, reactions to assistant messages",
    );
}

#[test]
fn bytes_that_are_no_text() {
    let place = place();
    place.write("bad.jsonl", b"{\"messages\": \"\xC3\x28\"}\n");
    check(
        &place,
        "data check bad.jsonl",
        "error: `bad.jsonl` line 1: invalid UTF-8 at byte 15 of the line\n\nhint: save the file as UTF-8",
    );
    place.write("bad.jsonl", b"\x1F\x8B\x08\x00\x00");
    check(
        &place,
        "data check bad.jsonl",
        "error: `bad.jsonl` line 1: cannot read: unexpected end of file\n\n\
        hint: the file is cut off or damaged; get it again",
    );
    for (bytes, error) in [
        (&b"PK\x03\x04"[..], "is a ZIP archive\n\nhint: unpack it, and name a file in it"),
        (b"PAR1", "is a Parquet file\n\nhint: `undertone data convert` reads conversations from Parquet"),
        (b"\xFF\xFE{\0", "is text in UTF-16\n\nhint: save it as UTF-8"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "is a Git LFS pointer, and not the file itself\n\n\
            hint: run `git lfs pull` in its repository, or download the file",
        ),
    ] {
        place.write("bad.jsonl", bytes);
        check(&place, "data check bad.jsonl", &format!("error: `bad.jsonl`: {error}"));
    }
}

#[test]
fn one_user_who_is_spelled_in_several_ways_is_named() {
    let place = place();
    let spelled =
        |(index, user): (usize, &str)| conversation(|c| c["id"] = json!(format!("{user}_task{index}_conversation1")));
    let users = ["user7", "User7", "user07", "user7 ", "user\u{200b}7", "user７", "user70", "user8", "user9", "user10"];
    place.write("data.jsonl", users.into_iter().enumerate().map(spelled).collect::<String>());
    let ran = place.run("data check data.jsonl").succeeded();
    let expected = "       1  groups of users whose ids look alike, and who may be one person\n          \
        look alike: \"User7_task1_conversation1\", \"user07\", \"user7\", \"user7 \", \"user7\\u{200b}\", \"user７\"\n";
    let expected = expected.replace("user7\\u{200b}", "user\\u{200b}7");
    assert!(ran.stdout.ends_with(&expected), "{}", ran.stdout);
    place.run("ablate x.toml --set training.epochs=1").succeeded();
    let report = place.text("out/tiny/report.md");
    assert!(report.contains("LOOK-ALIKE USERS: 1 group of user ids that differ only in"), "{report}");
}

#[test]
fn more_synthetic_conversations_than_a_file_can_hold() {
    let place = place();
    for sizes in [
        "--users 2 --conversations 2 --turns 4 --thoughts 2 --reply-words 1000000000",
        "--users 2 --conversations 2 --turns 4 --thoughts 2 --reply-words 18446744073709551615",
        "--users 1000000000 --conversations 1000000000 --turns 10000000000 --thoughts 1000",
        "--turns 18446744073709551615",
        "--conversations 9223372036854775809 --turns 18446744073709551615",
    ] {
        let ran = place.run_in_4_gib(&format!("data synthesize made.jsonl {sizes}"));
        assert_eq!(ran.status.code(), Some(2), "{sizes}: {}", ran.stderr);
        assert!(ran.stderr.contains(" GB, more than 4 GB"), "{sizes}: {}", ran.stderr);
        assert!(!place.path("made.jsonl").exists());
    }
}

#[test]
fn skipping_bad_lines_counts_them_and_is_not_for_a_file_of_nothing_else() {
    let place = place();
    place.write("bad.jsonl", format!("nonsense\n{}\n{{}}\n", program::sample(1)));
    let ran = place.run("data check --skip-invalid bad.jsonl").succeeded();
    assert!(ran.stdout.contains("       2  skipped lines\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("          skipped: `bad.jsonl` line 1: "), "{}", ran.stdout);
    place.write("bad.jsonl", "nonsense\n{}\n");
    check(
        &place,
        "data check --skip-invalid bad.jsonl",
        "error: `bad.jsonl`: none of its 2 lines is a valid conversation; line 1: not valid JSON: expected ident (column 2)\n\n\
        hint: a conversation file has one JSON object per line; each object is one conversation",
    );
}

#[test]
fn a_target_that_is_longer_than_the_context() {
    let place = place();
    let long = "all work and no play makes jack a dull boy ".repeat(10);
    place.write(
        "data.jsonl",
        program::sample(5)
            + &conversation(|c| {
                c["id"] = json!("user9009_task1_conversation1");
                c["messages"][4]["content"] = json!(long.trim());
            }),
    );
    // 429 tokens of text, and 8 of the template: start, the 4 letters of `user`, newline, end, newline.
    check(
        &place,
        "train x.toml --set data.context_tokens=400",
        "error: `data.jsonl`, `user9009_task1_conversation1`: message 4 of `user9009_task1_conversation1` needs 437 tokens \
        with its thoughts and targets, but the context holds 400\n\n\
        hint: targets are never truncated: raise `data.context_tokens`, or skip such conversations with `data.on_too_long = \"skip\"`",
    );
    let skipping = "ablate x.toml --set data.context_tokens=400 --set training.epochs=1 --set data.on_too_long=skip --set split.folds=2";
    place.run(skipping).succeeded();
    let report = place.text("out/tiny/report.md");
    let left_out = report.lines().find(|line| line.starts_with("- Left out"));
    let expected = "- Left out because a target is longer than the context in some arm: \
        1 conversation (user9009_task1_conversation1).";
    assert_eq!(left_out, Some(expected), "{report}");
    check(
        &place,
        "train x.toml --set data.context_tokens=5000",
        "error: `model`: `data.context_tokens` (5000) exceeds the model's context of 4096\n\nhint: lower `data.context_tokens`",
    );
}

/// The real tokenizer and its context of 8,192, if the model is at hand.
#[test]
fn a_target_that_is_longer_than_the_context_of_the_real_model() {
    let Some(model) = folders::model() else { return };
    let place = place();
    std::os::unix::fs::symlink(model.canonicalize().unwrap(), place.path("smollm2")).unwrap();
    place.write("data.jsonl", conversation(|c| c["messages"][2]["content"] = json!("word ".repeat(9000).trim())));
    check(
        &place,
        "train x.toml --set model.path=smollm2 --set data.context_tokens=8192",
        "error: `data.jsonl`, `user9001_task1_conversation1`: message 2 of `user9001_task1_conversation1` needs 9005 tokens \
        with its thoughts and targets, but the context holds 8192\n\n\
        hint: targets are never truncated: raise `data.context_tokens`, or skip such conversations with `data.on_too_long = \"skip\"`",
    );
}
