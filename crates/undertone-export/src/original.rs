//! What an export is made from, beside the fine-tuned weights.

use std::path::Path;

use undertone_data::Template;

/// What was fine-tuned.
#[derive(Debug, Clone, Copy)]
pub struct Original<'a> {
    /// The folder of the base model.
    pub folder: &'a Path,
    /// What other software finds the base model by: a name on the Hugging Face Hub, or a path.
    pub name: &'a str,
    /// Sections of the card in Markdown: training, scores, use and limits.
    pub about: &'a str,
    /// How the conversations of the fine-tuning were written.
    pub template: &'a Template,
}
