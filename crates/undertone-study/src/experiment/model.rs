//! `[model]`: which model, and which of its weights are trained.

use std::path::{Path, PathBuf};

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
    /// A folder with a PEFT adapter of the model, with which training begins; or its name on the Hub, as for `path`.
    #[serde(skip_serializing_if = "is_empty")]
    pub adapter: PathBuf,
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

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

impl ModelSection {
    pub(super) fn rules(&self, device: DeviceName, found: &mut Found) {
        found.require(
            !is_empty(&self.path),
            "model.path",
            "`model.path` is missing",
            "name a Hugging Face folder; `make model` makes one",
        );
        found.require(
            is_empty(&self.adapter) || self.method == Method::Lora,
            "model.adapter",
            "`adapter` is given, and `method = \"full\"` trains the weights of the model itself",
            "set `method = \"lora\"`, or merge the adapter into the model with PEFT",
        );
        found.require(
            device == DeviceName::Flex || self.matmul_precision == MatmulPrecision::Highest,
            "model.matmul_precision",
            format!("`matmul_precision` is for the device `flex`, and `device` is `{device}`"),
            "set it to \"highest\", or `device = \"flex\"`",
        );
    }
}
