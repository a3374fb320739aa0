//! Finds the values whose number is nearest to a wanted number.

/// The values for which `passes` holds, nearest number first; at ties the lower number first. `sorted` ascends by
/// number.
pub(crate) fn nearest<'a, T: Copy>(
    sorted: &'a [(usize, T)],
    wanted: usize,
    passes: impl Fn(&T) -> bool + 'a,
) -> impl Iterator<Item = T> + 'a {
    let (mut below, mut above) = sorted.split_at(sorted.partition_point(|(number, _)| *number < wanted));
    let in_order = std::iter::from_fn(move || match (below.split_last(), above.split_first()) {
        (Some((low, rest)), high) if high.is_none_or(|(high, _)| wanted - low.0 <= high.0 - wanted) => {
            below = rest;
            Some(low.1)
        }
        (_, Some((high, rest))) => {
            above = rest;
            Some(high.1)
        }
        (_, None) => None,
    });
    in_order.filter(move |value| passes(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_in_number_come_first() {
        let sorted: Vec<(usize, char)> = vec![(1, 'a'), (3, 'b'), (5, 'c'), (5, 'd'), (6, 'e'), (9, 'f')];
        let found = |wanted, but: char| nearest(&sorted, wanted, move |value| *value != but).collect::<String>();
        assert_eq!(found(5, '-'), "cdebaf");
        assert_eq!(found(4, '-'), "bcdeaf");
        assert_eq!(found(4, 'c'), "bdeaf");
        assert_eq!(found(100, '-'), "fedcba");
        let many: Vec<(usize, usize)> = (0..100).map(|number| (number, number)).collect();
        assert!(nearest(&many, 50, |_| true).take(8).eq([50, 49, 51, 48, 52, 47, 53, 46]));
        assert_eq!(nearest(&many, 50, |_| true).count(), 100);
    }
}
