//! Models and datasets of the Hugging Face Hub, from a server on this machine that speaks as the Hub does.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha2::{Digest, Sha256};
use undertone_testing::program::{Ran, Workplace};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A Hub with one repository.
struct Hub {
    endpoint: String,
    shared: Arc<Shared>,
}

struct Shared {
    /// `models/tiny/llama` or `datasets/tiny/chats`.
    repository: String,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Breaks off in the middle of the next answers with more than a kilobyte.
    breaks: AtomicUsize,
    /// The last byte of every file is another one.
    damages: AtomicBool,
    /// The status of every answer, if it is not 0.
    status: AtomicUsize,
    /// What was asked for: path and range.
    asked: Mutex<Vec<String>>,
    /// Paths that were asked for with a token.
    trusted: Mutex<Vec<String>>,
    /// Sends clients to another host for files, as the Hub does for large ones.
    elsewhere: Mutex<Option<String>>,
}

impl Hub {
    fn start(repository: &str, files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            repository: repository.to_owned(),
            files: Mutex::new(files),
            breaks: AtomicUsize::new(0),
            damages: AtomicBool::new(false),
            status: AtomicUsize::new(0),
            asked: Mutex::default(),
            trusted: Mutex::default(),
            elsewhere: Mutex::default(),
        });
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let served = Arc::clone(&served);
                std::thread::spawn(move || served.answer(stream.unwrap()));
            }
        });
        Self { endpoint, shared }
    }

    /// Runs the program with a cache of its own.
    fn run(&self, place: &Workplace, more: &str, words: &str) -> Ran {
        let line =
            format!("HF_ENDPOINT={} HF_HOME=$PWD/hub {more}; export HF_ENDPOINT HF_HOME HF_HUB_OFFLINE", self.endpoint);
        place.run_under(&line, words)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.asked.lock().unwrap())
    }
}

impl Shared {
    fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let path = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
        let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let range = headers.iter().find_map(|line| Some(line.to_lowercase().strip_prefix("range: bytes=")?.to_owned()));
        self.asked.lock().unwrap().push(format!("{path} {}", range.clone().unwrap_or_default()));
        if headers.iter().any(|line| line.to_lowercase().starts_with("authorization:")) {
            self.trusted.lock().unwrap().push(path.clone());
        }
        let mut stream = stream;
        let mut send = |status: &str, more: &str, whole: usize, body: &[u8]| {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {whole}\r\nConnection: close\r\n{more}\r\n");
            stream.write_all(&[head.as_bytes(), body].concat()).ok()
        };
        let status = self.status.load(Ordering::Relaxed);
        if status != 0 {
            return send(&format!("{status} No"), "", 2, b"no");
        }
        let files = self.files.lock().unwrap();
        if path.starts_with(&format!("/api/{}/revision/", self.repository)) {
            let sibling = |(name, bytes): (&String, &Vec<u8>)| json!({"rfilename": name, "size": bytes.len(), "lfs": {"sha256": hex::encode(Sha256::digest(bytes))}});
            let siblings: Vec<_> = files.iter().map(sibling).collect();
            let body = json!({"sha": COMMIT, "siblings": siblings}).to_string();
            return send("200 OK", "", body.len(), body.as_bytes());
        }
        let prefix = match path.starts_with("/elsewhere/") {
            true => "/elsewhere/".to_owned(),
            false => format!("/{}/resolve/{COMMIT}/", self.repository.trim_start_matches("models/")),
        };
        let bytes = path.strip_prefix(&prefix).and_then(|name| files.get(name));
        let Some(bytes) = bytes else { return send("404 Not Found", "", 2, b"no") };
        if let Some(elsewhere) = self.elsewhere.lock().unwrap().as_ref().filter(|_| prefix != "/elsewhere/") {
            let name = path.rsplit('/').next()?;
            let more = format!(
                "Location: {elsewhere}/elsewhere/{name}\r\nX-Linked-Etag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\n",
                hex::encode(Sha256::digest(bytes))
            );
            return send("302 Found", &more, 2, b"no");
        }
        let range = range.unwrap_or_default();
        let (from, to) = range.split_once('-').unwrap_or(("0", ""));
        let from: usize = from.parse().unwrap_or(0);
        let to = to.parse().map_or(bytes.len(), |to: usize| to + 1);
        let mut served = bytes.clone();
        *served.last_mut()? ^= u8::from(self.damages.load(Ordering::Relaxed));
        let part = served.get(from..to)?;
        let more = format!(
            "ETag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Range: bytes {from}-{}/{}\r\n",
            hex::encode(Sha256::digest(bytes)),
            to - 1,
            bytes.len()
        );
        let takes = |breaks: usize| breaks.checked_sub(1);
        let breaks = part.len() > 1024 && self.breaks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, takes).is_ok();
        send("206 Partial Content", &more, part.len(), if breaks { &part[..part.len() / 2] } else { part })
    }
}

