//! Synthetic conversations in the published form, with a known effect of thoughts planted in their text.
//!
//! Every user message after the first asks for one of sixteen subjects, drawn uniformly. No message reveals the next
//! subject, but a reaction to the reply before may name it. A model that reads the reaction saves exactly
//! [`Synthetic::nats_of_a_hint`] nats on that message on average, and no model can save more. With a reliability of 0
//! the named subject is another uniform draw, and thoughts add nothing by construction.

use std::io::{self, Write};

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::json;

use crate::seed::generator;
use crate::{REACTION_LABELS, REASON_LABELS};

/// The size of a synthetic data set and the strength of its planted effect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Synthetic {
    /// Users.
    pub users: usize,
    /// Conversations in total, at least one per user.
    pub conversations: usize,
    /// User messages in total, at least two per conversation.
    pub turns: usize,
    /// Reasons and reactions in total.
    pub thoughts: usize,
    /// The probability that a reaction names the next subject; otherwise it names a uniformly drawn one.
    pub reliability: f64,
    /// Whether reactions are written only after the next message was sent: hindsight, which a `strict` view must not show
    /// in time.
    pub late: bool,
    /// Approximate words per reply.
    pub reply_words: usize,
    /// Seed of all draws.
    pub seed: u64,
}

/// What thoughts add by construction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Planted {
    /// User messages that follow an earlier thought: a study's primary items.
    pub primary_messages: usize,
    /// Primary messages right after a reaction, which names a subject.
    pub hinted_messages: usize,
    /// Mean nats that reading that reaction saves on a hinted message.
    pub nats_of_a_hint: f64,
    /// Mean nats that reading all earlier thoughts saves on a primary message.
    pub nats_per_primary_message: f64,
}

/// The largest file, which is made in memory, and what a turn without its reply and a word of a reply add to it.
const MAX_BYTES: f64 = 4e9;
const TURN_BYTES: f64 = 300.0;
const WORD_BYTES: f64 = 6.0;

/// The subjects: common words of one token each in most vocabularies.
const SUBJECTS: [&str; 16] = [
    "music", "food", "travel", "history", "science", "sports", "art", "health", "money", "school", "work", "family",
    "books", "games", "weather", "plants",
];

const FIRST: [&str; 4] = [
    "Hi, I would like to talk about a few things.",
    "Hello, I have some questions.",
    "Can you help me with several subjects?",
    "I want to learn about some things today.",
];

const NEXT: [&str; 4] =
    ["Thanks. Now tell me about", "Okay, and what about", "Let us go on with", "Next I want to hear about"];

const REASONS: [&str; 4] = [
    "I want to go on with my task.",
    "I thought this would be a good question.",
    "It helps me to see the whole picture.",
    "I am curious what it says.",
];

const SENTENCES: [&str; 8] = [
    "There are many ways to look at it, and each has something to say for it.",
    "It helps to begin with what you know already.",
    "People who have tried it say that small steps work best.",
    "You may want to write down what matters most to you.",
    "A good plan leaves room for what you cannot foresee.",
    "Some of this depends on where you live and what you have at hand.",
    "If one way does not work, another one will.",
    "In the end it is a matter of time and of a little patience.",
];

impl Synthetic {
    /// The sizes of the published dataset.
    pub const PUBLISHED: Self = Self {
        users: 1_058,
        conversations: 2_155,
        turns: 17_058,
        thoughts: 10_174,
        reliability: 1.0,
        late: false,
        reply_words: 180,
        seed: 0,
    };

    /// Why these numbers are impossible, if they are: at least one conversation per user, two user messages per
    /// conversation, and no more thoughts than places for them are required.
    pub fn problem(&self) -> Option<String> {
        let Self { users, conversations, turns, thoughts, reliability, reply_words, .. } = *self;
        let bytes = (turns as f64 * (TURN_BYTES + WORD_BYTES * reply_words as f64)).max(conversations as f64);
        let problems = [
            (
                bytes > MAX_BYTES,
                format!("the file would have about {:.0} GB, more than {:.0} GB", bytes / 1e9, MAX_BYTES / 1e9),
            ),
            (users == 0, "there must be at least one user".to_owned()),
            (conversations < users, format!("{conversations} conversations are fewer than {users} users")),
            (
                turns / 2 < conversations,
                format!("{turns} turns are fewer than two for each of {conversations} conversations"),
            ),
            (thoughts.div_ceil(2) > turns, format!("{thoughts} thoughts are more than two for each of {turns} turns")),
            (!(0.0..=1.0).contains(&reliability), format!("a reliability of {reliability} is not from 0 to 1")),
        ];
        problems.into_iter().find(|(is_wrong, _)| *is_wrong).map(|(_, cause)| cause)
    }

