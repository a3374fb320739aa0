//! Tile registers of 16 rows of 64 bytes (Intel AMX).
//!
//! The compiler never uses tile registers, so they keep their contents from one `asm!` to the next.

#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;

use crate::kernels::bf16::layout::{Row, Strips, TILE};

/// Whether the machine has tile registers and the operating system lets this process use them.
pub(super) fn request() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    let leaf = __cpuid_count(7, 0);
    let (bf16, tiles) = (leaf.edx >> 22 & 1 == 1, leaf.edx >> 24 & 1 == 1);
    // SAFETY: the system call takes two numbers and accesses no memory of this process.
    bf16 && tiles && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) } == 0
}

/// The configuration of the tile registers: all eight hold 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_a_row: [u16; 16],
    rows: [u8; 16],
}

/// Configures the tile registers of this thread; [`request`] must have returned true.
pub(super) fn configure() {
    let shapes = Shapes {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes_a_row: std::array::from_fn(|tile| if tile < 8 { 64 } else { 0 }),
        rows: std::array::from_fn(|tile| if tile < 8 { 16 } else { 0 }),
    };
    // SAFETY: `shapes` has the layout that the instruction reads.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
}

/// Releases the tile registers of this thread.
pub(super) fn release() {
    // SAFETY: no tile register is in use any more.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// # Safety
/// `out` is a block of 32 rows of 32 elements, `stride` apart, that no other code uses; if `accumulate`, the elements
/// are initialized. The thread is [`configure`]d.
pub(super) unsafe fn whole_block(out: *mut f32, stride: usize, accumulate: bool, factors: &[(Strips<'_>, Strips<'_>)]) {
    let stride = 4 * stride;
    // SAFETY: the four tiles make up the block, which the caller guarantees.
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
        for (left, right) in factors {
            match (left.parts, right.parts) {
                (1, 1) => add_products::<1, 1>(left, right),
                (2, 1) => add_products::<2, 1>(left, right),
                (2, 2) => add_products::<2, 2>(left, right),
                parts => panic!("no product of {parts:?} parts"),
            }
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

/// Adds the products of parts i and j to the block in the registers, for i + j below the larger number of parts.
#[inline(always)]
fn add_products<const LEFT: usize, const RIGHT: usize>(left: &Strips<'_>, right: &Strips<'_>) {
    let steps = left.strips[0].len() / (LEFT * TILE);
    let expected = [LEFT, RIGHT].map(|parts| steps * parts * TILE);
    assert!(left.strips.iter().all(|strip| strip.len() == expected[0]), "steps of the left factor");
    assert!(right.strips.iter().all(|strip| strip.len() == expected[1]), "steps of the right factor");
    let [a, a_below] = left.strips.map(<[Row]>::as_ptr);
    let [b, b_right] = right.strips.map(<[Row]>::as_ptr);
    for step in 0..steps {
        for j in 0..RIGHT {
            // SAFETY: the tile lies inside its strip, as asserted. The hint of `tileloaddt1` keeps the left factor,
            // which the next block needs again, in the first-level cache.
            unsafe {
                let tile = (step * RIGHT + j) * TILE;
                asm!(
                    "tileloaddt1 tmm6, [{b} + {row}]",
                    "tileloaddt1 tmm7, [{b_right} + {row}]",
                    b = in(reg) b.add(tile), b_right = in(reg) b_right.add(tile), row = in(reg) size_of::<Row>(),
                    out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly, preserves_flags)
                );
            }
            for i in 0..LEFT.min(LEFT.max(RIGHT) - j) {
                // SAFETY: as above.
                unsafe {
                    let tile = (step * LEFT + i) * TILE;
                    asm!(
                        "tileloadd tmm4, [{a} + {row}]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tileloadd tmm5, [{a_below} + {row}]",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        a = in(reg) a.add(tile), a_below = in(reg) a_below.add(tile), row = in(reg) size_of::<Row>(),
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _,
                        options(nostack, readonly, preserves_flags)
                    );
                }
            }
        }
    }
}
