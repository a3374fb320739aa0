//! Keys and values of the tokens a generation has already seen.

use std::ops::Range;

use burn::tensor::Tensor;

/// Rows of `[tokens, width]` with room for more, so that appending one does not copy the others.
#[derive(Debug, Clone)]
struct Rows {
    /// `[room, width]`; rows from `count` on are unused.
    rows: Tensor<2>,
    count: usize,
}

impl Rows {
    fn append(this: Option<Self>, new: Tensor<2>) -> Self {
        let [added, width] = new.dims();
        let (old, count) = match this {
            Some(Self { rows, count }) => (Some(rows), count),
            None => (None, 0),
        };
        let total = count + added;
        let rows = match old {
            Some(rows) if total <= rows.dims()[0] => rows,
            old => {
                let room = Tensor::zeros([(2 * total).next_multiple_of(64), width], &new.device());
                match old {
                    Some(old) => put(room, 0..count, old.narrow(0, 0, count)),
                    None => room,
                }
            }
        };
        Self { rows: put(rows, count..total, new), count: total }
    }

    fn all(&self) -> Tensor<2> {
        self.rows.clone().narrow(0, 0, self.count)
    }
}

fn put(rows: Tensor<2>, place: Range<usize>, new: Tensor<2>) -> Tensor<2> {
    rows.slice_assign([place], new)
}

/// The keys and values of one block, `[tokens, kv_heads · head_width]` each.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockCache {
    keys: Option<Rows>,
    values: Option<Rows>,
}

impl BlockCache {
    /// Appends keys and values, and returns all of them.
    pub(crate) fn extend(&mut self, keys: Tensor<2>, values: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let append = |to: &mut Option<Rows>, new| {
            let appended = Rows::append(to.take(), new);
            to.insert(appended).all()
        };
        (append(&mut self.keys, keys), append(&mut self.values, values))
    }
}

/// The caches of all blocks, and how many tokens they hold.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    pub(crate) blocks: Vec<BlockCache>,
    /// Tokens seen so far; the next token has this position.
    pub tokens: usize,
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn everything_appended_is_there_in_order_however_often_the_room_grows() {
        let device = Device::flex();
        let (mut cache, mut expected) = (BlockCache::default(), Vec::new());
        for count in [3, 1, 1, 200, 1, 500] {
            let new = Tensor::<2>::random([count, 4], Distribution::Default, &device);
            expected.push(new.clone());
            let (keys, values) = cache.extend(new.clone(), new * 2.0);
            let all = Tensor::cat(expected.clone(), 0);
            assert!(keys.to_data() == all.to_data());
            assert!(values.to_data() == (all * 2.0).to_data());
        }
    }
}
