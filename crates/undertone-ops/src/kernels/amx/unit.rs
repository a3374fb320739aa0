//! The instructions themselves: all that is unsafe about the unit.

use std::arch::asm;
use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::Range;

use super::{BLOCK, DEPTH, Left, Parts, Right, padded};

/// A product that several tasks write, each its own blocks.
pub(super) struct Shared<'a> {
    start: *mut f32,
    length: usize,
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: tasks write disjoint blocks; `task` asserts that they lie inside.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(out: &'a mut [f32]) -> Self {
        Self { start: out.as_mut_ptr(), length: out.len(), memory: PhantomData }
    }
}

/// Asks the kernel for the tile registers, once a process.
pub(super) fn request() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    if !(is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")) {
        return false;
    }
    let leaf = __cpuid_count(7, 0);
    let (bf16, tiles) = (leaf.edx >> 22 & 1 == 1, leaf.edx >> 24 & 1 == 1);
    // SAFETY: a system call that takes two numbers and touches no memory of ours.
    bf16 && tiles && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) } == 0
}

/// All eight tile registers hold 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_a_row: [u16; 16],
    rows: [u8; 16],
}

/// The blocks of some rows and columns of a product. No other task may have them.
pub(super) fn task(
    out: &Shared<'_>,
    accumulate: bool,
    left: &Left,
    right: &Right,
    rows: Range<usize>,
    columns: Range<usize>,
) {
    let k = padded(left.k);
    let _tiles = Tiles::configure();
    let mut edge = [0.0; BLOCK * BLOCK];
    for column in columns.clone().step_by(BLOCK) {
        let b = right.parts.at(column * k, BLOCK * k, 16 * k);
        for row in rows.clone().step_by(BLOCK) {
            let a = left.parts.at(row * k, BLOCK * k, k);
            let (height, width) = (BLOCK.min(rows.end - row), BLOCK.min(columns.end - column));
            let place = row * right.n + column;
            assert!(place + (height - 1) * right.n + width <= out.length, "the block is inside");
            if height == BLOCK && width == BLOCK {
                // SAFETY: both parts hold a block of `k`; the block of `out` is inside, and ours alone.
                unsafe { block(out.start.add(place), right.n, accumulate, a, b, k) };
                continue;
            }
            // SAFETY: as above, with a block of our own.
            unsafe { block(edge.as_mut_ptr(), BLOCK, false, a, b, k) };
            for (row, edge) in edge.chunks_exact(BLOCK).enumerate().take(height) {
                for (column, edge) in edge.iter().enumerate().take(width) {
                    // SAFETY: as asserted, the element is inside, and ours alone.
                    let out = unsafe { &mut *out.start.add(place + row * right.n + column) };
                    *out = if accumulate { *out + edge } else { *edge };
                }
            }
        }
    }
}

/// Part of a product on the calling thread: all rows of `left` by some columns of `right`, over some of its
/// terms. `left` holds those terms alone. Rows of `out` lie `stride` apart; ranges are whole blocks.
pub(super) fn part(
    out: &mut [f32],
    stride: usize,
    accumulate: bool,
    left: &Left,
    right: &Right,
    terms: Range<usize>,
    columns: Range<usize>,
) {
    let (left_k, right_k) = (padded(left.k), padded(right.k));
    let rows = left.m.next_multiple_of(BLOCK);
    assert!(terms.start.is_multiple_of(DEPTH) && terms.end <= right_k && terms.len() == left_k, "whole terms");
    assert!(columns.start.is_multiple_of(BLOCK) && columns.len().is_multiple_of(BLOCK), "whole blocks");
    assert!((rows - 1) * stride + columns.len() <= out.len() && columns.len() <= stride, "the part is inside");
    let _tiles = Tiles::configure();
    for column in columns.clone().step_by(BLOCK) {
        // From the first term of one strip to the last of the next.
        let b = right.parts.at(column * right_k + terms.start * 16, 16 * (right_k + terms.len()), 16 * right_k);
        for row in (0..rows).step_by(BLOCK) {
            let a = left.parts.at(row * left_k, BLOCK * left_k, left_k);
            let out = out[row * stride + column - columns.start..].as_mut_ptr();
            // SAFETY: the block of `out` is inside, as asserted; both factors hold what is read.
            unsafe { block(out, stride, accumulate, a, b, terms.len()) };
        }
    }
}

