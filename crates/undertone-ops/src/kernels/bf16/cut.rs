//! Splits numbers into bf16 parts, and packs the parts into tiles.

#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::layout::{Lines, Operand, Row, STEP, STRIP, TILE};

/// Packs some steps of the strip that begins at line `first` into tiles, and writes every row of `out`. Missing lines
/// and terms are zeros.
///
/// # Safety
/// The machine has AVX-512-BF16: [`Isa::can_cut`](super::isa::Isa::can_cut).
pub(super) unsafe fn fill_strip(
    out: &mut [MaybeUninit<Row>],
    parts: usize,
    lines: Lines<'_>,
    first: usize,
    steps: Range<usize>,
) {
    assert_eq!(out.len(), steps.len() * parts * TILE, "a tile for each step and part");
    let along = lines.term_stride == 1;
    for (step, out) in steps.zip(out.chunks_exact_mut(parts * TILE)) {
        let term = step * STEP;
        let height = lines.lines.saturating_sub(first).min(STRIP);
        let depth = lines.terms.saturating_sub(term).min(STEP);
        let source = if height == STRIP && depth == STEP {
            let from = first * lines.line_stride + term * lines.term_stride;
            let length = (STRIP - 1) * lines.line_stride + (STEP - 1) * lines.term_stride + 1;
            &lines.data[from..from + length]
        } else {
            &[]
        };
        let mut edge = [0.0; STRIP * STEP];
        let (source, stride) = match source {
            [] => {
                for line in 0..height {
                    for term_here in 0..depth {
                        let place = (first + line) * lines.line_stride + (term + term_here) * lines.term_stride;
                        let to = if along { line * STEP + term_here } else { term_here * STRIP + line };
                        edge[to] = lines.data[place];
                    }
                }
                (&edge[..], if along { STEP } else { STRIP })
            }
            source => (source, if along { lines.line_stride } else { lines.term_stride }),
        };
        // SAFETY: the caller guarantees these features, and `split` writes every row.
        unsafe {
            match along {
                true => split::<true>(source, stride, lines.factor, parts, out),
                false => split::<false>(source, stride, lines.factor, parts, out),
            }
            if along == (lines.operand == Operand::Rhs) {
                out.assume_init_mut()
                    .chunks_exact_mut(TILE)
                    .for_each(|tile| transpose(tile.try_into().expect("a tile")));
            }
        }
    }
}

/// Splits 16 lines × 32 terms into one tile per part, as pairs of terms. If `ALONG`, `source` has a row for each line,
/// and so has a tile; otherwise `source` has a row for each term, and a tile one for each pair of terms. Each part is
/// the rounded remainder of the parts before it.
#[target_feature(enable = "avx512f,avx512bf16")]
fn split<const ALONG: bool>(source: &[f32], stride: usize, factor: f32, parts: usize, out: &mut [MaybeUninit<Row>]) {
    let factor = _mm512_set1_ps(factor);
    for row in 0..STRIP {
        let starts =
            if ALONG { [row * stride, row * stride + STRIP] } else { [2 * row * stride, (2 * row + 1) * stride] };
        let mut rest = starts.map(|start| {
            let values: &[f32; STRIP] = source[start..start + STRIP].try_into().expect("sixteen");
            // SAFETY: `values` has sixteen elements.
            _mm512_mul_ps(factor, unsafe { _mm512_loadu_ps(values.as_ptr()) })
        });
        for part in 0..parts {
            let to = out[part * TILE + row].as_mut_ptr();
            // SAFETY: each transmute keeps the size, 512 or 256 bits; `to` is an aligned row of 512 bits.
            let rounded: [__m512; 2] = unsafe {
                if ALONG {
                    let pairs: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(rest[1], rest[0]));
                    _mm512_store_si512(to.cast(), pairs);
                    let widen = |half| _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
                    [widen(_mm512_castsi512_si256(pairs)), widen(_mm512_extracti64x4_epi64(pairs, 1))]
                } else {
                    let [even, odd] = rest.map(|x| {
                        let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(x));
                        _mm512_cvtepu16_epi32(rounded)
                    });
                    let [low, high] = [_mm512_slli_epi32(even, 16), _mm512_slli_epi32(odd, 16)];
                    _mm512_store_si512(to.cast(), _mm512_or_si512(even, high));
                    [_mm512_castsi512_ps(low), _mm512_castsi512_ps(high)]
                }
            };
            rest = [_mm512_sub_ps(rest[0], rounded[0]), _mm512_sub_ps(rest[1], rounded[1])];
        }
    }
}

/// Transposes a tile as 16 × 16 pairs.
#[target_feature(enable = "avx512f")]
fn transpose(tile: &mut [Row; TILE]) {
    // SAFETY: a row is 512 bits, and aligned.
    let rows = tile.map(|row| unsafe { _mm512_load_si512((&raw const row).cast()) });
    // Interleaves pairs of rows, then groups of four, eight and sixteen.
    let twos: [__m512i; STRIP] = std::array::from_fn(|row| match row % 2 {
        0 => _mm512_unpacklo_epi32(rows[row], rows[row + 1]),
        _ => _mm512_unpackhi_epi32(rows[row - 1], rows[row]),
    });
    let fours: [__m512i; STRIP] = std::array::from_fn(|row| {
        let (first, place) = (row / 4 * 4, row % 4);
        let [a, b] = [twos[first + place / 2], twos[first + place / 2 + 2]];
        if place % 2 == 0 { _mm512_unpacklo_epi64(a, b) } else { _mm512_unpackhi_epi64(a, b) }
    });
    let eights: [__m512i; STRIP] = std::array::from_fn(|row| {
        let (half, place) = (row / 8, row % 8);
        let [a, b] = [fours[8 * half + place % 4], fours[8 * half + place % 4 + 4]];
        if place < 4 { _mm512_shuffle_i32x4(a, b, 0x88) } else { _mm512_shuffle_i32x4(a, b, 0xDD) }
    });
    for (row, out) in tile.iter_mut().enumerate() {
        let place = row % 8;
        let [a, b] = [eights[place], eights[8 + place]];
        let transposed = if row < 8 { _mm512_shuffle_i32x4(a, b, 0x88) } else { _mm512_shuffle_i32x4(a, b, 0xDD) };
        // SAFETY: as above.
        unsafe { _mm512_store_si512((&raw mut *out).cast(), transposed) };
    }
}
