//! Replays the inputs that fuzzing has kept (`make fuzz` makes new ones): each is read or refused, and nothing panics.
//!
//! A finding of the fuzzer is added here with its fix.

#[path = "fuzz/entries.rs"]
mod entries;

use std::path::Path;

use undertone_testing::program::{EXPERIMENT, Workplace, sample};
use undertone_testing::tiny_folder;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 11] = [
    ("answer", entries::answer),
    ("checkpoint", entries::checkpoint),
    ("config", entries::config),
    ("conversations", entries::conversations),
    ("experiment", entries::experiment),
    ("gguf", entries::gguf),
    ("index", entries::index),
    ("safetensors", entries::safetensors),
    ("study", entries::study),
    ("template", entries::template),
    ("tokenizer", entries::tokenizer),
];

/// One test, because the targets share a folder.
#[test]
fn every_kept_input_is_read_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
    for (name, target) in TARGETS {
        let entries = std::fs::read_dir(corpus.join(name)).expect("every target has a corpus");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{name} has no inputs");
        for path in &paths {
            println!("{}", path.display());
            target(&std::fs::read(path).expect("a file can be read"));
        }
        println!("{name}: {} inputs", paths.len());
    }
}

/// Writes a right file for every target, from which fuzzing starts.
#[test]
#[ignore = "scripts/fuzz.sh runs it"]
fn seeds() {
    let folder = std::env::var("UNDERTONE_SEEDS").expect("the folder to write to");
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        std::fs::write(folder.join(name), bytes).expect("the folder can be written");
    };
    let place = Workplace::new(2);
    place.write("data.jsonl", sample(6));
    place.run("ablate x.toml --register").succeeded();
    place.run("ablate x.toml --set training.epochs=1 --set lora.rank=1 --set name=small").succeeded();
    put("conversations", "sample", sample(1).as_bytes());
    let chats = br#"[{"conversations": [{"from": "human", "value": "A"}, {"from": "gpt", "value": "B"}]}]"#;
    put("conversations", "sharegpt", chats);
    put("experiment", "tiny", EXPERIMENT.as_bytes());
    put("config", "tiny", tiny_folder::config().to_string().as_bytes());
    put("tokenizer", "tiny", tiny_folder::tokenizer().to_string().as_bytes());
    put("gguf", "tiny", &tiny_folder::gguf());
    put("safetensors", "tiny", &place.read("model/model.safetensors"));
    put(
        "index",
        "tiny",
        br#"{"metadata": {"total_size": 32192}, "weight_map": {"model.norm.weight": "model.safetensors"}}"#,
    );
    let chatml = "{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' ~ message['content'] | trim ~ '<|im_end|>\n' }}{% endfor %}";
    put("template", "chatml", chatml.as_bytes());
    put("template", "text", "Hello <|im_start|>user\nworld<|im_end|> é你🎉".as_bytes());
    put("answer", "number", b"85");
    put("answer", "scale", b" 85 / 100.\n");
    put("checkpoint", "best", &place.read("out/small/past/fold0/best.safetensors"));
    let names = ["manifest.json", "fixed.json", "experiment.toml", "registration.json"];
    for (index, name) in names.into_iter().enumerate() {
        let folder = if name == "registration.json" { "tiny" } else { "small" };
        put("study", name, &[&[index as u8][..], &place.read(&format!("out/{folder}/{name}"))].concat());
    }
    put("study", "judge.jsonl", b"\x05{\"key\":\"a\",\"answer\":\"85\",\"checksum\":\"0\"}\n");
}
