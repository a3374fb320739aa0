//! Names that stand in files, tables and folders of a study.

use undertone_data::TargetKind;

/// The yardstick of token frequencies.
pub(crate) const UNIGRAM: &str = "unigram";

/// The yardstick that repeats the user's last message.
pub(crate) const REPEAT: &str = "repeat";

/// The untrained model where no view bears on it.
pub(crate) const UNTRAINED: &str = "untrained";

/// The untrained model, and the start of its name under the view of an arm, such as `base-past`.
pub(crate) const BASE: &str = "base";

/// The folder of the models that predict thoughts.
pub(crate) const WRITERS: &str = "writers";

/// The yardsticks, whose names no arm may have.
pub(crate) const YARDSTICKS: [&str; 4] = [UNIGRAM, REPEAT, UNTRAINED, BASE];

/// The kinds of text that predict thoughts.
pub(crate) const THOUGHT_KINDS: [TargetKind; 2] = [TargetKind::Reaction, TargetKind::Reason];

/// The checkpoint of a training to resume from.
pub(crate) const LAST_CHECKPOINT: &str = "last.safetensors";

/// The scores of one training, or of all.
pub(crate) const RECORDS: &str = "records.jsonl";

/// The messages that one training wrote, or all.
pub(crate) const WRITTEN: &str = "written.jsonl";

/// The results of a study.
pub(crate) const RESULTS: &str = "results.json";
