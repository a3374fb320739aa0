//! Shared by all export formats: the report of an export, and the check for broken models.

use std::path::{Path, PathBuf};

use undertone_files::{InputError, Place};
use undertone_model::{Decoder, values};

/// What an export wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The folder.
    pub folder: PathBuf,
    /// The names of its files, in the order they were written.
    pub files: Vec<String>,
    /// The largest absolute difference between a logit of the model in memory and the same logit
    /// of the folder as it was read back, over 32 fixed tokens and the whole vocabulary.
    pub largest_logit_difference: f64,
}

/// Refuses a model with a weight that is not finite.
pub(crate) fn refuse_broken(model: &Decoder, destination: &Path) -> Result<(), InputError> {
    for parameter in model.parameters() {
        let values = values(parameter.value().clone());
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let cause = format!("is not written: value {at} of this weight is `{}`, not a finite number", values[at]);
            return Err(InputError::new(destination, cause)
                .at(Place::Named(parameter.name.clone()))
                .hint("the training has diverged; export an earlier checkpoint, or train with a lower learning rate"));
        }
    }
    Ok(())
}
