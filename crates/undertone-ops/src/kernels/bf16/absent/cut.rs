//! Stand-in for platforms without bf16 instructions, where no factor is packed.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::layout::{Lines, Row};

/// # Safety
/// It is never called.
#[allow(unsafe_code)]
pub(super) unsafe fn fill_strip(_: &mut [MaybeUninit<Row>], _: usize, _: Lines<'_>, _: usize, _: Range<usize>) {
    unreachable!("no factor is made without an instruction set")
}