    /// The mutual information between the subject that a reaction names and the subject of the next message, in nats.
    pub fn nats_of_a_hint(&self) -> f64 {
        let subjects = SUBJECTS.len() as f64;
        let other = (1.0 - self.reliability) / subjects;
        let named = self.reliability + other;
        let entropy = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
        subjects.ln() - entropy(named) - (subjects - 1.0) * entropy(other)
    }

    /// Writes the conversations as JSON Lines.
    ///
    /// # Errors
    /// `out` cannot be written.
    ///
    /// # Panics
    /// If there is a [`problem`](Self::problem).
    pub fn write(&self, out: &mut impl Write) -> io::Result<Planted> {
        if let Some(problem) = self.problem() {
            panic!("{problem}: {self:?}");
        }
        let mut random = generator("synthetic", &[&self.seed.to_string()]);
        let mut conversations_left = shares(self.conversations, self.users, 1, &mut random);
        let turns = shares(self.turns, self.conversations, 2, &mut random);
        // Each turn has a place for a reason and one for a reaction.
        let mut has_thought = vec![false; 2 * self.turns];
        has_thought[..self.thoughts].fill(true);
        has_thought.shuffle(&mut random);
        let (mut primary, mut hinted) = (0, 0);
        let mut places = has_thought.chunks_exact(2);
        let (mut user, mut number) = (0, 0);
        for turns in turns {
            while conversations_left[user] == 0 {
                (user, number) = (user + 1, 0);
            }
            conversations_left[user] -= 1;
            number += 1;
            let places: Vec<[bool; 2]> = places.by_ref().take(turns).map(|pair| [pair[0], pair[1]]).collect();
            let id = format!("user{}_task{number}_conversation1", user + 1);
            for turn in 1..turns {
                primary += usize::from(places[..turn].concat().contains(&true));
                hinted += usize::from(places[turn - 1][1]);
            }
            serde_json::to_writer(&mut *out, &self.conversation(&id, &places, &mut random))?;
            out.write_all(b"\n")?;
        }
        let nats_of_a_hint = self.nats_of_a_hint();
        let nats_per_primary_message = nats_of_a_hint * hinted as f64 / (primary as f64).max(1.0);
        Ok(Planted { primary_messages: primary, hinted_messages: hinted, nats_of_a_hint, nats_per_primary_message })
    }

