//! A text as it grows: whole characters, cut before a stop text, with the log-probability of each token.

use serde::Serialize;
use undertone_data::{StopReason, Template};
use undertone_model::{Chosen, Step};

/// One token with its log-probability, as the protocol writes it.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(crate) struct TokenLogprob {
    pub(crate) token: String,
    pub(crate) logprob: f64,
    /// The bytes of the token; `None` if they are only a part of a character.
    pub(crate) bytes: Option<Vec<u8>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_logprobs: Option<Vec<TokenLogprob>>,
}

/// Why a text is complete, in the protocol's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FinishReason {
    Stop,
    Length,
}

/// What one step adds to a text.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Grown {
    /// Characters that are certain to belong to the text.
    pub(crate) text: String,
    /// Log-probabilities of the tokens of these characters, if they are asked for.
    pub(crate) logprobs: Vec<TokenLogprob>,
    /// Set once the text is complete.
    pub(crate) finished: Option<FinishReason>,
}

/// A text that is being written.
#[derive(Debug)]
pub(crate) struct Text {
    /// The text ends before the first of these; none is empty.
    stops: Vec<String>,
    /// How many of the most likely tokens are named beside each token; `None` for no log-probabilities.
    top_logprobs: Option<usize>,
    ids: Vec<u32>,
    /// Bytes that were handed out.
    told: usize,
    /// Tokens that were not handed out yet, each with the byte at which it begins.
    waiting: Vec<(usize, TokenLogprob)>,
}

impl Text {
    pub(crate) fn new(stops: Vec<String>, top_logprobs: Option<usize>) -> Self {
        Self { stops, top_logprobs, ids: Vec::new(), told: 0, waiting: Vec::new() }
    }

    /// How many tokens were written.
    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Adds what a step gave.
    pub(crate) fn grow(&mut self, template: &Template, step: &Step) -> Grown {
        if let Some(chosen) = &step.chosen {
            if let Some(top) = self.top_logprobs {
                let begins = self.whole_characters(template).len();
                self.waiting.push((begins, logprob(template, &self.ids, chosen, top)));
            }
            self.ids.push(chosen.id);
        }
        let is_complete = step.stopped.is_some();
        let whole = match is_complete {
            true => template.decode(&self.ids),
            false => self.whole_characters(template),
        };
        let stop = self.stops.iter().filter_map(|stop| whole.find(stop.as_str())).min();
        let finished = match step.stopped {
            _ if stop.is_some() => Some(FinishReason::Stop),
            None => None,
            Some(StopReason::EndToken) => Some(FinishReason::Stop),
            Some(StopReason::MaxNewTokens | StopReason::Context) => Some(FinishReason::Length),
        };
        let certain = match (stop, is_complete) {
            (Some(stop), _) => stop,
            (None, true) => whole.len(),
            (None, false) => whole.len() - self.stops.iter().map(|stop| begun(&whole, stop)).max().unwrap_or(0),
        };
        // A normalizer may change characters that were told; then nothing new is told until the text is longer.
        let text = whole.get(self.told..certain).unwrap_or_default().to_owned();
        self.told = self.told.max(certain);
        let told = self.waiting.iter().take_while(|(begins, _)| *begins < certain).count();
        let logprobs = self.waiting.drain(..told).map(|(_, logprob)| logprob).collect();
        Grown { text, logprobs, finished }
    }

    /// The text so far, without a last character that is not complete.
    fn whole_characters(&self, template: &Template) -> String {
        let mut text = template.decode(&self.ids);
        text.truncate(text.trim_end_matches(char::REPLACEMENT_CHARACTER).len());
        text
    }
}

/// The log-probability of a token after others, and of the `top` most likely tokens at its place.
fn logprob(template: &Template, before: &[u32], chosen: &Chosen, top: usize) -> TokenLogprob {
    let logits = &chosen.logits;
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    let of = |id: u32, top_logprobs| {
        let token = decoded_after(template, before, id);
        let bytes = (!token.contains(char::REPLACEMENT_CHARACTER)).then(|| token.clone().into_bytes());
        let logprob = f64::from(logits[id as usize] - highest) - total.ln();
        TokenLogprob { token, logprob, bytes, top_logprobs }
    };
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if top > 0 && top < order.len() {
        order.select_nth_unstable_by(top - 1, by_logit);
    }
    order.truncate(top);
    order.sort_unstable_by(by_logit);
    of(chosen.id, Some(order.into_iter().map(|id| of(id, None)).collect()))
}

/// The text of a token after others. Some tokenizers write no space before the first token of a text.
fn decoded_after(template: &Template, before: &[u32], id: u32) -> String {
    let alone = || template.decode(&[id]);
    let Some(last) = before.last() else { return alone() };
    let pair = template.decode(&[*last, id]);
    pair.strip_prefix(template.decode(&[*last]).as_str()).map_or_else(alone, str::to_owned)
}

/// How many bytes at the end of `text` may be the beginning of `stop`.
fn begun(text: &str, stop: &str) -> usize {
    let mut beginnings = stop.char_indices().map(|(end, _)| end).rev();
    beginnings.find(|&end| text.ends_with(&stop[..end])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_text_is_held_back_if_a_stop_text_may_begin_there() {
        assert_eq!(begun("say <en", "<end>"), 3);
        assert_eq!(begun("say <", "<end>"), 1);
        assert_eq!(begun("say", "<end>"), 0);
        assert_eq!(begun("aab", "aabaac"), 3);
        assert_eq!(begun("né", "éa"), "é".len());
        assert_eq!(begun("", "a"), 0);
    }
}
