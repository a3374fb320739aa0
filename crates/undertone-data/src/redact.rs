//! Replaces what identifies people in texts: e-mail addresses, telephone numbers, links, and names from surveys.
//!
//! Patterns find what has a form. They do not find names or addresses in running text, so a redacted file is still private.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde::Serialize;
use serde_json::{Map, Value};

/// What stands for what was replaced, in the order in which overlapping finds count.
const KINDS: [(&str, &str); 3] = [
    ("[link]", r"(?i)\b(?:https?://|ftp://|www\.)[^\s<>\x22'`)\]}]+"),
    ("[email]", r"[\p{L}\p{N}._%+'-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+"),
    ("[phone]", r"(?:\+|\(\+?|\b)\d[\d \t\u{a0}()/.\-\u{2010}-\u{2015}]{6,}\d\b"),
];

static PATTERNS: LazyLock<Vec<(&str, Regex)>> =
    LazyLock::new(|| KINDS.iter().map(|(kind, pattern)| (*kind, Regex::new(pattern).expect("a pattern"))).collect());

/// What stands for a name.
const NAME: &str = "[name]";

/// The fewest digits of a telephone number, and the most of a number without separators.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 9..=15;

/// How often each kind was replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Redacted(pub BTreeMap<&'static str, usize>);

/// Finds what identifies people, and counts it.
#[derive(Debug, Default)]
pub struct Redactor {
    /// Names of the person whose conversation is read.
    names: Vec<Regex>,
    /// What was replaced so far.
    pub counts: Redacted,
}

impl Redactor {
    /// The places in a text that are replaced, in order, each with what stands for it.
    fn finds(&self, text: &str) -> Vec<(Range<usize>, &'static str)> {
        let mut finds: Vec<(Range<usize>, &'static str)> = Vec::new();
        let mut add = |range: Range<usize>, kind| {
            if finds.iter().all(|(known, _)| range.end <= known.start || known.end <= range.start) {
                finds.push((range, kind));
            }
        };
        for (kind, pattern) in PATTERNS.iter() {
            for found in pattern.find_iter(text) {
                let text = found.as_str();
                let kept = match *kind {
                    "[phone]" => phone_in(text),
                    // A full stop or comma after a link ends the sentence.
                    "[link]" => 0..text.trim_end_matches(['.', ',', ';', ':', '!', '?']).len(),
                    _ => 0..text.len(),
                };
                if !kept.is_empty() {
                    add(found.start() + kept.start..found.start() + kept.end, *kind);
                }
            }
        }
        for name in &self.names {
            for found in name.find_iter(text) {
                let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
                let (start, end) = (found.start(), found.end());
                if !is_word(text[..start].chars().next_back()) && !is_word(text[end..].chars().next()) {
                    add(start..end, NAME);
                }
            }
        }
        finds.sort_by_key(|(range, _)| range.start);
        finds
    }

    /// The text with everything replaced.
    pub fn redact(&mut self, text: &str) -> String {
        let mut pieces = [text.to_owned()];
        self.redact_pieces(&mut pieces);
        let [text] = pieces;
        text
    }

    /// Replaces in the pieces of a text. What spreads over several pieces stands in the first of them.
    pub fn redact_pieces(&mut self, pieces: &mut [String]) {
        let whole = pieces.concat();
        for (range, kind) in self.finds(&whole).into_iter().rev() {
            *self.counts.0.entry(kind).or_insert(0) += 1;
            let mut start = 0;
            let mut is_told = false;
            for piece in pieces.iter_mut() {
                let end = start + piece.len();
                let cut = range.start.max(start)..range.end.min(end);
                start = end;
                if cut.start < cut.end {
                    let told = if is_told { "" } else { kind };
                    let offset = end - piece.len();
                    piece.replace_range(cut.start - offset..cut.end - offset, told);
                    is_told = true;
                }
            }
        }
    }

    /// Replaces in every text of a conversation as it is in a file. Ids, labels and times stay.
    ///
    /// A survey's answer whose key holds `name` is a name; it is replaced in all texts of the conversation.
    pub fn redact_conversation(&mut self, conversation: &mut Map<String, Value>) {
        self.names = names(conversation.get("survey_answers").unwrap_or(&Value::Null));
        for (key, value) in conversation.iter_mut() {
            if !["id", "conversation_id", "model_name", "model_provider", "created_at", "updated_at"]
                .contains(&key.as_str())
            {
                self.redact_value(key, value);
            }
        }
        self.names.clear();
    }

    fn redact_value(&mut self, key: &str, value: &mut Value) {
        match value {
            Value::String(text) if !["id", "timestamp", "type", "label"].contains(&key) => *text = self.redact(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.redact_value(key, value)),
            Value::Object(values) => values.iter_mut().for_each(|(key, value)| self.redact_value(key, value)),
            _ => {}
        }
    }
}

/// The part of digits with separators that is a telephone number, or several; empty for dates, times and plain numbers.
fn phone_in(text: &str) -> Range<usize> {
    static DATE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})").expect("a pattern")
    });
    static PLAIN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(?:\d{1,3}(?:\.\d{3})+|\d+\.\d+)$").expect("a pattern"));
    let mut kept = 0..text.len();
    if let Some(date) = DATE.find(text) {
        if date.start() == 0 {
            kept.start = date.end();
        } else if date.end() == text.len() {
            kept.end = date.start();
        }
    }
    let trimmed = text[kept.clone()].trim();
    kept.start += text[kept.clone()].len() - text[kept.clone()].trim_start().len();
    kept.end = kept.start + trimmed.len();
    let digits = trimmed.chars().filter(char::is_ascii_digit).count();
    let is_plain = digits == trimmed.len() && digits > *PHONE_DIGITS.end();
    if digits < *PHONE_DIGITS.start() || is_plain || PLAIN.is_match(trimmed) { 0..0 } else { kept }
}