    /// One conversation; `places` says for each turn whether it has a reason and a reaction.
    fn conversation(&self, id: &str, places: &[[bool; 2]], random: &mut ChaCha8Rng) -> serde_json::Value {
        let one =
            |list: &[&'static str], random: &mut ChaCha8Rng| list[random.random_range(0..list.len() as u32) as usize];
        let subjects: Vec<&str> = places.iter().map(|_| one(&SUBJECTS, random)).collect();
        let begun = 1_775_000_000_000 + random.random_range(0..10_000_000_u64) * 1_000;
        let mut messages = Vec::new();
        for (turn, &[has_reason, has_reaction]) in places.iter().enumerate() {
            let sent = begun + 120_000 * turn as u64;
            let said = match turn {
                0 => one(&FIRST, random).to_owned(),
                _ => format!("{} {}.", one(&NEXT, random), subjects[turn]),
            };
            let label = |labels: &[crate::Label], random: &mut ChaCha8Rng| {
                labels[random.random_range(0..labels.len() as u32) as usize].key
            };
            let reasons: Vec<_> = has_reason
                .then(|| json!({"content": one(&REASONS, random), "timestamp": sent + 20_000, "label": label(&REASON_LABELS, random)}))
                .into_iter()
                .collect();
            messages.push(json!({"id": sent, "timestamp": sent, "type": "user", "content": said, "reasons": reasons}));
            let mut reply = Vec::new();
            while reply.iter().map(|sentence: &&str| sentence.split(' ').count()).sum::<usize>() < self.reply_words {
                reply.push(one(&SENTENCES, random));
            }
            // No message follows the last reply, so its reaction names a random subject.
            let truth = subjects.get(turn + 1).copied().filter(|_| random.random::<f64>() < self.reliability);
            let named = truth.unwrap_or_else(|| one(&SUBJECTS, random));
            let reactions: Vec<_> = has_reaction
                .then(|| {
                    let content = format!("That was fine, but now I am thinking about {named}.");
                    // The next message is sent after 120 seconds.
                    let written = sent + if self.late { 130_000 } else { 90_000 };
                    json!({"content": content, "timestamp": written, "label": label(&REACTION_LABELS, random)})
                })
                .into_iter()
                .collect();
            let answered = sent + 60_000;
            let content = reply.join(" ");
            messages.push(json!({"id": answered, "timestamp": answered, "type": "assistant", "content": content, "reactions": reactions}));
        }
        json!({"id": id, "model_name": "synthetic", "model_provider": "none", "task_summary": "SYNTHETIC", "messages": messages})
    }
}

/// Divides `total` among `parts` at random, at least `least` each.
fn shares(total: usize, parts: usize, least: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut shares = vec![least; parts];
    for _ in 0..total - least * parts {
        shares[random.random_range(0..parts as u32) as usize] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReadOptions, Reader, Role};

    fn small(reliability: f64) -> Synthetic {
        Synthetic {
            users: 9,
            conversations: 20,
            turns: 70,
            thoughts: 60,
            reliability,
            late: false,
            reply_words: 20,
            seed: 3,
        }
    }

    fn text(synthetic: Synthetic) -> (String, Planted) {
        let mut bytes = Vec::new();
        let planted = synthetic.write(&mut bytes).unwrap();
        (String::from_utf8(bytes).unwrap(), planted)
    }

    #[test]
    fn the_numbers_are_exactly_those_asked_for_and_the_file_reads_without_complaint() {
        let (made, _) = text(small(1.0));
        assert_eq!((made.clone(), text(small(1.0)).1), text(small(1.0)));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), made).unwrap();
        let (records, report) = Reader::open(&[file.path()], ReadOptions::default()).unwrap().read_all().unwrap();
        let all: Vec<_> = records.into_iter().map(|record| record.conversation).collect();
        let users: std::collections::BTreeSet<&str> = all.iter().map(|one| one.user.as_str()).collect();
        let messages = || all.iter().flat_map(|one| &one.messages);
        let turns = messages().filter(|message| message.role == Role::User).count();
        let thoughts: usize = messages().map(|message| message.thoughts.len()).sum();
        assert_eq!((users.len(), all.len(), turns, thoughts), (9, 20, 70, 60));
        assert_eq!((report.skipped_lines, report.ids_of_other_shape), (0, 0));
    }

    #[test]
    fn a_hint_names_the_subject_as_often_as_it_is_reliable() {
        let named = |reliability: f64| {
            let synthetic = Synthetic { turns: 4000, thoughts: 8000, ..small(reliability) };
            let (made, planted) = text(synthetic);
            let (mut hits, mut all) = (0, 0);
            for line in made.lines() {
                let conversation: serde_json::Value = serde_json::from_str(line).unwrap();
                let messages = conversation["messages"].as_array().unwrap();
                for pair in messages[1..].chunks_exact(2) {
                    let hint = pair[0]["reactions"][0]["content"].as_str().unwrap();
                    let subject = pair[1]["content"].as_str().unwrap().rsplit(' ').next().unwrap();
                    hits += usize::from(hint.ends_with(&format!(" {subject}")));
                    all += 1;
                }
            }
            assert_eq!((planted.hinted_messages, planted.primary_messages), (all, all));
            hits as f64 / all as f64
        };
        assert_eq!(named(1.0), 1.0);
        assert!((named(0.5) - (0.5 + 0.5 / 16.0)).abs() < 0.03);
        assert!((named(0.0) - 1.0 / 16.0).abs() < 0.02);
        assert!((small(1.0).nats_of_a_hint() - 16.0_f64.ln()).abs() < 1e-12);
        assert!(small(0.0).nats_of_a_hint().abs() < 1e-12);
    }

    #[test]
    fn late_hints_are_in_no_strict_view_of_the_message_that_they_name() {
        use crate::{Access, Placement, Timing, View};
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text(Synthetic { late: true, ..small(1.0) }).0).unwrap();
        let (records, _) = Reader::open(&[file.path()], ReadOptions::default()).unwrap().read_all().unwrap();
        let place = |timing, conversation, message| {
            View { access: Access::Reactions, timing, ..View::default() }.place(conversation, message, 0)
        };
        let mut hints = 0;
        for conversation in records.iter().map(|record| &record.conversation) {
            let replies = (1..conversation.messages.len() - 1).step_by(2);
            for reply in replies.filter(|reply| !conversation.messages[*reply].thoughts.is_empty()) {
                hints += 1;
                assert_eq!(place(Timing::Anchored, conversation, reply), Placement::After(reply));
                let strict = place(Timing::Strict, conversation, reply);
                assert!(strict == Placement::TooLate || strict == Placement::After(reply + 1), "{strict:?}");
            }
        }
        assert!(hints > 10, "{hints}");
    }

    #[test]
    fn impossible_numbers_are_named() {
        let problem = |change: fn(&mut Synthetic)| {
            let mut synthetic = small(1.0);
            change(&mut synthetic);
            synthetic.problem().unwrap_or_default()
        };
        assert_eq!(problem(|_| ()), "");
        assert_eq!(problem(|one| one.conversations = 8), "8 conversations are fewer than 9 users");
        assert_eq!(problem(|one| one.turns = 39), "39 turns are fewer than two for each of 20 conversations");
        assert_eq!(problem(|one| one.thoughts = 141), "141 thoughts are more than two for each of 70 turns");
        assert_eq!(problem(|one| one.reliability = 1.5), "a reliability of 1.5 is not from 0 to 1");
    }
}
