//! Vectors of sixteen sums; one instruction adds two products to each sum (AVX-512-BF16).

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use crate::kernels::bf16::layout::{Row, STRIP, Strips, TILE};

/// Rows whose sums are in registers at one time, for the columns of two strips.
const ROWS: usize = 8;

/// # Safety
/// `out` is a block of 32 rows of 32 elements, `stride` apart, that no other code uses; if `accumulate`, the elements
/// are initialized. The machine has these instructions.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn whole_block(out: *mut f32, stride: usize, accumulate: bool, factors: &[(Strips<'_>, Strips<'_>)]) {
    for first in (0..2 * STRIP).step_by(ROWS) {
        let (strip, line) = (first / STRIP, first % STRIP);
        // SAFETY: the vector lies inside the block.
        let place = |row: usize, column: usize| unsafe { out.add((first + row) * stride + column * STRIP) };
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        if accumulate {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (column, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: as above.
                    *sum = unsafe { _mm512_loadu_ps(place(row, column)) };
                }
            }
        }
        for (left, right) in factors {
            assert_eq!((left.parts, right.parts), (1, 1), "parts of a number");
            let [b, b_right] = right.strips.map(|strip| strip.chunks_exact(TILE));
            for ((a, b), b_right) in left.strips[strip].chunks_exact(TILE).zip(b).zip(b_right) {
                let a: &[Row; ROWS] = a[line..line + ROWS].try_into().expect("rows of a tile");
                for pair in 0..STRIP {
                    // SAFETY: a row is 512 bits, and aligned.
                    let columns =
                        [b, b_right].map(|tile| as_bf16(unsafe { _mm512_load_si512((&raw const tile[pair]).cast()) }));
                    for (sums, row) in sums.iter_mut().zip(a) {
                        let terms: &[i32; STRIP] = bytemuck::cast_ref(row);
                        let terms = as_bf16(_mm512_set1_epi32(terms[pair]));
                        for (sum, column) in sums.iter_mut().zip(columns) {
                            *sum = _mm512_dpbf16_ps(*sum, terms, column);
                        }
                    }
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (column, sum) in sums.iter().enumerate() {
                // SAFETY: as above.
                unsafe { _mm512_storeu_ps(place(row, column), *sum) };
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn as_bf16(pairs: __m512i) -> __m512bh {
    // SAFETY: both types are 512 bits.
    unsafe { std::mem::transmute(pairs) }
}
