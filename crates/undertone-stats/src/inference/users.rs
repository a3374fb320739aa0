//! What each user adds to a ratio of sums.

use std::collections::BTreeMap;

/// What one user adds to a ratio of sums.
#[derive(Debug, Clone, PartialEq)]
pub struct UserSums {
    /// The numerators: one cell for each fold that tests the user, in the order of folds.
    pub cells: Vec<Cell>,
    /// The denominator, which is the same in each cell: tokens, summed over the user's items; not 0.
    pub tokens: usize,
}

/// What one user adds in the trainings of one fold.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The fold; with several divisions into folds, a user is tested in one fold of each.
    pub fold: usize,
    /// The numerator for each training seed: nats, or differences of nats between two arms, summed over the user's
    /// items.
    pub nats: Vec<f64>,
}

impl UserSums {
    /// A user that is tested in one fold.
    pub fn in_one_fold(nats: Vec<f64>, tokens: usize) -> Self {
        Self { cells: vec![Cell { fold: 0, nats }], tokens }
    }

    /// The mean of the numerator over folds and seeds.
    pub(crate) fn mean_nats(&self) -> f64 {
        let count: usize = self.cells.iter().map(|cell| cell.nats.len()).sum();
        self.cells.iter().flat_map(|cell| &cell.nats).sum::<f64>() / count as f64
    }

    /// The user's own ratios, in nats per token, as if they were sums over one token.
    pub(crate) fn of_one_token(&self) -> Self {
        let tokens = self.tokens as f64;
        let ratios = |cell: &Cell| Cell { nats: cell.nats.iter().map(|nats| nats / tokens).collect(), ..cell.clone() };
        Self { cells: self.cells.iter().map(ratios).collect(), tokens: 1 }
    }
}

/// Sums items by user. An item is its user, its cells and its tokens. Users are sorted by name; items are added in the
/// order given.
///
/// # Panics
/// If the items of a user are tested in different folds or have different numbers of seeds.
pub fn sum_by_user<'a>(items: impl IntoIterator<Item = (&'a str, Vec<Cell>, usize)>) -> Vec<UserSums> {
    let mut users: BTreeMap<&str, UserSums> = BTreeMap::new();
    for (user, cells, tokens) in items {
        let Some(sums) = users.get_mut(user) else {
            users.insert(user, UserSums { cells, tokens });
            continue;
        };
        assert_eq!(sums.cells.len(), cells.len(), "folds of an item of {user}");
        for (sum, cell) in sums.cells.iter_mut().zip(cells) {
            assert_eq!((sum.fold, sum.nats.len()), (cell.fold, cell.nats.len()), "trainings of an item of {user}");
            sum.nats.iter_mut().zip(cell.nats).for_each(|(sum, nats)| *sum += nats);
        }
        sums.tokens += tokens;
    }
    users.into_values().collect()
}

/// Σ nats / Σ tokens, in nats per token, the mean over trainings; `None` without users.
pub fn ratio(users: &[UserSums]) -> Option<f64> {
    let nats: f64 = users.iter().map(UserSums::mean_nats).sum();
    let tokens: usize = users.iter().map(|user| user.tokens).sum();
    (tokens > 0).then(|| nats / tokens as f64)
}

/// The mean over users of each user's nats per token; `None` without users.
pub fn mean_of_user_means(users: &[UserSums]) -> Option<f64> {
    ratio(&users.iter().map(UserSums::of_one_token).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_summed_whatever_the_order() {
        let cells = |nats: [f64; 2]| vec![Cell { fold: 0, nats: nats.to_vec() }];
        let items = [("b", cells([1.0, 2.0]), 2), ("a", cells([3.0, 3.0]), 4), ("b", cells([5.0, 7.0]), 6)];
        let users = sum_by_user(items);
        assert_eq!(users, [UserSums::in_one_fold(vec![3.0, 3.0], 4), UserSums::in_one_fold(vec![6.0, 9.0], 8)]);
        assert_eq!(ratio(&users), Some(10.5 / 12.0));
        assert_eq!(mean_of_user_means(&users), Some((0.75 + 7.5 / 8.0) / 2.0));
        assert_eq!(ratio(&[]), None);
    }
}
