//! One window of one conversation as one view shows it: a trunk of tokens with branches on it.
//!
//! ```text
//! trunk   system ─ user₀ ─ asst₁ ─┬─ reaction₁ ─ user₂ …
//! branch                          └ reaction₁             (as a target: no later token sees it)
//! ```
//!
//! A token sees the trunk before its branch point and its own branch, nothing else. In storage the
//! trunk comes first, then the branches one after another. Nothing downstream knows of thoughts.

use std::collections::HashSet;
use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::encode::{Encoded, Thoughts, five_grams, speaker_of};
use crate::template::{Speaker, Template};
use crate::view::{Placement, View};
use crate::window::{Costs, Window};
use crate::{Conversation, Item, Role, TargetKind, ThoughtKind};

/// A run of tokens that hangs off the trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// How many tokens of the trunk it sees; its first token has this position.
    pub anchor: usize,
    /// Its tokens in the stream.
    pub span: Range<usize>,
}

/// One label among the candidates of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Index into the labels of the item's thought kind.
    pub label: usize,
    /// Index of the true label.
    pub truth: usize,
}

/// A span with a loss: the content and its end token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What it is, in every arm.
    pub item: Item,
    /// For a label kind, which label is written here.
    pub candidate: Option<Candidate>,
    /// Its tokens in the stream; the token before the span is always of the same path.
    pub span: Range<usize>,
    /// Length of the content in bytes of UTF-8, without the end token.
    pub bytes: usize,
    /// How many thoughts its path sees.
    pub visible_thoughts: usize,
    /// Whether a thought that its path sees shares five consecutive words with it.
    pub quoted: bool,
    /// How many messages of the user come before it in the conversation.
    pub earlier_user_messages: usize,
}

/// What a run of tokens is, for people who look at a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its tokens.
    pub span: Range<usize>,
    /// Whose turn.
    pub speaker: Speaker,
    /// The message it is, or hangs on.
    pub message: Option<usize>,
}

/// What a stream does not show, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Hidden {
    /// Thoughts of kinds the view does not show.
    pub thoughts_not_in_view: usize,
    /// Thoughts left out by chance.
    pub thoughts_dropped: usize,
    /// Thoughts written after the last message was sent, under `strict`.
    pub thoughts_too_late: usize,
    /// Thoughts of unknown time, under `strict`.
    pub thoughts_of_unknown_time: usize,
    /// Thoughts that stand later than their message because they were written later, under `strict`.
    pub thoughts_moved_later: usize,
    /// Messages before the window.
    pub messages_before_window: usize,
    /// Tokens cut from the middle of assistant messages.
    pub assistant_tokens_left_out: usize,
}

/// Tokens with branches, targets and the attention rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The conversation's id and the window's number: the same in every arm.
    pub id: String,
    /// The user.
    pub user: String,
    /// All token ids, trunk first.
    pub tokens: Vec<u32>,
    /// Length of the trunk.
    pub trunk: usize,
    /// The branches in storage order; together they are the tokens after the trunk.
    pub branches: Vec<Branch>,
    /// Spans with a loss, in storage order.
    pub targets: Vec<Target>,
    /// Every token belongs to exactly one piece.
    pub pieces: Vec<Piece>,
    /// What is not shown.
    pub hidden: Hidden,
}

impl Stream {
    /// The position of each token along its own path.
    pub fn positions(&self) -> Vec<u32> {
        let mut positions: Vec<u32> = (0..self.trunk as u32).collect();
        for branch in &self.branches {
            positions.extend((0..branch.span.len()).map(|offset| (branch.anchor + offset) as u32));
        }
        positions
    }

    /// The attention rule itself: whether token `query` sees token `key`. Quadratic if asked for all
    /// pairs; models use the spans, tests compare with this.
    pub fn sees(&self, query: usize, key: usize) -> bool {
        let branch_of = |token: usize| self.branches.iter().find(|branch| branch.span.contains(&token));
        match (branch_of(query), branch_of(key)) {
            (None, None) => key <= query,
            (Some(branch), None) => key < branch.anchor,
            (Some(own), Some(other)) => own.span == other.span && key <= query,
            (None, Some(_)) => false,
        }
    }