/// The tile registers, set up for this thread until dropped.
struct Tiles;

impl Tiles {
    /// All eight hold 16 rows of 64 bytes.
    fn configure() -> Self {
        let shapes = Shapes {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_a_row: std::array::from_fn(|tile| if tile < 8 { 64 } else { 0 }),
            rows: std::array::from_fn(|tile| if tile < 8 { 16 } else { 0 }),
        };
        // SAFETY: `shapes` has the layout that the instruction reads; whoever made factors has asked
        // whether the unit is there.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        Self
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: no tile is in use any more.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Two rows of a right factor to pairs of bf16, strip by strip; `apart` elements from strip to strip.
pub(super) fn convert_pair(rows: [&[f32]; 2], hi: &mut [u16], lo: &mut [u16], apart: usize) {
    // SAFETY: whoever makes a factor has asked whether the unit is there, and so these features.
    unsafe { interleave(rows, hi, lo, apart) }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn interleave([first, second]: [&[f32]; 2], hi: &mut [u16], lo: &mut [u16], apart: usize) {
    for (strip, (first, second)) in first.chunks_exact(16).zip(second.chunks_exact(16)).enumerate() {
        let place = strip * apart..strip * apart + 32;
        // SAFETY: sixteen elements of each row are read, and the 32 of `place` written.
        unsafe {
            let values = [_mm512_loadu_ps(first.as_ptr()), _mm512_loadu_ps(second.as_ptr())];
            let rounded = values.map(|x| {
                let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(x));
                _mm512_cvtepu16_epi32(rounded)
            });
            let pair = |[even, odd]: [__m512i; 2]| _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
            _mm512_storeu_si512(hi[place.clone()].as_mut_ptr().cast(), pair(rounded));
            if !lo.is_empty() {
                let rests = std::array::from_fn(|row| {
                    let widened = _mm512_castsi512_ps(_mm512_slli_epi32(rounded[row], 16));
                    let rest = _mm512_cvtneps_pbh(_mm512_sub_ps(values[row], widened));
                    let rest: __m256i = std::mem::transmute(rest);
                    _mm512_cvtepu16_epi32(rest)
                });
                _mm512_storeu_si512(lo[place].as_mut_ptr().cast(), pair(rests));
            }
        }
    }
}

/// A row to bf16 and, where `lo` is not empty, its remainders.
pub(super) fn convert(x: &[f32], hi: &mut [u16], lo: &mut [u16]) {
    // SAFETY: whoever makes a factor has asked whether the unit is there, and so these features.
    unsafe { split(x, hi, lo) }
}

/// f32 to bf16 and, where `lo` is not empty, the remainder to bf16.
#[target_feature(enable = "avx512f,avx512bf16")]
fn split(x: &[f32], hi: &mut [u16], lo: &mut [u16]) {
    let whole = x.len() / 16 * 16;
    for from in (0..whole).step_by(16) {
        let (x, hi) = (&x[from..from + 16], &mut hi[from..from + 16]);
        // SAFETY: sixteen elements are read and written, all inside the slices.
        unsafe {
            let values = _mm512_loadu_ps(x.as_ptr());
            let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(values));
            _mm256_storeu_si256(hi.as_mut_ptr().cast(), rounded);
            if !lo.is_empty() {
                let widened = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16));
                let rest: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(_mm512_sub_ps(values, widened)));
                _mm256_storeu_si256(lo[from..from + 16].as_mut_ptr().cast(), rest);
            }
        }
    }
    for index in whole..x.len() {
        hi[index] = super::to_bf16(x[index]);
        if !lo.is_empty() {
            lo[index] = super::to_bf16(x[index] - super::from_bf16(hi[index]));
        }
    }
}

/// The high part of a block's factor, and the remainder; and how many elements its rows, or strips, lie
/// apart.
#[derive(Clone, Copy)]
struct Strided {
    at: (*const u16, Option<*const u16>),
    apart: usize,
}

