//! Which thought helped: the nats that a target costs more if one thought before it is left out.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use undertone_files::{InputError, Place};

use crate::inference::{Interval, StandardError, UserSums, ratio};

/// One thought left out before one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributed {
    /// The target.
    pub item: String,
    /// Its user.
    pub user: String,
    /// The index of the message that the thought is about.
    pub message: usize,
    /// The thought's index among those of its message.
    pub thought: usize,
    /// `reason` or `reaction`.
    pub kind: String,
    /// The thought's label, in words for people.
    pub label: Option<String>,
    /// How many messages of the user come after the thought's message and before the target.
    pub age_turns: usize,
    /// How many seconds before the target's message the thought was written, if both times are known.
    pub age_seconds: Option<i64>,
    /// How many thoughts the target sees with this one.
    pub thoughts_seen: usize,
    /// The target's nats without the thought, less those with it: above zero, the thought helps.
    pub nats_saved: f64,
}

/// The mean effect of a group of thoughts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttributedGroup {
    /// The property that forms the groups.
    pub dimension: &'static str,
    /// The group.
    pub group: String,
    /// Pairs of a target and a thought.
    pub pairs: usize,
    /// Users.
    pub users: usize,
    /// The mean of the nats saved.
    pub nats_saved: f64,
    /// Its 95 % interval over other users, for this trained model; `None` with one user.
    pub interval: Option<Interval>,
}

/// A property of a pair of a target and a thought.
type Dimension = (&'static str, fn(&Attributed) -> Option<String>);

const DIMENSIONS: [Dimension; 6] = [
    ("all", |_| Some("all".into())),
    ("kind", |one| Some(one.kind.clone())),
    ("label", |one| one.label.clone()),
    ("age in turns", |one| {
        Some(match one.age_turns {
            0 => "1. since the last message of the user".into(),
            1 => "2. one turn earlier".into(),
            2 | 3 => "3. two or three turns earlier".into(),
            _ => "4. four or more turns earlier".into(),
        })
    }),
    ("age in seconds", |one| {
        Some(match one.age_seconds? {
            ..0 => "0. after the message".into(),
            0..60 => "1. less than a minute".into(),
            60..300 => "2. 1 to 5 minutes".into(),
            300..1800 => "3. 5 to 30 minutes".into(),
            _ => "4. half an hour or more".into(),
        })
    }),
    ("number of thoughts", |one| {
        Some(match one.thoughts_seen {
            1 => "1. the only thought".into(),
            2..=4 => "2. one of 2 to 4".into(),
            _ => "3. one of 5 or more".into(),
        })
    }),
];

/// The mean effects of thoughts in groups of every property.
pub fn attributed_groups(all: &[Attributed]) -> Vec<AttributedGroup> {
    let mut groups = Vec::new();
    for (dimension, group_of) in DIMENSIONS {
        let mut by_group: BTreeMap<String, BTreeMap<&str, (f64, usize)>> = BTreeMap::new();
        for one in all {
            if let Some(group) = group_of(one) {
                let sums = by_group.entry(group).or_default().entry(&one.user).or_default();
                sums.0 += one.nats_saved;
                sums.1 += 1;
            }
        }
        for (group, users) in by_group {
            let pairs = users.values().map(|(_, count)| count).sum();
            let sums: Vec<UserSums> =
                users.values().map(|(nats, count)| UserSums::in_one_fold(vec![*nats], *count)).collect();
            let nats_saved = ratio(&sums).expect("a group has a pair");
            let interval = StandardError::of(&sums).map(|error| error.interval_of_models(nats_saved));
            groups.push(AttributedGroup { dimension, group, pairs, users: sums.len(), nats_saved, interval });
        }
    }
    groups
}

/// Pairs as JSON Lines.
pub fn attributed_lines(all: &[Attributed]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for one in all {
        serde_json::to_writer(&mut bytes, one)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Reads pairs from a file.
///
/// # Errors
/// The file cannot be read; or a line is not a pair.
pub fn read_attributed(path: &Path) -> Result<Vec<Attributed>, InputError> {
    let text = std::fs::read_to_string(path).map_err(|error| InputError::io(path, "read", &error))?;
    let parse = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            InputError::new(path, format!("does not hold the effect of a thought: {error}")).at(Place::Line(index + 1))
        })
    };
    text.lines().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(user: &str, kind: &str, nats_saved: f64) -> Attributed {
        Attributed {
            item: format!("{user}_task1_conversation1/2/next_prompt"),
            user: user.into(),
            message: 1,
            thought: 0,
            kind: kind.into(),
            label: None,
            age_turns: 0,
            age_seconds: Some(30),
            thoughts_seen: 2,
            nats_saved,
        }
    }

    #[test]
    fn groups_have_means_over_pairs_and_intervals_over_users() {
        let all = [pair("a", "reason", 1.0), pair("a", "reaction", 3.0), pair("b", "reaction", 2.0)];
        let groups = attributed_groups(&all);
        let found = |dimension: &str, group: &str| {
            groups.iter().find(|one| (one.dimension, one.group.as_str()) == (dimension, group)).unwrap().clone()
        };
        assert_eq!((found("all", "all").nats_saved, found("all", "all").pairs, found("all", "all").users), (2.0, 3, 2));
        let reactions = found("kind", "reaction");
        // Two users at 3 and 2: 2.5 ± t(1) · 0.5.
        assert!((reactions.interval.unwrap().high - (2.5 + 12.706_204_7 * 0.5)).abs() < 1e-6, "{reactions:?}");
        assert_eq!(found("kind", "reason").interval, None);
        assert!(groups.iter().all(|one| one.dimension != "label"), "no pair has a label");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let all = [pair("a", "reason", 1.0), pair("b", "reaction", -2.0)];
        std::fs::write(file.path(), attributed_lines(&all).unwrap()).unwrap();
        assert_eq!(read_attributed(file.path()).unwrap(), all);
        std::fs::write(file.path(), "{}\n").unwrap();
        assert!(read_attributed(file.path()).unwrap_err().to_string().contains("line 1"));
    }
}