/// The names in survey answers, longest first, each with its words.
fn names(answers: &Value) -> Vec<Regex> {
    let mut names = Vec::new();
    let mut left = vec![("", answers)];
    while let Some((key, value)) = left.pop() {
        match value {
            Value::Array(values) => left.extend(values.iter().map(|value| (key, value))),
            Value::Object(values) => left.extend(values.iter().map(|(key, value)| (key.as_str(), value))),
            Value::String(name) if key.to_lowercase().contains("name") => {
                names.push(name.trim().to_owned());
                names.extend(name.split_whitespace().map(str::to_owned));
            }
            _ => {}
        }
    }
    names.retain(|name| name.chars().count() > 1);
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    names.dedup();
    let pattern = |name: String| Regex::new(&format!("(?i){}", regex::escape(&name))).ok();
    names.into_iter().filter_map(pattern).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_a_form_is_found() {
        for (text, expected) in [
            ("Mail jane.o'neil+x@mail.example.co.uk, please.", "Mail [email], please."),
            ("See https://example.org/a?b=c#d. Or www.example.org!", "See [link]. Or [link]!"),
            ("(http://x.y/z) and ftp://host/file", "([link]) and [link]"),
            ("https://user@example.org/me", "[link]"),
            ("Call +49 (0)170 123-45 67 or (555) 123-4567 or 0170/1234567.", "Call [phone] or [phone] or [phone]."),
            ("5551234567", "[phone]"),
            ("0170 1234567\n2. thanks", "[phone]\n2. thanks"),
            ("0170 1234567 / 0171 7654321", "[phone]"),
            ("2026-04-08 0170 1234567", "2026-04-08 [phone]"),
            ("+49 170 1234567 2026-04-08", "[phone] 2026-04-08"),
            ("612 345 678", "[phone]"),
            ("jörg@müller.de", "[email]"),
            ("On 2026-04-08 at 22:11 it was 1 000 000 or 1.000.000 or 12345678.", ""),
            ("08.04.2026 10:30, 3.14159265, v1.2.3, 192.168.0.1, 42", ""),
            ("No @ sign, no www, 20 to 30 people", ""),
        ] {
            let expected = if expected.is_empty() { text } else { expected };
            assert_eq!(Redactor::default().redact(text), expected);
        }
    }

    #[test]
    fn what_spreads_over_tokens_stands_in_the_first() {
        let mut pieces = ["My mail: a", "@", "b.org", " and", " www.", "x.org<end>"].map(str::to_owned);
        let mut redactor = Redactor::default();
        redactor.redact_pieces(&mut pieces);
        assert_eq!(pieces, ["My mail: [email]", "", "", " and", " [link]", "<end>"]);
        assert_eq!(redactor.counts.0, BTreeMap::from([("[email]", 1), ("[link]", 1)]));
    }

    #[test]
    fn a_conversation_keeps_what_a_study_needs() {
        let conversation = json!({
            "id": "user5551234567_task1_conversation1",
            "messages": [{"id": "x@y.org", "timestamp": "2026-04-08T22:11:32.163Z", "type": "user", "content": "I am Jane Roe, jane@x.org.",
                "reasons": [{"content": "Jane's link: http://x.org", "label": "task_motivation", "timestamp": null}]}],
            "task_summary": "Ms ROE. Janet and JRoe stay.",
            "survey_answers": [{"age": 30, "full_name": "Jane Roe", "gender": "none"}],
        });
        let Value::Object(mut conversation) = conversation else { unreachable!() };
        let mut redactor = Redactor::default();
        redactor.redact_conversation(&mut conversation);
        assert_eq!(
            Value::Object(conversation),
            json!({
                "id": "user5551234567_task1_conversation1",
                "messages": [{"id": "x@y.org", "timestamp": "2026-04-08T22:11:32.163Z", "type": "user", "content": "I am [name], [email].",
                    "reasons": [{"content": "[name]'s link: [link]", "label": "task_motivation", "timestamp": null}]}],
                "task_summary": "Ms [name]. Janet and JRoe stay.",
                "survey_answers": [{"age": 30, "full_name": "[name]", "gender": "none"}],
            })
        );
        assert_eq!(redactor.counts.0, BTreeMap::from([("[email]", 1), ("[link]", 1), ("[name]", 4)]));
    }
}
