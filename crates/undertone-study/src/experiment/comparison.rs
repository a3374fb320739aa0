//! `[[comparison]]`: which arms are compared.

use serde::{Deserialize, Serialize};

use super::arm::Arm;
use super::problem::Found;

/// One `[[comparison]]`. Without any, every arm is compared with the first, and every other source of thoughts with the
/// user's own thoughts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeclaredComparison {
    /// The arm that is subtracted.
    pub a: String,
    /// The arm from which `a` is subtracted.
    pub b: String,
    /// Whether this comparison is the primary one: its p-value is not corrected for the others.
    pub primary: bool,
}

pub(super) fn rules(comparisons: &[DeclaredComparison], arms: &[Arm], found: &mut Found) {
    for (index, DeclaredComparison { a, b, primary }) in comparisons.iter().enumerate() {
        let key = |part: &str| format!("comparison[{index}].{part}");
        for (part, name) in [("a", a), ("b", b)] {
            found.require(
                arms.iter().any(|arm| arm.name == *name),
                &key(part),
                format!("the comparison names the arm `{name}`, which does not exist"),
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
            "keep one; the p-values of the others are corrected for their number",
        );
    }
}