    /// The plain row of one target: its path from the first trunk token to its own last token, as
    /// any other trainer would cut it. The loss is on the last `target.span.len()` tokens.
    pub fn plain_row(&self, target: &Target) -> Vec<u32> {
        match self.branches.iter().find(|branch| branch.span.contains(&target.span.start)) {
            None => self.tokens[..target.span.end].to_vec(),
            Some(branch) => [&self.tokens[..branch.anchor], &self.tokens[branch.span.start..target.span.end]].concat(),
        }
    }

    /// How many tokens bear a loss.
    pub fn supervised_tokens(&self) -> usize {
        self.targets.iter().map(|target| target.span.len()).sum()
    }

    /// The longest path.
    pub fn longest_path(&self) -> usize {
        self.branches.iter().map(|branch| branch.anchor + branch.span.len()).chain([self.trunk]).max().unwrap_or(0)
    }
}

/// Whether label targets are laid out to be trained or to be scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Only the true label: its nats are the loss.
    Train,
    /// Every label, side by side: p = softmax of summed nats.
    Score,
}

/// What a stream is made for.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// Which thoughts are seen.
    pub view: View,
    /// What is predicted.
    pub kinds: &'a [TargetKind],
    /// How labels are laid out.
    pub purpose: Purpose,
    /// Thoughts of the view that are left out by chance, in training.
    pub dropout: Option<ThoughtDropout>,
}

impl Layout<'_> {
    /// Whether a thought is left out by chance.
    fn drops(&self, conversation: &Conversation, message: usize, thought: usize) -> bool {
        self.dropout.is_some_and(|dropout| dropout.hides(&conversation.id, message, thought))
    }
}

/// Each thought that a view shows is hidden with a probability, so that one model learns to do with and without.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThoughtDropout {
    /// From 0 to 1.
    pub probability: f64,
    /// Whatever tells one draw from another: the training seed and the epoch.
    pub seed: [u64; 2],
}

impl ThoughtDropout {
    /// Whether a thought is hidden: by the seed, the conversation and the thought alone.
    fn hides(&self, conversation: &str, message: usize, thought: usize) -> bool {
        let [seed, epoch] = self.seed;
        let mut hash = Sha256::new();
        hash.update(format!("thought dropout\0{seed}\0{epoch}\0{conversation}\0{message}\0{thought}"));
        let bytes: [u8; 8] = hash.finalize()[..8].try_into().expect("a hash has 32 bytes");
        (u64::from_le_bytes(bytes) as f64) < self.probability * 2.0_f64.powi(64)
    }
}

/// Turns encoded conversations into streams: the template, and the fixed system text.
#[derive(Debug, Clone)]
pub struct StreamBuilder {
    /// The template.
    pub template: Template,
    system: Vec<u32>,
}

impl StreamBuilder {
    /// `system` is the same in every arm; empty means no system turn.
    pub fn new(template: Template, system: &str) -> Self {
        let system = match system.trim() {
            "" => Vec::new(),
            text => turn(&template, Speaker::System, &template.encode(text)),
        };
        Self { template, system }
    }

