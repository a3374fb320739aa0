//! Prepares values from files for error messages: short, with control characters escaped.

/// The longest value from a file that an error message repeats, in characters.
const QUOTED_CHARACTERS: usize = 60;

/// A value in backticks.
pub(super) fn quoted(value: &str) -> String {
    format!("`{}`", shortened(value, QUOTED_CHARACTERS))
}

/// The first `characters` characters of a value, with an ellipsis if the value is longer.
pub(super) fn shortened(value: &str, characters: usize) -> String {
    let mut kept = String::new();
    for (index, character) in value.chars().enumerate() {
        if index == characters {
            kept.push('…');
            break;
        }
        if character.is_control() {
            kept.extend(character.escape_default());
        } else {
            kept.push(character);
        }
    }
    kept
}
