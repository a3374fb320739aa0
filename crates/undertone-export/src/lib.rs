//! A fine-tuned model in, a folder that other tools read out; verified by reading it back.
//!
//! [`hugging_face()`] writes a whole model, with any adapters merged into its weights; [`peft()`] writes
//! only the adapters. A file goes this way: `base.rs` checks the folder that the model was
//! fine-tuned from and lends its tokenizer and configuration, a [`StagedFolder`](undertone_model::StagedFolder) is a hidden
//! sibling of the destination, `verify.rs` loads the result from disk and compares its logits with
//! those of the model in memory. Only then does the folder get its name: an export that computes
//! something else never exists.
//!
//! All arithmetic here is f32 on the CPU, whatever device the model was trained on. Nothing is
//! quantised, and the chat template stays the base model's.

#![warn(clippy::unwrap_used)]

mod base;
mod card;
mod exported;
mod hugging_face;
mod peft;
mod verify;

use std::path::Path;

use serde_json::Value;
use undertone_data::InputError;
use undertone_model::Decoder;

pub use crate::exported::Exported;
pub use crate::hugging_face::hugging_face;
pub use crate::peft::peft;

/// What an export writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Format {
    /// A Hugging Face folder, adapters merged.
    Hf,
    /// A PEFT adapter folder.
    Peft,
}

impl Format {
    /// Writes a model in this format: see [`hugging_face()`] and [`peft()`].
    ///
    /// # Errors
    /// As these.
    pub fn write(
        self,
        model: &Decoder,
        base: &Path,
        destination: &Path,
        provenance: &Value,
    ) -> Result<Exported, InputError> {
        match self {
            Self::Hf => hugging_face(model, base, destination, provenance),
            Self::Peft => peft(model, base, destination, provenance),
        }
    }
}
