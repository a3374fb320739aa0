//! A judge: a model behind an OpenAI-compatible endpoint. It rates how alike two messages are, and how much thoughts
//! tell about a message.
//!
//! The judge is off by default. `judge.jsonl` in the study's folder keeps every answer with a hash of endpoint, model
//! and question, so that a resumed study asks no question twice. The endpoint's key is read from the environment and
//! never written anywhere.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use undertone_files::{InputError, Place, digest_parts, read_regular};
use undertone_stats::Written;

use crate::digest::sha256_hex;
use crate::error::StudyError;
use crate::experiment::JudgeSection;
use crate::jobs::write::MessageWriter;

/// The timeout of one request; the question is then asked again.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most requests for one question, and the pause after the first failure, which doubles after each further one.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);
/// An answer is cut to this many characters.
const LONGEST_ANSWER: usize = 200;

/// The shortest key that is looked for in answers, in bytes.
const SHORTEST_KEY: usize = 8;

const ALIKE: &str = "Two messages that a user could have sent next to an AI assistant follow: the true one, and a prediction of it. \
     How alike are they in what the user wants and says? Answer with one whole number from 0 (nothing in common) to 100 \
     (they say the same), and nothing else.";

const TELLING: &str = "A message that a user sent to an AI assistant follows, and before it thoughts that the user had until then. How much \
     do the thoughts tell about what the message would be? Answer with one whole number from 1 (nothing) to 5 (almost \
     everything), and nothing else.";

/// The file in a study's folder with the judge's answers.
pub(crate) const ANSWERS: &str = "judge.jsonl";

/// One line of the file of answers.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptAnswer {
    /// SHA-256 of the endpoint, the model and the question.
    key: String,
    answer: String,
    /// The checksum of the two.
    checksum: String,
}

impl KeptAnswer {
    fn new(key: String, answer: String) -> Self {
        let checksum = digest_parts([key.as_bytes(), answer.as_bytes()]);
        Self { key, answer, checksum }
    }
}

/// The answers in a file, by the hashes of their questions; none if there is no file. An incomplete last line is ignored, and
/// its question is asked again.
///
/// # Errors
/// The file cannot be read, or was changed after it was written.
pub(crate) fn read_answers(path: &Path) -> Result<BTreeMap<String, String>, InputError> {
    let text = whole_lines(path)?;
    let mut answers = BTreeMap::new();
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let kept = serde_json::from_slice::<KeptAnswer>(line).ok();
        let kept = kept.filter(|kept| *kept == KeptAnswer::new(kept.key.clone(), kept.answer.clone()));
        let kept = kept.ok_or_else(|| InputError::changed(path).at(Place::Line(index + 1)))?;
        answers.insert(kept.key, kept.answer);
    }
    Ok(answers)
}

/// The bytes of a file up to the end of its last whole line; none if there is no file.
fn whole_lines(path: &Path) -> Result<Vec<u8>, InputError> {
    let mut bytes = if path.exists() { read_regular(path)? } else { Vec::new() };
    bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1));
    Ok(bytes)
}

/// A judge, with its earlier answers.
pub(crate) struct Judge<'a> {
    section: &'a JudgeSection,
    stop: &'a AtomicBool,
    agent: ureq::Agent,
    api_key: Option<String>,
    path: PathBuf,
    answers: BTreeMap<String, String>,
    file: File,
    /// Answers that are not one whole number in range.
    silent: usize,
    asked: usize,
}

