//! `[model]`: which model, and what of it is trained.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use undertone_model::{DeviceName, MatmulPrecision};

use super::problem::Found;

/// `[model]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// A Hugging Face folder.
    pub path: PathBuf,
    /// What is trained.
    pub method: Method,
    /// How exactly activations are multiplied with weights.
    pub matmul_precision: MatmulPrecision,
}

/// What training changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Adapters, by `[lora]`.
    #[default]
    Lora,
    /// Every weight.
    Full,
}

impl ModelSection {
    pub(super) fn rules(&self, device: DeviceName, found: &mut Found) {
        found.require(
            !self.path.as_os_str().is_empty(),
            "model.path",
            "`model.path` is missing",
            "name a Hugging Face folder; `make model` makes one",
        );
        found.require(
            device == DeviceName::Flex || self.matmul_precision == MatmulPrecision::Highest,
            "model.matmul_precision",
            format!("`matmul_precision` is for the device `flex`, and `device` is `{device}`"),
            "set it to \"highest\", or `device = \"flex\"`",
        );
    }
}
