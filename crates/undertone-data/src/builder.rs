//! Lays a conversation out as a stream: where thoughts are placed, what is a target, and what each message costs.
//!
//! Takes an [`Encoded`] conversation, a [`Window`] of it, a [`Layout`] and the [`Words`] to show; returns a [`Stream`].
//! What a view shows is decided in `view`, not here.

pub(crate) mod prompt;

use std::borrow::Cow;
use std::collections::HashSet;

use crate::encode::{Encoded, ThoughtAt, Thoughts, quotable_runs, shown_runs};
use crate::seed::derived_number;
use crate::speaker::Speaker;
use crate::stream::{Branch, Candidate, Hidden, Piece, Stream, Target};
use crate::template::Template;
use crate::view::{Placement, View};
use crate::window::{Costs, Window};
use crate::{Conversation, Item, Role, TargetKind};

/// Whether label targets are laid out to be trained or to be scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Only the true label: its nats are the loss.
    Train,
    /// Every label: p = softmax of the negated summed nats.
    Score,
}

/// How a window is laid out as a stream.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// Which thoughts are seen.
    pub view: View,
    /// What is predicted.
    pub kinds: &'a [TargetKind],
    /// How labels are laid out.
    pub purpose: Purpose,
    /// Random dropout of the view's thoughts in training.
    pub dropout: Option<ThoughtDropout>,
    /// One thought that is left out, to measure what it does.
    pub left_out: Option<ThoughtAt>,
}

impl<'a> Layout<'a> {
    /// A layout that shows every thought of the view.
    pub fn new(view: View, kinds: &'a [TargetKind], purpose: Purpose) -> Self {
        Self { view, kinds, purpose, dropout: None, left_out: None }
    }

    /// Whether a thought that the view shows is dropped or left out.
    fn drops(&self, conversation: &Conversation, message: usize, thought: usize) -> bool {
        self.left_out == Some((message, thought))
            || self.dropout.is_some_and(|dropout| dropout.hides(&conversation.id, message, thought))
    }
}

/// Hides each thought that a view shows with a fixed probability, so that one model learns to predict with and without
/// thoughts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThoughtDropout {
    /// From 0 to 1.
    pub probability: f64,
    /// The training seed and the epoch.
    pub seed: [u64; 2],
}

impl ThoughtDropout {
    /// Whether a thought is hidden; depends only on the seed, the conversation and the thought.
    fn hides(&self, conversation: &str, message: usize, thought: usize) -> bool {
        let [seed, epoch] = self.seed;
        let [seed, epoch, message, thought] =
            [seed, epoch, message as u64, thought as u64].map(|part| part.to_string());
        let draw = derived_number("thought dropout", &[&seed, &epoch, conversation, &message, &thought]);
        (draw as f64) < self.probability * 2.0_f64.powi(64)
    }
}

/// The words that a stream shows besides the conversation's own messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words<'a> {
    /// The thoughts, by message and then by thought.
    pub thoughts: Cow<'a, Thoughts>,
    /// The thoughts that have no words because there is no donor.
    pub without_words: Cow<'a, [ThoughtAt]>,
    /// By message, the messages of other users that are scored in its place; empty for a message without distractors.
    pub distractors: Vec<Vec<Vec<u32>>>,
}

impl<'a> Words<'a> {
    /// These thoughts, and no distractors.
    pub fn of(thoughts: &'a Thoughts) -> Self {
        Self { thoughts: Cow::Borrowed(thoughts), without_words: Cow::Borrowed(&[]), distractors: Vec::new() }
    }

    fn lack(&self, thoughts: &[ThoughtAt]) -> bool {
        thoughts.iter().any(|thought| self.without_words.contains(thought))
    }

    fn distractors(&self, message: usize) -> &[Vec<u32>] {
        self.distractors.get(message).map_or(&[], Vec::as_slice)
    }
}

