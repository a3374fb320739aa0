//! `[[comparison]]`: which arms are compared.

use serde::{Deserialize, Serialize};

use super::arm::Arm;
use super::problem::Found;

/// One `[[comparison]]`. Without any, every arm is compared with the first, and own thoughts with others'.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeclaredComparison {
    /// The arm that is subtracted.
    pub a: String,
    /// The arm it is subtracted from.
    pub b: String,
    /// Whether the study is made for this comparison: its p-value is not corrected for the others.
    pub primary: bool,
}

pub(super) fn rules(comparisons: &[DeclaredComparison], arms: &[Arm], found: &mut Found) {
    for (index, DeclaredComparison { a, b, primary }) in comparisons.iter().enumerate() {
        let key = |part: &str| format!("comparison[{index}].{part}");
        for (part, name) in [("a", a), ("b", b)] {
            found.require(
                arms.iter().any(|arm| arm.name == *name),
                &key(part),
                format!("the comparison names the arm `{name}`, which is not there"),
                "name an `[[arm]]`",
            );
        }
        found.require(a != b, &key("b"), format!("the comparison is of `{a}` with itself"), "name two arms");
        let earlier = &comparisons[..index];
        found.require(
            !earlier.iter().any(|other| (&other.a, &other.b) == (a, b)),
            &key("b"),
            format!("`{a}` and `{b}` are compared twice"),
            "remove one",
        );
        found.require(
            !(*primary && earlier.iter().any(|other| other.primary)),
            &key("primary"),
            "two comparisons are primary",
            "a study is made for one; the others are corrected for how many they are",
        );
    }
}
