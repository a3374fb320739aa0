//! Without such instructions nothing here is called: [`Isa::find`] finds none.

use std::marker::PhantomData;

use super::layout::Strips;
use crate::kernels::out::Out;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    Amx,
    Avx512,
}

impl Isa {
    pub(super) fn find() -> Option<Self> {
        None
    }

    pub(super) fn can_cut() -> bool {
        false
    }

    pub(super) fn begin(self) -> Session {
        Session
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

pub(super) struct Session;

impl Session {
    /// # Safety
    /// None is needed.
    #[allow(unsafe_code)]
    pub(super) unsafe fn block(&self, _: &Shared<'_>, _: Place, _: &[(Strips<'_>, Strips<'_>)]) {}
}