    /// What each message costs at most under any of `layouts`, with the thoughts of any of `shown`.
    pub fn costs(&self, encoded: &Encoded, layouts: &[Layout<'_>], shown: &[&Thoughts]) -> Costs {
        let count = encoded.messages.len();
        let turn_tokens =
            |speaker, content: usize| self.template.header(speaker).len() + content + 1 + self.template.newline().len();
        let mut costs = Costs { system: self.system.len(), messages: vec![0; count], reach: vec![0; count] };
        for layout in layouts {
            for thoughts in shown {
                let slots = self.slots(encoded, layout, &mut Hidden::default());
                for (index, slot) in slots.iter().enumerate() {
                    let role = encoded.conversation.messages[index].role;
                    let own = turn_tokens(Speaker::Message(role), encoded.messages[index].context.len());
                    let thought = |&(message, thought): &(usize, usize)| {
                        let kind = encoded.conversation.messages[message].thought_kind();
                        turn_tokens(Speaker::Thought(kind), thoughts[message][thought].len())
                    };
                    let in_trunk = slot.iter().filter(|_| layout.view.shows_in_trunk());
                    let after: usize = in_trunk.map(thought).sum();
                    let mut reach = own;
                    for item in encoded.items(index..index + 1, layout.kinds) {
                        let labels = item.kind.labels_of().map_or(0..1, |kind| 0..kind.labels().len());
                        for label in labels {
                            let (content, _) = encoded.item_content(&item, Some(label), &self.template);
                            let branch = turn_tokens(speaker_of(item.kind), content.len());
                            let before = if item.kind == TargetKind::NextPrompt { 0 } else { own };
                            reach = reach.max(before + branch);
                        }
                        if item.kind == TargetKind::NextPrompt {
                            let beside = layout.view.beside(&encoded.conversation, index);
                            reach = reach.max(beside.iter().map(thought).sum::<usize>() + own);
                        }
                    }
                    costs.messages[index] = costs.messages[index].max(own + after);
                    costs.reach[index] = costs.reach[index].max(reach);
                }
            }
        }
        costs
    }

    /// One window of a conversation as a view shows it. `shown` holds the words of the thoughts.
    pub fn build(
        &self,
        encoded: &Encoded,
        number: usize,
        window: &Window,
        layout: Layout<'_>,
        shown: &Thoughts,
    ) -> Stream {
        let conversation = &encoded.conversation;
        let mut hidden = Hidden { messages_before_window: window.context.start, ..Hidden::default() };
        let slots = self.slots(encoded, &layout, &mut hidden);
        let mut laid = Laid::default();
        if !self.system.is_empty() {
            laid.push(&self.system, Speaker::System, None);
        }
        let items = encoded.items(window.targets.clone(), layout.kinds);
        // Nothing after the last message with a target can matter to any target.
        let end = items.iter().map(|item| item.message + 1).max().unwrap_or(window.context.start);
        let mut visible_thoughts = 0;
        let mut seen: HashSet<String> = HashSet::new();
        let mut pending = Vec::new();
        for (index, slot) in slots.iter().enumerate().take(end).skip(window.context.start) {
            let message = &conversation.messages[index];
            let before = Anchor { token: laid.tokens.len(), visible_thoughts, quoted: false };
            let own = items.iter().find(|item| item.message == index && item.kind == TargetKind::NextPrompt);
            let header = self.template.header(Speaker::Message(message.role));
            if let Some(item) = own.filter(|_| !layout.view.hangs_prompts()) {
                let start = laid.tokens.len() + header.len();
                let quoted = quotes(encoded, item, &seen);
                laid.targets.push(self.target(encoded, item, None, start, Seen { visible_thoughts, quoted }));
            }
            hidden.assistant_tokens_left_out += encoded.messages[index].left_out_tokens;
            let speaker = Speaker::Message(message.role);
            laid.push(&turn(&self.template, speaker, &encoded.messages[index].context), speaker, Some(index));
            let after = Anchor { token: laid.tokens.len(), visible_thoughts, quoted: false };
            for item in items.iter().filter(|item| item.message == index) {
                match item.kind {
                    TargetKind::NextPrompt if layout.view.hangs_prompts() => {
                        let mut beside = layout.view.beside(conversation, index);
                        beside.retain(|&(on, thought)| !layout.drops(conversation, on, thought));
                        let words = beside
                            .iter()
                            .flat_map(|&(on, thought)| five_grams(&self.template.decode(&shown[on][thought])));
                        let quoted = quotes(encoded, item, &seen) || quotes(encoded, item, &words.collect());
                        pending.push((before, item, quoted, beside));
                    }
                    TargetKind::NextPrompt => {}
                    _ => pending.push((after, item, quotes(encoded, item, &seen), Vec::new())),
                }
            }
            if index + 1 < end && layout.view.shows_in_trunk() {
                for &(on, thought) in slot {
                    let speaker = Speaker::Thought(conversation.messages[on].thought_kind());
                    laid.push(&turn(&self.template, speaker, &shown[on][thought]), speaker, Some(on));
                    visible_thoughts += 1;
                    seen.extend(five_grams(&self.template.decode(&shown[on][thought])));
                    hidden.thoughts_moved_later += usize::from(on != index);
                }
            }
        }
        let trunk = laid.tokens.len();
        for (anchor, item, quoted, beside) in pending {
            let anchor = Anchor { quoted, ..anchor };
            let beside: Vec<(ThoughtKind, &[u32], usize)> = beside
                .into_iter()
                .map(|(on, thought)| (conversation.messages[on].thought_kind(), &shown[on][thought][..], on))
                .collect();
            self.hang(encoded, item, layout.purpose, anchor, &beside, &mut laid);
        }
        Stream {
            id: format!("{}/window{number}", conversation.id),
            user: conversation.user.clone(),
            tokens: laid.tokens,
            trunk,
            branches: laid.branches,
            targets: laid.targets,
            pieces: laid.pieces,
            hidden,
        }
    }

    /// A whole conversation as a prompt that ends where `speaker` is about to write: the latest
    /// messages that fit `limit` tokens, whole, and how many messages were left out.
    pub fn prompt(&self, encoded: &Encoded, view: View, speaker: Speaker, limit: usize) -> (Vec<u32>, usize) {
        let layout = Layout { view, kinds: &[], purpose: Purpose::Score, dropout: None };
        let mut slots = self.slots(encoded, &layout, &mut Hidden::default());
        // Whatever has been written by now was written before the next message.
        let known_by_now = encoded.conversation.messages.iter().enumerate().flat_map(|(index, message)| {
            (0..message.thoughts.len())
                .filter(move |&thought| view.place(&encoded.conversation, index, thought) == Placement::TooLate)
                .map(move |thought| (index, thought))
        });
        if let Some(last) = slots.last_mut() {
            last.extend(known_by_now);
        }
        let turns: Vec<Vec<u32>> = (0..encoded.messages.len())
            .map(|index| {
                let role = encoded.conversation.messages[index].role;
                let mut ids = turn(&self.template, Speaker::Message(role), &encoded.messages[index].context);
                // A thought that is about to be written, or stands beside it, is not shown.
                let is_last = index + 1 == encoded.messages.len();
                let is_shown = match is_last {
                    true => !matches!(speaker, Speaker::Thought(_)),
                    false => view.shows_in_trunk(),
                };
                // The last reaction is one to the last message, not one that was written as late.
                let is_meant = |&&(on, _): &&(usize, usize)| is_shown && (view.shows_in_trunk() || on == index);
                for &(on, thought) in slots[index].iter().filter(is_meant) {
                    let kind = encoded.conversation.messages[on].thought_kind();
                    ids.extend(turn(&self.template, Speaker::Thought(kind), &encoded.thoughts[on][thought]));
                }
                ids
            })
            .collect();
        let header = self.template.header(speaker);
        let room = limit.saturating_sub(self.system.len() + header.len());
        let fits = |&from: &usize| turns[from..].iter().map(Vec::len).sum::<usize>() <= room;
        let from = (0..turns.len()).find(fits).unwrap_or(turns.len());
        ([self.system.clone(), turns[from..].concat(), header].concat(), from)
    }

    /// For each message, which thoughts stand after it: own ones in file order, then those moved
    /// there by their time, oldest first.
    fn slots(&self, encoded: &Encoded, layout: &Layout<'_>, hidden: &mut Hidden) -> Vec<Vec<(usize, usize)>> {
        let is_dropped = |message, thought| layout.drops(&encoded.conversation, message, thought);
        let messages = &encoded.conversation.messages;
        let mut slots: Vec<Vec<(usize, usize)>> = vec![Vec::new(); messages.len()];
        let mut moved: Vec<(Option<i64>, usize, (usize, usize))> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            for thought in 0..message.thoughts.len() {
                match layout.view.place(&encoded.conversation, index, thought) {
                    Placement::After(_) if is_dropped(index, thought) => hidden.thoughts_dropped += 1,
                    Placement::After(slot) if slot == index => slots[slot].push((index, thought)),
                    Placement::After(slot) => {
                        moved.push((message.thoughts[thought].written_at, slot, (index, thought)));
                    }
                    Placement::NotInView => hidden.thoughts_not_in_view += 1,
                    Placement::TooLate => hidden.thoughts_too_late += 1,
                    Placement::UnknownTime => hidden.thoughts_of_unknown_time += 1,
                }
            }
        }
        moved.sort();
        for (_, slot, thought) in moved {
            slots[slot].push(thought);
        }
        slots
    }

