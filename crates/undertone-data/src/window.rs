//! Cuts a conversation that is longer than the context into overlapping windows.
//!
//! Windows are cut once for a study, on message boundaries, from the highest cost of each message in any arm. All arms
//! share them, so each arm sees the same history. Every message is a target in exactly one window. A target keeps its
//! whole history or at least half the context; if a long message makes that impossible, it keeps as much as fits, and
//! the window is counted.

use std::ops::Range;

/// The highest costs of a conversation's messages in any arm of a study, in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Costs {
    /// The system turn.
    pub system: usize,
    /// Each message as context, with its header, end and the thoughts placed after it.
    pub messages: Vec<usize>,
    /// The longest path from each message's beginning: the message itself, or a branch at it.
    pub reach: Vec<usize>,
}

/// One window: the messages it shows, and the targets among them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The messages in the window's trunk.
    pub context: Range<usize>,
    /// The messages whose targets this window scores; they end where the context ends.
    pub targets: Range<usize>,
    /// Whether some target has neither its whole history nor half the context.
    pub short_history: bool,
}

/// A message that does not fit the context even without any history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// Index of the message.
    pub message: usize,
    /// The tokens it needs.
    pub tokens: usize,
}

impl Costs {
    /// The higher cost of each message.
    pub fn highest(mut self, other: &Self) -> Self {
        self.system = self.system.max(other.system);
        for (own, others) in [(&mut self.messages, &other.messages), (&mut self.reach, &other.reach)] {
            own.iter_mut().zip(others).for_each(|(own, other)| *own = (*own).max(*other));
        }
        self
    }

    /// The tokens of some messages as context.
    fn history(&self, range: Range<usize>) -> usize {
        self.messages[range].iter().sum()
    }

    /// The longest path to a message and its targets in a window that begins at `from`.
    fn path(&self, from: usize, message: usize) -> usize {
        self.system + self.history(from..message) + self.reach[message]
    }

    /// Checks that every path of windows that were cut before has at most `context_tokens`.
    ///
    /// # Errors
    /// Names the first message that does not fit.
    pub fn check(&self, windows: &[Window], context_tokens: usize) -> Result<(), TooLong> {
        let targets = windows.iter().flat_map(|window| window.targets.clone().map(|at| (window.context.start, at)));
        let tokens = targets.map(|(from, message)| (message, self.path(from, message)));
        let too_long = tokens.filter(|(_, tokens)| *tokens > context_tokens);
        too_long.map(|(message, tokens)| Err(TooLong { message, tokens })).next().unwrap_or(Ok(()))
    }
}

/// Windows of at most `context_tokens` on any path.
///
/// # Errors
/// A message with its branches is longer than the context.
pub fn windows(costs: &Costs, context_tokens: usize) -> Result<Vec<Window>, TooLong> {
    let count = costs.messages.len();
    let fits = |from: usize, message: usize| costs.path(from, message) <= context_tokens;
    let mut windows = Vec::new();
    let mut first_target = 0;
    while first_target < count {
        // The latest start that still leaves the first target half a context of history.
        let mut from = (0..=first_target)
            .rev()
            .find(|&from| from == 0 || costs.system + costs.history(from..first_target) >= context_tokens / 2)
            .unwrap_or(0);
        let wanted = from;
        while !fits(from, first_target) {
            if from == first_target {
                return Err(TooLong { message: first_target, tokens: costs.system + costs.reach[first_target] });
            }
            from += 1;
        }
        let end = (first_target + 1..count).find(|&message| !fits(from, message)).unwrap_or(count);
        windows.push(Window { context: from..end, targets: first_target..end, short_history: from > wanted });
        first_target = end;
    }
    Ok(windows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of these lengths, a system turn of 2 tokens, a context of 20; shows
    /// `context→targets` of each window.
    fn check(messages: &[usize], expected: &str) {
        let costs = Costs { system: 2, messages: messages.to_vec(), reach: messages.to_vec() };
        let shown = match windows(&costs, 20) {
            Ok(windows) => windows
                .iter()
                .map(|w| format!("{:?}→{:?}{}", w.context, w.targets, if w.short_history { "!" } else { "" }))
                .collect::<Vec<_>>()
                .join(" "),
            Err(TooLong { message, tokens }) => format!("message {message} needs {tokens}"),
        };
        assert_eq!(shown, expected, "{messages:?}");
    }

    #[test]
    fn every_message_is_a_target_once_and_keeps_half_the_context() {
        check(&[5, 5, 5], "0..3→0..3");
        check(&[5, 5, 5, 5, 5], "0..3→0..3 1..4→3..4 2..5→4..5");
        check(&[2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2], "0..9→0..9 5..12→9..12");
        check(&[5, 17, 3], "0..1→0..1 1..2→1..2! 2..3→2..3!");
        check(&[5, 19, 3], "message 1 needs 21");
    }

    #[test]
    fn any_lengths_are_covered_exactly_once_within_the_context() {
        for seed in 0..200usize {
            let messages: Vec<usize> = (0..30).map(|i| 1 + (seed * 31 + i * i * 7 + seed * i) % 18).collect();
            let costs = Costs { system: 2, messages: messages.clone(), reach: messages.clone() };
            let windows = windows(&costs, 20).expect("each message fits alone");
            let covered: Vec<usize> = windows.iter().flat_map(|w| w.targets.clone()).collect();
            assert_eq!(covered, (0..30).collect::<Vec<_>>(), "{messages:?}");
            for window in &windows {
                assert!(2 + messages[window.context.clone()].iter().sum::<usize>() <= 20, "{window:?}");
                assert_eq!(window.context.end, window.targets.end);
                for target in window.targets.clone() {
                    let seen: usize = 2 + messages[window.context.start..target].iter().sum::<usize>();
                    assert!(window.context.start == 0 || seen >= 10 || window.short_history, "{window:?}");
                }
            }
        }
    }
}