impl Parts {
    /// A block's factor that begins at `from` and needs `length` elements.
    fn at(&self, from: usize, length: usize, apart: usize) -> Strided {
        let part = |all: &[u16]| all[from..from + length].as_ptr();
        Strided { at: (part(&self.hi), self.lo.as_deref().map(part)), apart }
    }
}

/// One block of the product: 32 rows of `a` by two strips of `b`, all terms of the sum.
///
/// # Safety
/// `a` has 32 rows, and `b` two strips, of at least `terms` terms, a multiple of 32; `out` is a block of 32
/// rows, `stride` elements apart; tiles are configured.
unsafe fn block(out: *mut f32, stride: usize, accumulate: bool, a: Strided, b: Strided, terms: usize) {
    let (Strided { at: a, apart: a_apart }, Strided { at: b, apart: b_apart }) = (a, b);
    let (stride, a_bytes) = (4 * stride, 2 * a_apart);
    // SAFETY: four tiles of 16 rows of 16 elements, and terms / 32 steps, each over 64 bytes of 32 rows of
    // `a` and a tile of either strip of `b`, which the caller vouches for.
    unsafe {
        let below = out.byte_add(16 * stride);
        if accumulate {
            asm!(
                "tileloadd tmm0, [{out} + {stride}]",
                "tileloadd tmm1, [{out} + {stride} + 64]",
                "tileloadd tmm2, [{below} + {stride}]",
                "tileloadd tmm3, [{below} + {stride} + 64]",
                out = in(reg) out, below = in(reg) below, stride = in(reg) stride,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, readonly)
            );
        } else {
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, nomem)
            );
        }
        match (a, b) {
            ((a, Some(a_lo)), (b, Some(b_lo))) => asm!(
                "2:",
                // hi · hi
                "tileloadd tmm4, [{a} + {stride}]",
                "tileloadd tmm6, [{b} + {tile}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b_right} + {tile}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a_below} + {stride}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // hi · lo
                "tileloadd tmm6, [{b_lo} + {tile}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{b_lo_right} + {tile}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // lo · hi
                "tileloadd tmm4, [{a_lo} + {stride}]",
                "tileloadd tmm6, [{b} + {tile}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b_right} + {tile}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a_lo_below} + {stride}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 64", "add {a_below}, 64", "add {a_lo}, 64", "add {a_lo_below}, 64",
                "add {b}, 1024", "add {b_right}, 1024", "add {b_lo}, 1024", "add {b_lo_right}, 1024",
                "dec {steps}",
                "jnz 2b",
                a = inout(reg) a => _, a_below = inout(reg) a.add(16 * a_apart) => _,
                a_lo = inout(reg) a_lo => _, a_lo_below = inout(reg) a_lo.add(16 * a_apart) => _,
                b = inout(reg) b => _, b_right = inout(reg) b.add(b_apart) => _,
                b_lo = inout(reg) b_lo => _, b_lo_right = inout(reg) b_lo.add(b_apart) => _,
                steps = inout(reg) terms / DEPTH => _, stride = in(reg) a_bytes, tile = in(reg) 64usize,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly)
            ),
            ((a, _), (b, _)) => asm!(
                "2:",
                "tileloadd tmm4, [{a} + {stride}]",
                "tileloadd tmm6, [{b} + {tile}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b_right} + {tile}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a_below} + {stride}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 64", "add {a_below}, 64", "add {b}, 1024", "add {b_right}, 1024",
                "dec {steps}",
                "jnz 2b",
                a = inout(reg) a => _, a_below = inout(reg) a.add(16 * a_apart) => _,
                b = inout(reg) b => _, b_right = inout(reg) b.add(b_apart) => _,
                steps = inout(reg) terms / DEPTH => _, stride = in(reg) a_bytes, tile = in(reg) 64usize,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly)
            ),
        }
        asm!(
            "tilestored [{out} + {stride}], tmm0",
            "tilestored [{out} + {stride} + 64], tmm1",
            "tilestored [{below} + {stride}], tmm2",
            "tilestored [{below} + {stride} + 64], tmm3",
            out = in(reg) out, below = in(reg) below, stride = in(reg) stride,
            options(nostack)
        );
    }
}
