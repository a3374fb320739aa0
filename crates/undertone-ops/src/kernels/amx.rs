//! Matrix products in bf16 on the matrix unit of Intel CPUs (AMX), in two precisions.
//!
//! A product of bf16 numbers is exact in f32, and sums are kept in f32. *Medium* rounds both factors to
//! bf16. *High* writes each factor as the sum of two bf16 numbers, hi + lo, and takes
//! hi·hi + hi·lo + lo·hi: about 16 bits of each factor count. These are the words, and for *high* the
//! method, of PyTorch's `set_float32_matmul_precision`.
//!
//! The unit works on tiles of 16 rows of 64 bytes. The right factor is packed once into such tiles,
//! pairs of rows interleaved; the left one is converted row by row in a task's own buffer.

use rayon::prelude::*;

use super::matmul::View;

/// Rows of the left factor, and columns of the right one, that the unit works on at a time.
const BLOCK: usize = 32;

/// Terms of a sum that one instruction adds.
const DEPTH: usize = 32;

/// Rows of the left factor that one task takes.
const TASK_ROWS: usize = 128;

/// Columns of the right factor that stay in a core's cache while a task's rows pass.
const CACHED_COLUMNS: usize = 256;

/// A right factor `[k, n]` in tiles: by 16 columns, then by pairs of rows, then by column.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    k: usize,
    n: usize,
    hi: Vec<u16>,
    /// The remainder, for the precision *high*.
    lo: Option<Vec<u16>>,
}

/// Whether this machine has the unit and lets this process use it.
pub(crate) fn available() -> bool {
    static AVAILABLE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *AVAILABLE.get_or_init(unit::request)
}

/// To the nearest bf16, ties to even; NaN stays NaN.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) as u16 }
}

fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

impl Packed {
    /// Packs a right factor, with its remainder for *high*.
    pub(crate) fn new(b: View<'_>, high: bool) -> Self {
        let (k, n) = (b.rows, b.columns);
        let (pairs, strips) = (k.div_ceil(DEPTH) * DEPTH / 2, n.div_ceil(BLOCK) * 2);
        let mut hi = vec![0; strips * pairs * 32];
        let mut lo = if high { vec![0; hi.len()] } else { Vec::new() };
        let pack = |strip: usize, hi: &mut [u16], lo: &mut [u16]| {
            for row in 0..k {
                for column in 0..16.min(n.saturating_sub(strip * 16)) {
                    let x = b.data[row * b.row_stride + (strip * 16 + column) * b.column_stride];
                    let place = row / 2 * 32 + column * 2 + row % 2;
                    hi[place] = to_bf16(x);
                    if high {
                        lo[place] = to_bf16(x - from_bf16(hi[place]));
                    }
                }
            }
        };
        let size = (pairs * 32).max(1);
        if high {
            let strips = hi.par_chunks_mut(size).zip(lo.par_chunks_mut(size)).enumerate();
            strips.for_each(|(strip, (hi, lo))| pack(strip, hi, lo));
        } else {
            hi.par_chunks_mut(size).enumerate().for_each(|(strip, hi)| pack(strip, hi, &mut []));
        }
        Self { k, n, hi, lo: high.then_some(lo) }
    }

    /// Elements of one strip of 16 columns.
    fn strip(&self) -> usize {
        self.k.div_ceil(DEPTH) * DEPTH * 16
    }
}