/// Turns encoded conversations into streams with a template and a fixed system text.
#[derive(Debug, Clone)]
pub struct StreamBuilder {
    /// The template.
    pub template: Template,
    /// What stands before every conversation.
    prefix: Vec<u32>,
}

impl StreamBuilder {
    /// `system` is the same in every arm; empty means no system turn.
    pub fn new(template: Template, system: &str) -> Self {
        let prefix = prefix(&template, system);
        Self { template, prefix }
    }

    /// The highest cost of each message over these layouts and their words.
    pub fn costs(&self, encoded: &Encoded, shown: &[(Layout<'_>, Words<'_>)]) -> Costs {
        let conversation = &encoded.conversation;
        let count = encoded.messages.len();
        let turn_tokens = |speaker, content: usize| self.template.around(speaker) + content;
        let mut costs = Costs { system: self.prefix.len(), messages: vec![0; count], reach: vec![0; count] };
        for (layout, Words { thoughts, distractors, .. }) in shown {
            let slots = self.slots(encoded, layout, &mut Hidden::default());
            for (index, slot) in slots.iter().enumerate() {
                let role = conversation.messages[index].role;
                let own = turn_tokens(Speaker::Message(role), encoded.messages[index].context.len());
                let thought = |&(message, thought): &ThoughtAt| {
                    let kind = conversation.messages[message].thought_kind();
                    turn_tokens(Speaker::Thought(kind), thoughts[message][thought].len())
                };
                let after: usize = slot.iter().filter(|_| layout.view.shows_in_trunk()).map(thought).sum();
                let mut reach = own;
                for item in encoded.items(index..index + 1, layout.kinds) {
                    let branch = |content: usize| turn_tokens(Speaker::of(item.kind), content);
                    if item.kind == TargetKind::NextPrompt {
                        let beside: usize = layout.view.beside(conversation, index).iter().map(thought).sum();
                        let others = distractors.get(index).into_iter().flatten().map(|other| branch(other.len()));
                        reach = reach.max(beside + others.chain([own]).max().unwrap_or(own));
                        continue;
                    }
                    for label in 0..item.kind.labels().map_or(1, <[_]>::len) {
                        let (content, _) = encoded.item_content(&item, Some(label), &self.template);
                        reach = reach.max(own + branch(content.len()));
                    }
                }
                costs.messages[index] = costs.messages[index].max(own + after);
                costs.reach[index] = costs.reach[index].max(reach);
            }
        }
        costs
    }

