//! Runs the built program in a temporary folder that holds a tiny model, a few conversations and an
//! experiment.
//!
//! Arguments and messages are plain text with paths relative to that folder, so a test reads like a
//! terminal. In output, the absolute path of the folder is replaced by `DIR`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::tiny_folder;

/// The project's synthetic conversations: 40, two per user.
pub const SAMPLE: &str = include_str!("../../../experiments/sample/synthetic.jsonl");

/// The experiment of the tests: two arms over a few conversations, which take about a second.
pub const EXPERIMENT: &str = r#"name = "tiny"
output = "out"

[model]
path = "model"

[data]
path = "data.jsonl"
synthetic = true
context_tokens = 2048

[split]
train = 0.5
validation = 0.2
test = 0.3

[lora]
rank = 2
alpha = 4.0
dropout = 0.1

[training]
epochs = 2
conversations_per_step = 2
learning_rate = 0.01
warmup_steps = 1

[evaluation]
draws = 1000

[[arm]]
name = "none"
view = "none"

[[arm]]
name = "past"
view = "past"
"#;

/// A run that takes longer than this counts as hanging.
const PATIENCE: Duration = Duration::from_secs(600);

/// The path of the built program, which Cargo gives to integration tests of the package that builds it.
fn program() -> String {
    std::env::var("CARGO_BIN_EXE_undertone").expect("an integration test of the package `undertone`")
}

/// A folder to run the program in.
#[derive(Debug)]
pub struct Workplace {
    folder: TempDir,
}

impl Workplace {
    /// With `model/`, `x.toml`, and the first `conversations` conversations of the sample in `data.jsonl`.
    pub fn new(conversations: usize) -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        tiny_folder::write(&place.path("model"));
        place.write("x.toml", EXPERIMENT);
        place.write("data.jsonl", sample(conversations));
        place
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("folders can be made");
        fs::write(&path, content).unwrap_or_else(|error| panic!("cannot write {name}: {error}"));
    }

    /// The bytes of a file.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("cannot read {name}: {error}"))
    }

    /// The text of a file.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap_or_else(|error| panic!("{name} is not text: {error}"))
    }

    /// The bytes of every file below `name`, by relative path; the paths of folders end with `/`.
    pub fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let top = self.path(name);
        let mut found = BTreeMap::new();
        let mut folders = vec![top.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.expect("a folder can be listed").path();
                let shown = path.strip_prefix(&top).expect("it lies below").display().to_string();
                if path.is_dir() {
                    found.insert(shown + "/", Vec::new());
                    folders.push(path);
                } else {
                    found.insert(shown, fs::read(&path).expect("a file can be read"));
                }
            }
        }
        found
    }

    /// Runs the program to its end; `words` are its arguments, separated by spaces.
    pub fn run(&self, words: &str) -> Ran {
        self.start(words).wait()
    }

    /// Starts the program.
    pub fn start(&self, words: &str) -> Running {
        let mut command = Command::new(program());
        command.args(words.split(' '));
        self.launch(command)
    }

    /// Runs the program with at most 4 GiB of address space: if it allocates an absurd size, it ends
    /// with a signal and does not exhaust the machine.
    #[cfg(unix)]
    pub fn run_in_4_gib(&self, words: &str) -> Ran {
        self.run_under("ulimit -v 4194304 2>/dev/null", words)
    }

    /// Runs the program where no file can grow past 8 KiB.
    #[cfg(unix)]
    pub fn run_with_files_of_8_kib(&self, words: &str) -> Ran {
        // With the signal ignored, a write fails as on a full disk. Blocks have 512 bytes (POSIX).
        self.run_under("trap '' XFSZ; ulimit -f 16", words)
    }

    /// Runs the program after a line of shell, such as `exec 2>/dev/full`.
    #[cfg(unix)]
    pub fn run_under(&self, line: &str, words: &str) -> Ran {
        self.start_under(line, words).wait()
    }

    /// Starts the program after a line of shell.
    #[cfg(unix)]
    pub fn start_under(&self, line: &str, words: &str) -> Running {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{line}; exec \"$0\" \"$@\""), &program()]);
        command.args(words.split(' '));
        self.launch(command)
    }

    fn launch(&self, mut command: Command) -> Running {
        // Files, not pipes: they need no reader while the program runs.
        let (stdout, stderr) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
        let handle = |file: &File| Stdio::from(file.try_clone().expect("a handle can be copied"));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(handle(&stdout)).stderr(handle(&stderr));
        for variable in
            ["RUST_BACKTRACE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
        {
            command.env_remove(variable);
        }
        let child = command.spawn().expect("the program starts");
        Running { child, stdout, stderr, folder: self.folder.path().to_owned() }
    }
}

/// The first `conversations` conversations of the sample.
pub fn sample(conversations: usize) -> String {
    SAMPLE.lines().take(conversations).map(|line| format!("{line}\n")).collect()
}

/// The running program.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub child: Child,
    stdout: File,
    stderr: File,
    folder: PathBuf,
}

impl Running {
    /// What it has printed to stdout so far, once that ends with a line that begins with `last`.
    pub fn printed(&self, last: &str) -> String {
        let begun = Instant::now();
        loop {
            // A handle of its own would share the place where the program writes.
            let mut bytes = vec![0; self.stdout.metadata().expect("a file").len() as usize];
            self.stdout.read_exact_at(&mut bytes, 0).expect("a file can be read");
            let text = String::from_utf8(bytes).expect("the program writes text");
            if text.ends_with('\n') && text.lines().last().is_some_and(|line| line.starts_with(last)) {
                return text;
            }
            assert!(begun.elapsed() < PATIENCE, "not printed after {PATIENCE:?}: {last}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ran {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("it hangs: not done after {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Ran { status, stdout: text_of(self.stdout, &self.folder), stderr: text_of(self.stderr, &self.folder) }
    }
}

fn text_of(mut file: File, folder: &Path) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a file can be read back");
    let text = String::from_utf8(bytes).expect("the program writes text");
    text.replace(&folder.display().to_string(), "DIR")
}

/// A finished run: its exit status and output.
#[derive(Debug)]
pub struct Ran {
    /// The exit status.
    pub status: ExitStatus,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
}

impl Ran {
    /// Returns the run if it succeeded; panics if not.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "{}\n{}", self.status, self.stderr);
        self
    }

    /// Its stdout as JSON; panics unless the run succeeded and printed exactly one JSON document.
    #[track_caller]
    pub fn json(self) -> Value {
        let ran = self.succeeded();
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("stdout is not JSON: {error}\n{}", ran.stdout))
    }
}

/// The lines of a JSONL file.
pub fn lines(place: &Workplace, name: &str) -> Vec<Value> {
    place.text(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The text under `key` of each value.
pub fn strings<'a>(values: impl IntoIterator<Item = &'a Value>, key: &str) -> Vec<String> {
    values
        .into_iter()
        .map(|value| value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}")).to_owned())
        .collect()
}

/// Every file of a study, except logs and TensorBoard files, which contain times.
pub fn left_by(place: &Workplace, name: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = place.files(name);
    files.retain(|name, _| !name.contains("tensorboard/") && !name.ends_with("log.jsonl"));
    files
}
