//! Exports a fine-tuned model as a folder that other tools read, and verifies the folder by reading it back.
//!
//! [`hugging_face()`] writes a whole model, with any adapters merged into its weights; [`gguf()`] writes the same as one
//! GGUF file; [`peft()`] writes only the adapters. `base.rs` checks the folder of the base model and supplies its tokenizer and
//! configuration. The files are written to a [`StagedFolder`](undertone_files::StagedFolder), a hidden
//! sibling of the destination. `verify.rs` loads the result from disk and compares its logits with
//! those of the model in memory. Only then is the folder renamed to the destination, so an export with
//! other logits never appears there.
//!
//! All arithmetic here is f32 on the CPU, whatever device the model was trained on. The chat template is that of the fine-tuning.

#![warn(clippy::unwrap_used)]

mod base;
mod card;
mod chat_template;
mod exported;
mod gguf;
mod hugging_face;
mod original;
mod peft;
mod verify;
mod weight_type;

use std::path::Path;

use serde_json::Value;
use undertone_files::InputError;
use undertone_model::Decoder;

pub use crate::exported::Exported;
pub use crate::gguf::gguf;
pub use crate::hugging_face::hugging_face;
pub use crate::original::Original;
pub use crate::peft::peft;
pub use crate::weight_type::{Packing, WeightType};

/// The format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Format {
    /// A Hugging Face folder, adapters merged.
    Hf,
    /// A PEFT adapter folder.
    Peft,
    /// A folder with a GGUF file for llama.cpp and an Ollama `Modelfile`.
    Gguf,
}

impl Format {
    /// Writes a model in this format: see [`hugging_face()`], [`peft()`] and [`gguf()`].
    ///
    /// # Errors
    /// The errors of these functions; adapters are only written in F32.
    pub fn write(
        self,
        model: &Decoder,
        original: Original<'_>,
        destination: &Path,
        provenance: &Value,
        packing: Packing,
    ) -> Result<Exported, InputError> {
        match self {
            Self::Hf => hugging_face(model, original, destination, provenance, packing),
            Self::Gguf => gguf(model, original, destination, provenance, packing.kind),
            Self::Peft if packing.kind != WeightType::F32 => {
                Err(InputError::new(destination, "is not written: adapters are only written in F32")
                    .hint("leave out `--dtype`, or export a Hugging Face folder"))
            }
            Self::Peft => peft(model, original, destination, provenance),
        }
    }
}
