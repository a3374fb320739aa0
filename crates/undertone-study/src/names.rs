//! Names in the files, tables and folders of a study.

use undertone_data::TargetKind;

/// The baseline of token frequencies.
pub(crate) const UNIGRAM: &str = "unigram";

/// The baseline that repeats the user's previous message.
pub(crate) const REPEAT: &str = "repeat";

/// The untrained model, for results that no view affects.
pub(crate) const UNTRAINED: &str = "untrained";

/// The untrained model; also the prefix of its name under the view of an arm, such as `base-past`.
pub(crate) const BASE: &str = "base";

/// The folder of the models that predict thoughts.
pub(crate) const WRITERS: &str = "writers";

/// The folder of the trainings that come before those of every arm.
pub(crate) const STAGES: &str = "stages";

/// The prefix of the name of the model after its stages, under the view of an arm, such as `staged-past`.
pub(crate) const STAGED: &str = "staged";

/// The prefix of the folders of studies with other lengths of replies.
pub(crate) const REPLIES: &str = "replies-";

/// Files and folders of a study beside the folders of its arms. Names are compared without case, as some disks do.
pub(crate) const OUTPUTS: [&str; 14] = [
    "records",
    "plots",
    "records.parquet",
    "report.html",
    "report.md",
    RESULTS,
    WRITTEN,
    "attribution.jsonl",
    "judge.jsonl",
    "manifest.json",
    "experiment.toml",
    "amendments.json",
    "fixed.json",
    "registration.json",
];

/// The names of baselines, which no arm may have.
pub(crate) const YARDSTICKS: [&str; 4] = [UNIGRAM, REPEAT, UNTRAINED, BASE];

/// The targets that are thoughts.
pub(crate) const THOUGHT_KINDS: [TargetKind; 2] = [TargetKind::Reaction, TargetKind::Reason];

/// The scores of an arm in one training.
pub(crate) const RECORDS: &str = "records.jsonl";

/// The messages that an arm wrote in one training; in the study's folder, those of all arms.
pub(crate) const WRITTEN: &str = "written.jsonl";

/// The results of a study.
pub(crate) const RESULTS: &str = "results.json";