    fn target(&self, encoded: &Encoded, item: &Item, candidate: Option<Candidate>, start: usize, seen: Seen) -> Target {
        let (content, bytes) = encoded.item_content(item, candidate.map(|c| c.label), &self.template);
        let earlier = &encoded.conversation.messages[..item.message];
        Target {
            item: item.clone(),
            candidate,
            span: start..start + content.len() + 1,
            bytes,
            visible_thoughts: seen.visible_thoughts,
            quoted: seen.quoted,
            earlier_user_messages: earlier.iter().filter(|message| message.role == Role::User).count(),
        }
    }

    /// Lays out one item as a branch, or as one branch for each candidate label; thoughts `beside` it, each with the
    /// message it is of, stand in front.
    fn hang(
        &self,
        encoded: &Encoded,
        item: &Item,
        purpose: Purpose,
        anchor: Anchor,
        beside: &[(ThoughtKind, &[u32], usize)],
        laid: &mut Laid,
    ) {
        let truth = encoded.conversation.messages[item.message].thoughts.get(item.thought).and_then(|t| t.label);
        let candidates: Vec<Option<Candidate>> = match (item.kind.labels_of(), truth) {
            (Some(kind), Some(truth)) => match purpose {
                Purpose::Train => vec![Some(Candidate { label: truth, truth })],
                Purpose::Score => (0..kind.labels().len()).map(|label| Some(Candidate { label, truth })).collect(),
            },
            _ => vec![None],
        };
        for candidate in candidates {
            let start = laid.tokens.len();
            let mut visible_thoughts = anchor.visible_thoughts;
            for &(kind, words, on) in beside {
                laid.push(&turn(&self.template, Speaker::Thought(kind), words), Speaker::Thought(kind), Some(on));
                visible_thoughts += 1;
            }
            let speaker = speaker_of(item.kind);
            let header = self.template.header(speaker);
            let seen = Seen { visible_thoughts, quoted: anchor.quoted };
            let target = self.target(encoded, item, candidate, laid.tokens.len() + header.len(), seen);
            let (content, _) = encoded.item_content(item, candidate.map(|c| c.label), &self.template);
            let ids = [header, content, vec![self.template.end()]].concat();
            laid.push(&ids, speaker, Some(item.message));
            laid.targets.push(target);
            laid.branches.push(Branch { anchor: anchor.token, span: start..laid.tokens.len() });
        }
    }
}

