//! `[[arm]]`: what a model sees in training and in evaluation.

use serde::{Deserialize, Serialize};
use undertone_data::{Access, Source, TargetKind, ThoughtDropout, Timing, View};

use super::problem::{Found, can_be_a_folder};
use crate::names::{BASE, OUTPUTS, REPLIES, STAGED, STAGES, WRITERS, YARDSTICKS};

/// One `[[arm]]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Arm {
    /// The name in tables, and of the arm's folder.
    pub name: String,
    /// Which thoughts are seen.
    pub view: Access,
    /// Until when the thoughts must have been written.
    pub timing: Timing,
    /// Under `strict`: how many seconds a thought must be older than the target's message.
    pub timing_margin_seconds: u32,
    /// Whose thoughts are seen.
    pub source: Source,
    /// The probability that training hides each thought that the view shows, so that one model learns to predict with
    /// and without thoughts.
    pub thought_dropout: f64,
    /// The other arm whose model is evaluated, instead of training one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_as: Option<String>,
    /// Targets in training, if they differ from `data.targets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<TargetKind>>,
}

impl Arm {
    /// Which thoughts are seen, and whose.
    pub fn shown(&self) -> (View, Source) {
        (View { access: self.view, timing: self.timing, margin_seconds: self.timing_margin_seconds }, self.source)
    }

    /// The thought dropout of one training draw; `None` if the arm has none.
    pub fn dropout(&self, seed: [u64; 2]) -> Option<ThoughtDropout> {
        let probability = self.thought_dropout;
        (probability > 0.0).then_some(ThoughtDropout { probability, seed })
    }
}

pub(super) fn rules(arms: &[Arm], found: &mut Found) {
    found.require(
        !arms.is_empty(),
        "arm",
        "there is no `[[arm]]`",
        "add an `[[arm]]`; it says what a model sees, such as `view = \"past\"`",
    );
    for (index, arm) in arms.iter().enumerate() {
        let key = |part: &str| format!("arm[{index}].{part}");
        let earlier: Vec<&str> = arms[..index].iter().map(|arm| arm.name.as_str()).collect();
        name_rules("arm", &arm.name, &earlier, &key("name"), found);
        training_rules(arm, arms, &key, found);
        found.require(
            arm.timing_margin_seconds == 0 || (arm.timing == Timing::Strict && arm.view != Access::None),
            &key("timing_margin_seconds"),
            "`timing_margin_seconds` has no effect: the arm sees no thoughts, or sees them whenever they were written",
            "remove the key, or set `timing = \"strict\"`",
        );
        if let Some((cause, hint)) = contradiction(arm.view, arm.source) {
            found.require(false, &key("source"), cause, hint);
        }
    }
}

/// Why a view and a source of thoughts cannot go together, with advice.
pub(crate) fn contradiction(view: Access, source: Source) -> Option<(&'static str, &'static str)> {
    match (view, source) {
        (_, Source::Own) => None,
        (Access::Oracle, Source::Predicted) => Some((
            "`oracle` cannot use predicted thoughts: the reason would be predicted from the target itself",
            "`oracle` goes with the user's own reason; choose another view for predicted thoughts",
        )),
        (Access::Oracle, Source::SameConversation) => Some((
            "`oracle` cannot use words of the same conversation: the reason would be replaced by words of the target itself",
            "`oracle` goes with the user's own reason; choose another view for this placebo",
        )),
        (Access::None, _) => {
            Some(("the view `none` shows no thoughts, so `source` has no effect", "choose a view such as `past`"))
        }
        _ => None,
    }
}

/// Rules of a name that is also a folder's; `earlier` are the names before it, and `what` is an arm or a stage.
pub(super) fn name_rules(what: &str, name: &str, earlier: &[&str], key: &str, found: &mut Found) {
    found.require(
        can_be_a_folder(name),
        key,
        format!("the {what}'s `name` ({name:?}) must be usable as a folder name"),
        "use up to 100 letters, digits, `-` and `_`",
    );
    found.require(!earlier.contains(&name), key, format!("two {what}s are called `{name}`"), "give each its own name");
    // Some disks take them for one folder.
    let alike = earlier.iter().find(|other| **other != name && other.eq_ignore_ascii_case(name));
    found.require(
        alike.is_none(),
        key,
        format!("the names `{}` and `{name}` differ only in case", alike.unwrap_or(&"")),
        "choose another name",
    );
    found.require(
        ![BASE, STAGED].iter().any(|prefix| name.starts_with(&format!("{prefix}-"))) && !YARDSTICKS.contains(&name),
        key,
        format!("the name `{name}` is that of a baseline"),
        "choose another name",
    );
    found.require(
        !name.starts_with(REPLIES),
        key,
        format!("names that begin with `{REPLIES}` are those of the folders for other lengths of replies"),
        "choose another name",
    );
    found.require(
        !OUTPUTS.iter().any(|output| output.eq_ignore_ascii_case(name)),
        key,
        format!("the name `{name}` is taken by the study's own file or folder of this name"),
        "choose another name",
    );
    found.require(
        ![WRITERS, STAGES].contains(&name),
        key,
        format!("the name `{name}` is that of a folder for other models of the study"),
        "choose another name",
    );
}

fn training_rules(arm: &Arm, arms: &[Arm], key: &impl Fn(&str) -> String, found: &mut Found) {
    if let Some(other) = &arm.trained_as {
        let known = arms.iter().find(|arm| arm.name == *other);
        found.require(
            known.is_some(),
            &key("trained_as"),
            format!("`trained_as` names the arm `{other}`, which does not exist"),
            "name another `[[arm]]`",
        );
        found.require(
            known.is_none_or(|known| known.trained_as.is_none()),
            &key("trained_as"),
            format!("the arm `{other}` is not trained itself"),
            "name an arm with a training of its own",
        );
        found.require(
            arm.targets.is_none(),
            &key("targets"),
            "an arm with `trained_as` has no training of its own, so no `targets`",
            "remove one of the two",
        );
    }
    found.require(
        arm.targets.as_ref().is_none_or(|targets| !targets.is_empty()),
        &key("targets"),
        "the arm's `targets` is empty",
        "remove the key to train on `data.targets`",
    );
    let dropout = arm.thought_dropout;
    found.require(
        (0.0..=1.0).contains(&dropout),
        &key("thought_dropout"),
        format!("`thought_dropout` ({dropout}) must be from 0 to 1"),
        "0.5 shows half of the thoughts in training",
    );
    found.require(
        dropout == 0.0 || (arm.view != Access::None && arm.trained_as.is_none()),
        &key("thought_dropout"),
        "`thought_dropout` has no effect: this arm has no training of its own, or trains without thoughts",
        "set it on an arm that is trained with thoughts",
    );
}
