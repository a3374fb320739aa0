//! The instructions that multiply tiles.

mod amx;
mod avx512;

use std::arch::x86_64::__cpuid;
use std::marker::PhantomData;

use super::{BLOCK, Strips};

/// What multiplies bf16 numbers and sums in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Tile registers: up to eight times the products of f32 a second.
    Amx,
    /// Vectors: on CPUs of AMD twice the products of f32 a second, on those of Intel half as many.
    Avx512,
}

impl Unit {
    /// The one with which this machine multiplies faster than in f32, if it lets this process use it.
    pub(super) fn find() -> Option<Self> {
        if !Self::can_cut() {
            return None;
        }
        match amx::request() {
            true => Some(Self::Amx),
            false => is_of_amd().then_some(Self::Avx512),
        }
    }

    /// Whether the machine has the instructions that cut factors, which are those of [`Self::Avx512`].
    pub(super) fn can_cut() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
    }

    /// Prepares the calling thread.
    pub(super) fn begin(self) -> Session {
        if self == Self::Amx {
            amx::configure();
        }
        Session { unit: self, of_thread: PhantomData }
    }
}

fn is_of_amd() -> bool {
    let leaf = __cpuid(0);
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == *b"AuthenticAMD"
}

/// A product that several tasks write, each its own blocks.
pub(super) struct Shared<'a> {
    start: *mut f32,
    length: usize,
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: tasks write disjoint blocks; `Session::block` asserts that they lie inside.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(out: &'a mut [f32]) -> Self {
        Self { start: out.as_mut_ptr(), length: out.len(), memory: PhantomData }
    }
}

/// A unit ready to multiply on this thread.
pub(super) struct Session {
    unit: Unit,
    of_thread: PhantomData<*mut ()>,
}

impl Session {
    /// One block of a sum of products, at element `place` of `out`, whose rows lie `stride` apart. No other
    /// task may have these elements.
    pub(super) fn block(
        &self,
        out: &Shared<'_>,
        place: usize,
        stride: usize,
        [height, width]: [usize; 2],
        accumulate: bool,
        factors: &[(Strips<'_>, Strips<'_>)],
    ) {
        assert!(place + (height - 1) * stride + width <= out.length, "the block is inside");
        if height == BLOCK && width == BLOCK {
            // SAFETY: the block of `out` is inside, and ours alone.
            unsafe { self.whole_block(out.start.add(place), stride, accumulate, factors) };
            return;
        }
        let mut edge = [0.0; BLOCK * BLOCK];
        // SAFETY: a block of our own.
        unsafe { self.whole_block(edge.as_mut_ptr(), BLOCK, false, factors) };
        for (row, edge) in edge.chunks_exact(BLOCK).enumerate().take(height) {
            for (column, edge) in edge.iter().enumerate().take(width) {
                // SAFETY: as asserted, the element is inside, and ours alone.
                let out = unsafe { &mut *out.start.add(place + row * stride + column) };
                *out = if accumulate { *out + edge } else { *edge };
            }
        }
    }

    /// # Safety
    /// `out` is a block of 32 rows of 32 elements, `stride` apart.
    unsafe fn whole_block(&self, out: *mut f32, stride: usize, accumulate: bool, factors: &[(Strips<'_>, Strips<'_>)]) {
        // SAFETY: the caller vouches for the block, and the unit was found on this machine.
        unsafe {
            match self.unit {
                Unit::Amx => amx::whole_block(out, stride, accumulate, factors),
                Unit::Avx512 => avx512::whole_block(out, stride, accumulate, factors),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.unit == Unit::Amx {
            amx::release();
        }
    }
}