    /// One window of a conversation as a view shows it.
    pub fn build(
        &self,
        encoded: &Encoded,
        number: usize,
        window: &Window,
        layout: Layout<'_>,
        words: &Words<'_>,
    ) -> Stream {
        let conversation = &encoded.conversation;
        let shown = &words.thoughts;
        let mut hidden = Hidden { messages_before_window: window.context.start, ..Hidden::default() };
        let slots = self.slots(encoded, &layout, &mut hidden);
        let mut laid = Laid::default();
        if !self.prefix.is_empty() {
            laid.push(&self.prefix, Speaker::System, None);
        }
        let items = encoded.items(window.targets.clone(), layout.kinds);
        // No target sees a message after the last one with a target.
        let end = items.iter().map(|item| item.message + 1).max().unwrap_or(window.context.start);
        let mut seen: Vec<ThoughtAt> = Vec::new();
        let mut said: HashSet<String> = HashSet::new();
        let reply_tokens = |index: usize| match conversation.messages[index].role {
            Role::Assistant => encoded.messages[index].content.len(),
            Role::User => 0,
        };
        let mut reply_tokens_lost: usize = (0..window.context.start).map(reply_tokens).sum();
        let mut pending = Vec::new();
        for (index, slot) in slots.iter().enumerate().take(end).skip(window.context.start) {
            let message = &conversation.messages[index];
            let speaker = Speaker::Message(message.role);
            let before = Anchor { token: laid.tokens.len(), thoughts: seen.len(), reply_tokens_lost };
            laid.push(&self.template.turn(speaker, &encoded.messages[index].context), speaker, Some(index));
            hidden.assistant_tokens_left_out += encoded.messages[index].left_out_tokens;
            reply_tokens_lost += encoded.messages[index].left_out_tokens;
            let after = Anchor { token: laid.tokens.len(), thoughts: seen.len(), reply_tokens_lost };
            for item in items.iter().filter(|item| item.message == index) {
                let mut hang = |anchor, quoted, written, beside: &[ThoughtAt]| {
                    pending.push(Pending { anchor, item, quoted, written, beside: beside.to_vec() });
                };
                let quoted = quotes(encoded, item, &said);
                if item.kind != TargetKind::NextPrompt {
                    self.candidates(encoded, item, layout.purpose)
                        .into_iter()
                        .for_each(|one| hang(after, quoted, one, &[]));
                    continue;
                }
                let mut beside = layout.view.beside(conversation, index);
                beside.retain(|&(on, thought)| !layout.drops(conversation, on, thought));
                let own = self.candidates(encoded, item, layout.purpose).remove(0);
                if layout.view.hangs_prompts() {
                    let runs = |&(on, thought): &ThoughtAt| shown_runs(&self.template.decode(&shown[on][thought]));
                    let quoted = quoted || quotes(encoded, item, &beside.iter().flat_map(runs).collect());
                    hang(before, quoted, own, &beside);
                } else {
                    let start = before.token + self.template.header(speaker).len();
                    let lacks_words = words.lack(&seen);
                    let path = Path { seen: seen.clone(), quoted, lacks_words, reply_tokens_lost };
                    laid.targets.push(own.target(encoded, item, start, path));
                }
                if layout.purpose == Purpose::Score {
                    for (number, other) in words.distractors(index).iter().enumerate() {
                        let bytes = self.template.decode(other).len();
                        let candidate = Some(Candidate::Distractor(number));
                        hang(before, false, Written { candidate, content: other.clone(), bytes }, &beside);
                    }
                }
            }
            if index + 1 < end && layout.view.shows_in_trunk() {
                for &(on, thought) in slot {
                    let speaker = Speaker::Thought(conversation.messages[on].thought_kind());
                    laid.push(&self.template.turn(speaker, &shown[on][thought]), speaker, Some(on));
                    seen.push((on, thought));
                    said.extend(shown_runs(&self.template.decode(&shown[on][thought])));
                    hidden.thoughts_moved_later += usize::from(on != index);
                }
            }
        }
        let trunk = laid.tokens.len();
        for branch in pending {
            self.hang(encoded, branch, words, &seen, &mut laid);
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

    /// For each message, the thoughts placed after it: its own in file order, then those that their time moved there,
    /// oldest first.
    fn slots(&self, encoded: &Encoded, layout: &Layout<'_>, hidden: &mut Hidden) -> Vec<Vec<ThoughtAt>> {
        let is_dropped = |message, thought| layout.drops(&encoded.conversation, message, thought);
        let messages = &encoded.conversation.messages;
        let mut slots: Vec<Vec<ThoughtAt>> = vec![Vec::new(); messages.len()];
        let mut moved: Vec<(Option<i64>, usize, ThoughtAt)> = Vec::new();
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

    /// The contents of a target: the item's own text, its true label in training, or every label in scoring.
    fn candidates(&self, encoded: &Encoded, item: &Item, purpose: Purpose) -> Vec<Written> {
        let written = |candidate, label| {
            let (content, bytes) = encoded.item_content(item, label, &self.template);
            Written { candidate, content, bytes }
        };
        let (Some(labels), Some(truth)) = (item.kind.labels(), encoded.true_label(item)) else {
            return vec![written(None, None)];
        };
        let chosen = match purpose {
            Purpose::Train => truth..truth + 1,
            Purpose::Score => 0..labels.len(),
        };
        chosen.map(|label| written(Some(Candidate::Label { label, truth }), Some(label))).collect()
    }

    /// Lays out one branch: the thoughts in front of the target, its header, its content and the end token. `trunk` are
    /// the thoughts of the trunk.
    fn hang(&self, encoded: &Encoded, branch: Pending<'_>, words: &Words<'_>, trunk: &[ThoughtAt], laid: &mut Laid) {
        let Pending { anchor, item, quoted, written, beside } = branch;
        let start = laid.tokens.len();
        for &(on, thought) in &beside {
            let speaker = Speaker::Thought(encoded.conversation.messages[on].thought_kind());
            laid.push(&self.template.turn(speaker, &words.thoughts[on][thought]), speaker, Some(on));
        }
        let speaker = Speaker::of(item.kind);
        let header = self.template.header(speaker);
        let seen = [&trunk[..anchor.thoughts], &beside].concat();
        let lacks_words = words.lack(&seen);
        let path = Path { seen, quoted, lacks_words, reply_tokens_lost: anchor.reply_tokens_lost };
        laid.targets.push(written.target(encoded, item, laid.tokens.len() + header.len(), path));
        let ids = [header, &written.content, &[self.template.end(speaker)]].concat();
        laid.push(&ids, speaker, Some(item.message));
        laid.branches.push(Branch { anchor: anchor.token, span: start..laid.tokens.len() });
    }
}

/// What stands before every conversation: the template's opening, and a system turn if there is a text for it.
fn prefix(template: &Template, system: &str) -> Vec<u32> {
    let mut prefix = template.opening().to_vec();
    if !system.trim().is_empty() {
        prefix.extend(template.turn(Speaker::System, &template.encode(system.trim())));
    }
    prefix
}

/// Where a branch leaves the trunk.
#[derive(Clone, Copy)]
struct Anchor {
    /// Trunk tokens before it.
    token: usize,
    /// Thoughts among them.
    thoughts: usize,
    /// Tokens of earlier replies that are not among them.
    reply_tokens_lost: usize,
}

/// A branch that is laid out after the trunk.
struct Pending<'a> {
    anchor: Anchor,
    item: &'a Item,
    /// Whether the target quotes a visible thought.
    quoted: bool,
    written: Written,
    /// The thoughts in front of the target, which only this branch sees.
    beside: Vec<ThoughtAt>,
}

/// The content of a target.
struct Written {
    candidate: Option<Candidate>,
    content: Vec<u32>,
    /// Length of the content in bytes of UTF-8.
    bytes: usize,
}

impl Written {
    /// The target that begins at token `start`.
    fn target(&self, encoded: &Encoded, item: &Item, start: usize, path: Path) -> Target {
        let earlier = &encoded.conversation.messages[..item.message];
        let Path { seen, quoted, lacks_words, reply_tokens_lost } = path;
        Target {
            item: item.clone(),
            candidate: self.candidate,
            span: start..start + self.content.len() + 1,
            bytes: self.bytes,
            seen,
            quoted,
            lacks_words,
            earlier_user_messages: earlier.iter().filter(|message| message.role == Role::User).count(),
            reply_tokens_lost,
        }
    }
}

/// What the path of a target shows and lacks; see [`Target`].
struct Path {
    seen: Vec<ThoughtAt>,
    quoted: bool,
    lacks_words: bool,
    reply_tokens_lost: usize,
}

/// Whether an item quotes what is `said`; false for labels, which no user wrote.
fn quotes(encoded: &Encoded, item: &Item, said: &HashSet<String>) -> bool {
    let message = &encoded.conversation.messages[item.message];
    let text = match item.kind {
        TargetKind::NextPrompt => &message.content,
        TargetKind::Reaction | TargetKind::Reason => &message.thoughts[item.thought].content,
        TargetKind::ReactionLabel | TargetKind::ReasonLabel | TargetKind::ConversationEnd => return false,
    };
    quotable_runs(text).iter().any(|run| said.contains(run))
}

/// A stream under construction.
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
