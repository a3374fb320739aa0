//! The instruction sets that multiply tiles.

#![allow(unsafe_code)]

mod amx;
mod avx512;

use std::arch::x86_64::__cpuid;
use std::marker::PhantomData;

use super::layout::{BLOCK, Strips};
use crate::kernels::out::Out;

/// Instructions that multiply bf16 numbers and sum in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// Tile registers: up to eight times the products of f32 a second.
    Amx,
    /// Vectors: on CPUs of AMD twice the products of f32 a second, on those of Intel half as many.
    Avx512,
}

impl Isa {
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
        Session { isa: self, not_send: PhantomData }
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

// SAFETY: the callers of `Session::block` vouch that tasks write disjoint blocks.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(out: &'a mut Out<'_>) -> Self {
        Self { start: out.as_mut_ptr(), length: out.len(), memory: PhantomData }
    }
}

/// Where a block lies in a product, and whether it is added to.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its first element.
    pub(super) first: usize,
    /// From one row to the next.
    pub(super) stride: usize,
    /// Rows and columns, at most [`BLOCK`].
    pub(super) size: [usize; 2],
    /// Whether the elements are initialized, and added to.
    pub(super) accumulates: bool,
}

/// Instructions ready to multiply on this thread.
pub(super) struct Session {
    isa: Isa,
    /// Registers are set up for one thread.
    not_send: PhantomData<*mut ()>,
}

impl Session {
    /// One block of a sum of products; every element of it is written.
    ///
    /// # Safety
    /// Nobody else reads or writes the elements of the block meanwhile; if it accumulates, they are initialized.
    ///
    /// # Panics
    /// If the block is not inside `out`.
    pub(super) unsafe fn block(&self, out: &Shared<'_>, place: Place, factors: &[(Strips<'_>, Strips<'_>)]) {
        let Place { first, stride, size: [height, width], accumulates } = place;
        assert!(first + (height - 1) * stride + width <= out.length, "the block is inside");
        if height == BLOCK && width == BLOCK {
            // SAFETY: the block of `out` is inside, and ours alone.
            unsafe { self.whole_block(out.start.add(first), stride, accumulates, factors) };
            return;
        }
        let mut edge = [0.0; BLOCK * BLOCK];
        // SAFETY: a block of our own.
        unsafe { self.whole_block(edge.as_mut_ptr(), BLOCK, false, factors) };
        for (row, edge) in edge.chunks_exact(BLOCK).enumerate().take(height) {
            for (column, edge) in edge.iter().enumerate().take(width) {
                // SAFETY: as asserted, the element is inside; it is ours alone, and initialized where it is read.
                unsafe {
                    let out = out.start.add(first + row * stride + column);
                    out.write(if accumulates { out.read() + edge } else { *edge });
                }
            }
        }
    }

    /// # Safety
    /// `out` is a block of 32 rows of 32 elements, `stride` apart.
    unsafe fn whole_block(&self, out: *mut f32, stride: usize, accumulate: bool, factors: &[(Strips<'_>, Strips<'_>)]) {
        // SAFETY: the caller vouches for the block, and the instructions were found on this machine.
        unsafe {
            match self.isa {
                Isa::Amx => amx::whole_block(out, stride, accumulate, factors),
                Isa::Avx512 => avx512::whole_block(out, stride, accumulate, factors),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.isa == Isa::Amx {
            amx::release();
        }
    }
}
