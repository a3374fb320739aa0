//! Invalid values of an experiment, each with its key, cause and hint.

/// An invalid value or combination of values.
#[derive(Debug)]
pub(super) struct Problem {
    /// The dotted key, such as `training.epochs` or `arm[1].name`.
    pub(super) key: String,
    pub(super) cause: String,
    pub(super) hint: String,
}

/// Collects the problems of an experiment.
#[derive(Debug, Default)]
pub(super) struct Found(pub(super) Vec<Problem>);

impl Found {
    /// Notes a problem unless `holds`.
    pub(super) fn require(&mut self, holds: bool, key: &str, cause: impl Into<String>, hint: &str) {
        if !holds {
            self.0.push(Problem { key: key.into(), cause: cause.into(), hint: hint.into() });
        }
    }

    /// Notes a problem unless the number at `key` is finite.
    pub(super) fn require_finite(&mut self, key: &str, value: f64) {
        let name = key.rsplit('.').next().unwrap_or(key);
        self.require(
            value.is_finite(),
            key,
            format!("`{name}` ({value}) must be a finite number"),
            "see experiments/demo.toml",
        );
    }
}

/// The longest name of an experiment or an arm, in bytes: names of files are made from it.
const MAX_NAME_BYTES: usize = 100;

/// Whether a name is valid for a folder, and does not look like another.
pub(super) fn can_be_a_folder(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name.trim() == name
        && !name.contains(['/', '\\'])
        && !name.contains(char::is_control)
}
