//! Keys and values of the tokens a generation has already seen.

use burn::tensor::Tensor;

/// The keys and values of one block, `[tokens, kv_heads · width]` each.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockCache(Option<(Tensor<2>, Tensor<2>)>);

impl BlockCache {
    /// Appends, and returns all of them.
    pub(crate) fn extend(&mut self, keys: Tensor<2>, values: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let all = match self.0.take() {
            None => (keys, values),
            Some((past_keys, past_values)) => {
                (Tensor::cat(vec![past_keys, keys], 0), Tensor::cat(vec![past_values, values], 0))
            }
        };
        self.0 = Some(all.clone());
        all
    }
}

/// The caches of all blocks, and how many tokens they hold.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    pub(crate) blocks: Vec<BlockCache>,
    /// Tokens seen so far; the next token has this position.
    pub tokens: usize,
}
