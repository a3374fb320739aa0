//! Where there are no such instructions: nothing of this is called once [`Unit::find`] has said so.

pub(super) mod cut {
    use std::ops::Range;

    use super::super::{Lines, Row};

    pub(crate) fn fill_strip(_: &mut [Row], _: usize, _: Lines<'_>, _: usize, _: Range<usize>) {}
}

pub(super) mod unit {
    use std::marker::PhantomData;

    use super::super::Strips;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Unit {
        Amx,
        Avx512,
    }

    impl Unit {
        pub(crate) fn find() -> Option<Self> {
            None
        }

        pub(crate) fn can_cut() -> bool {
            false
        }

        pub(crate) fn begin(self) -> Session {
            Session
        }
    }

    pub(crate) struct Shared<'a>(PhantomData<&'a mut [f32]>);

    impl<'a> Shared<'a> {
        pub(crate) fn new(_: &'a mut [f32]) -> Self {
            Self(PhantomData)
        }
    }

    pub(crate) struct Session;

    impl Session {
        pub(crate) fn block(
            &self,
            _: &Shared<'_>,
            _: usize,
            _: usize,
            _: [usize; 2],
            _: bool,
            _: &[(Strips<'_>, Strips<'_>)],
        ) {
        }
    }
}
