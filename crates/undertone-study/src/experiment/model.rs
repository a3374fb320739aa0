//! `[model]`: which model, and which of its weights are trained.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use undertone_data::GivenFormat;
use undertone_model::{DeviceName, MatmulPrecision};

use super::problem::Found;

/// `[model]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// A Hugging Face folder, or `hf:owner/name@revision` for a model of the Hugging Face Hub.
    pub path: PathBuf,
    /// What is trained.
    pub method: Method,
    /// The precision of matrix products.
    pub matmul_precision: MatmulPrecision,
    /// Parts of the chat format that replace the model's own.
    #[serde(skip_serializing_if = "GivenFormat::is_empty")]
    pub format: GivenFormat,
}

/// Which weights training changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// LoRA adapters, as `[lora]` configures them.
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