impl<'a> Judge<'a> {
    /// Opens the answers in a study's folder; asks nothing yet.
    ///
    /// # Errors
    /// The variable of the endpoint's key is not set, or the answers cannot be read or written.
    pub(crate) fn open(section: &'a JudgeSection, folder: &Path, stop: &'a AtomicBool) -> Result<Self, InputError> {
        let api_key = match section.api_key_variable.as_str() {
            "" => None,
            variable => Some(std::env::var(variable).map_err(|_| {
                InputError::new(&section.url, format!("the environment variable `{variable}` is not set"))
                    .at(Place::Named("evaluation.judge.api_key_variable".into()))
                    .hint("it holds the endpoint's key; an endpoint that needs none has `api_key_variable = \"\"`")
            })?),
        };
        let path = folder.join(ANSWERS);
        let failed = |error: std::io::Error| InputError::io(&path, "keep the judge's answers", &error);
        let answers = read_answers(&path)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        // Removes a line that a killed program did not write to its end.
        file.set_len(whole_lines(&path)?.len() as u64).map_err(failed)?;
        let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build();
        Ok(Self { section, stop, agent: agent.into(), api_key, path, answers, file, silent: 0, asked: 0 })
    }

    /// Scores every written message; with `least_telling` above 1, skips messages whose thoughts tell too little.
    /// Returns notes for the report.
    ///
    /// # Errors
    /// The endpoint cannot be reached or refuses; the user stopped it. Then no message has a rating.
    pub(crate) fn judge(&mut self, writer: &MessageWriter, written: &mut [Written]) -> Result<Vec<String>, StudyError> {
        let judged = self.judge_each(writer, written);
        if judged.is_err() {
            written.iter_mut().for_each(|one| one.likeness.judged = None);
        }
        judged
    }

    fn judge_each(&mut self, writer: &MessageWriter, written: &mut [Written]) -> Result<Vec<String>, StudyError> {
        let mut telling: BTreeMap<String, Option<f64>> = BTreeMap::new();
        let least = self.section.least_telling;
        if least > 1 {
            for item in writer.items() {
                let asked =
                    format!("{TELLING}\n\nThoughts:\n{}\n\nMessage:\n{}", writer.thoughts(item), writer.truth(item));
                let rating = self.number(&asked, 1..=5)?;
                telling.insert(item.to_owned(), rating);
            }
        }
        let counts =
            |item: &str| least <= 1 || telling.get(item).copied().flatten().is_some_and(|one| one >= f64::from(least));
        for one in written.iter_mut().filter(|one| counts(&one.item)) {
            let asked = format!("{ALIKE}\n\nTrue message:\n{}\n\nPrediction:\n{}", writer.truth(&one.item), one.text);
            one.likeness.judged = self.number(&asked, 0..=100)?;
        }
        let Self { section, silent, asked, .. } = self;
        let mut notes = vec![format!(
            "Judge: `{}` ({asked} new questions; the other answers are from earlier runs).",
            section.model
        )];
        if least > 1 {
            let kept = telling.keys().filter(|item| counts(item)).count();
            notes.push(format!(
                "Only messages whose thoughts the judge rated {least} or more of 5 are judged: {kept} of {}. The rating knows the true message, so it \
                 selects on the outcome: the difference among these messages is larger than among all.",
                telling.len()
            ));
        }
        if *silent > 0 {
            notes.push(format!("{silent} answers of the judge were not one whole number in range and are excluded."));
        }
        Ok(notes)
    }

    /// The number that the answer is, if it is in `range`.
    fn number(&mut self, asked: &str, range: RangeInclusive<u32>) -> Result<Option<f64>, StudyError> {
        let number = rating(&self.answer(asked)?, range);
        self.silent += usize::from(number.is_none());
        Ok(number.map(f64::from))
    }

    /// The earlier answer to a question, or a new one.
    fn answer(&mut self, asked: &str) -> Result<String, StudyError> {
        let JudgeSection { url, model, .. } = self.section;
        let key = sha256_hex(json!([url, model, asked]).to_string().as_bytes());
        if let Some(answer) = self.answers.get(&key) {
            return Ok(answer.clone());
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(StudyError::Interrupted(self.path.clone()));
        }
        let answer: String = self.ask(asked)?.chars().take(LONGEST_ANSWER).collect();
        self.asked += 1;
        let kept = KeptAnswer::new(key.clone(), answer.clone());
        let line = serde_json::to_string(&kept).expect("plain data") + "\n";
        let failed = |error: std::io::Error| InputError::io(&self.path, "keep the judge's answers", &error);
        self.file.write_all(line.as_bytes()).map_err(failed)?;
        self.answers.insert(key, answer.clone());
        Ok(answer)
    }