/// `out = a b`, or `out += a b`, for `[m, n]` rows one after another.
///
/// # Panics
/// If shapes do not fit, or the machine has no such unit.
pub(crate) fn multiply(out: &mut [f32], accumulate: bool, a: &[f32], b: &Packed) {
    assert!(available(), "asked for before");
    if b.n == 0 || out.is_empty() {
        return;
    }
    assert_eq!(out.len() / b.n * b.k, a.len(), "inner dimensions");
    out.par_chunks_mut(TASK_ROWS * b.n).zip(a.par_chunks((TASK_ROWS * b.k).max(1))).for_each(|(out, a)| {
        unit::task(out, accumulate, a, b);
    });
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[allow(unsafe_code)]
mod unit {
    use std::arch::asm;
    use std::arch::x86_64::*;

    use super::{BLOCK, CACHED_COLUMNS, DEPTH, Packed};

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

    /// The rows of one task.
    pub(super) fn task(out: &mut [f32], accumulate: bool, a: &[f32], b: &Packed) {
        let rows = a.len() / b.k;
        let padded_k = b.k.div_ceil(DEPTH) * DEPTH;
        let padded_rows = rows.div_ceil(BLOCK) * BLOCK;
        let mut hi = vec![0u16; padded_rows * padded_k];
        let mut lo = if b.lo.is_some() { vec![0u16; hi.len()] } else { Vec::new() };
        for (row, a) in a.chunks_exact(b.k).enumerate() {
            let hi = &mut hi[row * padded_k..][..padded_k];
            let lo = if lo.is_empty() { &mut [][..] } else { &mut lo[row * padded_k..][..padded_k] };
            // SAFETY: `available` has seen the features.
            unsafe { split(a, hi, lo) };
        }
        let shapes = Shapes {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_a_row: std::array::from_fn(|tile| if tile < 8 { 64 } else { 0 }),
            rows: std::array::from_fn(|tile| if tile < 8 { 16 } else { 0 }),
        };
        // SAFETY: `shapes` has the layout that the instruction reads.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        let mut edge = [0.0; BLOCK * BLOCK];
        for columns in (0..b.n).step_by(CACHED_COLUMNS) {
            for row in (0..rows).step_by(BLOCK) {
                for column in (columns..b.n.min(columns + CACHED_COLUMNS)).step_by(BLOCK) {
                    let a_parts = [Some(&hi[..]), b.lo.as_ref().map(|_| &lo[..])];
                    let a_parts = a_parts.map(|part| part.map(|part| &part[row * padded_k..][..BLOCK * padded_k]));
                    let strip = b.strip();
                    let b_parts = [Some(&b.hi), b.lo.as_ref()];
                    let b_parts = b_parts.map(|part| part.map(|part| &part[column / 16 * strip..][..2 * strip]));
                    let (height, width) = (BLOCK.min(rows - row), BLOCK.min(b.n - column));
                    let place = row * b.n + column;
                    if height == BLOCK && width == BLOCK {
                        // The last element of the block is inside `out`.
                        assert!(place + (BLOCK - 1) * b.n + BLOCK <= out.len());
                        // SAFETY: the parts have the sizes that `block` reads, and the block lies in `out`.
                        unsafe { block(out[place..].as_mut_ptr(), b.n, accumulate, a_parts, b_parts, padded_k) };
                    } else {
                        // SAFETY: as above, with a block of our own.
                        unsafe { block(edge.as_mut_ptr(), BLOCK, false, a_parts, b_parts, padded_k) };
                        for (row, edge) in edge.chunks_exact(BLOCK).enumerate().take(height) {
                            for (out, edge) in out[place + row * b.n..][..width].iter_mut().zip(edge) {
                                *out = if accumulate { *out + edge } else { *edge };
                            }
                        }
                    }
                }
            }
        }
        // SAFETY: no tile is in use any more.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
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

    /// One block of the product: 32 rows of `a` by two strips of `b`, all terms of the sum.
    ///
    /// # Safety
    /// Parts of `a` hold 32 rows of `k`, those of `b` two strips of `16 · k`, k a multiple of 32; `out`
    /// is a block of 32 rows, `stride` elements apart; tiles are configured.
    unsafe fn block(
        out: *mut f32,
        stride: usize,
        accumulate: bool,
        a: [Option<&[u16]>; 2],
        b: [Option<&[u16]>; 2],
        k: usize,
    ) {
        let [Some(a_hi), a_lo] = a else { unreachable!("every factor has a high part") };
        let [Some(b_hi), b_lo] = b else { unreachable!("every factor has a high part") };
        let out_stride = 4 * stride;
        // SAFETY: four tiles of 16 rows of 16 elements, which the caller vouches for.
        unsafe {
            let below = out.add(16 * stride);
            if accumulate {
                asm!(
                    "tileloadd tmm0, [{out} + {stride}]",
                    "tileloadd tmm1, [{out} + {stride} + 64]",
                    "tileloadd tmm2, [{below} + {stride}]",
                    "tileloadd tmm3, [{below} + {stride} + 64]",
                    out = in(reg) out, below = in(reg) below, stride = in(reg) out_stride,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    options(nostack, readonly)
                );
            } else {
                asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, options(nostack, nomem));
            }
            add_products(a_hi, b_hi, k);
            if let (Some(a_lo), Some(b_lo)) = (a_lo, b_lo) {
                add_products(a_hi, b_lo, k);
                add_products(a_lo, b_hi, k);
            }
            asm!(
                "tilestored [{out} + {stride}], tmm0",
                "tilestored [{out} + {stride} + 64], tmm1",
                "tilestored [{below} + {stride}], tmm2",
                "tilestored [{below} + {stride} + 64], tmm3",
                out = in(reg) out, below = in(reg) below, stride = in(reg) out_stride,
                options(nostack)
            );
        }
    }

    /// Adds a product to tiles 0 to 3.
    ///
    /// # Safety
    /// As [`block`].
    #[inline(always)]
    unsafe fn add_products(a: &[u16], b: &[u16], k: usize) {
        // SAFETY: k / 32 steps, each over 64 bytes of 32 rows of `a` and a tile of either strip of `b`.
        unsafe {
            asm!(
                "2:",
                "tileloadd tmm4, [{above} + {stride}]",
                "tileloadd tmm6, [{left} + {tile}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{right} + {tile}]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{below} + {stride}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {above}, 64",
                "add {below}, 64",
                "add {left}, 1024",
                "add {right}, 1024",
                "dec {steps}",
                "jnz 2b",
                above = inout(reg) a.as_ptr() => _,
                below = inout(reg) a.as_ptr().add(16 * k) => _,
                left = inout(reg) b.as_ptr() => _,
                right = inout(reg) b.as_ptr().add(16 * k) => _,
                steps = inout(reg) k / DEPTH => _,
                stride = in(reg) 2 * k,
                tile = in(reg) 64usize,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly)
            );
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod unit {
    pub(super) fn request() -> bool {
        false
    }

    pub(super) fn task(_: &mut [f32], _: bool, _: &[f32], _: &super::Packed) {
        unreachable!("the unit is not available")
    }
}
