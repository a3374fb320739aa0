//! Dropout masks of adapters.

use burn::tensor::TensorData;
use rand::Rng;
use rayon::prelude::*;
use undertone_data::{Document, generator};

/// The key of dropout masks. With the stream's id and the layer's path it gives the same mask in a recomputed forward,
/// after a restart, and at any place of the stream in a row.
#[derive(Debug, Clone, Copy)]
pub struct DropoutKey {
    /// The run's seed.
    pub seed: u64,
    /// The optimiser step.
    pub step: u64,
}

/// Tokens per parallel task.
const MASK_TOKENS: usize = 16;

/// A mask `[tokens, width]` of 0 and 1/(1−p), drawn document by document from two random bytes per element.
pub(crate) fn dropout_mask(
    documents: &[Document],
    width: usize,
    path: &str,
    probability: f64,
    key: DropoutKey,
) -> TensorData {
    let kept = (1.0 / (1.0 - probability)) as f32;
    let threshold = (probability * 65536.0).round() as u16;
    let tokens = documents.iter().map(|document| document.tokens).sum::<usize>();
    let mut mask = vec![0.0; tokens * width];
    let mut rest = &mut mask[..];
    for document in documents {
        let random = generator("dropout", &[&key.seed.to_string(), &key.step.to_string(), &document.id, path]);
        let (own, others) = rest.split_at_mut(document.tokens * width);
        rest = others;
        own.par_chunks_mut(MASK_TOKENS * width).enumerate().for_each(|(index, mask)| {
            let mut random = random.clone();
            // The generator counts in words of four bytes, which are two elements.
            random.set_word_pos((index * MASK_TOKENS * width / 2) as u128);
            let mut bytes = vec![0; 2 * mask.len()];
            random.fill_bytes(&mut bytes);
            for (mask, pair) in mask.iter_mut().zip(bytes.chunks_exact(2)) {
                *mask = if u16::from_le_bytes([pair[0], pair[1]]) < threshold { 0.0 } else { kept };
            }
        });
    }
    TensorData::new(mask, [tokens, width])
}
