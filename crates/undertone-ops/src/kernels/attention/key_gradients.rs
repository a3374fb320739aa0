//! Sums of the gradients of keys and values, and their conversion to rows of tokens.

use rayon::prelude::*;
use undertone_data::Document;

use super::factors::Numbers;
use crate::kernels::{Aligned, LINE};
use crate::types::Heads;

/// The layout in which gradients of keys, or of values, are summed: `[key heads, width, tokens]`. The width and the
/// tokens of each document are rounded up to whole blocks.
pub(super) struct KeyGradients<'a> {
    documents: &'a [Document],
    heads: Heads,
    /// Rows of a head.
    wide: usize,
    /// The first column of each document.
    firsts: Vec<usize>,
    /// Columns of a row.
    pub(super) columns: usize,
}

impl<'a> KeyGradients<'a> {
    pub(super) fn new(documents: &'a [Document], heads: Heads, numbers: Numbers) -> Self {
        let mut columns = 0;
        let firsts = documents.iter().map(|document| {
            let first = columns;
            columns += numbers.whole(document.tokens);
            first
        });
        Self { documents, heads, wide: numbers.whole(heads.width), firsts: firsts.collect(), columns }
    }

    pub(super) fn zeros(&self) -> Aligned {
        let mut zeros = Aligned::default();
        zeros.first(self.heads.key_heads * self.wide * self.columns).fill(0.0);
        zeros
    }

    /// Index of a token of a document in the first row of a key head.
    pub(super) fn place(&self, document: usize, key_head: usize, token: usize) -> usize {
        key_head * self.wide * self.columns + self.firsts[document] + token
    }

    /// The sums as `[tokens, key heads · width]`.
    pub(super) fn to_rows(&self, sums: &[f32]) -> Vec<f32> {
        let Heads { key_heads, width, .. } = self.heads;
        let row = key_heads * width;
        let tokens: usize = self.documents.iter().map(|document| document.tokens).sum();
        let mut out = vec![0.0; tokens * row];
        let mut rest = &mut out[..];
        for (index, document) in self.documents.iter().enumerate() {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(document.tokens * row);
            rest = others;
            // As many tokens at a time as one cache line of `sums` holds.
            own.par_chunks_mut(LINE * row).enumerate().for_each(|(line, out)| {
                for key_head in 0..key_heads {
                    let from = self.place(index, key_head, line * LINE);
                    for column in 0..width {
                        let sums = &sums[from + column * self.columns..];
                        let out = out[key_head * width + column..].iter_mut().step_by(row);
                        out.zip(sums).for_each(|(out, sum)| *out = *sum);
                    }
                }
            });
        }
        out
    }
}
