//! Without such instructions no factor is cut.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::layout::{Lines, Row};

pub(super) fn fill_strip(_: &mut [MaybeUninit<Row>], _: usize, _: Lines<'_>, _: usize, _: Range<usize>) {
    unreachable!("no factor is made without an instruction set")
}
