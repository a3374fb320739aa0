//! Structs of counts that can be added and listed by name.

/// Implements `counts()`, which lists the counts by name, and `add_counts()`, for a struct of counts.
///
/// The fields after `and` are not counts. Every field must be named, so that no new one is forgotten.
macro_rules! named_counts {
    ($type:ident { $($count:ident),+ $(,)? } and { $($other:ident),* $(,)? }) => {
        impl $type {
            /// Each count with its name, in the order of the fields.
            pub fn counts(&self) -> Vec<(&'static str, usize)> {
                let Self { $($count,)+ $($other: _,)* } = self;
                vec![$((stringify!($count), *$count)),+]
            }

            /// Adds the counts of `other`; fields that are not counts do not change.
            pub fn add_counts(&mut self, other: &Self) {
                $(self.$count += other.$count;)+
            }
        }
    };
}

pub(crate) use named_counts;
