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
pub(crate) struct Isa(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Tile registers: up to eight times as many products a second as f32.
    Amx,
    /// Vectors: twice as many products a second as f32 on AMD CPUs, half as many on Intel CPUs.
    Avx512,
}

impl Isa {
    /// The instruction set with which this machine multiplies faster than in f32, if this process may use one.
    pub(super) fn find() -> Option<Self> {
        if !Self::can_cut() {
            return None;
        }
        match amx::request() {
            true => Some(Self(Kind::Amx)),
            false => is_of_amd().then_some(Self(Kind::Avx512)),
        }
    }

    /// Every instruction set of this machine, whether it is faster or not.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let vectors = Self::can_cut().then_some(Self(Kind::Avx512));
        vectors.into_iter().chain(Self::find().filter(|isa| isa.0 == Kind::Amx)).collect()
    }

    /// Whether products of two bf16 terms per number are faster than f32.
    pub(super) fn has_fast_pairs(self) -> bool {
        self.0 == Kind::Amx
    }

    /// Whether the machine has the instructions that pack factors, which are those of [`Kind::Avx512`].
    pub(super) fn can_cut() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
    }

    /// Prepares the calling thread. Sessions must not be nested on one thread: the end of one releases its registers.
    pub(super) fn begin(self) -> Session {
        if self.0 == Kind::Amx {
            amx::configure();
        }
        Session { isa: self.0, not_send: PhantomData }
    }
}

fn is_of_amd() -> bool {
    let leaf = __cpuid(0);
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == *b"AuthenticAMD"
}

/// A product that several tasks write; each task writes its own blocks.
pub(super) struct Shared<'a> {
    start: *mut f32,
    length: usize,
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: the callers of `Session::block` guarantee that tasks write disjoint blocks.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(out: &'a mut Out<'_>) -> Self {
        Self { start: out.as_mut_ptr(), length: out.len(), memory: PhantomData }
    }
}

/// The place of a block in a product, and whether the block is added to the product.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Index of the first element.
    pub(super) first: usize,
    /// Elements from one row to the next.
    pub(super) stride: usize,
    /// Rows and columns, at most [`BLOCK`].
    pub(super) size: [usize; 2],
    /// Whether the block is added to the elements, which are then initialized.
    pub(super) accumulates: bool,
}

/// The set-up of this thread for products; dropping it releases the registers.
pub(super) struct Session {
    isa: Kind,
    /// Registers are set up for one thread.
    not_send: PhantomData<*mut ()>,
}

impl Session {
    /// Computes one block of a sum of products, and writes every element of the block.
    ///
    /// # Safety
    /// During the call, no other code reads or writes the elements of the block. If it accumulates, they are
    /// initialized.
    ///
    /// # Panics
    /// If the block is not inside `out`.
    pub(super) unsafe fn block(&self, out: &Shared<'_>, place: Place, factors: &[(Strips<'_>, Strips<'_>)]) {
        let Place { first, stride, size: [height, width], accumulates } = place;
        assert!((1..=BLOCK).contains(&height) && (1..=BLOCK).contains(&width), "the size of a block");
        let end = (height - 1).checked_mul(stride).and_then(|row| row.checked_add(first + width));
        assert!(end.is_some_and(|end| end <= out.length), "the block is inside");
        if height == BLOCK && width == BLOCK {
            // SAFETY: the block lies inside `out`, as asserted; the caller guarantees that no other code uses it.
            unsafe { self.whole_block(out.start.add(first), stride, accumulates, factors) };
            return;
        }
        let mut edge = [0.0; BLOCK * BLOCK];
        // SAFETY: `edge` is a local block.
        unsafe { self.whole_block(edge.as_mut_ptr(), BLOCK, false, factors) };
        for (row, edge) in edge.chunks_exact(BLOCK).enumerate().take(height) {
            for (column, edge) in edge.iter().enumerate().take(width) {
                // SAFETY: the element lies inside `out`, as asserted. The caller guarantees that no other code uses it,
                // and that it is initialized if it is read.
                unsafe {
                    let out = out.start.add(first + row * stride + column);
                    out.write(if accumulates { out.read() + edge } else { *edge });
                }
            }
        }
    }

    /// # Safety
    /// `out` is a block of 32 rows of 32 elements, `stride` apart, that no other code uses; if it accumulates, the
    /// elements are initialized.
    unsafe fn whole_block(&self, out: *mut f32, stride: usize, accumulate: bool, factors: &[(Strips<'_>, Strips<'_>)]) {
        // SAFETY: the caller guarantees the block, and the instructions were found on this machine.
        unsafe {
            match self.isa {
                Kind::Amx => amx::whole_block(out, stride, accumulate, factors),
                Kind::Avx512 => avx512::whole_block(out, stride, accumulate, factors),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.isa == Kind::Amx {
            amx::release();
        }
    }
}
