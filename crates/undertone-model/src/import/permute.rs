//! The order of the rows of queries and keys.
//!
//! Hugging Face rotates the first half of a head against the second. In some architectures llama.cpp rotates neighbours,
//! and stores row `half · head_dim/2 + pair` of each head at `2 · pair + half` (`LlamaModel.permute` in llama.cpp's
//! `convert_hf_to_gguf.py`).

/// Undoes llama.cpp's permutation of query or key rows.
///
/// # Shapes
///
/// `rows`: `[heads · head_dim, columns]`, row-major, and so is the result.
pub(super) fn unpermute(rows: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    let head_dim = rows.len() / heads / columns;
    assert_eq!(rows.len(), heads * head_dim * columns, "{heads} heads and {columns} columns do not divide the rows");
    let mut restored = Vec::with_capacity(rows.len());
    for head in rows.chunks_exact(head_dim * columns) {
        for half in 0..2 {
            for pair in 0..head_dim / 2 {
                let stored = 2 * pair + half;
                restored.extend_from_slice(&head[stored * columns..(stored + 1) * columns]);
            }
        }
    }
    restored
}

/// llama.cpp's permutation of query or key rows: `w.reshape(heads, 2, head_dim / 2, columns).swapaxes(1, 2)`.
///
/// # Shapes
///
/// `rows`: `[heads · head_dim, columns]`, row-major, and so is the result.
pub(super) fn permute(rows: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    let half_dim = rows.len() / heads / columns / 2;
    assert_eq!(
        rows.len(),
        heads * 2 * half_dim * columns,
        "{heads} heads and {columns} columns do not divide the rows"
    );
    let mut stored = vec![f32::NAN; rows.len()];
    for head in 0..heads {
        for half in 0..2 {
            for pair in 0..half_dim {
                let from = ((head * 2 + half) * half_dim + pair) * columns;
                let to = ((head * half_dim + pair) * 2 + half) * columns;
                stored[to..to + columns].copy_from_slice(&rows[from..from + columns]);
            }
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_from_the_permutation() {
        // One head of four rows: llama.cpp stores 0 2 1 3.
        assert_eq!(permute(&[0., 1., 2., 3.], 1, 1), [0., 2., 1., 3.]);
        assert_eq!(unpermute(&[0., 2., 1., 3.], 1, 1), [0., 1., 2., 3.]);
        let rows: Vec<f32> = (0..3 * 8 * 2).map(|i| i as f32).collect();
        let stored = permute(&rows, 3, 2);
        assert_ne!(stored, rows);
        assert_eq!(unpermute(&stored, 3, 2), rows);
    }
}
