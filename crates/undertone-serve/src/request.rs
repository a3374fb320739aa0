//! What a request asks for, read and checked. A parameter that would be ignored is refused, unless it changes no text.

use serde::Deserialize;
use serde_json::{Map, Value};
use undertone_model::Sampling;

use crate::dialogue::{self, ChatMessage, Dialogue, Roles};
use crate::refusal::Refusal;

/// The most texts of one request.
const MOST_CHOICES: usize = 16;
/// The most stop texts, as in OpenAI's protocol.
const MOST_STOPS: usize = 4;
/// The most messages of a request.
const MOST_MESSAGES: usize = 10_000;
/// The most named alternatives of a token, as in OpenAI's protocol.
const MOST_TOP_LOGPROBS: usize = 20;

/// The body of a request, with the defaults of OpenAI's protocol.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatRequest {
    pub(crate) model: String,
    messages: Vec<ChatMessage>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    n: Option<usize>,
    seed: Option<i64>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    stop: Option<Stop>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// A request that can be served.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) model: String,
    pub(crate) dialogue: Dialogue,
    /// Of the first text; each further one has the next seed.
    pub(crate) sampling: Sampling,
    pub(crate) choices: usize,
    pub(crate) stops: Vec<String>,
    /// `None` for no log-probabilities.
    pub(crate) top_logprobs: Option<usize>,
    pub(crate) is_streamed: bool,
    pub(crate) includes_usage: bool,
}

impl ChatRequest {
    /// Checks the request.
    pub(crate) fn read(self, roles: Roles, default_tokens: usize) -> Result<Asked, Refusal> {
        refuse_ignored(&self.others)?;
        let within = |name: &str, value: f64, range: std::ops::RangeInclusive<f64>| match range.contains(&value) {
            true => Ok(value),
            false => Err(Refusal::of(name, format!("{value} is not from {} to {}", range.start(), range.end()))),
        };
        within("messages", self.messages.len() as f64, 0.0..=MOST_MESSAGES as f64)?;
        let temperature = within("temperature", self.temperature.unwrap_or(1.0), 0.0..=2.0)?;
        let top_p = within("top_p", self.top_p.unwrap_or(1.0), 0.0..=1.0)?;
        let choices = self.n.unwrap_or(1);
        within("n", choices as f64, 1.0..=MOST_CHOICES as f64)?;
        let max_new_tokens = self.max_completion_tokens.or(self.max_tokens).unwrap_or(default_tokens);
        if max_new_tokens == 0 {
            return Err(Refusal::of("max_completion_tokens", "0 is below 1"));
        }
        let top_logprobs = match (self.logprobs.unwrap_or(false), self.top_logprobs) {
            (true, top) => Some(top.unwrap_or(0)),
            (false, None | Some(0)) => None,
            (false, Some(_)) => return Err(Refusal::of("top_logprobs", "needs `logprobs`: true")),
        };
        within("top_logprobs", top_logprobs.unwrap_or(0) as f64, 0.0..=MOST_TOP_LOGPROBS as f64)?;
        let stops = match self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop],
            Some(Stop::Several(stops)) => stops,
        };
        if stops.len() > MOST_STOPS || stops.iter().any(String::is_empty) {
            return Err(Refusal::of("stop", format!("at most {MOST_STOPS} texts are allowed, and no empty one")));
        }
        // A seed that was not given is drawn and returned, so that every answer can be repeated.
        let seed = self.seed.map_or_else(|| u64::from(rand::random::<u32>()), i64::cast_unsigned);
        Ok(Asked {
            model: self.model,
            dialogue: dialogue::read(self.messages, roles)?,
            sampling: Sampling {
                temperature,
                top_p: top_p.max(f64::MIN_POSITIVE),
                seed,
                max_new_tokens,
                ..Sampling::default()
            },
            choices,
            stops,
            top_logprobs,
            is_streamed: self.stream.unwrap_or(false),
            includes_usage: self.stream_options.unwrap_or_default().include_usage,
        })
    }
}

/// Refuses parameters that change a text and are not served. Those that change none may have any value, and others their
/// neutral one.
fn refuse_ignored(others: &Map<String, Value>) -> Result<(), Refusal> {
    for (name, value) in others {
        let is_neutral = match name.as_str() {
            "user"
            | "metadata"
            | "store"
            | "service_tier"
            | "safety_identifier"
            | "prompt_cache_key"
            | "prompt_cache_retention"
            | "parallel_tool_calls" => true,
            "frequency_penalty" | "presence_penalty" => value.as_f64() == Some(0.0),
            "logit_bias" => value.as_object().is_some_and(Map::is_empty),
            "tools" | "functions" => value.as_array().is_some_and(Vec::is_empty),
            "tool_choice" | "function_call" => matches!(value.as_str(), Some("none" | "auto")),
            "response_format" => value["type"] == "text",
            "modalities" => value.as_array().is_some_and(|all| all.iter().all(|one| one == "text")),
            _ => false,
        };
        if !is_neutral && !value.is_null() {
            return Err(Refusal::of(name, "is not supported, and would change the text if it were"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(request: Value) -> Result<Asked, Refusal> {
        let mut whole = json!({"model": "past", "messages": []});
        let entries = request.as_object().expect("an object").clone();
        whole.as_object_mut().expect("an object").extend(entries);
        serde_json::from_value::<ChatRequest>(whole).expect("a request").read(Roles::default(), 256)
    }

    #[test]
    fn defaults_are_those_of_the_protocol() {
        let Asked { sampling, choices, stops, top_logprobs, is_streamed, includes_usage, .. } =
            asked(json!({})).unwrap();
        assert_eq!((sampling.temperature, sampling.top_p, sampling.max_new_tokens), (1.0, 1.0, 256));
        assert_eq!((choices, stops.len(), top_logprobs, is_streamed, includes_usage), (1, 0, None, false, false));
        assert_ne!(asked(json!({})).unwrap().sampling.seed, sampling.seed);
        let given = json!({"seed": -1, "max_tokens": 3, "stop": "\n", "logprobs": true, "user": "me", "tools": [], "logit_bias": null});
        let Asked { sampling, stops, top_logprobs, .. } = asked(given).unwrap();
        assert_eq!((sampling.seed, sampling.max_new_tokens), (u64::MAX, 3));
        assert_eq!((stops, top_logprobs), (vec!["\n".to_owned()], Some(0)));
        assert_eq!(asked(json!({"max_tokens": 3, "max_completion_tokens": 5})).unwrap().sampling.max_new_tokens, 5);
    }

    #[test]
    fn what_would_be_ignored_is_refused_by_name() {
        let check = |request: Value, message: &str| assert_eq!(asked(request).unwrap_err().message, message);
        check(json!({"temperature": 2.5}), "temperature: 2.5 is not from 0 to 2");
        check(json!({"top_p": -0.5}), "top_p: -0.5 is not from 0 to 1");
        check(json!({"n": 0}), "n: 0 is not from 1 to 16");
        check(json!({"max_tokens": 0}), "max_completion_tokens: 0 is below 1");
        check(json!({"top_logprobs": 2}), "top_logprobs: needs `logprobs`: true");
        check(json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs: 21 is not from 0 to 20");
        check(json!({"stop": ["a", ""]}), "stop: at most 4 texts are allowed, and no empty one");
        for name in ["frequency_penalty", "tools", "reasoning_effort", "best_of"] {
            let request = Value::Object([(name.to_owned(), json!([1]))].into_iter().collect());
            check(request, &format!("{name}: is not supported, and would change the text if it were"));
        }
    }
}
