//! Where there is no such unit: nothing of this is called once [`request`] has said so.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Left, Right};

pub(super) struct Shared<'a>(PhantomData<&'a mut [f32]>);

impl<'a> Shared<'a> {
    pub(super) fn new(_: &'a mut [f32]) -> Self {
        Self(PhantomData)
    }
}

pub(super) fn request() -> bool {
    false
}

pub(super) fn convert(_: &[f32], _: &mut [u16], _: &mut [u16]) {}

pub(super) fn convert_pair(_: [&[f32]; 2], _: &mut [u16], _: &mut [u16], _: usize) {}

pub(super) fn task(_: &Shared<'_>, _: bool, _: &Left, _: &Right, _: Range<usize>, _: Range<usize>) {}

pub(super) fn part(_: &mut [f32], _: usize, _: bool, _: &Left, _: &Right, _: Range<usize>, _: Range<usize>) {}
