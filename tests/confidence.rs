//! What people and servers tell us in confidence stays where it is: no network unless asked, no key in any file or message,
//! and no address in a redacted file or report.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;
use undertone_testing::endpoint::{ECHO, Endpoint};
use undertone_testing::program::{EXPERIMENT, Workplace, sample};
use undertone_testing::tiny_folder;

const CHECKPOINT: &str = "out/tiny/past/fold0/best.safetensors";

/// Every command opens no socket, and runs in a name space without any network device if this machine allows one.
#[test]
fn nothing_needs_a_network() {
    let has = |words: &[&str]| Command::new(words[0]).args(&words[1..]).output().is_ok_and(|ran| ran.status.success());
    if !has(&["strace", "-V"]) {
        println!("skipped: no network, because `strace` is not installed");
        assert!(std::env::var_os("CI").is_none(), "CI skips nothing");
        return;
    }
    let apart = if has(&["unshare", "-rn", "true"]) { "unshare -rn" } else { "" };
    let place = Workplace::new(12);
    place.write("tiny.gguf", tiny_folder::gguf());
    for words in [
        "data check data.jsonl",
        "data stats data.jsonl",
        "data redact data.jsonl redacted.jsonl",
        "data synthesize made.jsonl --users 4 --conversations 8 --turns 20 --thoughts 20",
        "import tiny.gguf imported",
        "inspect x.toml",
        "ablate x.toml --plan",
        "ablate x.toml --register",
        "ablate x.toml --redact --set evaluation.writing.messages=2 --set evaluation.writing.max_new_tokens=4",
        "train x.toml --arm past --resume",
        "evaluate FILE --against base",
        "predict FILE data.jsonl --max-new-tokens 4",
        "export FILE exported",
        "export FILE adapter --format peft",
        "verify out",
        "replay FILE",
    ] {
        let words = words.replace("FILE", CHECKPOINT);
        let line = format!("exec {apart} strace -f -qqq -o sockets -e trace=socket,connect \"$0\" \"$@\"; :");
        place.run_under(&line, &words).succeeded();
        let text = place.text("sockets");
        // A thread that the end of the program stops in the middle of any call shows no name.
        let calls: Vec<&str> = text.lines().filter(|line| !line.ends_with("???( <detached ...>")).collect();
        assert_eq!(calls, [""; 0], "`undertone {words}` opens a socket");
    }
}

/// Everything that a run leaves or prints.
fn told(place: &Workplace, words: &str) -> Vec<(String, Vec<u8>)> {
    let ran = place.run(words);
    let mut all: Vec<(String, Vec<u8>)> = place.files("").into_iter().collect();
    all.push(("stdout".into(), ran.stdout.into_bytes()));
    all.push(("stderr".into(), ran.stderr.into_bytes()));
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The key is in the environment of this process, from which the program inherits it.
#[test]
fn an_api_key_is_in_no_file_and_no_message() {
    const CANARY: &str = "canary/6f1d+2a/key";
    let endpoints = [
        Endpoint::new(|_, _| (200, format!("85 {ECHO}"))),
        Endpoint::new(|_, _| (401, format!("the key {ECHO} is wrong"))),
        Endpoint::new(|_, _| (500, format!("{ECHO}{ECHO}"))),
    ];
    for endpoint in endpoints {
        let place = Workplace::new(16);
        let judge = format!(
            "[evaluation.writing]\nmessages = 1\nmax_new_tokens = 2\n[evaluation.judge]\nurl = \"{}\"\nmodel = \"fake\"\n\
            api_key_variable = \"UNDERTONE_TEST_KEY\"\n[evaluation]",
            endpoint.url()
        );
        place.write("x.toml", EXPERIMENT.replace("[evaluation]", &judge));
        let line = format!("export UNDERTONE_TEST_KEY={CANARY}");
        let words = "ablate x.toml -v --set training.epochs=1";
        let ran = place.run_under(&line, words);
        assert!(endpoint.asked() > 0);
        let mut all = told(&place, "verify out");
        all.push(("stdout".into(), ran.stdout.into_bytes()));
        all.push(("stderr".into(), ran.stderr.into_bytes()));
        for (name, bytes) in all {
            assert!(!holds(&bytes, CANARY), "{name} holds the key: {}", String::from_utf8_lossy(&bytes));
        }
    }
    let place = Workplace::new(6);
    let judge = "[evaluation.judge]\nurl = \"http://user:canary@localhost/v1\"\nmodel = \"fake\"\n[evaluation]";
    place.write("x.toml", EXPERIMENT.replace("[evaluation]", judge));
    let ran = place.run("ablate x.toml");
    assert_eq!(ran.status.code(), Some(2));
    assert!(ran.stderr.contains("`url` holds a user, a password or a query"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("canary"), "{}", ran.stderr);
}

/// The sample with an address in every message and thought.
fn with_addresses() -> String {
    let appended = |text: &mut Value, more: &str| *text = format!("{} {more}", text.as_str().unwrap()).into();
    let addressed = |line: &str| {
        let mut conversation: Value = serde_json::from_str(line).unwrap();
        for message in conversation["messages"].as_array_mut().unwrap() {
            appended(&mut message["content"], "Write to jane@example.org or see http://example.org/jane.");
            for key in ["reasons", "reactions"] {
                for thought in message.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
                    appended(&mut thought["content"], "Or call +49 170 1234567.");
                }
            }
        }
        conversation.to_string() + "\n"
    };
    sample(12).lines().map(addressed).collect()
}

const ADDRESSES: [&str; 3] = ["jane@example.org", "example.org/jane", "170 1234567"];

#[test]
fn a_redacted_file_has_no_addresses_and_counts_them() {
    let place = Workplace::new(12);
    place.write("private.jsonl", with_addresses());
    let counts = place.run("data redact private.jsonl public.jsonl --json").json();
    let public = place.text("public.jsonl");
    for address in ADDRESSES {
        assert!(!public.contains(address), "{address}");
    }
    let found = |kind: &str| public.matches(kind).count() as u64;
    for kind in ["[email]", "[link]", "[phone]"] {
        assert!(found(kind) > 10);
        assert_eq!(counts[kind], found(kind), "{kind}");
    }
    // It is a right file with the same users, messages and thoughts.
    let check = |file: &str| place.run(&format!("data check {file} --json")).json()["read"].clone();
    assert_eq!(check("public.jsonl"), check("private.jsonl"));
    assert_eq!(place.run("data redact private.jsonl public.jsonl").status.code(), Some(2), "nothing is overwritten");
}

#[test]
fn a_redacted_report_shows_no_addresses_and_the_same_numbers() {
    let [open, redacted] = ["", " --redact"].map(|option| {
        let place = Workplace::new(12);
        place.write("data.jsonl", with_addresses());
        place.run(&format!("ablate x.toml --set training.epochs=1{option}")).succeeded();
        place
    });
    let (page, shown) = (redacted.text("out/tiny/report.html"), open.text("out/tiny/report.html"));
    for address in ADDRESSES {
        assert!(!page.contains(address), "{address}");
    }
    assert!(page.contains("[email]") && page.contains("[link]") && page.contains("[phone]"));
    assert!(shown.contains("example.org/jane") && !shown.contains("[email]"));
    for name in ["results.json", "report.md", "records.parquet"] {
        let name = format!("out/tiny/{name}");
        assert!(open.read(&name) == redacted.read(&name), "`{name}` differs");
    }
}