/// Where a branch hangs.
#[derive(Clone, Copy)]
struct Anchor {
    /// Trunk tokens before it.
    token: usize,
    /// Thoughts among them.
    visible_thoughts: usize,
    /// Whether one that the branch sees shares five consecutive words with its target.
    quoted: bool,
}

/// What a target sees of thoughts.
struct Seen {
    visible_thoughts: usize,
    quoted: bool,
}

/// Whether an item shares five consecutive words with some of `seen`. Labels are nobody's words.
fn quotes(encoded: &Encoded, item: &Item, seen: &HashSet<String>) -> bool {
    let message = &encoded.conversation.messages[item.message];
    let text = match item.kind {
        TargetKind::NextPrompt => &message.content,
        TargetKind::Reaction | TargetKind::Reason => &message.thoughts[item.thought].content,
        TargetKind::ReactionLabel | TargetKind::ReasonLabel => return false,
    };
    five_grams(text).any(|gram| seen.contains(&gram))
}

/// A stream while it is laid out.
#[derive(Default)]
struct Laid {
    tokens: Vec<u32>,
    branches: Vec<Branch>,
    targets: Vec<Target>,
    pieces: Vec<Piece>,
}

impl Laid {
    fn push(&mut self, ids: &[u32], speaker: Speaker, message: Option<usize>) {
        let start = self.tokens.len();
        self.tokens.extend_from_slice(ids);
        self.pieces.push(Piece { span: start..self.tokens.len(), speaker, message });
    }
}

/// `header content <|im_end|> ⏎`
fn turn(template: &Template, speaker: Speaker, content: &[u32]) -> Vec<u32> {
    let mut ids = template.header(speaker);
    ids.extend_from_slice(content);
    ids.push(template.end());
    ids.extend_from_slice(template.newline());
    ids
}
