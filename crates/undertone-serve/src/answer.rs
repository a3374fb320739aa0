//! A request's texts while they are written, and the bodies that the protocol wraps them in.

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use undertone_data::Template;
use undertone_model::Step;

use crate::text::{FinishReason, Grown, Text, TokenLogprob};

/// What is the same in every body of one answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: i64,
    pub(crate) model: String,
    pub(crate) prompt_tokens: usize,
    /// What OpenAI's protocol has no place for: the seed, the view, and messages that did not fit.
    pub(crate) undertone: Value,
}

/// The texts of one request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) texts: Vec<Text>,
    pub(crate) has_logprobs: bool,
    pub(crate) steps: UnboundedReceiver<(usize, Step)>,
    /// Why each text is complete.
    pub(crate) finished: Vec<Option<FinishReason>>,
}

/// The model's thread ended before the texts did.
#[derive(Debug)]
pub(crate) struct Broken;

impl Answer {
    /// What the next step adds, and to which text; `None` once all texts are complete.
    pub(crate) async fn next(&mut self, template: &Template) -> Result<Option<(usize, Grown)>, Broken> {
        while self.finished.contains(&None) {
            let (choice, step) = self.steps.recv().await.ok_or(Broken)?;
            if self.finished[choice].is_none() {
                let grown = self.texts[choice].grow(template, &step);
                self.finished[choice] = grown.finished;
                return Ok(Some((choice, grown)));
            }
        }
        Ok(None)
    }

    /// The whole answer in one body.
    pub(crate) async fn whole(mut self, template: &Template) -> Result<Value, Broken> {
        let mut written = vec![(String::new(), Vec::new()); self.texts.len()];
        while let Some((choice, Grown { text, logprobs, .. })) = self.next(template).await? {
            written[choice].0.push_str(&text);
            written[choice].1.extend(logprobs);
        }
        let choice = |(index, (content, logprobs)): (usize, (String, Vec<TokenLogprob>))| {
            json!({
                "index": index,
                "message": {"role": "assistant", "content": content, "refusal": null},
                "logprobs": self.logprobs(&logprobs),
                "finish_reason": self.finished[index],
            })
        };
        let choices: Vec<Value> = written.into_iter().enumerate().map(choice).collect();
        let Head { id, created, model, undertone, .. } = &self.head;
        Ok(json!({
            "id": id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": choices,
            "usage": self.usage(),
            "undertone": undertone,
        }))
    }

    /// The first body of a stream for one text.
    pub(crate) fn first_chunk(&self, choice: usize) -> Value {
        let mut chunk = self.chunk(choice, &json!({"role": "assistant", "content": ""}), &Grown::default());
        chunk["undertone"] = self.head.undertone.clone();
        chunk
    }

    /// One body of a stream: what is new in one text.
    pub(crate) fn chunk(&self, choice: usize, delta: &Value, grown: &Grown) -> Value {
        let choice = json!({
            "index": choice,
            "delta": delta,
            "logprobs": self.logprobs(&grown.logprobs),
            "finish_reason": grown.finished,
        });
        self.body_of_stream(&[choice], &Value::Null)
    }

    /// The last body of a stream, if the request wants the numbers of tokens.
    pub(crate) fn usage_chunk(&self) -> Value {
        self.body_of_stream(&[], &self.usage())
    }

    fn body_of_stream(&self, choices: &[Value], usage: &Value) -> Value {
        let Head { id, created, model, .. } = &self.head;
        json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "choices": choices,
            "usage": usage,
        })
    }

    fn logprobs(&self, tokens: &[TokenLogprob]) -> Value {
        match self.has_logprobs {
            true => json!({"content": tokens, "refusal": null}),
            false => Value::Null,
        }
    }

    fn usage(&self) -> Value {
        let completion: usize = self.texts.iter().map(Text::tokens).sum();
        let prompt = self.head.prompt_tokens;
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
    }
}
