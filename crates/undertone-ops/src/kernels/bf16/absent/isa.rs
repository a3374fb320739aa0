//! On machines without such instructions there is no [`Isa`], so nothing here is called.

use std::marker::PhantomData;

use super::layout::Strips;
use crate::kernels::out::Out;

/// Never constructed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {}

impl Isa {
    pub(super) fn find() -> Option<Self> {
        None
    }

    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        Vec::new()
    }

    pub(super) fn has_fast_pairs(self) -> bool {
        match self {}
    }

    pub(super) fn can_cut() -> bool {
        false
    }

    pub(super) fn begin(self) -> Session {
        match self {}
    }
}

pub(super) struct Shared<'a>(PhantomData<&'a mut [f32]>);

impl<'a> Shared<'a> {
    pub(super) fn new(_: &'a mut Out<'_>) -> Self {
        Self(PhantomData)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) first: usize,
    pub(super) stride: usize,
    pub(super) size: [usize; 2],
    pub(super) accumulates: bool,
}

/// Never constructed.
pub(super) enum Session {}

impl Session {
    /// # Safety
    /// It is never called.
    #[allow(unsafe_code)]
    pub(super) unsafe fn block(&self, _: &Shared<'_>, _: Place, _: &[(Strips<'_>, Strips<'_>)]) {
        match *self {}
    }
}