/// A Hub with the tiny model, and a place with an experiment that names it.
fn model() -> (Hub, Workplace) {
    let place = Workplace::new(12);
    let mut files = BTreeMap::from([
        ("pytorch_model.bin".to_owned(), vec![1; 5000]),
        ("tokenizer_config.json".to_owned(), b"{}".to_vec()),
    ]);
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        files.insert(name.to_owned(), place.read(&format!("model/{name}")));
    }
    let experiment = place.text("x.toml").replace("path = \"model\"", "path = \"hf:tiny/llama\"");
    place.write("hub.toml", experiment);
    (Hub::start("models/tiny/llama", files), place)
}

/// The weights that the study called `name` has trained.
fn tensors(place: &Workplace, name: &str) -> Vec<u8> {
    let bytes = place.read(&format!("out/{name}/past/fold0/best.safetensors"));
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

#[test]
fn a_model_of_the_hub_trains_like_its_folder() {
    let (hub, place) = model();
    // Both downloads of more than a kilobyte break off, and go on where they stopped.
    hub.shared.breaks.store(3, Ordering::Relaxed);
    hub.run(&place, "", "train hub.toml --arm past --set name=hub").succeeded();
    let asked = hub.asked();
    assert_eq!(asked.iter().filter(|path| path.starts_with("/api/")).count(), 1, "{asked:?}");
    assert!(!asked.iter().any(|path| path.contains("pytorch_model")), "{asked:?}");
    let weights: Vec<&String> = asked.iter().filter(|path| path.contains("model.safetensors")).collect();
    let size = place.read("model/model.safetensors").len();
    assert!(weights.iter().any(|path| path.ends_with(&format!(" {}-", size / 2))), "{asked:?}");
    place.run("train x.toml --arm past --set name=folder").succeeded();
    assert!(tensors(&place, "hub") == tensors(&place, "folder"), "the weights differ");
    // What is in the cache is not downloaded again, and serves without a network.
    hub.run(&place, "", "inspect hub.toml").succeeded();
    assert_eq!(hub.asked(), ["/api/models/tiny/llama/revision/main?blobs=true "]);
    let checkpoint = "out/hub/past/fold0/best.safetensors";
    hub.run(&place, "HF_HUB_OFFLINE=1", &format!("predict {checkpoint} data.jsonl --max-new-tokens 3")).succeeded();
    assert!(hub.asked().is_empty());
    hub.shared.status.store(503, Ordering::Relaxed);
    let unreachable = hub.run(&place, "", "inspect hub.toml").succeeded();
    assert!(unreachable.stderr.contains("note: the Hub cannot be reached"), "{}", unreachable.stderr);
    // A snapshot that lacks a file of the commit is not used, and of one that another program made this is not known.
    let cached = place.files("hub").into_keys();
    let cached: Vec<String> = cached.map(|name| format!("hub/{name}")).collect();
    let named = |end: &str| place.path(cached.iter().find(|name| name.ends_with(end)).unwrap());
    std::fs::remove_file(named("/tokenizer_config.json")).unwrap();
    let lacking = hub.run(&place, "HF_HUB_OFFLINE=1", "inspect hub.toml");
    assert!(lacking.stderr.contains("is not in the cache, and HF_HUB_OFFLINE is set"), "{}", lacking.stderr);
    std::fs::remove_file(named(".txt")).unwrap();
    let foreign = hub.run(&place, "HF_HUB_OFFLINE=1", "inspect hub.toml").succeeded();
    assert!(
        foreign.stderr.contains("note: another program has put `hf:tiny/llama@main` into the cache"),
        "{}",
        foreign.stderr
    );
}

#[test]
fn what_the_hub_does_not_give_is_an_error_with_a_hint() {
    let (hub, place) = model();
    let check = |more: &str, set: &str, expected: &str| {
        let ran = hub.run(&place, more, &format!("inspect hub.toml{set}"));
        assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    };
    check("HF_HUB_OFFLINE=1", "", "error: `hf:tiny/llama@main`: is not in the cache, and HF_HUB_OFFLINE is set");
    check(
        "",
        " --set model.path=hf:tiny/other",
        "error: `hf:tiny/other@main`: is not on the Hub, or not for this account",
    );
    check(
        "",
        " --set model.path=hf:tiny/../x",
        "error: `hf:tiny/../x`: is no name of a repository on the Hugging Face Hub",
    );
    for (status, expected) in [(401, "may not be read with this account"), (503, "cannot be downloaded: request error")]
    {
        hub.shared.status.store(status, Ordering::Relaxed);
        check("", "", expected);
    }
    hub.shared.status.store(0, Ordering::Relaxed);
    hub.shared.damages.store(true, Ordering::Relaxed);
    check("", "", "as the Hub describes it; it was removed");
    hub.shared.damages.store(false, Ordering::Relaxed);
    // A file that does not end is kept, and continued by the next start.
    hub.shared.breaks.store(100, Ordering::Relaxed);
    check("", "", "run the same command again: it goes on where the download stopped");
    hub.shared.breaks.store(0, Ordering::Relaxed);
    hub.run(&place, "", "inspect hub.toml").succeeded();
    hub.shared.files.lock().unwrap().remove("model.safetensors");
    std::fs::remove_dir_all(place.path("hub")).unwrap();
    check("", "", "`hf:tiny/llama`: has no weights in safetensors files");
}

#[test]
fn an_adapter_of_the_hub_is_that_of_a_folder() {
    let place = Workplace::new(16);
    place.run("train x.toml --arm past").succeeded();
    place.run("export out/tiny/past/fold0/best.safetensors adapter --format peft").succeeded();
    let hub = Hub::start("models/tiny/adapter", place.files("adapter"));
    let again = |name: &str, adapter: &str| {
        let words = format!("train x.toml --arm past --set name={name} --set model.adapter={adapter}");
        hub.run(&place, "", &words).succeeded();
        tensors(&place, name)
    };
    assert!(again("hub", "hf:tiny/adapter") == again("folder", "adapter"), "the weights differ");
    assert!(!hub.asked().iter().any(|path| path.contains("tokenizer")));
}

#[test]
fn a_file_of_a_dataset_is_fetched_and_checked() {
    let place = Workplace::new(12);
    let chat = r#"{"messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]}"#;
    let files = BTreeMap::from([
        ("data/train.jsonl".to_owned(), format!("{chat}\n").repeat(100).into_bytes()),
        ("ThoughtTrace.jsonl".to_owned(), place.read("data.jsonl")),
    ]);
    let mut files = files;
    files.insert("../../../evil.jsonl".to_owned(), b"evil".to_vec());
    let hub = Hub::start("datasets/tiny/chats", files);
    hub.shared.breaks.store(1, Ordering::Relaxed);
    hub.run(&place, "", "data fetch hf:tiny/chats chats.jsonl --file data/train.jsonl").succeeded();
    place.run("data convert chats.jsonl converted.jsonl").succeeded();
    assert_eq!(place.text("converted.jsonl").lines().count(), 100);
    let refused = |words: &str, expected: &str| {
        let ran = hub.run(&place, "", words);
        assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    };
    refused("data fetch hf:tiny/chats chats.jsonl --file x", "`chats.jsonl`: already exists");
    let offline = hub.run(&place, "HF_HUB_OFFLINE=1", "data fetch hf:tiny/chats new.jsonl --file ThoughtTrace.jsonl");
    assert!(offline.stderr.contains("is not in the cache, and HF_HUB_OFFLINE is set"), "{}", offline.stderr);
    hub.run(&place, "HF_HUB_OFFLINE=1", "data fetch hf:tiny/chats again.jsonl --file data/train.jsonl").succeeded();
    refused("data fetch thoughttrace new.jsonl --file x", "`thoughttrace`: has one file, `ThoughtTrace.jsonl`");
    refused("data fetch hf:tiny/chats new.jsonl", "needs `--file`");
    refused("data fetch hf:tiny/chats new.jsonl --file x", "`hf:datasets/tiny/chats@main`: has no file `x`");
    refused("data fetch thought new.jsonl", "is no dataset that is known");
    refused(
        "data fetch thoughttrace new.jsonl",
        "`hf:datasets/SCAI-JHU/ThoughtTrace@0420f3d8499e477098aac7771fe9c066f2340fb3`: is not on the Hub",
    );
    refused(
        "data fetch hf:tiny/chats new.jsonl --file ../../../evil.jsonl",
        "`hf:datasets/tiny/chats@main`, `../../../evil.jsonl`: is described by the Hub without a name or a hash that can be used",
    );
    refused("data verify data.jsonl", "is not the published ThoughtTrace.jsonl: it has");
    assert!(!place.path("new.jsonl").exists());
}

/// The Hub sends clients to other hosts for large files; these must not see the token.
#[test]
fn a_token_is_only_sent_to_the_hub() {
    let (hub, place) = model();
    *hub.shared.elsewhere.lock().unwrap() = Some(hub.endpoint.replace("127.0.0.1", "localhost"));
    hub.run(&place, "HF_TOKEN=hf_secret; export HF_TOKEN", "inspect hub.toml").succeeded();
    let trusted = hub.shared.trusted.lock().unwrap().clone();
    assert!(trusted.iter().any(|path| path.starts_with("/api/models/tiny/llama")), "{trusted:?}");
    assert!(!trusted.iter().any(|path| path.starts_with("/elsewhere/")), "{trusted:?}");
}