    /// A text from the endpoint, which may repeat the key, without it. A key so short that it is in ordinary text is no secret.
    fn without_key(&self, text: &str) -> String {
        match self.api_key.as_deref().filter(|key| key.len() >= SHORTEST_KEY) {
            Some(key) => text.replace(key, "[key]"),
            None => text.to_owned(),
        }
    }

    /// Requests one chat completion; retries after errors that are likely to be temporary.
    fn ask(&self, asked: &str) -> Result<String, InputError> {
        let JudgeSection { url, model, .. } = self.section;
        let endpoint = format!("{}/chat/completions", url.trim_end_matches('/'));
        let body = json!({
            "model": model, "temperature": 0, "max_tokens": 16, "messages": [{"role": "user", "content": asked}],
        });
        let refused = |cause: String| {
            InputError::new(&endpoint, cause)
                .at(Place::Named("evaluation.judge".into()))
                .hint("use an OpenAI-compatible endpoint; run the command again to resume with the earlier answers")
        };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut request = self.agent.post(&endpoint);
            if let Some(key) = &self.api_key {
                request = request.header("Authorization", format!("Bearer {key}"));
            }
            let cause = match request.send_json(&body) {
                Ok(mut response) => {
                    let status = response.status().as_u16();
                    let text = response.body_mut().read_to_string().unwrap_or_default();
                    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
                    if status == 200 {
                        let content = answer["choices"][0]["message"]["content"].as_str();
                        return content
                            .map(|content| self.without_key(content.trim()))
                            .ok_or_else(|| refused("answered without `choices[0].message.content`".into()));
                    }
                    // Only decoded text: in another spelling, a key that the server repeats would not be recognised.
                    let said = answer["error"]["message"].as_str().or(answer["message"].as_str()).unwrap_or_default();
                    let said: String = self.without_key(said).chars().take(LONGEST_ANSWER).collect();
                    let cause = format!("answered with HTTP status {status}: {said}");
                    if status != 429 && status < 500 {
                        return Err(refused(cause));
                    }
                    cause
                }
                Err(error) => self.without_key(&format!("cannot be reached: {error}")),
            };
            if attempt == ATTEMPTS || self.stop.load(Ordering::Relaxed) {
                return Err(refused(format!("{cause} (asked {attempt} times)")));
            }
            std::thread::sleep(PAUSE * 2_u32.pow(attempt - 1));
        }
    }
}

/// The number that a judge's answer consists of, if it is in `range`; `%` of 100, `/` with the highest number of the scale, and a full
/// stop may follow it.
pub fn rating(answer: &str, range: RangeInclusive<u32>) -> Option<u32> {
    let answer = answer.trim();
    let answer = answer.strip_suffix('.').unwrap_or(answer);
    let digits = match answer.split_once('/') {
        Some((number, scale)) => (scale.trim() == range.end().to_string()).then_some(number)?,
        None => answer.strip_suffix('%').filter(|_| *range.end() == 100).unwrap_or(answer),
    };
    let digits = digits.trim_end();
    // `parse` would take a sign.
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    number.filter(|number| range.contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_only_if_it_is_one_whole_number() {
        for (answer, number) in [
            ("85", Some(85)),
            (" 85.\n", Some(85)),
            ("85%", Some(85)),
            ("85/100", Some(85)),
            ("85 / 100", Some(85)),
            ("0", Some(0)),
            ("", None),
            ("+85", None),
            ("-5", None),
            ("7.5", None),
            ("7.5/10", None),
            ("85/10", None),
            ("On a scale from 0 to 100, I would say 85.", None),
            ("I cannot rate this.", None),
            ("８５", None),
            ("101", None),
            ("99999999999", None),
        ] {
            assert_eq!(rating(answer, 0..=100), number, "{answer}");
        }
        assert_eq!(rating("4/5", 1..=5), Some(4));
        assert_eq!(rating("4%", 1..=5), None);
        assert_eq!(rating("0", 1..=5), None);
    }
}
